//go:build linux

package vault

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"
)

func dial(t testing.TB, s *service) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", s.ln.Addr().String())
	must(t, err)
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	return c.(*net.TCPConn)
}

func get(t testing.TB, c net.Conn, r *bufio.Reader, path string) *http.Response {
	t.Helper()
	fmt.Fprintf(c, "GET /%s HTTP/1.1\r\nHost: x\r\n\r\n", path)
	resp, err := http.ReadResponse(r, nil)
	must(t, err)
	return resp
}

func TestIdleConnectionLivesOn(t *testing.T) {
	s := newService(t, nil)
	if s.now.failure != "" {
		t.Fatal(s.now.failure)
	}
	c := dial(t, s)
	r := bufio.NewReader(c)
	for i := range 3 {
		if resp := get(t, c, r, "1?size=0"); resp.StatusCode != 200 {
			t.Fatal(i, resp.Status)
		}
		s.crash("kill")
	}
	if resp := get(t, c, r, "1?size=0"); resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	t.Log(s.sum, s.took)
}
