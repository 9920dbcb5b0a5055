package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/tablecloth-go/tablecloth/cmd/internal/config"
	"github.com/tablecloth-go/tablecloth/internal/proc"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

const stopLong = `End services, and wait until they are gone. Requests in flight are answered
first, within the services' stop timeout. Without a name: all, and the keeper.

Ctrl-C ends the waiting, not the stop.

Exit status: 0 the service is gone; 1 it is not, within --timeout; 2 usage;
3 it was not running; 5 refused.`

func newStopCommand() *cobra.Command {
	var now bool
	timeout := 2 * time.Minute
	cmd := &cobra.Command{
		Use:   "stop [SERVICE...]",
		Short: "End services and wait until they are gone",
		Long:  stopLong,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := connect(cmd)
			if err != nil {
				return err
			}
			ctx, cancel := withTimeout(cmd.Context(), timeout)
			defer cancel()
			wait := showProgress(cmd.ErrOrStderr(), "stopping")
			defer wait.end()
			err = stopAndWait(ctx, client, stopRequest(args, now))
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
	config.AddSpan(cmd.Flags(), &timeout, true, "timeout", "how long to wait; 0: for ever")
	return cmd
}

// stopRequest has a field of its own for a single name, which is older.
func stopRequest(names []string, now bool) control.StopRequest {
	if len(names) == 1 {
		return control.StopRequest{Service: names[0], Now: now}
	}
	return control.StopRequest{Services: names, Now: now}
}

// stopAndWait returns when nothing of the service is left, or ctx is done.
func stopAndWait(ctx context.Context, client *control.Client, r control.StopRequest) error {
	before, err := client.Status(ctx)
	if err != nil {
		return err
	}
	names := r.Services
	if r.Service != "" {
		names = append(names, r.Service)
	}
	all := len(names) == 0 || !slices.ContainsFunc(before.Services, func(s control.Service) bool { return !slices.Contains(names, s.Name) })
	var processes []*proc.Handle
	if all {
		processes = watch(before)
	}
	if err := client.Stop(ctx, r); err != nil {
		return refusedUnlessGone("stop", err)
	}
	for !gone(ctx, client, names, all) {
		if err := pause(ctx, 25*time.Millisecond); err != nil {
			return err
		}
	}
	return waitAll(ctx, processes)
}

func refusedUnlessGone(what string, err error) error {
	var e *control.Error
	if errors.As(err, &e) && e.Err == nil {
		return fail(exitRefused, e.Hint, "%s refused: %s", what, e.Message)
	}
	return err
}

// gone reports whether nothing of these services is left.
func gone(ctx context.Context, client *control.Client, names []string, all bool) bool {
	st, err := client.Status(ctx)
	if err != nil {
		return errors.Is(err, control.ErrNotRunning)
	}
	if all {
		return false
	}
	for _, s := range st.Services {
		if slices.Contains(names, s.Name) && (len(s.Generations) > 0 || s.State != control.Down && s.State != control.Stopped) {
			return false
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
