//go:build unix

package live

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/tablecloth-go/tablecloth/internal/gate"
	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

var quiet = func() *logrus.Logger {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return l
}()

func netFileListener(f *os.File) (gate.Socket, error) {
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	return l.(gate.Socket), nil
}

// side is one generation: an http.Server with a table.
type side struct {
	*Table
	hs   *http.Server
	gate *gate.Listener
}

func listen(t testing.TB, network string) gate.Socket {
	t.Helper()
	lc := net.ListenConfig{}
	lc.SetMultipathTCP(false)
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(t.TempDir(), "s")
	}
	l, err := lc.Listen(t.Context(), network, addr)
	if err != nil {
		t.Fatal(err)
	}
	return l.(gate.Socket)
}

func newSide(t testing.TB, sock gate.Socket, h http.Handler, change func(*Config, *http.Server)) *side {
	t.Helper()
	hs := &http.Server{Handler: h}
	cfg := Config{Name: "web", Log: quiet, Move: true}
	if change != nil {
		change(&cfg, hs)
	}
	if cfg.IdleTimeout == 0 {
		cfg.IdleTimeout = hs.IdleTimeout
	}
	if cfg.HeadTimeout == 0 {
		cfg.HeadTimeout = hs.ReadHeaderTimeout
	}
	s := &side{Table: New(cfg), hs: hs, gate: gate.New(sock)}
	if hs.Handler == nil {
		hs.Handler = http.NotFoundHandler()
	}
	type key struct{}
	hs.ConnState = func(c net.Conn, state http.ConnState) { s.State(c, state) }
	hs.ConnContext = func(ctx context.Context, nc net.Conn) context.Context {
		return context.WithValue(ctx, key{}, Of(nc))
	}
	inner := hs.Handler
	hs.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !r.Context().Value(key{}).(Handle).MayMove() && s.drain.Load() != nil {
			w.Header().Set("Connection", "close")
		}
		inner.ServeHTTP(w, r)
	})
	if hs.TLSConfig != nil {
		go hs.ServeTLS(s.Wrap(s.gate), "", "")
	} else {
		go hs.Serve(s.Wrap(s.gate))
	}
	go hs.Serve(s.Injected())
	s.gate.Open()
	t.Cleanup(func() { hs.Close() })
	return s
}

func dial(t *testing.T, s *side) net.Conn {
	t.Helper()
	c, err := net.Dial(s.gate.Addr().Network(), s.gate.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(proctest.Patience(t)))
	return c
}

func get(t *testing.T, c net.Conn, path string) *http.Response {
	t.Helper()
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	return response(t, bufio.NewReader(c))
}

func response(t *testing.T, r *bufio.Reader) *http.Response {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body = io.NopCloser(strings.NewReader(string(b)))
	return resp
}

func body(r *http.Response) string {
	b, _ := io.ReadAll(r.Body)
	return string(b)
}

func say(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, text) })
}

func TestPlainDrain(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			s := newSide(t, listen(t, network), say("one"), nil)
			c := dial(t, s)
			if got := body(get(t, c, "/")); got != "one" {
				t.Fatal(got)
			}
			s.gate.Shut()
			if err := s.Drain(proctest.Context(t), DrainOptions{Stopping: true}); err != nil {
				t.Fatal(err)
			}
			if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Fatal(n, err)
			}
			if n := s.Counts(); n.Open != 0 || n.Requests != 1 || n.Closed["idle"] != 1 {
				t.Fatal(n)
			}
		})
	}
}
