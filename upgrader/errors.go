package upgrader

import (
	"errors"
	"fmt"
	"strings"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// Errors of Upgrade: nothing was started.
var (
	ErrNotReady     = errors.New("upgrader: this generation is not ready yet")
	ErrDraining     = errors.New("upgrader: this generation has been replaced")
	ErrStopping     = errors.New("upgrader: the service is being stopped")
	ErrSupervised   = errors.New("upgrader: whoever started this process can't follow a changing PID")
	ErrNotSupported = errors.New("upgrader: no process can follow this one")
)

// hintSupervised goes with ErrSupervised.
const hintSupervised = "start it under the keeper, which has a constant PID: `tablecloth run -- PROGRAM`, or keeper.Become in main"

// FailedError is an upgrade that was begun and didn't succeed: the old
// generation serves on.
type FailedError struct {
	Reason   string
	Hint     string   // what to do; may be empty
	Exit     string   // how the new process ended: "exit status 7", "signal: killed"; "": it didn't
	ExitCode int      // -1: not known, or ended by a signal
	Output   []string // the new process's last words: kept, its stderr; alone, the text of a Go crash
	TimedOut bool     // it wasn't ready within ReadyTimeout, and was killed
}

func (e *FailedError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "upgrader: upgrade failed: %s", e.Reason)
	if e.Exit != "" && !strings.Contains(e.Reason, e.Exit) {
		fmt.Fprintf(&b, " (%s)", e.Exit)
	}
	return b.String()
}

// result translates an outcome into what Upgrade returns.
func result(o control.Outcome) (*Result, error) {
	switch o.Result {
	case control.Ready:
		return &Result{Generation: o.Generation, PID: o.PID, Took: o.Took, Confirmed: o.Confirmed}, nil
	case control.Moved:
		return nil, ErrDraining
	case control.Refused:
		for _, err := range []error{ErrNotReady, ErrDraining, ErrStopping, ErrSupervised, ErrNotSupported} {
			if o.Reason == reasonOf(err) {
				return nil, withHint(err, o.Hint)
			}
		}
		return nil, fmt.Errorf("upgrader: upgrade refused: %s", o.Reason)
	}
	e := &FailedError{Reason: o.Reason, Hint: o.Hint, Exit: o.Exit, ExitCode: -1, Output: o.Output,
		TimedOut: o.Result == control.TimedOut}
	if o.ExitCode != nil {
		e.ExitCode = *o.ExitCode
	}
	return nil, e
}

func withHint(err error, hint string) error {
	if hint == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, hint)
}

func reasonOf(err error) string { return strings.TrimPrefix(err.Error(), "upgrader: ") }

// refused is the outcome of a request for which nothing was started.
func refused(err error, hint string) control.Outcome {
	return control.Outcome{Result: control.Refused, Reason: reasonOf(err), Hint: hint}
}
