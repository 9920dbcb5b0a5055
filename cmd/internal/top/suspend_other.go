//go:build !unix

package top

import "github.com/gdamore/tcell/v2"

func sleepUntilContinued(tcell.Screen) error { return nil }
