//go:build linux

package integration

import (
	"context"
	"fmt"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/strict"
)

// load is strict clients at work.
type load struct {
	*strict.Running
	t      *testing.T
	cancel context.CancelFunc
}

func startLoad(t *testing.T, network, addr string, groups ...strict.Group) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{t: t, cancel: cancel}
	l.Running = strict.Load{Network: network, Addr: addr, Groups: groups, Timeout: patience(t)}.Start(ctx)
	t.Cleanup(func() { l.stop() })
	return l
}

// stop ends the load when all that is in flight was answered.
func (l *load) stop() *strict.Report {
	l.cancel()
	return l.Wait()
}

// sees waits until a generation, or a newer one, has answered.
func (l *load) sees(generation int) {
	l.t.Helper()
	proctest.Await(l.t, fmt.Sprintf("an answer of generation %d", generation), l.Answered(generation))
}

// unbroken reports what a client could have noticed of upgrades: any failed
// request, any connection that the service has ended, announced or not.
func unbroken(r *strict.Report) error {
	if err := r.Err(); err != nil {
		return err
	}
	for end, n := range r.Total.Ends {
		if end != strict.Ours {
			return fmt.Errorf("%d connections ended: %s", n, end)
		}
	}
	return nil
}

// wantUnbroken also wants that upgrades took place at all: answers of each of
// the generations, and connections on which more than one has answered.
func wantUnbroken(t *testing.T, r *strict.Report, generations int) {
	t.Helper()
	if err := unbroken(r); err != nil {
		t.Error(err)
	}
	for g := 1; g <= generations; g++ {
		if r.Generations[g].Answers == 0 {
			t.Errorf("generation %d has answered nothing", g)
		}
	}
	if r.Total.Moved == 0 {
		t.Error("no connection has moved")
	}
}
