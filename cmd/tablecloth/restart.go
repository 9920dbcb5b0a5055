package main

import "github.com/spf13/cobra"

const restartLong = `Start the last good program of a kept service again, and wait for the outcome:
the same binary, arguments and environment, whatever lies on disk now. Until it
is ready the old generation serves; if it fails, the old one goes on.

Of a keeper with several services those named, or all, are restarted: one after
the other, and after the first that fails no more.

Exit status: as upgrade's.`

func newRestartCommand() *cobra.Command {
	var o upgradeOptions
	o.request.Restart, o.request.All = true, true
	cmd := &cobra.Command{
		Use:   "restart [SERVICE...]",
		Short: "Start the last good program again and wait until it serves",
		Long:  restartLong,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.choose(args)
			return upgradeAndTell(cmd, o)
		},
	}
	cmd.Flags().BoolVar(&o.request.Now, "now", false, "end a drain that is in the way at once")
	cmd.Flags().BoolVar(&o.request.AllAtOnce, "all-at-once", false, "all at the same time, whatever fails")
	addWaitFlags(cmd, &o)
	return cmd
}
