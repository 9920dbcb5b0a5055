package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tablecloth-go/tablecloth/internal/proc"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

const stopLong = `End a service, and wait until it is gone. Requests in flight are answered
first, within the service's stop timeout.

Ctrl-C ends the waiting, not the stop.

Exit status: 0 the service is gone; 1 it is not, within --timeout; 2 usage;
3 it was not running; 5 refused.`

func newStopCommand() *cobra.Command {
	var now bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "stop [SERVICE]",
		Short: "End a service and wait until it is gone",
		Long:  stopLong,
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := connect(cmd)
			if err != nil {
				return err
			}
			ctx, cancel := withTimeout(cmd.Context(), timeout)
			defer cancel()
			wait := showProgress(cmd.ErrOrStderr(), "stopping")
			defer wait.end()
			err = stopAndWait(ctx, client, control.StopRequest{Service: serviceArg(args), Now: now})
			wait.end()
			switch {
			case ctx.Err() == nil:
				return err
			case cmd.Context().Err() != nil:
				return fail(exitFailed, "see how far it is: tablecloth status", "interrupted: the service goes on stopping")
			default:
				return fail(exitFailed, "see what it waits for: tablecloth status; end it at once: tablecloth stop --now",
					"the service was told to stop, but is still there after %v", timeout)
			}
		},
	}
	cmd.Flags().BoolVar(&now, "now", false, "don't wait for requests in flight")
	cmd.Flags().DurationVar(&timeout, "timeout", 2*time.Minute, "how long to wait; 0: for ever")
	return cmd
}

// stopAndWait returns when nothing of the service is left, or ctx is done.
func stopAndWait(ctx context.Context, client *control.Client, r control.StopRequest) error {
	before, err := client.Status(ctx)
	if err != nil {
		return err
	}
	all := r.Service == "" || len(before.Services) == 1 && before.Services[0].Name == r.Service
	var processes []*proc.Handle
	if all {
		processes = watch(before)
	}
	if err := client.Stop(ctx, r); err != nil {
		return refusedUnlessGone(err)
	}
	for !gone(ctx, client, r.Service, all) {
		if err := pause(ctx, 25*time.Millisecond); err != nil {
			return err
		}
	}
	return waitAll(ctx, processes)
}

func refusedUnlessGone(err error) error {
	var e *control.Error
	if errors.As(err, &e) && e.Err == nil {
		return fail(exitRefused, e.Hint, "stop refused: %s", e.Message)
	}
	return err
}

func gone(ctx context.Context, client *control.Client, service string, all bool) bool {
	st, err := client.Status(ctx)
	if err != nil {
		return errors.Is(err, control.ErrNotRunning)
	}
	if all {
		return false
	}
	for _, s := range st.Services {
		if s.Name == service {
			return s.State == control.Down && len(s.Generations) == 0
		}
	}
	return true
}

// watch takes handles of the service's processes before they end. None can be
// had of processes in another PID namespace: what listens no more must do there.
func watch(st control.Status) []*proc.Handle {
	var hs []*proc.Handle
	add := func(p control.Process) {
		started, err := proc.StartTime(p.PID)
		if err != nil || started.Sub(p.Started).Abs() > 2*time.Second {
			return
		}
		if h, err := proc.Open(p.PID); err == nil {
			hs = append(hs, h)
		}
	}
	if st.Keeper != nil {
		add(*st.Keeper)
	}
	for _, s := range st.Services {
		for _, g := range s.Generations {
			for _, w := range g.Workers {
				add(w.Process)
			}
		}
	}
	return hs
}

func waitAll(ctx context.Context, hs []*proc.Handle) error {
	for _, h := range hs {
		defer h.Close()
		select {
		case <-h.Done():
		case <-ctx.Done():
			return fmt.Errorf("process %d: %w", h.PID(), ctx.Err())
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
