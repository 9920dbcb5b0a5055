//go:build unix

package live

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/handover"
)

// SelfTest tries out, once per process, what this package assumes of net/http:
// that a connection between two requests can be taken from it, that nothing is
// said to the client then, and that the bytes which it has read ahead are known.
// An error says what doesn't hold.
var SelfTest = sync.OnceValue(func() error {
	for _, tr := range trials { // by turns: what starts beside needs a processor too
		if err := tr.run(); err != nil {
			return fmt.Errorf("net/http doesn't behave as expected: %s: %w", tr.name, err)
		}
	}
	return nil
})

// trial is a conversation at whose end the server loses its connection.
type trial struct {
	name     string
	requests int    // each is answered before the next
	with     string // is sent with the last request
	then     string // is sent after the last answer
	h2c      bool   // the server speaks HTTP/2 as well
}

var trials = []trial{
	{name: "no request yet"},
	{name: "half a head", then: "GET / HTTP/1.1\r\nHo"},
	{name: "between two requests", requests: 2},
	{name: "a byte of the next request", requests: 1, then: "G"},
	{name: "bytes of the next request, read ahead", requests: 2, with: "GET"},
	{name: "half a head behind another", requests: 1, with: "G", then: "ET / HTTP/1.1\r\nHo"},
	{name: "HTTP/2 spoken as well", requests: 1, then: "GE", h2c: true},
	{name: "no request yet, HTTP/2 spoken as well", then: "PR", h2c: true},
}

const trialRequest = "POST / HTTP/1.1\r\nHost: selftest\r\nContent-Length: 4\r\n\r\nbody"

// trialPatience bounds a failure. A machine may stand still for a while.
const trialPatience = 10 * time.Second

// arena is where a trial takes place: a real http.Server at one end of a pair of
// sockets.
type arena struct {
	table  *Table
	conn   *conn
	hs     *http.Server
	client net.Conn
	taken  captor
	closed chan struct{} // net/http has closed the connection, as it thinks
}

func (tr *trial) run() error {
	a, err := newArena(tr.h2c)
	if err != nil {
		return err
	}
	defer a.end()
	a.client.SetDeadline(time.Now().Add(trialPatience))
	if err := tr.talk(a); err != nil {
		return err
	}
	return a.take(tr.with + tr.then)
}

func newArena(h2c bool) (*arena, error) {
	client, server, err := socketPair()
	if err != nil {
		return nil, err
	}
	a := &arena{
		table:  &Table{name: "selftest", move: func() error { return nil }, injected: newInjected(), conns: make(map[*conn]struct{})},
		client: client,
		taken:  make(captor, 1),
		closed: make(chan struct{}),
	}
	a.table.lot = newLot(a.table)
	w, c := a.table.wrap(server)
	a.conn = c
	a.table.add(c)
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(h2c)
	a.hs = &http.Server{
		Protocols: p,
		ErrorLog:  log.New(io.Discard, "", 0),
		Handler:   http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }),
		ConnState: func(nc net.Conn, s http.ConnState) {
			a.table.State(nc, s)
			if s == http.StateClosed {
				close(a.closed)
			}
		},
	}
	go a.hs.Serve(a.table.injected)
	a.table.injected.push(w)
	return a, nil
}

func (a *arena) end() {
	a.hs.Close()
	a.client.Close()
	a.conn.sock.Close()
}

// talk plays the client, until the server has read everything.
func (tr *trial) talk(a *arena) error {
	r := bufio.NewReader(a.client)
	for i := range tr.requests {
		text := trialRequest
		if i == tr.requests-1 {
			text += tr.with
		}
		if _, err := io.WriteString(a.client, text); err != nil {
			return err
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return err
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil || string(b) != "body" || resp.Close {
			return fmt.Errorf("answer %q, closing: %v, %w", b, resp.Close, err)
		}
	}
	if _, err := io.WriteString(a.client, tr.then); err != nil {
		return err
	}
	for end := time.Now().Add(trialPatience); waiting(a.conn.sock); time.Sleep(50 * time.Microsecond) {
		if time.Now().After(end) {
			return errors.New("the server doesn't read")
		}
	}
	return nil
}

// take makes a drain take the connection, with what the server has read ahead.
func (a *arena) take(want string) error {
	a.table.drain.Store(&drain{sender: a.taken, changed: make(chan struct{}, 1)})
	a.table.kick()
	select {
	case <-a.closed:
	case <-time.After(trialPatience):
		return errors.New("not let go")
	}
	select {
	case it := <-a.taken:
		if string(it.Prefix) != want {
			return fmt.Errorf("read ahead: %q instead of %q", it.Prefix, want)
		}
	default:
		return errors.New("closed instead of detached")
	}
	// What the client reads next must be ours.
	if _, err := io.WriteString(a.conn.sock, "!"); err != nil {
		return err
	}
	b := make([]byte, 64)
	if n, err := a.client.Read(b); string(b[:n]) != "!" {
		return fmt.Errorf("client has got %q, %w", b[:n], err)
	}
	return nil
}

// captor is a sender that keeps what it gets.
type captor chan *handover.Item

func (c captor) Reserve() bool                                        { return true }
func (c captor) Put(it *handover.Item, _ func(*handover.Item, error)) { c <- it }
func (c captor) Release()                                             {}
func (c captor) Failed() <-chan struct{}                              { return nil }
func (c captor) Err() error                                           { return nil }

func socketPair() (a, b net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, err
	}
	for i, c := range []*net.Conn{&a, &b} {
		unix.CloseOnExec(fds[i])
		f := os.NewFile(uintptr(fds[i]), "pair")
		defer f.Close()
		if *c, err = net.FileConn(f); err != nil {
			return nil, nil, err
		}
	}
	return a, b, nil
}
