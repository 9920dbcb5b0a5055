package keeper

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"
)

func (k *keeper) catchSignals() {
	// Caught, not ignored: the workers would inherit that. Whoever reads our
	// output may go away.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	k.signals = make(chan os.Signal, 32)
	k.terminal = hasTerminal()
	signal.Notify(k.signals, k.conf.listenTo()...)
}

func (k *keeper) obeySignals(ctx context.Context) {
	interrupts := 0
	for {
		select {
		case <-k.actor.done:
			return
		case <-ctx.Done():
			k.actor.post(func() { k.actor.stop("", false) })
			ctx = context.Background()
		case sig := <-k.signals:
			if sig == syscall.SIGINT {
				interrupts++
			}
			if interrupts > 1 && term.IsTerminal(0) { // somebody sits there, and has no patience
				k.actor.post(func() { k.actor.stop("", true) })
				continue
			}
			k.reopenLogs(sig)
			k.obey(sig.(syscall.Signal))
		}
	}
}

func (k *keeper) obey(sig syscall.Signal) {
	k.actor.post(func() {
		switch {
		case sig == syscall.SIGTERM, sig == syscall.SIGINT, sig == syscall.SIGHUP && k.terminal && !hasTerminal():
			k.actor.stop("", false)
		case sig == syscall.SIGHUP:
			k.actor.hangup()
		case sig == syscall.SIGUSR1 && !k.conf.passes(sig):
		default:
			k.actor.forward(sig)
		}
	})
}

// hasTerminal reports whether this process has a controlling terminal. SIGHUP is
// the end of it too, if it is gone then.
func hasTerminal() bool {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err == nil {
		f.Close()
	}
	return err == nil
}

// listenTo are the signals that mean something to a keeper. A SIGHUP that is
// ignored (nohup) stays ignored.
func (c *Config) listenTo() []os.Signal {
	all := []os.Signal{syscall.SIGTERM, syscall.SIGINT}
	if !signal.Ignored(syscall.SIGHUP) {
		all = append(all, syscall.SIGHUP)
	}
	if c.Forward == nil || c.Output.File != "" {
		all = append(all, syscall.SIGUSR1)
	}
	if c.Forward == nil {
		return append(all, syscall.SIGWINCH, syscall.SIGQUIT)
	}
	return append(all, c.Forward...)
}
