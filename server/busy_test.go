package server

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/upgrader"
)

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
			r := start(t, Options{IdleGrace: time.Minute}, HTTP("web", &http.Server{Handler: h}, "127.0.0.1:0"))
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
			t.Cleanup(func() { hs.Close() })
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
	next, _ := serve(t, http.HandlerFunc(hello))
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
	return strictLoad(t, connect, stop)
}
