package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/upgrader"
)

func TestGoPanic(t *testing.T) {
	bothWays(t, func(t *testing.T, start starter) {
		blocked := make(chan struct{})
		r := start(t, web(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/crash":
				var wg sync.WaitGroup
				wg.Add(1)
				Go(r.Context(), func() { defer wg.Done(); panic("boom") })
				wg.Wait()
				io.WriteString(w, "as if nothing had happened")
			case "/slow":
				<-blocked
			}
			hello(w, r)
		}))
		other, c := dial(t, r.Addr("web")), dial(t, r.Addr("web"))
		other.send("GET", "/slow", "")
		c.send("GET", "/crash", "")
		<-r.gen.crashed
		close(blocked)
		res, body := other.answer()
		wantAnswer(t, res, body, 200, "hello", false)
		res, body = c.answer()
		wantAnswer(t, res, body, 500, internalError, false)
		var ce *upgrader.CrashError
		if !errors.As(r.gen.crashes[0], &ce) || ce.Value != "boom" || len(ce.Stack) == 0 || ce.Request.RequestURI != "/crash" {
			t.Errorf("crash %+v", r.gen.crashes[0])
		}
	})
}

// waits reports whether something of the request waits for its goroutines.
func waits(x *request) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.rare != nil && x.rare.alone != nil
}

// The handler returns at once: its answer waits for the goroutine, and is the
// 500, on a connection that lives on.
func TestGoPanicAfterHandler(t *testing.T) {
	bothWays(t, func(t *testing.T, start starter) {
		r := start(t, web(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/crash" {
				w.Header().Set("X-Half", "done")
				x := requestOf(r.Context())
				Go(r.Context(), func() {
					proctest.Poll(t, "the handler's return", func() bool { return waits(x) })
					panic("boom")
				})
				return
			}
			hello(w, r)
		}))
		c := dial(t, r.Addr("web"))
		res, body := c.get("/crash")
		wantAnswer(t, res, body, 500, internalError, false)
		if res.Header.Get("X-Half") != "" {
			t.Error("headers of the failed answer were sent")
		}
		res, body = c.get("/")
		wantAnswer(t, res, body, 200, "hello", false)
	})
}

// The handler waits for what will never come: it is answered for, and released.
func TestGoPanicHangingHandler(t *testing.T) {
	bothWays(t, func(t *testing.T, start starter) {
		ended := make(chan error, 1)
		r := start(t, web(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Half", "done")
			io.Copy(io.Discard, r.Body)
			Go(r.Context(), func() { panic("boom") })
			for r.Context().Err() == nil {
				w.Header().Set("X-Busy", "yes") // a race with the answer, if it used this map
			}
			_, err := w.Write([]byte("late"))
			ended <- err
		}))
		c := dial(t, r.Addr("web"))
		c.send("POST", "/", "body")
		res, body := c.answer()
		wantAnswer(t, res, body, 500, internalError, true)
		c.wantEOF()
		if err := <-ended; err != errAnswered {
			t.Errorf("a late write: %v", err)
		}
	})
}

func TestGoPanicHandlerReadingBody(t *testing.T) {
	bothWays(t, func(t *testing.T, start starter) {
		r := start(t, web(func(w http.ResponseWriter, r *http.Request) {
			Go(r.Context(), func() { panic("boom") })
			io.Copy(io.Discard, r.Body) // which the client doesn't send
		}))
		c := dial(t, r.Addr("web"))
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nhalf")
		res, body := c.answer()
		wantAnswer(t, res, body, 500, internalError, true)
		c.wantEOF()
	})
}

func TestGoPanicAfterHalfAnAnswer(t *testing.T) {
	bothWays(t, func(t *testing.T, start starter) {
		r := start(t, web(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "half")
			w.(http.Flusher).Flush()
			Go(r.Context(), func() { panic("boom") })
		}))
		c := dial(t, r.Addr("web"))
		c.send("GET", "/", "")
		if _, body, err := c.tryAnswer(); err != io.ErrUnexpectedEOF {
			t.Fatalf("%q, %v: the cut must be visible", body, err)
		}
	})
}

// A connection that the application has taken is none of our business.
func TestGoPanicHijacked(t *testing.T) {
	bothWays(t, func(t *testing.T, start starter) {
		r := start(t, web(func(w http.ResponseWriter, r *http.Request) {
			c, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			done := make(chan struct{})
			Go(r.Context(), func() { defer close(done); panic("boom") })
			<-done
			defer c.Close()
			io.WriteString(c, "still here")
			if _, err := w.Write([]byte("x")); err != http.ErrHijacked {
				t.Errorf("write after hijack: %v", err)
			}
		}))
		c := dial(t, r.Addr("web"))
		c.send("GET", "/", "")
		if b, err := io.ReadAll(c.r); string(b) != "still here" || err != nil {
			t.Fatalf("%q %v", b, err)
		}
		<-r.gen.crashed
	})
}

func TestGoOfNoRequest(t *testing.T) {
	r := start(t, Options{}, web(hello))
	Go(t.Context(), func() { panic("boom") })
	<-r.gen.crashed
	Go(context.Background(), func() { panic("again") })
	<-r.gen.crashed
}

// After its end a request can't be spoiled by goroutines that kept its context,
// and neither can the next one on the same connection.
func TestGoOfAnEndedRequest(t *testing.T) {
	bothWays(t, func(t *testing.T, start starter) {
		var kept context.Context
		release := make(chan struct{})
		r := start(t, web(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/first" {
				kept = context.WithoutCancel(r.Context())
			} else {
				Go(kept, func() { panic("boom") })
				<-release
			}
			hello(w, r)
		}))
		c := dial(t, r.Addr("web"))
		c.get("/first")
		c.send("GET", "/second", "")
		<-r.gen.crashed
		close(release)
		res, body := c.answer()
		wantAnswer(t, res, body, 200, "hello", false)
	})
}

type starter func(*testing.T, *Service) *rig

// bothWays runs a test with a server on which Go was not called yet, and with one
// whose requests have contexts of their own.
func bothWays(t *testing.T, test func(*testing.T, starter)) {
	for _, called := range []bool{false, true} {
		t.Run(fmt.Sprintf("called before=%v", called), func(t *testing.T) {
			test(t, func(t *testing.T, svc *Service) *rig {
				r := start(t, Options{}, svc)
				r.goes.Store(called)
				return r
			})
		})
	}
}
