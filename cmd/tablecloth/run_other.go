//go:build !linux

package main

import (
	"os"

	"github.com/spf13/cobra"
)

func detach(*cobra.Command) error { return fail(exitKeeper, "", "there is a keeper on Linux only") }

func detached() *os.File { return nil }

func tellDetached() {}
