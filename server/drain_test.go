package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/upgrader"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// slow answers /slow when the test says so, and everything else at once.
type slow struct{ began, release chan struct{} }

func newSlow() *slow { return &slow{make(chan struct{}, 100), make(chan struct{})} }

func (s *slow) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/slow" {
		s.began <- struct{}{}
		<-s.release
	}
	hello(w, r)
}

func TestDrainAfterUpgrade(t *testing.T) {
	h := newSlow()
	r := start(t, Options{}, web(h.ServeHTTP))
	inFlight, oneMore := dial(t, r.Addr("web")), dial(t, r.Addr("web"))
	oneMore.get("/")
	inFlight.send("GET", "/slow", "")
	<-h.began
	fresh := dial(t, r.Addr("web"))
	accepted(t, r, 3)

	r.replace(t)
	for _, c := range []*client{oneMore, fresh} {
		res, body := c.get("/")
		wantAnswer(t, res, body, 200, "hello", true)
		c.wantEOF()
	}
	close(h.release)
	res, body := inFlight.answer()
	wantAnswer(t, res, body, 200, "hello", true)
	inFlight.wantEOF()
	r.wantEnd(t)
}

// accepted waits until the server knows n connections.
func accepted(t *testing.T, r *rig, n int) {
	t.Helper()
	proctest.Check(t, func() error {
		var g control.Generation
		r.status(&g)
		if open := g.Workers[0].Conns.Open; open < n {
			return fmt.Errorf("%d connections, want %d", open, n)
		}
		return nil
	})
}

func TestIdleGrace(t *testing.T) {
	const grace = 100 * time.Millisecond
	r := start(t, Options{IdleGrace: grace}, web(hello))
	c := dial(t, r.Addr("web"))
	c.get("/")
	began := time.Now()
	r.gen.end(upgrader.Replaced, time.Minute)
	c.wantEOF()
	if d := time.Since(began); d < grace {
		t.Errorf("closed after %v, before the grace of %v was over", d, grace)
	}
	r.wantEnd(t)
}

// A request that follows a long answer has its time, though the drain is old.
func TestIdleGraceCountsFromIdle(t *testing.T) {
	t.Parallel()
	const grace = time.Second
	proctest.Check(t, func() error {
		c, h := longAnswer(t, grace)
		idle := time.Now() // not later
		close(h.release)
		res, body := c.answer()
		wantAnswer(t, res, body, 200, "hello", false)
		c.send("GET", "/", "")
		late := time.Since(idle) >= grace
		res, body, err := c.tryAnswer()
		if err != nil {
			if !late {
				t.Fatal(err)
			}
			return err // the machine was too slow: once more
		}
		wantAnswer(t, res, body, 200, "hello", true)
		return nil
	})
}

// longAnswer returns a connection on which a request is served for longer than
// the grace of a drain.
func longAnswer(t *testing.T, grace time.Duration) (*client, *slow) {
	h := newSlow()
	r := start(t, Options{IdleGrace: grace}, web(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			w.(http.Flusher).Flush() // the header can't say that this is the last answer
		}
		h.ServeHTTP(w, r)
	}))
	c := dial(t, r.Addr("web"))
	c.send("GET", "/slow", "")
	<-h.began
	r.replace(t)
	proctest.Quiet(grace * 6 / 5)
	return c, h
}

func TestKillTimeout(t *testing.T) {
	log, hook := logtest.NewNullLogger()
	h := newSlow()
	defer close(h.release)
	r := start(t, Options{Log: log}, web(h.ServeHTTP))
	var cs []*client
	for range maxNamed + 2 {
		c := dial(t, r.Addr("web"))
		c.send("GET", "/slow", "")
		<-h.began
		cs = append(cs, c)
	}
	r.replace(t)
	var g control.Generation
	r.status(&g)
	if len(g.Holdouts) != maxNamed || g.Holdouts[0].Request != "GET /slow" || g.Holdouts[0].State != stateActive {
		t.Errorf("%d holdouts, the first %+v", len(g.Holdouts), g.Holdouts[0])
	}
	r.gen.expire()
	r.wantEnd(t)
	for _, c := range cs {
		if _, _, err := c.tryAnswer(); err == nil {
			t.Error("an answer came from somewhere")
		}
	}
	named, text := 0, logged(hook)
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "still open: web active for ") && strings.Contains(line, "GET /slow from 127.0.0.1:") {
			named++
		}
	}
	if named != maxNamed || !strings.Contains(text, "and 2 more") || !strings.Contains(text, "kill timeout, exit now") || !strings.Contains(text, "close 1 server: replaced") {
		t.Errorf("%d named in:\n%s", named, text)
	}
}

func logged(hook *logtest.Hook) string {
	var b strings.Builder
	for _, e := range hook.AllEntries() {
		b.WriteString(e.Message + "\n")
	}
	return b.String()
}

func TestDeadlineWithoutExpired(t *testing.T) {
	h := newSlow()
	defer close(h.release)
	r := start(t, Options{}, web(h.ServeHTTP))
	c := dial(t, r.Addr("web"))
	c.send("GET", "/slow", "")
	<-h.began
	r.gen.end(upgrader.Stopped, 50*time.Millisecond)
	r.wantEnd(t)
}

func TestOnDrainAndDraining(t *testing.T) {
	ended := make(chan error, 1)
	sawDraining := make(chan bool, 1)
	o := Options{OnDrain: func(ctx context.Context) {
		select {
		case <-Draining(ctx):
			sawDraining <- true
		default:
			sawDraining <- false
		}
		<-ctx.Done()
		ended <- ctx.Err()
	}}
	began := make(chan struct{})
	r := start(t, o, web(func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		close(began)
		<-Draining(r.Context())
		io.WriteString(w, "bye")
	}))
	c := dial(t, r.Addr("web"))
	c.send("GET", "/", "")
	<-began
	r.gen.end(upgrader.Replaced, time.Minute)
	if _, body := c.answer(); body != "bye" {
		t.Error(body)
	}
	if !<-sawDraining {
		t.Error("OnDrain was called before Draining")
	}
	r.gen.expire() // OnDrain holds the drain up
	if err := <-ended; err == nil {
		t.Error("no error")
	}
	r.wait(t)
	if Draining(context.Background()) != nil {
		t.Error("Draining of another context must be nil")
	}
}

func TestResumed(t *testing.T) {
	log, hook := logtest.NewNullLogger()
	h := newSlow()
	o := Options{Log: log, IdleGrace: time.Minute}
	var drains atomic.Int32
	o.OnDrain = func(context.Context) { drains.Add(1) }
	echo := func(ctx context.Context, c net.Conn) { io.Copy(c, c) }
	r := start(t, o, web(h.ServeHTTP), Conns("echo", echo, "127.0.0.1:0"))
	idle, inFlight, raw := dial(t, r.Addr("web")), dial(t, r.Addr("web")), dial(t, r.Addr("echo"))
	idle.get("/")
	inFlight.send("GET", "/slow", "")
	<-h.began
	accepted(t, r, 3)

	for round := range 2 {
		r.replace(t)
		r.resume(t)
		res, body := idle.get("/")
		wantAnswer(t, res, body, 200, "hello", false)
		res, body = dial(t, r.Addr("web")).get("/")
		wantAnswer(t, res, body, 200, "hello", false)
		fmt.Fprintf(raw, "%d\n", round)
		if s, err := raw.r.ReadString('\n'); s != fmt.Sprintf("%d\n", round) {
			t.Error(s, err)
		}
		select {
		case <-r.epoch.Load().Done():
			t.Error("still draining")
		default:
		}
	}
	close(h.release)
	res, body := inFlight.answer()
	wantAnswer(t, res, body, 200, "hello", false)
	if n := drains.Load(); n != 2 {
		t.Errorf("OnDrain called %d times", n)
	}
	if !strings.Contains(logged(hook), "serve again") {
		t.Error(logged(hook))
	}
}

func TestConnsDrain(t *testing.T) {
	polite := func(ctx context.Context, c net.Conn) {
		select {
		case <-ctx.Done():
		case <-Draining(ctx):
		}
		io.WriteString(c, "bye")
	}
	stubborn := make(chan struct{})
	r := start(t, Options{},
		Conns("polite", polite, "127.0.0.1:0"),
		Conns("stubborn", func(_ context.Context, c net.Conn) {
			io.WriteString(c, "x")
			io.Copy(io.Discard, c)
			close(stubborn)
		}, "127.0.0.1:0"))
	c, d := dial(t, r.Addr("polite")), dial(t, r.Addr("stubborn"))
	d.r.ReadByte()
	accepted(t, r, 2)
	r.gen.end(upgrader.Replaced, time.Minute)
	if b, err := io.ReadAll(c.r); string(b) != "bye" || err != nil {
		t.Errorf("%q %v", b, err)
	}
	select {
	case <-r.done:
		t.Error("didn't wait for a connection in use")
	default:
	}
	r.gen.expire()
	proctest.Await(t, "cut", stubborn)
	r.wait(t)
}

func TestNotReady(t *testing.T) {
	gen := newFake()
	gen.readyErr = errors.New("PID file: no such directory")
	r := startOn(t, t.Context(), gen, Options{}, web(hello))
	if err := r.wait(t); !errors.Is(err, gen.readyErr) {
		t.Error(err)
	}
	select {
	case <-r.Ready():
		t.Error("ready")
	default:
	}
}

// A stop with nothing in flight is quick, with idle connections of all kinds.
func TestStopIsQuick(t *testing.T) {
	proctest.Check(t, func() error {
		// 100 ms is aimed at; this bounds a loaded machine, which may still be
		// slower than that once.
		if d := stopIdle(t); d > 5*time.Second {
			return fmt.Errorf("stop took %v", d)
		}
		return nil
	})
}

// stopIdle is how long it takes to stop a server whose connections are idle.
func stopIdle(t *testing.T) time.Duration {
	r := start(t, Options{IdleGrace: time.Hour}, secure(t, hello), HTTP("plain", &http.Server{Handler: http.HandlerFunc(hello)}, "127.0.0.1:0"))
	hc := h2Client(t)
	res, err := hc.Get("https://" + r.Addr("web").String())
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, res.Body)
	res.Body.Close()
	dial(t, r.Addr("plain")).get("/")
	dial(t, r.Addr("plain")) // silent
	accepted(t, r, 3)
	began := time.Now()
	r.gen.Stop()
	r.wait(t)
	return time.Since(began)
}
