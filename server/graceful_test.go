package server

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/upgrader"
)

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
	proctest.Await(t, "drain", r.epoch.Load().Done())
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
	proctest.Await(t, "drain", r.epoch.Load().Done())
	proctest.Poll(t, "a holdout", func() bool { return r.holdouts().All > 0 })
	r.gen.expire()
	proctest.Await(t, "Stop", gs.stopped)
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
	proctest.Await(t, "drain", r.epoch.Load().Done())
	api := r.runners[0].(*graceful)
	proctest.Await(t, "graceful stop", api.done)
	r.gen.resume()
	proctest.Await(t, "upgrade", r.gen.upgrades)
	waiting := dial(t, r.Addr("api"))
	waiting.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	waiting.send("GET", "/", "")
	if _, _, err := waiting.tryAnswer(); !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) {
		t.Errorf("a client must wait in the backlog: %v", err)
	}
	res, body := dial(t, r.Addr("web")).get("/")
	wantAnswer(t, res, body, 200, "hello", false)
}

// A graceful stop that is under way when the drain is taken back goes on.
func TestCustomResumed(t *testing.T) {
	calls := make(chan struct{}, 10)
	closed, release := make(chan struct{}), make(chan struct{})
	serve := func(ln net.Listener) error { go ln.Accept(); <-closed; return nil }
	shutdown := func(ctx context.Context) error {
		calls <- struct{}{}
		close(closed)
		select {
		case <-release:
		case <-ctx.Done():
			t.Error("was given up")
		}
		return nil
	}
	svc := Custom("own", serve, shutdown, "127.0.0.1:0")
	r := start(t, Options{}, svc)
	for range 2 {
		draining := r.epoch.Load()
		r.gen.end(upgrader.Replaced, time.Minute)
		proctest.Await(t, "drain", draining.Done())
		<-calls
		r.gen.resume()
		proctest.Await(t, "upgrade", r.gen.upgrades)
		calls <- struct{}{}
	}
	<-calls
	r.gen.end(upgrader.Replaced, time.Minute)
	close(release)
	if err := r.wait(t); err != nil || len(calls) != 0 {
		t.Errorf("%v; shutdown called %d times more", err, len(calls))
	}
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
	proctest.Await(t, "drain", r.epoch.Load().Done())
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
	svc := Custom("own", func(ln net.Listener) error { go ln.Accept(); return <-fail }, func(context.Context) error { return nil }, "127.0.0.1:0")
	r := start(t, Options{}, svc, web(hello))
	c := dial(t, r.Addr("web"))
	c.get("/")
	fail <- bad
	c.wantEOF()
	if err := r.wait(t); !errors.Is(err, bad) || !strings.Contains(err.Error(), `"own"`) {
		t.Error(err)
	}
}

// A server that fails at once never gets ready: the generation before serves on.
func TestServeFailsAtStart(t *testing.T) {
	bad := errors.New("serve is broken")
	gen := newFake()
	gen.readyErr = errors.New("must not be asked")
	shut := make(chan struct{})
	fails := func(net.Listener) error { return bad }
	shutdown := func(context.Context) error { close(shut); return nil }
	r := startOn(t, t.Context(), gen, Options{}, web(hello), Custom("own", fails, shutdown, "127.0.0.1:0"))
	if err := r.wait(t); !errors.Is(err, bad) {
		t.Error(err)
	}
	proctest.Await(t, "shutdown", shut)
	if gen.asked {
		t.Error("Ready was called")
	}
}

// So does a certificate without its key, which net/http notices in ServeTLS.
func TestServeTLSFailsAtStart(t *testing.T) {
	gen := newFake()
	gen.readyErr = errors.New("must not be asked")
	hs := &http.Server{TLSConfig: &tls.Config{
		Certificates: []tls.Certificate{testCertificate()},
		CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}, // which HTTP/2 forbids
	}}
	r := startOn(t, t.Context(), gen, Options{}, HTTP("web", hs, "127.0.0.1:0"))
	if err := r.wait(t); err == nil || gen.asked {
		t.Errorf("%v, asked: %v", err, gen.asked)
	}
}

func TestServeReturnsNil(t *testing.T) {
	end := make(chan struct{})
	svc := Custom("own", func(ln net.Listener) error { go ln.Accept(); <-end; return nil }, func(context.Context) error { return nil }, "127.0.0.1:0")
	r := start(t, Options{}, svc)
	close(end)
	if err := r.wait(t); err == nil {
		t.Error("a server that ends by itself is an error")
	}
}
