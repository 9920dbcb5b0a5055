package proctest

import (
	"context"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// Dial returns a client of a control socket that is there.
func Dial(t testing.TB, path string) *control.Client {
	t.Helper()
	c, err := control.Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// DialWhenThere waits for a control socket; nil: the process has ended that was to
// make it.
func DialWhenThere(path string, ended <-chan struct{}) *control.Client {
	for {
		if c, err := control.Dial(path); err == nil {
			return c
		}
		select {
		case <-ended:
			return nil
		case <-time.After(pace):
		}
	}
}

// Status of the first service.
func Status(t testing.TB, c *control.Client) control.Service {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience(t))
	defer cancel()
	st, err := c.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return st.Services[0]
}

// Upgrade asks for an upgrade, and returns the outcome.
func Upgrade(t testing.TB, c *control.Client, r control.UpgradeRequest) control.Outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience(t))
	defer cancel()
	o, err := c.Upgrade(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// Event waits for an event of that kind after number seq.
func Event(t testing.TB, c *control.Client, kind string, seq uint64) control.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience(t))
	defer cancel()
	for e, err := range c.Follow(ctx, seq) {
		if err != nil {
			t.Fatalf("waiting for %q: %v", kind, err)
		}
		if e.Kind == kind {
			return e
		}
	}
	t.Fatalf("no event %q", kind)
	return control.Event{}
}

// LastSeq is the number of the newest event so far; 0: there was none.
func LastSeq(t testing.TB, c *control.Client) (n uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience(t))
	defer cancel()
	for e, err := range c.Events(ctx, 0) {
		if err != nil {
			t.Fatal(err)
		}
		n = e.Seq
	}
	return n
}
