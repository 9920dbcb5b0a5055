//go:build unix

package top

import (
	"syscall"

	"github.com/gdamore/tcell/v2"
)

// sleepUntilContinued gives the terminal back, and stops this job until the shell
// continues it.
func sleepUntilContinued(screen tcell.Screen) error {
	if err := screen.Suspend(); err != nil {
		return err
	}
	if err := syscall.Kill(0, syscall.SIGTSTP); err != nil {
		return err
	}
	return screen.Resume()
}
