//go:build linux

package rescue

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/proc"
	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/strict"
)

// raw is a connection of which the test knows every byte.
type raw struct {
	t testing.TB
	net.Conn
	br *bufio.Reader
}

func (b *bed) raw() *raw {
	b.t.Helper()
	c, err := b.dial()
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	return &raw{b.t, c, bufio.NewReader(c)}
}

func (r *raw) send(text string) {
	r.t.Helper()
	if _, err := io.WriteString(r.Conn, text); err != nil {
		r.t.Fatal(err)
	}
}

// answer reads an answer to a request with that method.
func (r *raw) answer(method string) (*http.Response, string) {
	r.t.Helper()
	resp, err := http.ReadResponse(r.br, &http.Request{Method: method})
	if err != nil {
		r.t.Fatalf("no answer: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatalf("half an answer: %q, %v", body, err)
	}
	return resp, string(body)
}

// end requires that the connection ends with a FIN, and nothing before it.
func (r *raw) end() {
	r.t.Helper()
	if rest, err := io.ReadAll(r.br); err != nil || len(rest) > 0 {
		r.t.Errorf("the connection ends with %q, %v", rest, err)
	}
}

// works makes a request, and returns the generation that answered it.
func (r *raw) works() string {
	r.t.Helper()
	r.send("GET / HTTP/1.1\r\nHost: test\r\n" + strict.HeaderID + ": x\r\n\r\n")
	resp, body := r.answer("GET")
	if resp.StatusCode != 200 || resp.Close {
		r.t.Fatalf("%s, close %v: %q", resp.Status, resp.Close, body)
	}
	return resp.Header.Get(strict.HeaderGeneration)
}

// asked sends a request, and doesn't wait for its answer.
func (b *bed) asked(method, path string) *raw {
	b.t.Helper()
	r := b.raw()
	r.send(fmt.Sprintf("%s %s HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n", method, path))
	return r
}

// taken waits until a process at the other end has read all that was sent.
func (r *raw) taken() {
	r.t.Helper()
	proctest.Check(r.t, func() error {
		if n := r.unacknowledged(); n != 0 {
			return fmt.Errorf("%d bytes are on their way", n)
		}
		for _, s := range sockets(r.t) {
			if s.peer == addrOf(r.LocalAddr()) && s.unread != 0 {
				return fmt.Errorf("%d bytes are unread", s.unread)
			}
		}
		return nil
	})
}

func (r *raw) unacknowledged() (n int) {
	r.t.Helper()
	conn, err := r.Conn.(syscall.Conn).SyscallConn()
	if err == nil {
		conn.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

func addrOf(a net.Addr) netip.AddrPort { return a.(*net.TCPAddr).AddrPort() }

// socket is a row of the kernel's table of TCP/IPv4 (proc(5)).
type socket struct {
	local, peer netip.AddrPort
	state       int // see include/net/tcp_states.h
	unread      int
	inode       uint64
}

const (
	established = 1
	closeWait   = 8
)

// letGo waits until nobody has a connection any more whose client has left.
func (b *bed) letGo() {
	b.t.Helper()
	at := netip.MustParseAddrPort(b.addr)
	proctest.Check(b.t, func() error {
		for _, s := range sockets(b.t) {
			if s.local == at && s.inode != 0 && (s.state == established || s.state == closeWait) {
				return fmt.Errorf("%d of %v have the connection of %v, state %d", b.holders(s.inode), b.processes(), s.peer, s.state)
			}
		}
		return nil
	})
}

// holders are the processes that have a socket.
func (b *bed) holders(inode uint64) (pids []int) {
	for _, pid := range b.processes() {
		if has, err := proc.HasSocket(pid, inode); err == nil && has {
			pids = append(pids, pid)
		}
	}
	return pids
}

func sockets(t testing.TB) (all []socket) {
	t.Helper()
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	for row := range strings.Lines(string(table)) {
		var s socket
		var local, peer [2]uint32
		var unsent, timer, when, retries, uid, timeouts int
		n, _ := fmt.Sscanf(strings.Join(strings.Fields(row)[1:], " "), "%x:%x %x:%x %x %x:%x %x:%x %x %d %d %d",
			&local[0], &local[1], &peer[0], &peer[1], &s.state, &unsent, &s.unread, &timer, &when, &retries, &uid, &timeouts, &s.inode)
		if n == 13 {
			s.local, s.peer = ipv4(local), ipv4(peer)
			all = append(all, s)
		}
	}
	return all
}

func ipv4(a [2]uint32) netip.AddrPort {
	var ip [4]byte
	binary.NativeEndian.PutUint32(ip[:], a[0])
	return netip.AddrPortFrom(netip.AddrFrom4(ip), uint16(a[1]))
}
