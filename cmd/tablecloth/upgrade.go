package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tablecloth-go/tablecloth/cmd/internal/config"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

const upgradeLong = `Start what lies on disk now as the next generation, and wait for the outcome.
Until it is ready the old one serves; if it fails, the old one goes on. Ctrl-C,
or the end of --timeout, cancels the upgrade.

Several services follow each other, up to the first failure. Without SERVICE:
those whose program or settings have changed; if none has, all. ARGs are new
arguments of a kept program, which stick if the upgrade succeeds.

Exit status: 0 the new generation serves; 1 failed or timed out, the old one
serves; 2 usage; 3 not running; 4 nothing serves; 5 refused, nothing
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
		Use:   "upgrade [SERVICE...] [-- ARG...]",
		Short: "Start the next generation and wait until it serves",
		Long:  upgradeLong,
		RunE: func(cmd *cobra.Command, args []string) error {
			services, newArgs, err := splitArgs(cmd, args)
			if err != nil {
				return err
			}
			o.choose(services)
			o.request.Args = newArgs
			if pidfile == "" {
				return upgradeAndTell(cmd, o)
			}
			if cmd.Flags().Changed("control") {
				return usageError(cmd, errors.New("--pidfile and --control exclude each other"))
			}
			if len(services) > 0 || newArgs != nil || o.request.Now || o.request.All || o.request.AllAtOnce {
				return fail(exitUsage, "use the control socket: --control", "with --pidfile there is only a signal: no SERVICE, no ARGs, no --now, no --all")
			}
			return upgradeByPIDFile(cmd, pidfile, o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.request.Now, "now", false, "end a drain that is in the way at once")
	f.BoolVar(&o.request.All, "all", false, "also those that have not changed")
	f.BoolVar(&o.request.AllAtOnce, "all-at-once", false, "all at the same time, whatever fails")
	f.StringVar(&pidfile, "pidfile", "", "no control socket: signal the process in this `file`")
	addWaitFlags(cmd, &o)
	return cmd
}

func addWaitFlags(cmd *cobra.Command, o *upgradeOptions) {
	o.timeout = 2 * time.Minute
	config.AddSpan(cmd.Flags(), &o.timeout, true, "timeout", "cancel after this long; 0: never")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "print the outcome as JSON")
}

// choose says which services are meant. One has a field of its own, which is
// older.
func (o *upgradeOptions) choose(services []string) {
	if len(services) == 1 {
		o.request.Service = services[0]
		return
	}
	o.request.Services = services
}

// splitArgs tells SERVICEs from what follows "--".
func splitArgs(cmd *cobra.Command, args []string) (services, newArgs []string, err error) {
	if n := cmd.ArgsLenAtDash(); n >= 0 {
		args, newArgs = args[:n], args[n:]
		if len(newArgs) == 0 {
			newArgs = nil
		}
	}
	if newArgs != nil && len(args) > 1 {
		return nil, nil, usageError(cmd, errors.New("new arguments are for one SERVICE"))
	}
	return args, newArgs, nil
}

// upgradeAndTell asks for an upgrade over the control socket, waits, and tells
// how it ended.
func upgradeAndTell(cmd *cobra.Command, o upgradeOptions) error {
	client, err := connect(cmd)
	if err != nil {
		return err
	}
	o.request.ID = control.NewID()
	out, err := o.waitFor(cmd, client, o.request.ID, "upgrading", func(ctx context.Context) (control.Outcome, error) {
		return client.Upgrade(ctx, o.request)
	})
	if err != nil {
		return err
	}
	return tellOutcome(cmd, client, out, o.asJSON)
}

// waitFor asks for something that has an outcome, and waits for it.
func (o *upgradeOptions) waitFor(cmd *cobra.Command, client *control.Client, id, what string, ask func(context.Context) (control.Outcome, error)) (control.Outcome, error) {
	ctx, cancel := withTimeout(cmd.Context(), o.timeout)
	defer cancel()
	wait := showProgress(cmd.ErrOrStderr(), what)
	defer wait.end()
	out, err := ask(ctx)
	if ctx.Err() != nil && err != nil {
		out, err = o.afterCancel(client, id, ctx)
	}
	return out, err
}

func withTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d)
}

// afterCancel asks what became of an upgrade that we have cancelled by going away:
// it may have been too late.
func (o *upgradeOptions) afterCancel(client *control.Client, id string, cause context.Context) (control.Outcome, error) {
	why := "interrupted"
	if errors.Is(cause.Err(), context.DeadlineExceeded) {
		why = fmt.Sprintf("no outcome within --timeout %v", o.timeout)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(cause), 3*time.Second)
	defer cancel()
	out, err := client.Outcome(ctx, id)
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
