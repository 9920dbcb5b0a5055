// Package proc tells small facts about processes, and waits for the end of one
// that need not be a child. Linux has all of it, macOS what sysctl and kqueue
// tell; the rest returns errors.ErrUnsupported.
package proc
