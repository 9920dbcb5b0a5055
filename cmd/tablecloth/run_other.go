//go:build !linux

package main

import "github.com/spf13/cobra"

func detach(*cobra.Command) error { return fail(exitKeeper, "", "there is a keeper on Linux only") }

func detached() struct{} { return struct{}{} }

func tellDetached() {}
