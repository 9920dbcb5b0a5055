package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
	"github.com/tablecloth-go/tablecloth/upgrader/keeper"
)

const runLong = `Keep PROGRAM alive under one PID that never changes, and replace it without
closing a port:

  1. bind the sockets of --listen, before any privilege is dropped
  2. start PROGRAM with them, as systemd would: LISTEN_FDS, LISTEN_FDNAMES,
     LISTEN_PID, NOTIFY_SOCKET
  3. wait until it is ready (--ready)
  4. upon "tablecloth upgrade" or SIGHUP: start what is on disk then, and when it
     is ready end the old one by --stop-signal, after --kill-timeout by SIGKILL.
     If it fails, the old one goes on
  5. upon any death: start the last program that was ready again, at once
  6. upon "tablecloth stop" or SIGTERM: end all, within --stop-timeout

PROGRAM needs no changes if it can take its sockets from systemd (gunicorn, Node's
listen({fd: 3}), most servers), and none at all for restarts alone.

ADDR is 8080, :8080, 127.0.0.1:0, [::1]:80, unix:/path?mode=0660&owner=user:group,
unix:@name or udp:…, each with NAME= before it if the program wants names.

Signals: HUP upgrades; TERM and INT stop; USR1, WINCH and QUIT (or those of
--forward) are passed on.

Environment: TABLECLOTH_CONTROL is as --control.

Exit status: the program's, 128+n if signal n ended it; 125 the keeper itself
failed; 126, 127 PROGRAM can't be run, or isn't there.`

const exitKeeper = 125 // run's own errors

// runOptions are the flags of run, where they aren't fields of the keeper's.
type runOptions struct {
	config     keeper.Config
	service    keeper.Service
	umask      string
	stopSignal string
	forward    []string
	onCrash    string
	logFormat  string
	detach     bool
	quiet      bool
}

func newRunCommand() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run [flags] -- PROGRAM [ARG...]",
		Short: "Keep a program alive, and replace it without closing a port",
		Long:  runLong,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return runError(cmd, errors.New("no PROGRAM: tablecloth run -- PROGRAM [ARG...]"))
			}
			o.service.Command = args
			if err := o.finish(cmd); err != nil {
				return runError(cmd, err)
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
	o.flags(cmd.Flags())
	return cmd
}

// runError is a mistake in the command line: not to be taken for the program's
// own status.
func runError(cmd *cobra.Command, err error) error {
	return fail(exitKeeper, fmt.Sprintf("see %s --help", cmd.CommandPath()), "%w", err)
}

func (o *runOptions) flags(f *pflag.FlagSet) {
	s := &o.service
	f.StringArrayVarP(&s.Listen, "listen", "l", nil, "bind and hold a socket: [NAME=]`ADDR`; repeatable")
	f.StringVar(&s.Name, "name", "", "the service's `name` (default PROGRAM's base name)")
	f.IntVarP(&s.Workers, "workers", "n", 1, "processes that share the sockets")
	f.StringVar(&s.Ready, "ready", keeper.DefaultReady, "how readiness is known: `MODE` is auto, notify, listen, fd=N or delay=TIME")
	f.DurationVar(&s.ReadyTimeout, "ready-timeout", keeper.DefaultReadyTimeout, "kill a new generation that isn't ready by then")
	f.DurationVar(&s.KillTimeout, "kill-timeout", keeper.DefaultKillTimeout, "kill a replaced generation that hasn't ended by then")
	f.DurationVar(&s.StopTimeout, "stop-timeout", keeper.DefaultStopTimeout, "kill what hasn't ended by then at a stop")
	f.IntVar(&s.MaxDraining, "max-draining", keeper.DefaultMaxDraining, "generations that may drain at once; an upgrade waits for one to end")
	f.StringVar(&o.stopSignal, "stop-signal", "TERM", "`signal` that ends a worker")
	f.StringSliceVar(&o.forward, "forward", []string{"USR1", "WINCH", "QUIT"}, "`signals` that are passed on to workers")
	f.StringVar((*string)(&s.Restart), "restart", string(keeper.RestartAlways), "after a death: always, on-failure or no")
	f.StringVar((*string)(&s.GiveUp), "give-up", string(keeper.GiveUpPause), "after too many deaths: pause or exit")
	f.IntVar(&s.MaxDeaths, "max-deaths", keeper.DefaultMaxDeaths, "more in --death-window: give up; -1: never")
	f.DurationVar(&s.DeathWindow, "death-window", keeper.DefaultDeathWindow, "see --max-deaths")
	f.DurationVar(&s.GiveUpPause, "give-up-pause", keeper.DefaultGiveUpPause, "how long nothing is started then")
	f.StringVar((*string)(&s.Rescue), "rescue", string(keeper.On), "when a worker dies, let its connections live on, and answer its requests: on or off")
	f.DurationVar(&s.RescueTimeout, "rescue-timeout", keeper.DefaultRescueTimeout, "how long what a dead worker had open may stay so")
	f.StringVar(&s.CrashPage, "crash-page", "", "`file` with the body of the 500s and 503s for the requests of a dead worker")
	f.DurationVar(&s.Watchdog, "watchdog", 0, "kill a worker which has sent WATCHDOG=1 and then doesn't for so long")
	f.StringArrayVarP(&s.Environment, "env", "e", nil, "`KEY=VALUE` for the program; repeatable")
	f.StringVar(&s.EnvFile, "env-file", "", "`file` of KEY=VALUE lines, read again at each upgrade")
	f.StringVar(&s.Directory, "chdir", "", "`directory` to run in")
	f.StringVarP(&s.User, "user", "u", "", "`user` to run as")
	f.StringVarP(&s.Group, "group", "g", "", "`group` to run as")
	f.StringVar(&o.umask, "umask", "", "file mode creation mask, `octal`")
	f.StringArrayVar(&s.Limits, "limit", nil, "resource limit: `NAME=SOFT[:HARD]`, nofile=65536; repeatable")
	f.StringVar(&s.Capture, "capture", keeper.DefaultCapture, "output that passes through the keeper, for reports: stderr, all or none")
	f.StringVar(&o.onCrash, "on-crash", "", "`command` to run (by sh) after each death, with a report as JSON on stdin")
	f.StringVar(&o.config.PIDFile, "pidfile", "", "`file` for the keeper's PID, which never changes")
	f.StringVar(&s.WorkerPIDFile, "worker-pidfile", "", "`file` for the PID of the worker that serves")
	f.StringVar(&o.config.ControlGroup, "control-group", "", "`group` whose members may use the control socket too")
	f.BoolVar(&o.detach, "detach", false, "return when the program is ready, and go on in the background")
	f.StringVar(&o.logFormat, "log-format", "text", "of the keeper's own log: text or json")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "log only what went wrong")
}

// finish turns texts into what they mean.
func (o *runOptions) finish(cmd *cobra.Command) error {
	s := &o.service
	if o.umask != "" {
		n, err := strconv.ParseUint(o.umask, 8, 12)
		if err != nil {
			return fmt.Errorf("--umask %q: an octal number like 027", o.umask)
		}
		mask := int(n)
		s.Umask = &mask
	}
	sig, err := parseSignal(o.stopSignal)
	if err != nil {
		return fmt.Errorf("--stop-signal: %w", err)
	}
	s.StopSignal = sig
	o.config.Forward = []os.Signal{}
	for _, name := range o.forward {
		sig, err := parseSignal(name)
		if err != nil {
			return fmt.Errorf("--forward: %w", err)
		}
		o.config.Forward = append(o.config.Forward, sig)
	}
	for _, e := range s.Environment {
		if k, _, ok := strings.Cut(e, "="); !ok || k == "" {
			return fmt.Errorf("--env %q: not KEY=VALUE", e)
		}
	}
	if o.onCrash != "" {
		s.OnCrash = []string{"/bin/sh", "-c", o.onCrash}
	}
	if cmd.Flags().Changed("control") {
		o.config.Control, err = cmd.Flags().GetString("control")
	}
	o.config.Services = []keeper.Service{*s}
	return err
}

func (o *runOptions) run(cmd *cobra.Command) error {
	log := logrus.New()
	log.SetOutput(os.Stderr)
	if o.logFormat == "json" {
		log.SetFormatter(&logrus.JSONFormatter{})
	}
	if o.quiet {
		log.SetLevel(logrus.WarnLevel)
	}
	detached()
	o.config.Log = log
	o.config.Ready = tellDetached
	err := keeper.Run(context.WithoutCancel(cmd.Context()), o.config) // it takes the signals itself
	var exit *keeper.ExitError
	if err == nil || errors.As(err, &exit) && exit.Err == nil {
		keeper.Exit(err)
	}
	var hinted *keeper.Error
	var told *control.Error
	switch {
	case exit != nil:
		return fail(exit.Code, "", "%w", err)
	case errors.As(err, &hinted):
		return fail(exitKeeper, hinted.Hint, "%w", err)
	case errors.As(err, &told):
		return fail(exitKeeper, told.Hint, "%w", err)
	}
	return fail(exitKeeper, "", "%w", err)
}

var signals = map[string]syscall.Signal{
	"HUP": syscall.SIGHUP, "INT": syscall.SIGINT, "QUIT": syscall.SIGQUIT, "KILL": syscall.SIGKILL,
	"TERM": syscall.SIGTERM, "ALRM": syscall.SIGALRM,
}

// parseSignal reads "TERM", "SIGTERM" and "15".
func parseSignal(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil && n > 0 && n < 65 {
		return syscall.Signal(n), nil
	}
	if sig, ok := signals[strings.TrimPrefix(strings.ToUpper(s), "SIG")]; ok {
		return sig, nil
	}
	return 0, fmt.Errorf("%q is no signal", s)
}
