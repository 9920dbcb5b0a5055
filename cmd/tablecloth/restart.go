package main

import "github.com/spf13/cobra"

const restartLong = `Start the last good program of a kept service again, and wait for the outcome:
the same binary, arguments and environment, whatever lies on disk now. Until it
is ready the old generation serves; if it fails, the old one goes on.

Exit status: as upgrade's.`

func newRestartCommand() *cobra.Command {
	var o upgradeOptions
	o.request.Restart = true
	cmd := &cobra.Command{
		Use:   "restart [SERVICE]",
		Short: "Start the last good program again and wait until it serves",
		Long:  restartLong,
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.request.Service = serviceArg(args)
			return upgradeAndTell(cmd, o)
		},
	}
	cmd.Flags().BoolVar(&o.request.Now, "now", false, "end a drain that is in the way at once")
	addWaitFlags(cmd, &o)
	return cmd
}
