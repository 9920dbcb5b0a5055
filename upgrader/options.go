package upgrader

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
)

// Defaults of Options.
const (
	DefaultReadyTimeout = time.Minute
	DefaultKillTimeout  = 30 * time.Second
	DefaultStopTimeout  = 8 * time.Second
	DefaultMaxCrashes   = 5
	DefaultCrashWindow  = time.Minute
	DefaultGiveUpPause  = time.Minute
)

// Options of New. The zero value works.
type Options struct {
	// PIDFile names the file that holds the PID of the generation that acts
	// for the service. Beside it lies a lock, PIDFile + ".lock", which every
	// generation holds open: a second instance of the service is refused.
	// "": none.
	PIDFile string
	// Control is the path of the control socket (package control). "": the
	// one that $TABLECLOTH_CONTROL names, else none. Kept: the keeper has it.
	Control string
	// ReadyTimeout bounds the time from the start of the new process until it
	// is ready; after it the new process is killed and this one serves on.
	ReadyTimeout time.Duration
	// KillTimeout bounds the drain of a generation that was replaced, after an
	// upgrade or a crash. What outlives it is killed by its successor.
	KillTimeout time.Duration
	// StopTimeout bounds the drain at a stop, StopDelay not included.
	StopTimeout time.Duration
	// StopDelay is how long the service goes on accepting after it was told to
	// stop, while /readyz already fails: load balancers need it.
	StopDelay time.Duration
	// Signals ask for an upgrade. nil: SIGHUP; NoSignals: none.
	Signals []os.Signal
	// StopSignals end the service. nil: SIGTERM and SIGINT; NoSignals: none.
	StopSignals []os.Signal
	// OnCrash runs once per crash which leads to a replacement, beside the
	// start of the successor, bounded by KillTimeout. Its own panic is
	// contained and logged.
	OnCrash func(context.Context, Crash)
	// More than MaxCrashes crashes within CrashWindow, over all generations:
	// nothing is replaced for GiveUpPause. Negative
	// MaxCrashes: never give up.
	MaxCrashes  int
	CrashWindow time.Duration
	GiveUpPause time.Duration
	// Log hears what happens. nil: logrus.StandardLogger(); see also Slog and
	// Discard.
	Log logrus.FieldLogger
}

// NoSignals, as Options.Signals or Options.StopSignals: none.
var NoSignals = []os.Signal{}

// Crash is what Options.OnCrash is told.
type Crash struct {
	Err     error         // never nil
	Value   any           // what was passed to panic; nil: Upgrader.Crash was called
	Stack   []byte        // of the goroutine that panicked; may be nil
	Count   int           // crashes of this generation so far, this one included
	Request *http.Request // the request it belongs to; may be nil
}

// CrashError tells Upgrader.Crash more than an error does.
type CrashError struct {
	Err     error         // nil: made of Value
	Value   any           // what was passed to panic
	Stack   []byte        // of the goroutine that panicked; may be nil
	Request *http.Request // may be nil
}

func (e *CrashError) Error() string {
	if e.Err != nil {
		return e.Err.Error()
	}
	return fmt.Sprintf("panic: %v", e.Value)
}

// Unwrap returns Err, or Value if that is an error.
func (e *CrashError) Unwrap() error {
	if e.Err != nil {
		return e.Err
	}
	err, _ := e.Value.(error)
	return err
}

// withDefaults is the one place where zero values get their meaning.
func (o Options) withDefaults() Options {
	or := func(d *time.Duration, def time.Duration) {
		if *d <= 0 {
			*d = def
		}
	}
	or(&o.ReadyTimeout, DefaultReadyTimeout)
	or(&o.KillTimeout, DefaultKillTimeout)
	or(&o.StopTimeout, DefaultStopTimeout)
	or(&o.CrashWindow, DefaultCrashWindow)
	or(&o.GiveUpPause, DefaultGiveUpPause)
	if o.MaxCrashes == 0 {
		o.MaxCrashes = DefaultMaxCrashes
	}
	if o.Control == "" {
		o.Control = os.Getenv(controlEnv)
	}
	if o.StopSignals == nil {
		o.StopSignals = []os.Signal{syscall.SIGTERM, os.Interrupt}
	}
	if o.Log == nil {
		o.Log = logrus.StandardLogger()
	}
	return o
}

// controlEnv names the control socket of a service and of its keeper alike.
const controlEnv = "TABLECLOTH_CONTROL"
