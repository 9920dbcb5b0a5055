package keeper

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"

	"github.com/tablecloth-go/tablecloth/internal/output"
)

func (k *keeper) openLogs() (err error) {
	if err := k.conf.Output.fill(); err != nil {
		return err
	}
	if k.logs, err = output.Open(output.Options(k.conf.Output)); err != nil {
		return &Error{Err: err}
	}
	if k.conf.Log == nil {
		k.conf.Log = k.logs.Logger()
	}
	return nil
}

// reopenLogs is what SIGUSR1 means if there is a log file.
func (k *keeper) reopenLogs(sig os.Signal) {
	if sig != syscall.SIGUSR1 || k.conf.Output.File == "" {
		return
	}
	if err := k.logs.Reopen(); err != nil {
		k.conf.Log.WithError(err).Warn("the old log file stays open")
		return
	}
	k.conf.Log.Info("log file opened anew")
}

// passes reports whether workers get SIGUSR1: if that is for the log file, only if
// it was asked for.
func (c *Config) passes(sig syscall.Signal) bool {
	return c.Output.File == "" || slices.Contains(c.Forward, os.Signal(sig))
}

func (o *Output) fill() error {
	defaults(&o.Format, FormatText)
	switch {
	case o.Format != FormatText && o.Format != FormatJSON:
		return &Error{Err: fmt.Errorf("log format %q: text or json", o.Format)}
	case o.Prefix && o.Format == FormatJSON:
		return hinted(errors.New("a prefix is for text, not for JSON"), "JSON has service, generation and pid in each line anyway: leave out the prefix")
	}
	return nil
}

// tail is for what one worker writes.
func (h *host) tail(l *launch) (*output.Tail, error) {
	of := output.Source{Service: l.conf.Name, Generation: l.generation, Worker: l.index}
	switch l.conf.Capture {
	case "all":
		return h.logs.Tail(of, 1, 2)
	case "stderr":
		return h.logs.Tail(of, 2)
	}
	return h.logs.Tail(of)
}
