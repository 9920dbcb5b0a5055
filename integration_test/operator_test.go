//go:build linux

package integration

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// client is one of the control socket.
func (b *bed) client() *control.Client {
	b.t.Helper()
	return proctest.Dial(b.t, b.control)
}

func (b *bed) status() control.Service {
	b.t.Helper()
	return proctest.Status(b.t, b.client())
}

// upgrade asks for an upgrade, and returns the outcome.
func (b *bed) upgrade() control.Outcome {
	b.t.Helper()
	return proctest.Upgrade(b.t, b.client(), control.UpgradeRequest{})
}

func (b *bed) mustUpgrade() control.Outcome {
	b.t.Helper()
	o := b.upgrade()
	if o.Result != control.Ready {
		b.t.Fatalf("upgrade: %+v", o)
	}
	return o
}

// hup is the other way to ask for one: to the process that the PID file names.
func (b *bed) hup() {
	b.t.Helper()
	if err := proctest.Kill(b.pidInFile(), syscall.SIGHUP); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) pidInFile() (pid int) {
	b.t.Helper()
	text, err := os.ReadFile(b.pidfile)
	if err != nil {
		b.t.Fatal(err)
	}
	fmt.Sscan(string(text), &pid)
	return pid
}

// stop ends the service, and checks what it leaves.
func (b *bed) stop() {
	b.t.Helper()
	proctest.Kill(b.pidInFile(), syscall.SIGTERM)
	proctest.NoneLeft(b.t, b.tag())
	for _, path := range []string{b.pidfile, b.control, b.unix} {
		if exists(path) {
			b.t.Errorf("%s was left behind", path)
		}
	}
}

// addr is the service's i'th address as it was bound.
func (b *bed) addr(i int) (network, addr string) {
	b.t.Helper()
	all := b.status().Listen
	if i >= len(all) {
		b.t.Fatalf("the service listens on %v", all)
	}
	spec := all[i]
	if _, after, named := strings.Cut(spec, "="); named {
		spec = after
	}
	network, addr, _ = strings.Cut(spec, ":")
	return network, addr
}

// tcp is the address of its first TCP socket.
func (b *bed) tcp() string {
	b.t.Helper()
	for i := range b.status().Listen {
		if n, addr := b.addr(i); n == "tcp" {
			return addr
		}
	}
	b.t.Fatal("no TCP socket")
	return ""
}

// answer is one by HTTP.
type answer struct {
	status, generation, pid int
	body                    string
}

// ask makes one request on a connection of its own.
func ask(ctx context.Context, network, addr, method, path string) (a answer, err error) {
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://test"+path, nil)
	if err != nil {
		return a, err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Sscan(resp.Header.Get("X-Generation"), &a.generation)
	fmt.Sscan(resp.Header.Get("X-Pid"), &a.pid)
	a.status, a.body = resp.StatusCode, string(body)
	return a, err
}

func (b *bed) get(addr, path string) answer {
	b.t.Helper()
	a, err := ask(b.t.Context(), "tcp", addr, "GET", path)
	if err != nil {
		b.t.Fatalf("GET %s: %v", path, err)
	}
	return a
}

// serves fails unless that process answers on all addresses, and is the one that
// the PID file names.
func (b *bed) serves(pid int) {
	b.t.Helper()
	for i := range b.status().Listen {
		network, addr := b.addr(i)
		a, err := ask(b.t.Context(), network, addr, "GET", "/pid")
		if err != nil || a.pid != pid {
			b.t.Errorf("%s %s: pid %d answers (%v), want %d", network, addr, a.pid, err, pid)
		}
	}
	if in := b.pidInFile(); in != pid {
		b.t.Errorf("the PID file names %d, want %d", in, pid)
	}
}

// poll waits for what nobody tells.
func (b *bed) poll(what string, done func() bool) {
	b.t.Helper()
	proctest.Poll(b.t, what, done)
}

// timeoutNever is longer than any test.
const timeoutNever = time.Hour

// slowRequest makes a request that is answered only when its body has come, which
// it never does. It returns when the handler waits for that: "100 Continue" tells.
func (b *bed) slowRequest(addr string) net.Conn {
	b.t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	fmt.Fprint(c, "POST /echo HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")
	c.SetReadDeadline(time.Now().Add(proctest.Patience(b.t)))
	if line, err := bufio.NewReader(c).ReadString('\n'); !strings.Contains(line, " 100 ") {
		b.t.Fatalf("told %q (%v) instead of to continue", line, err)
	}
	return c
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
