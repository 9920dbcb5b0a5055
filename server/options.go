package server

import (
	"context"
	"net/http"
	"os"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/tablecloth-go/tablecloth/upgrader"
)

// Defaults of Options.
const (
	DefaultReadyTimeout = upgrader.DefaultReadyTimeout
	DefaultKillTimeout  = upgrader.DefaultKillTimeout
	DefaultStopTimeout  = upgrader.DefaultStopTimeout
	DefaultIdleGrace    = 5 * time.Second
	DefaultMaxCrashes   = upgrader.DefaultMaxCrashes
	DefaultCrashWindow  = upgrader.DefaultCrashWindow
	DefaultGiveUpPause  = upgrader.DefaultGiveUpPause
)

// Crash is what Options.OnCrash is told.
type Crash = upgrader.Crash

// Options of New and Run. The zero value works.
//
// The fields up to GiveUpPause that upgrader.Options has too are passed on to
// the Upgrader which New makes. If Upgrader is set they are its own affair, and
// of those fields only OnCrash and KillTimeout mean something here.
type Options struct {
	// PIDFile names the file that holds the PID of the generation which acts
	// for the service. "": none.
	PIDFile string
	// Control is the path of the control socket (package control). "": the one
	// that $TABLECLOTH_CONTROL names, else none.
	Control string
	// ReadyTimeout bounds the time from the start of a new process until it is
	// ready; then it is killed, and this one serves on. 0: DefaultReadyTimeout.
	ReadyTimeout time.Duration
	// KillTimeout bounds the drain after an upgrade or a crash, and each call
	// of OnCrash. 0: DefaultKillTimeout.
	KillTimeout time.Duration
	// StopTimeout bounds the drain at a stop, StopDelay not included. Raise it
	// together with TimeoutStopSec= or the grace period of whoever stops the
	// service. 0: DefaultStopTimeout.
	StopTimeout time.Duration
	// StopDelay is how long the service goes on accepting after it was told to
	// stop, while /readyz of the control socket already fails.
	StopDelay time.Duration
	// IdleGrace is how long a connection that can't move to the next
	// generation may stay idle during a drain before it is closed; at a stop
	// it is closed at once, or, if nothing has come on it yet, a second after it
	// was accepted. 0: DefaultIdleGrace.
	IdleGrace time.Duration
	// Signals ask for an upgrade. nil: SIGHUP; upgrader.NoSignals: none.
	Signals []os.Signal
	// StopSignals end the service. nil: SIGTERM and SIGINT; upgrader.NoSignals:
	// none.
	StopSignals []os.Signal
	// OnReady is called once, when this generation acts for the service: the
	// place for work that only one generation may do. It has a goroutine of its
	// own, and may block; a panic in it is a crash.
	OnReady func()
	// OnDrain is the first step of a drain, beside which the other steps go
	// on; the drain lasts until it returns. ctx ends at the deadline, or when
	// the successor died and this generation serves again; Draining(ctx) works.
	// It is called once per drain. (Functions given to
	// http.Server.RegisterOnShutdown run at the very end.)
	OnDrain func(ctx context.Context)
	// OnCrash is told of a crash, beside the start of the successor and once
	// per generation, and of each handler panic that is no crash. ctx ends
	// after KillTimeout. Its own panic is contained and logged.
	OnCrash func(ctx context.Context, c Crash)
	// IgnorePanic says of a panic's value that it is to be answered with a 500
	// and logged, and nothing else. nil: of none.
	IgnorePanic func(v any) bool
	// ReplaceOnPanic makes a crash of each handler panic: the process is
	// replaced. false: the panic is answered with a 500 and the process lives.
	ReplaceOnPanic bool
	// More than MaxCrashes crashes within CrashWindow, over all generations:
	// nothing is replaced for GiveUpPause. 0: the defaults; MaxCrashes < 0:
	// never give up.
	MaxCrashes  int
	CrashWindow time.Duration
	GiveUpPause time.Duration
	// ErrorPage renders headers and body of the 500 that answers a panic; its
	// status is ignored. It sees method, URL, host, protocol and peer of the
	// request, but no body, and no headers where the handler still runs. nil:
	// "internal server error" as text/plain.
	ErrorPage http.Handler
	// Log hears what happens. nil: logrus.StandardLogger(); see
	// upgrader.Discard and upgrader.Slog.
	Log logrus.FieldLogger
	// Upgrader is what the server runs on, and closes at the end of Run. nil:
	// one is made of the fields above.
	Upgrader *upgrader.Upgrader
}

func (o Options) withDefaults() Options {
	orDefault(&o.ReadyTimeout, DefaultReadyTimeout)
	orDefault(&o.KillTimeout, DefaultKillTimeout)
	orDefault(&o.StopTimeout, DefaultStopTimeout)
	orDefault(&o.IdleGrace, DefaultIdleGrace)
	orDefault(&o.CrashWindow, DefaultCrashWindow)
	orDefault(&o.GiveUpPause, DefaultGiveUpPause)
	orDefault(&o.MaxCrashes, DefaultMaxCrashes)
	if o.Log == nil {
		o.Log = logrus.StandardLogger()
	}
	return o
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (o Options) forUpgrader() upgrader.Options {
	return upgrader.Options{
		PIDFile:      o.PIDFile,
		Control:      o.Control,
		ReadyTimeout: o.ReadyTimeout,
		KillTimeout:  o.KillTimeout,
		StopTimeout:  o.StopTimeout,
		StopDelay:    o.StopDelay,
		Signals:      o.Signals,
		StopSignals:  o.StopSignals,
		OnCrash:      o.OnCrash,
		MaxCrashes:   o.MaxCrashes,
		CrashWindow:  o.CrashWindow,
		GiveUpPause:  o.GiveUpPause,
		Log:          o.Log,
	}
}
