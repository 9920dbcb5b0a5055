package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// addControlFlag gives all commands of root the flag that names the service.
func addControlFlag(root *cobra.Command) {
	root.PersistentFlags().String("control", "", "`path` of the control socket (see tablecloth --help)")
}

// withoutControl is for commands that ask no service: they neither offer that
// flag nor take it.
func withoutControl(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().String("control", "", "")
	if err := cmd.Flags().MarkHidden("control"); err != nil {
		panic(err) // it has just been made
	}
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("control") {
			return usageError(cmd, fmt.Errorf("--control: %s asks no running service", cmd.Name()))
		}
		return nil
	}
	return cmd
}

// connect finds the service that a command is about.
func connect(cmd *cobra.Command) (*control.Client, error) {
	path, err := cmd.Flags().GetString("control")
	if err != nil {
		return nil, err
	}
	if path == "" {
		if path, err = control.Find(); err != nil {
			return nil, err
		}
	}
	return control.Dial(path)
}

// serviceArg takes at most one name of a service.
func serviceArg(args []string) string {
	if len(args) > 0 {
		return args[0]
	}
	return ""
}
