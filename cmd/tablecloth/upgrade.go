package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

const upgradeLong = `Start what lies on disk now as the next generation, and wait for the outcome.
Until it is ready the old one serves; if it fails, the old one goes on. Ctrl-C,
or the end of --timeout, cancels the upgrade.

ARGs are new arguments of a kept program, which stick if the upgrade succeeds.
--pidfile is for services without a control socket: the process that the file
names is sent SIGHUP, and the file watched for its successor.

Exit status: 0 the new generation serves; 1 failed or timed out, the old one
serves; 2 usage; 3 not running; 4 given up, nothing serves; 5 refused, nothing
was started; 6 outcome unknown.`

type upgradeOptions struct {
	request control.UpgradeRequest
	timeout time.Duration
	asJSON  bool
}

func newUpgradeCommand() *cobra.Command {
	var o upgradeOptions
	var pidfile string
	cmd := &cobra.Command{
		Use:   "upgrade [SERVICE] [-- ARG...]",
		Short: "Start the next generation and wait until it serves",
		Long:  upgradeLong,
		RunE: func(cmd *cobra.Command, args []string) error {
			service, newArgs, err := splitArgs(cmd, args)
			if err != nil {
				return err
			}
			o.request.Service, o.request.Args = service, newArgs
			if pidfile == "" {
				return upgradeAndTell(cmd, o)
			}
			if cmd.Flags().Changed("control") {
				return usageError(cmd, errors.New("--pidfile and --control exclude each other"))
			}
			if service != "" || newArgs != nil || o.request.Now {
				return fail(exitUsage, "use the control socket: --control", "with --pidfile there is only a signal: no SERVICE, no ARGs, no --now")
			}
			return upgradeByPIDFile(cmd, pidfile, o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.request.Now, "now", false, "end a drain that is in the way at once")
	f.StringVar(&pidfile, "pidfile", "", "signal the process that this `file` names instead")
	addWaitFlags(cmd, &o)
	return cmd
}

func addWaitFlags(cmd *cobra.Command, o *upgradeOptions) {
	cmd.Flags().DurationVar(&o.timeout, "timeout", 2*time.Minute, "cancel after this long; 0: never")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "print the outcome as JSON")
}

// splitArgs tells SERVICE from what follows "--".
func splitArgs(cmd *cobra.Command, args []string) (service string, newArgs []string, err error) {
	if n := cmd.ArgsLenAtDash(); n >= 0 {
		args, newArgs = args[:n], args[n:]
		if len(newArgs) == 0 {
			newArgs = nil
		}
	}
	if err := cobra.MaximumNArgs(1)(cmd, args); err != nil {
		return "", nil, usageError(cmd, err)
	}
	return serviceArg(args), newArgs, nil
}

// upgradeAndTell asks for an upgrade over the control socket, waits, and tells
// how it ended.
func upgradeAndTell(cmd *cobra.Command, o upgradeOptions) error {
	client, err := connect(cmd)
	if err != nil {
		return err
	}
	o.request.ID = control.NewID()
	ctx, cancel := withTimeout(cmd.Context(), o.timeout)
	defer cancel()
	wait := showProgress(cmd.ErrOrStderr(), "upgrading")
	defer wait.end()
	out, err := client.Upgrade(ctx, o.request)
	if ctx.Err() != nil && err != nil {
		out, err = afterCancel(client, o, ctx)
	}
	wait.end()
	if err != nil {
		return err
	}
	return tellOutcome(cmd, client, out, o.asJSON)
}

func withTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d)
}

// afterCancel asks what became of an upgrade that we have cancelled by going away:
// it may have been too late.
func afterCancel(client *control.Client, o upgradeOptions, cause context.Context) (control.Outcome, error) {
	why := "interrupted"
	if errors.Is(cause.Err(), context.DeadlineExceeded) {
		why = fmt.Sprintf("no outcome within --timeout %v", o.timeout)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(cause), 3*time.Second)
	defer cancel()
	out, err := client.Outcome(ctx, o.request.ID)
	switch {
	case errors.Is(err, context.DeadlineExceeded), err == nil && out.Result == control.Moved:
		return control.Outcome{}, fail(exitUnknown, "see how it goes on: tablecloth events --follow",
			"%s: the upgrade is still under way", why)
	case err != nil:
		return control.Outcome{}, fail(exitUnknown, "see which generation serves: tablecloth status",
			"%s: the upgrade was told to end, but its outcome is not known", why)
	}
	if out.Result != control.Ready {
		out.Reason = why + ": the upgrade was cancelled"
	}
	return out, nil
}
