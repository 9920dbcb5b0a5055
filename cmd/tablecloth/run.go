package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tablecloth-go/tablecloth/cmd/internal/config"
	"github.com/tablecloth-go/tablecloth/cmd/internal/metrics"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
	"github.com/tablecloth-go/tablecloth/upgrader/keeper"
)

const runLong = `Keep PROGRAM alive under one PID that never changes, and replace it without
closing a port:

  1. bind the sockets of --listen, before any privilege is dropped
  2. start PROGRAM with them, as systemd would: LISTEN_FDS, LISTEN_FDNAMES,
     LISTEN_PID, NOTIFY_SOCKET
  3. wait until it is ready (--ready)
  4. upon "tablecloth upgrade" or SIGHUP: start what is on disk then, and when
     it is ready end the old one by --stop-signal, after --kill-timeout by
     SIGKILL. If it fails, the old one goes on
  5. upon any death: start the last program that was ready again, at once
  6. upon "tablecloth stop" or SIGTERM: end all, within --stop-timeout

PROGRAM needs no changes if it can take its sockets from systemd (gunicorn,
Node's listen({fd: 3}), most servers), and none at all for restarts alone.

ADDR is 8080, :8080, 127.0.0.1:0, [::1]:80, unix:@name, udp:… or
unix:/path?mode=0660&owner=user:group, each with NAME= before it if the program
wants names.

With --file there are as many programs as the file has services, and no flags of
a service: see tablecloth init, and docs/config.md. An upgrade, and SIGHUP, read
it again: services whose settings or programs have changed are replaced, new
ones started, those that are gone end, and the others are not touched. If
something is wrong with it nothing happens.

Signals: HUP upgrades; TERM and INT stop; USR1, WINCH and QUIT (or those of
--forward) are passed on. With --log-file USR1 opens that anew, and is passed on
only if --forward names it.

Environment: TABLECLOTH_CONTROL is as --control.

Exit status: the program's, 128+n if signal n ended it; 125 the keeper itself
failed, or can't do what the command line or the file says; 126, 127 PROGRAM
can't be run, or isn't there.`

const exitKeeper = 125 // run's own errors

// runOptions are the flags of run.
type runOptions struct {
	file     string
	settings keeper.Config
	service  keeper.Service
	detach   bool
}

func newRunCommand() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run [flags] -- PROGRAM [ARG...]  |  run [flags] --file FILE",
		Short: "Keep programs alive, and replace them without closing a port",
		Long:  runLong,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.finish(cmd, args); err != nil {
				return err
			}
			if o.detach {
				return detach(cmd)
			}
			return o.run(cmd)
		},
	}
	cmd.Flags().SetInterspersed(false)
	cmd.SetFlagErrorFunc(runError)
	cmd.Flags().SortFlags = false
	f := cmd.Flags()
	f.StringVarP(&o.file, "file", "f", "", "keep the services of this `file`: tablecloth init, docs/config.md")
	config.AddFlags(f, config.ServiceOptions, &o.service)
	config.AddFlags(f, config.KeeperOptions, &o.settings)
	f.BoolVar(&o.detach, "detach", false, "return when everything is ready, and go on in the background")
	return cmd
}

// runError is a mistake in the command line: not to be taken for the program's
// own status.
func runError(cmd *cobra.Command, err error) error {
	return fail(exitKeeper, fmt.Sprintf("see %s --help", cmd.CommandPath()), "%w", err)
}

// finish makes one configuration of the flags, or of the file and the flags
// that concern the keeper.
func (o *runOptions) finish(cmd *cobra.Command, args []string) error {
	if o.file != "" {
		if err := o.load(cmd, args); err != nil {
			return err
		}
	} else {
		if len(args) == 0 {
			return runError(cmd, errors.New("no PROGRAM: tablecloth run -- PROGRAM [ARG...], or tablecloth run --file FILE"))
		}
		o.service.Command = args
		o.settings.Services = []keeper.Service{o.service}
	}
	if !cmd.Flags().Changed("control") {
		return nil
	}
	var err error
	o.settings.Control, err = cmd.Flags().GetString("control")
	return err
}

func (o *runOptions) load(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return runError(cmd, fmt.Errorf("%s: with --file its services are what is run", args[0]))
	}
	if given := config.Given(cmd.Flags(), config.ServiceOptions); len(given) > 0 {
		what := orElse(given[0].Key, "the name of a service")
		return runError(cmd, fmt.Errorf("--%s: with --file this is said there (%s)", given[0].Flag, what))
	}
	s, err := config.Load(o.file)
	if err != nil {
		return refuseFile(cmd.ErrOrStderr(), o.file, err, exitKeeper)
	}
	if err := config.Repeat(cmd.Flags(), config.KeeperOptions, s); err != nil {
		return runError(cmd, err)
	}
	file, err := filepath.Abs(o.file) // wherever the keeper is when it reads it again
	if err != nil {
		return err
	}
	o.settings = *s
	o.settings.Reread = func() ([]keeper.Service, error) { return o.reread(cmd.Flags(), file) }
	return nil
}

// reread reads the file again. What concerns the keeper itself can't change
// while it runs.
func (o *runOptions) reread(f *pflag.FlagSet, file string) ([]keeper.Service, error) {
	s, err := config.Load(file)
	if err != nil {
		return nil, err
	}
	if err := config.Repeat(f, config.KeeperOptions, s); err != nil {
		return nil, err
	}
	if f.Changed("control") {
		s.Control = o.settings.Control
	}
	if key := config.Changed(&o.settings, s); key != "" {
		return nil, fmt.Errorf("%s: %s has changed, which takes a new start of the keeper", file, key)
	}
	return s.Services, nil
}

func (o *runOptions) run(cmd *cobra.Command) error {
	o.settings.MustStart = detached() != nil
	o.settings.Metrics = func(ctx context.Context, b control.Backend, e *control.Events) http.Handler {
		return metrics.Handler(ctx, b, e)
	}
	o.settings.Ready = tellDetached
	err := keeper.Run(context.WithoutCancel(cmd.Context()), o.settings) // it takes the signals itself
	var exit *keeper.ExitError
	if err == nil || errors.As(err, &exit) && exit.Err == nil {
		keeper.Exit(err)
	}
	var hinted *keeper.Error
	var told *control.Error
	switch {
	case exit != nil:
		return fail(exit.Code, exit.Hint, "%w", err)
	case errors.As(err, &hinted):
		return fail(exitKeeper, hinted.Hint, "%w", err)
	case errors.As(err, &told):
		return fail(exitKeeper, told.Hint, "%w", err)
	}
	return fail(exitKeeper, "", "%w", err)
}
