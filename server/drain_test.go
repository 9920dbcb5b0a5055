package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	logtest "github.com/sirupsen/logrus/hooks/test"

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

	r.gen.end(upgrader.Replaced, time.Minute)
	within(t, "drain", r.epoch.Load().Done())
	for _, c := range []*client{oneMore, fresh} {
		res, body := c.get("/")
		wantAnswer(t, res, body, 200, "hello", true)
		c.wantEOF()
	}
	close(h.release)
	res, body := inFlight.answer()
	wantAnswer(t, res, body, 200, "hello", true)
	inFlight.wantEOF()
	if err := r.wait(t); err != nil {
		t.Error(err)
	}
}

// accepted waits until the server knows n connections.
func accepted(t *testing.T, r *rig, n int) {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		var g control.Generation
		r.status(&g)
		if g.Workers[0].Conns.Open >= n {
			return
		}
		if time.Since(begin) > patienceOfTests {
			t.Fatalf("%d connections, want %d", g.Workers[0].Conns.Open, n)
		}
	}
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
	if err := r.wait(t); err != nil {
		t.Error(err)
	}
}

// A request that follows a long answer has its time, though the drain is old.
func TestIdleGraceCountsFromIdle(t *testing.T) {
	t.Parallel()
	h := newSlow()
	r := start(t, Options{IdleGrace: time.Second}, web(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			w.(http.Flusher).Flush() // the header can't say that this is the last answer
		}
		h.ServeHTTP(w, r)
	}))
	c := dial(t, r.Addr("web"))
	c.send("GET", "/slow", "")
	<-h.began
	r.gen.end(upgrader.Replaced, time.Minute)
	within(t, "drain", r.epoch.Load().Done())
	time.Sleep(1200 * time.Millisecond) // longer than the grace
	close(h.release)
	res, body := c.answer()
	wantAnswer(t, res, body, 200, "hello", false)
	res, body = c.get("/")
	wantAnswer(t, res, body, 200, "hello", true)
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
	r.gen.end(upgrader.Replaced, time.Minute)
	within(t, "drain", r.epoch.Load().Done())
	var g control.Generation
	r.status(&g)
	if len(g.Holdouts) != maxNamed || g.Holdouts[0].Request != "GET /slow" || g.Holdouts[0].State != stateActive {
		t.Errorf("%d holdouts, the first %+v", len(g.Holdouts), g.Holdouts[0])
	}
	r.gen.expire()
	if err := r.wait(t); err != nil {
		t.Error(err)
	}
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
	if err := r.wait(t); err != nil {
		t.Error(err)
	}
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
		old := r.epoch.Load()
		r.gen.end(upgrader.Replaced, time.Minute)
		within(t, "drain", old.Done())
		r.gen.resume()
		for r.draining.Load() {
			time.Sleep(time.Millisecond)
		}
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
	within(t, "cut", stubborn)
	r.wait(t)
}

// callServer is like *grpc.Server in what matters.
type callServer struct {
	http.Server
	stopped chan struct{}
	once    sync.Once
}

func (s *callServer) GracefulStop() { s.Server.Shutdown(context.Background()) }
func (s *callServer) Stop()         { s.once.Do(func() { close(s.stopped) }); s.Server.Close() }

func newCallServer(h http.Handler) *callServer {
	return &callServer{Server: http.Server{Handler: h}, stopped: make(chan struct{})}
}

func TestGRPC(t *testing.T) {
	h := newSlow()
	r := start(t, Options{}, GRPC("api", newCallServer(h), "127.0.0.1:0"))
	c := dial(t, r.Addr("api"))
	c.send("GET", "/slow", "")
	<-h.began
	r.gen.end(upgrader.Replaced, time.Minute)
	within(t, "drain", r.epoch.Load().Done())
	close(h.release)
	if _, body := c.answer(); body != "hello" {
		t.Error(body)
	}
	if err := r.wait(t); err != nil {
		t.Error(err)
	}
}

func TestGRPCDeadline(t *testing.T) {
	h := newSlow()
	defer close(h.release)
	gs := newCallServer(h)
	r := start(t, Options{}, GRPC("api", gs, "127.0.0.1:0"))
	c := dial(t, r.Addr("api"))
	c.send("GET", "/slow", "")
	<-h.began
	r.gen.end(upgrader.Replaced, time.Minute)
	within(t, "drain", r.epoch.Load().Done())
	for len(r.holdouts()) == 0 {
		time.Sleep(time.Millisecond)
	}
	r.gen.expire()
	within(t, "Stop", gs.stopped)
	r.wait(t)
}

// A server that has stopped for good is replaced, and till then its clients
// wait.
func TestGRPCResumed(t *testing.T) {
	h := newSlow()
	defer close(h.release)
	r := start(t, Options{}, GRPC("api", newCallServer(http.HandlerFunc(hello)), "127.0.0.1:0"), web(h.ServeHTTP))
	held := dial(t, r.Addr("web"))
	held.send("GET", "/slow", "") // or the drain would be over before it is taken back
	<-h.began
	dial(t, r.Addr("api")).get("/")
	r.gen.end(upgrader.Replaced, time.Minute)
	within(t, "drain", r.epoch.Load().Done())
	api := r.runners[0].(*graceful)
	for !api.ended.Load() {
		time.Sleep(time.Millisecond)
	}
	r.gen.resume()
	within(t, "upgrade", r.gen.upgrades)
	waiting := dial(t, r.Addr("api"))
	waiting.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	waiting.send("GET", "/", "")
	if _, _, err := waiting.tryAnswer(); !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) {
		t.Errorf("a client must wait in the backlog: %v", err)
	}
	res, body := dial(t, r.Addr("web")).get("/")
	wantAnswer(t, res, body, 200, "hello", false)
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func TestGRPCResumedInVain(t *testing.T) {
	gen := newFake()
	gen.upgrade = errors.New("no such binary")
	h := newSlow()
	r := startOn(t, t.Context(), gen, Options{}, GRPC("api", newCallServer(http.HandlerFunc(hello)), "127.0.0.1:0"), web(h.ServeHTTP))
	held := dial(t, r.Addr("web"))
	held.send("GET", "/slow", "")
	<-h.began
	gen.end(upgrader.Replaced, time.Minute)
	within(t, "drain", r.epoch.Load().Done())
	gen.resume()
	<-gen.upgrades
	close(h.release)
	if err := r.wait(t); !errors.Is(err, gen.upgrade) {
		t.Error(err)
	}
}

func TestCustom(t *testing.T) {
	hs := &http.Server{Handler: http.HandlerFunc(hello)}
	r := start(t, Options{}, Custom("own", hs.Serve, hs.Shutdown, "127.0.0.1:0", "unix:@"+t.Name()))
	dial(t, r.Addr("own")).get("/")
	began := time.Now()
	r.gen.Stop()
	if err := r.wait(t); err != nil {
		t.Error(err)
	}
	t.Logf("%v", time.Since(began))
}

func TestServeError(t *testing.T) {
	bad := errors.New("serve is broken")
	fail := make(chan error, 1)
	svc := Custom("own", func(ln net.Listener) error { return <-fail }, func(context.Context) error { return nil }, "127.0.0.1:0")
	r := start(t, Options{}, svc, web(hello))
	c := dial(t, r.Addr("web"))
	c.get("/")
	fail <- bad
	c.wantEOF()
	if err := r.wait(t); !errors.Is(err, bad) || !strings.Contains(err.Error(), `"own"`) {
		t.Error(err)
	}
}

func TestServeReturnsNil(t *testing.T) {
	end := make(chan struct{})
	svc := Custom("own", func(ln net.Listener) error { <-end; return nil }, func(context.Context) error { return nil }, "127.0.0.1:0")
	r := start(t, Options{}, svc)
	close(end)
	if err := r.wait(t); err == nil {
		t.Error("a server that ends by itself is an error")
	}
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
	r := start(t, Options{}, secure(t, hello), HTTP("plain", &http.Server{Handler: http.HandlerFunc(hello)}, "127.0.0.1:0"))
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
	d := time.Since(began)
	t.Logf("stopped after %v", d)
	if d > 5*time.Second { // 100 ms is aimed at; this bounds a loaded machine
		t.Errorf("stop took %v", d)
	}
}

// strictLoad sends requests on keep-alive connections, and counts those that
// were sent on a connection of which the server had not said that it ends, but
// got no answer.
func strictLoad(t *testing.T, dial func() (net.Conn, error), stop <-chan struct{}) (answered, lost int) {
	var mu sync.Mutex
	var g sync.WaitGroup
	for range 40 {
		g.Go(func() {
			var c *client
			for {
				select {
				case <-stop:
					return
				default:
				}
				if c == nil {
					nc, err := dial()
					if err != nil {
						return
					}
					c = newClient(t, nc)
				}
				_, err := fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n\r\nbody")
				var res *http.Response
				if err == nil {
					res, _, err = c.tryAnswer()
				}
				mu.Lock()
				if err == nil {
					answered++
				} else {
					lost++
				}
				mu.Unlock()
				if err != nil || res.Close {
					c.Close()
					c = nil
				}
			}
		})
	}
	g.Wait()
	return
}

func TestBusyDrainLosesNothing(t *testing.T) {
	lost := 0
	for range 3 {
		a, l := busyDrain(t, func(t *testing.T, h http.Handler) (net.Addr, func()) {
			r := start(t, Options{IdleGrace: 200 * time.Millisecond}, HTTP("web", &http.Server{Handler: h}, "127.0.0.1:0"))
			return r.Addr("web"), func() {
				r.gen.end(upgrader.Replaced, time.Minute)
				r.wait(t)
			}
		})
		t.Logf("%d answered, %d lost", a, l)
		lost += l
	}
	if lost > 0 {
		t.Errorf("%d requests lost", lost)
	}
}

// The negative control: what http.Server does by itself.
func TestBusyShutdownOfNetHTTPLoses(t *testing.T) {
	for range 20 {
		_, lost := busyDrain(t, func(t *testing.T, h http.Handler) (net.Addr, func()) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			hs := &http.Server{Handler: h}
			go hs.Serve(ln)
			return ln.Addr(), func() { hs.Shutdown(t.Context()) }
		})
		if lost > 0 {
			t.Logf("%d lost", lost)
			return
		}
	}
	t.Error("http.Server.Shutdown has lost nothing: the test that guards against it proves nothing")
}

// busyDrain ends a server under load. New connections go to a second one, as
// those of a client go to the next generation, whose gate is the same socket.
func busyDrain(t *testing.T, serve func(*testing.T, http.Handler) (net.Addr, func())) (answered, lost int) {
	var n atomic.Int64
	enough := make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if n.Add(1) == 2000 {
			close(enough)
		}
	})
	old, end := serve(t, h)
	next, endNext := serve(t, http.HandlerFunc(hello))
	var dialing sync.RWMutex
	moved := false
	connect := func() (net.Conn, error) {
		dialing.RLock()
		defer dialing.RUnlock()
		a := old
		if moved {
			a = next
		}
		return net.Dial(a.Network(), a.String())
	}
	stop := make(chan struct{})
	go func() {
		<-enough
		dialing.Lock()
		moved = true
		dialing.Unlock()
		// Nobody takes what is in the backlog at the end, in this test: it is
		// empty when a later connection is served.
		if c, err := net.Dial(old.Network(), old.String()); err == nil {
			last := newClient(t, c)
			fmt.Fprint(last, "GET / HTTP/1.1\r\nHost: t\r\n\r\n")
			last.tryAnswer()
			last.Close()
		}
		end()
		close(stop)
	}()
	answered, lost = strictLoad(t, connect, stop)
	endNext()
	return
}
