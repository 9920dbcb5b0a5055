package control

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"
)

// patience bounds failures only: whatever is waited for comes at once.
const patience = 30 * time.Second

// fakeBackend answers as a test says.
type fakeBackend struct {
	status   Status
	outcomes Outcomes
	unknown  chan string // an ID that was asked for in vain; nil: nobody wants to know
	upgrade  func(context.Context, UpgradeRequest) Outcome
	stop     func(context.Context, StopRequest) error
	notLive  bool
	notReady bool
}

func (b *fakeBackend) Status() Status {
	st := b.status
	st.Mode = cmp.Or(st.Mode, "alone")
	return st
}

func (b *fakeBackend) Upgrade(ctx context.Context, r UpgradeRequest) Outcome {
	if b.upgrade == nil {
		return Outcome{ID: r.ID, Trigger: r.Trigger, Result: Ready, Generation: 2, PID: 4712}
	}
	return b.upgrade(ctx, r)
}

func (b *fakeBackend) Outcome(ctx context.Context, id string) (Outcome, bool) {
	o, known := b.outcomes.Wait(ctx, id)
	if !known && b.unknown != nil {
		select {
		case b.unknown <- id:
		default: // it has been told
		}
	}
	return o, known
}

func (b *fakeBackend) Stop(ctx context.Context, r StopRequest) error {
	if b.stop == nil {
		return nil
	}
	return b.stop(ctx, r)
}

func (b *fakeBackend) Live() bool  { return !b.notLive }
func (b *fakeBackend) Ready() bool { return !b.notReady }

// serve runs a Server on a socket of its own, and returns a Client for it.
func serve(t *testing.T, s *Server) *Client {
	t.Helper()
	ln, err := Listen(filepath.Join(t.TempDir(), "control"), ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, s, ln)
	c, err := Dial(ln.Path())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func serveOn(t *testing.T, s *Server, ln net.Listener) {
	t.Helper()
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-served; err != http.ErrServerClosed {
			t.Errorf("Serve: %v", err)
		}
	})
}

// soon is a context that bounds a failure.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}
