//go:build !linux

package keeper

import (
	"context"
	"os"
)

// Run returns ErrNotSupported.
func Run(context.Context, Config) error { return ErrNotSupported }

// Check returns nil.
func (Config) Check() error { return nil }

// Become returns at once: the program runs alone.
func Become(Config) {}

// Exit ends this process, with status 125 if there was an error.
func Exit(err error) {
	if err != nil {
		os.Exit(125)
	}
	os.Exit(0)
}
