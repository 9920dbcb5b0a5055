package server

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/upgrader"
)

func wantAnswer(t *testing.T, res *http.Response, body string, status int, want string, close bool) {
	t.Helper()
	if res.StatusCode != status || body != want || res.Close != close {
		t.Fatalf("%s %q close=%v, want %d %q close=%v", res.Status, body, res.Close, status, want, close)
	}
}

func TestHandlerPanic(t *testing.T) {
	told := make(chan Crash, 10)
	o := Options{OnCrash: func(ctx context.Context, c Crash) {
		told <- c
		panic("hook too")
	}}
	r := start(t, o, web(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Half", "done")
		switch r.URL.Path {
		case "/panic":
			panic("boom")
		case "/ignored-body":
			panic("boom")
		}
		hello(w, r)
	}))
	c := dial(t, r.Addr("web"))
	res, body := c.get("/panic")
	wantAnswer(t, res, body, 500, internalError, false)
	if res.Header.Get("X-Half") != "" {
		t.Error("headers of the failed answer were sent")
	}
	crash := <-told
	if crash.Value != "boom" || crash.Count != 1 || crash.Err == nil || len(crash.Stack) == 0 || crash.Request.URL.Path != "/panic" {
		t.Errorf("told %+v", crash)
	}
	// The same connection goes on, after a body that nobody read as well.
	c.send("POST", "/ignored-body", strings.Repeat("x", 100_000))
	res, body = c.answer()
	wantAnswer(t, res, body, 500, internalError, false)
	if crash = <-told; crash.Count != 2 {
		t.Errorf("count %d", crash.Count)
	}
	res, body = c.get("/")
	wantAnswer(t, res, body, 200, "hello", false)
	if n := len(r.gen.crashes); n != 0 {
		t.Errorf("%d crashes, want none", n)
	}
}

// net/http panics of a status that is none, before anything of the answer is sent.
func TestStatusThatIsNone(t *testing.T) {
	r := start(t, Options{}, web(func(w http.ResponseWriter, r *http.Request) {
		status, _ := strconv.Atoi(r.URL.Path[1:])
		w.WriteHeader(status)
	}))
	c := dial(t, r.Addr("web"))
	for _, path := range []string{"/0", "/99", "/1000", "/-200"} {
		res, body := c.get(path)
		wantAnswer(t, res, body, 500, internalError, false)
	}
}

// A body that is too long to be skipped makes the connection useless.
func TestPanicWithUntrustedBody(t *testing.T) {
	r := start(t, Options{}, web(func(w http.ResponseWriter, r *http.Request) { panic("boom") }))
	c := dial(t, r.Addr("web"))
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 100000000\r\n\r\n")
	res, body := c.answer()
	wantAnswer(t, res, body, 500, internalError, true)
}

func TestPanicAfterHalfAnAnswer(t *testing.T) {
	r := start(t, Options{}, web(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		panic("boom")
	}))
	c := dial(t, r.Addr("web"))
	c.send("GET", "/", "")
	if _, body, err := c.tryAnswer(); err != io.ErrUnexpectedEOF {
		t.Fatalf("%q, %v: the cut must be visible", body, err)
	}
}

func TestAbortHandlerIsNoCrash(t *testing.T) {
	hook := func(context.Context, Crash) { t.Error("told of http.ErrAbortHandler") }
	r := start(t, Options{ReplaceOnPanic: true, OnCrash: hook}, web(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/go" {
			Go(r.Context(), func() { panic(http.ErrAbortHandler) })
			return
		}
		panic(http.ErrAbortHandler)
	}))
	for _, path := range []string{"/", "/go"} {
		c := dial(t, r.Addr("web"))
		c.send("GET", path, "")
		c.wantEOF()
	}
	if n := len(r.gen.crashes); n != 0 {
		t.Errorf("%d crashes, want none", n)
	}
}

func TestIgnorePanic(t *testing.T) {
	o := Options{
		ReplaceOnPanic: true,
		IgnorePanic:    func(v any) bool { return v == "mine" },
		OnCrash:        func(context.Context, Crash) { t.Error("told of an ignored panic") },
	}
	r := start(t, o, web(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/go" {
			Go(r.Context(), func() { panic("mine") })
			return
		}
		panic("mine")
	}))
	c := dial(t, r.Addr("web"))
	for _, path := range []string{"/", "/go"} {
		res, body := c.get(path)
		wantAnswer(t, res, body, 500, internalError, false)
	}
	if n := len(r.gen.crashes); n != 0 {
		t.Errorf("%d crashes, want none", n)
	}
}

func TestReplaceOnPanic(t *testing.T) {
	r := start(t, Options{ReplaceOnPanic: true}, web(func(w http.ResponseWriter, r *http.Request) { panic(io.ErrNoProgress) }))
	c := dial(t, r.Addr("web"))
	res, body := c.get("/")
	wantAnswer(t, res, body, 500, internalError, false)
	<-r.gen.crashed
	r.gen.end(upgrader.Crashed, time.Minute)
	proctest.Await(t, "drain", r.epoch.Load().Done())
	res, body = c.get("/")
	wantAnswer(t, res, body, 500, internalError, true)
	c.wantEOF()
	if err := r.wait(t); !errors.Is(err, ErrCrashed) || !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("Run returned %v", err)
	}
}

func TestErrorPage(t *testing.T) {
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/bad" {
			panic("page too")
		}
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Content-Length", "3") // a lie
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, "<h1>sorry, "+r.Header.Get("X-Name")+r.URL.Query().Get("q")+"</h1>")
	})
	r := start(t, Options{ErrorPage: page}, web(func(w http.ResponseWriter, r *http.Request) { panic("boom") }))
	c := dial(t, r.Addr("web"))
	io.WriteString(c, "GET /?q=! HTTP/1.1\r\nHost: t\r\nX-Name: Ann\r\n\r\n")
	res, body := c.answer()
	wantAnswer(t, res, body, 500, "<h1>sorry, Ann!</h1>", false)
	if ct := res.Header.Get("Content-Type"); ct != "text/html" {
		t.Error(ct)
	}
	res, body = c.get("/bad")
	wantAnswer(t, res, body, 500, internalError, false)
}

func TestOnCrashOnceForCrashes(t *testing.T) {
	told := make(chan Crash, 100)
	o := Options{Upgrader: upgrader.Plain(), OnCrash: func(_ context.Context, c Crash) { told <- c }}
	r := start(t, o, web(hello))
	for range 20 {
		Go(withServer{t.Context(), r.Server}, func() { panic("boom") })
	}
	for range 20 {
		<-r.gen.crashed
	}
	if c := <-told; c.Count != 1 {
		t.Errorf("told of crash %d", c.Count)
	}
	r.hooks.wait()
	if n := len(told); n != 0 {
		t.Errorf("told %d times more", n)
	}
}

func TestCrashOverHTTP2(t *testing.T) {
	started, crashed := make(chan struct{}), make(chan struct{})
	r := start(t, Options{}, secure(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Half", "done")
		switch r.URL.Path {
		case "/panic":
			panic("boom")
		case "/crash":
			Go(r.Context(), func() { panic("boom") })
		case "/hang":
			Go(r.Context(), func() { panic("boom") })
			<-r.Context().Done()
			proctest.Pace(10 * time.Millisecond) // it needn't return at once
		case "/half":
			io.WriteString(w, "half")
			w.(http.Flusher).Flush()
			panic("boom")
		case "/other":
			started <- struct{}{}
			<-crashed
			hello(w, r)
		}
	}))
	hc := h2Client(t)
	base := "https://" + r.Addr("web").String()
	other := make(chan error, 1)
	go func() {
		res, err := hc.Get(base + "/other")
		if err == nil {
			_, err = io.ReadAll(res.Body)
		}
		other <- err
	}()
	<-started
	for _, path := range []string{"/panic", "/crash", "/hang"} {
		res, err := hc.Get(base + path)
		if err != nil {
			t.Fatal(path, err)
		}
		b, err := io.ReadAll(res.Body)
		if res.ProtoMajor != 2 || res.StatusCode != 500 || string(b) != internalError || err != nil || res.Header.Get("X-Half") != "" {
			t.Errorf("%s: %v %q %v", path, res.Status, b, err)
		}
	}
	res, err := hc.Get(base + "/half")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("half an answer, %q, must not look complete", b)
	}
	close(crashed)
	if err := <-other; err != nil {
		t.Error("another stream:", err)
	}
}

func TestConnsPanic(t *testing.T) {
	told := make(chan Crash, 1)
	o := Options{OnCrash: func(_ context.Context, c Crash) { told <- c }}
	r := start(t, o, Conns("raw", func(ctx context.Context, c net.Conn) { panic("boom") }, "127.0.0.1:0"))
	dial(t, r.Addr("raw")).wantEOF()
	if c := <-told; c.Value != "boom" || c.Request != nil {
		t.Errorf("%+v", c)
	}
	dial(t, r.Addr("raw")).wantEOF()
	if n := r.panics.Load(); n < 1 {
		t.Errorf("%d panics counted", n)
	}
}
