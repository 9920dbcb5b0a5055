package server

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/live"
	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/upgrader"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// notOurs is a listener that the application has wrapped.
type notOurs struct{ net.Listener }

// Status tells of each connection that a drain has met why it was closed, whatever
// it came through.
func TestWhyConnectionsWereClosed(t *testing.T) {
	for _, wrapped := range []bool{false, true} {
		name := map[bool]string{false: "of a listener of ours", true: "of a wrapped one"}[wrapped]
		t.Run(name, func(t *testing.T) { t.Parallel(); testClosed(t, wrapped) })
	}
}

func testClosed(t *testing.T, wrapped bool) {
	h := newSlow()
	taken := make(chan net.Conn, 2)
	conns := make(chan live.Handle, 10)
	hs := &http.Server{ConnContext: func(ctx context.Context, nc net.Conn) context.Context {
		conns <- live.Of(nc)
		return ctx
	}}
	hs.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/taken" {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
			}
			taken <- c
			return
		}
		h.ServeHTTP(w, r)
	})
	svc := HTTP("web", hs, "127.0.0.1:0")
	if wrapped {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		svc.Listen, svc.Listeners = nil, []net.Listener{notOurs{ln}}
	}
	r := start(t, Options{IdleGrace: time.Hour}, svc)
	goes, stays := dial(t, r.Addr("web")), dial(t, r.Addr("web"))
	for _, c := range []*client{goes, stays} {
		c.send("GET", "/taken", "")
	}
	ours, theirs := <-taken, <-taken
	answered, peer, idle := dial(t, r.Addr("web")), dial(t, r.Addr("web")), dial(t, r.Addr("web"))
	answered.send("GET", "/slow", "")
	<-h.began
	peer.get("/")
	idle.get("/")
	accepted(t, r, 5)

	r.gen.end(upgrader.Replaced, time.Minute)
	waitDrain(t, r.runners[0].(*httpRunner), <-conns)
	want := map[string]int64{}
	counted := func(why string) {
		t.Helper()
		want[why]++
		waitClosed(t, r, want)
	}
	close(h.release)
	res, body := answered.answer()
	wantAnswer(t, res, body, 200, "hello", true)
	answered.wantEOF()
	counted(live.ClosedAnswered)
	peer.Close()
	counted(live.ClosedPeer)
	ours.Close()
	counted(live.ClosedPinned)
	r.gen.expire()
	io.Copy(io.Discard, theirs)
	r.wait(t)
	want[live.ClosedCut] = 2 // idle, and what is still hijacked
	waitClosed(t, r, want)
}

// waitDrain returns when both tables drain.
func waitDrain(t *testing.T, h *httpRunner, c live.Handle) {
	t.Helper()
	proctest.Poll(t, "the drain of both tables", func() bool {
		h.table.mu.Lock()
		defer h.table.mu.Unlock()
		return h.table.idle >= 0 && !c.MayMove()
	})
}

func waitClosed(t *testing.T, r *rig, want map[string]int64) {
	t.Helper()
	proctest.Check(t, func() error {
		var c control.Conns
		r.runners[0].count(&c)
		if !maps.Equal(c.Closed, want) {
			return fmt.Errorf("closed %v, want %v", c.Closed, want)
		}
		return nil
	})
}
