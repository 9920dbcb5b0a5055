//go:build unix

package live

import (
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

// Whoever waits for it in a handler hears that the client has gone.
func TestClientGoesDuringARequest(t *testing.T) {
	began, gone := make(chan struct{}, 1), make(chan struct{}, 1)
	s := newSide(t, listen(t, "tcp"), http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		began <- struct{}{}
		<-r.Context().Done()
		gone <- struct{}{}
	}), nil)
	const request = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
	for how, leave := range map[string]func(c *net.TCPConn){
		"along with the request": func(c *net.TCPConn) { c.Write([]byte(request)); c.CloseWrite(); <-began },
		"later":                  func(c *net.TCPConn) { c.Write([]byte(request)); <-began; c.Close() },
		"by a reset":             func(c *net.TCPConn) { c.Write([]byte(request)); <-began; c.SetLinger(0); c.Close() },
	} {
		t.Run(how, func(t *testing.T) {
			leave(dial(t, s).(*net.TCPConn))
			proctest.Await(t, "the handler's context", gone)
		})
	}
	t.Run("the server is closed", func(t *testing.T) {
		dial(t, s).Write([]byte(request))
		<-began
		s.hs.Close()
		proctest.Await(t, "the handler's context", gone)
	})
}
