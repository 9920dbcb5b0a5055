//go:build linux

package vault

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

// A strict client has one connection, makes no request twice, and keeps its own
// record of what it sent and got. When its connection ends for a reason that
// the guarantee allows, it makes another one.

type tally struct {
	sync.Mutex
	bad  map[string]int
	said []string // the first few of bad, in words
	n    map[string]int
	s503 map[string]bool // the requests that must not have been started
	ids  atomic.Int64
}

func newTally() *tally {
	return &tally{bad: map[string]int{}, n: map[string]int{}, s503: map[string]bool{}}
}

// asked is how many requests were begun.
func (t *tally) asked() int64 { return t.ids.Load() }

func (t *tally) count(what string) {
	t.Lock()
	defer t.Unlock()
	t.n[what]++
}

func (t *tally) fault(what, format string, args ...any) {
	t.Lock()
	defer t.Unlock()
	t.bad[what]++
	if len(t.said) < 10 {
		t.said = append(t.said, what+": "+fmt.Sprintf(format, args...))
	}
}

// client runs until stop is closed, and then finishes what it has begun.
func (t *tally) client(addr string, b behavior, stop <-chan struct{}) {
	for {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.fault("refused", "%v", err)
			return
		}
		again := t.connection(c.(*net.TCPConn), b, stop)
		c.Close()
		if !again {
			return
		}
	}
}

func (t *tally) connection(c *net.TCPConn, b behavior, stop <-chan struct{}) bool {
	r := bufio.NewReader(c)
	var prev *request
	for {
		select {
		case <-stop:
			return false
		default:
		}
		if !t.think(c, r, b, prev) {
			return true
		}
		var alive bool
		if alive, prev = t.exchange(c, r, b, prev); !alive || b.churn {
			return true
		}
	}
}

// think waits, and nothing may come meanwhile.
func (t *tally) think(c *net.TCPConn, r *bufio.Reader, b behavior, prev *request) bool {
	if b.think == 0 {
		return true
	}
	c.SetReadDeadline(time.Now().Add(rand.N(b.think)))
	got, err := r.Peek(1)
	c.SetReadDeadline(time.Time{})
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return true
	case err == nil:
		all, _ := r.Peek(r.Buffered())
		t.fault("unsolicited", "%q of %q", got, all)
	case t.early(err, prev):
	default:
		t.fault("idle closed", "%v after %v", err, prev.brief())
	}
	return false
}

func (t *tally) exchange(c *net.TCPConn, r *bufio.Reader, b behavior, prev *request) (bool, *request) {
	reqs := []request{t.newRequest(b)}
	for b.pipeline && len(reqs) < 4 && rand.IntN(2) == 0 {
		reqs = append(reqs, t.newRequest(b))
	}
	var out []byte
	for i := range reqs {
		out = append(out, reqs[i].bytes()...)
		reqs[i].mayEnd = reqs[i].mayEnd || b.unknown && len(reqs) > 1
	}
	if b.rude && rand.IntN(16) == 0 {
		send(c, out[:rand.IntN(len(out))], false)
		t.count("abandoned")
		return false, nil
	}
	sent := make(chan struct{})
	halfClose := b.rude && rand.IntN(8) == 0
	go func() {
		defer close(sent)
		send(c, out, b.simple)
		if halfClose {
			c.CloseWrite()
		}
	}()
	defer func() { <-sent }()
	c.SetReadDeadline(time.Now().Add(time.Minute))
	defer c.SetReadDeadline(time.Time{})
	for i := range reqs {
		if i > 0 {
			prev = &reqs[i-1]
		}
		if !t.response(c, r, &reqs[i], prev) {
			c.CloseRead()
			t.Lock()
			t.n["pipelined behind it"] += len(reqs) - i - 1
			t.Unlock()
			return false, nil
		}
	}
	return !halfClose, &reqs[len(reqs)-1]
}

// send writes in pieces of random sizes. Whether it succeeds doesn't matter:
// what counts is what is read.
func send(c *net.TCPConn, out []byte, whole bool) {
	for len(out) > 0 {
		n := len(out)
		if !whole && rand.IntN(3) > 0 {
			n = 1 + rand.IntN(n)
		}
		if _, err := c.Write(out[:n]); err != nil {
			return
		}
		out = out[n:]
		if len(out) > 0 && rand.IntN(2) == 0 {
			proctest.Pace(rand.N(3 * time.Millisecond))
		}
	}
}

// response reads one response and tells whether the connection goes on.
func (t *tally) response(c *net.TCPConn, r *bufio.Reader, q, prev *request) bool {
	if _, err := r.Peek(1); err != nil {
		if t.early(err, prev) {
			return false
		}
		t.fault(endOf(err), "%v without an answer: %v; before it %v", q.brief(), err, prev.brief())
		return false
	}
	resp, err := t.readHead(r, q)
	if err != nil {
		t.cut(r, err, q)
		return false
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.cut(r, err, q)
		return false
	}
	switch resp.StatusCode {
	case 200, 204:
		t.check(resp, body, q)
		t.count("ok")
		return !resp.Close
	case 500, 503:
		t.fallen(resp, body, r, q)
		return false
	}
	t.fault("wrong", "%v: %s", q.brief(), resp.Status)
	return false
}

// early allows for a limit: after an answer that came before the request's body
// had been read, or among pipelined ones that the worker can't tell apart, the
// connection may end.
func (t *tally) early(err error, prev *request) bool {
	if err != io.EOF || prev == nil || !prev.mayEnd {
		return false
	}
	t.count("ended after an early answer")
	return true
}

func (t *tally) readHead(r *bufio.Reader, q *request) (*http.Response, error) {
	for {
		resp, err := http.ReadResponse(r, &http.Request{Method: q.method})
		if err != nil || resp.StatusCode >= 200 {
			return resp, err
		}
		// Where the worker died between an interim and its response, the
		// connection must not end here without one.
		if _, err := r.Peek(1); err != nil {
			return nil, err
		}
	}
}

func (t *tally) cut(r *bufio.Reader, err error, q *request) {
	// A head that is cut in the middle of a line is malformed as well.
	if _, next := r.Peek(1); next == io.EOF {
		t.count("cut")
		return
	}
	t.fault(endOf(err), "%v in the answer: %v", q.brief(), err)
}

func (t *tally) check(resp *http.Response, body []byte, q *request) {
	want := bodyOf(q.id, q.size)
	if q.method == "HEAD" || resp.StatusCode == 204 {
		want = nil
	}
	if resp.Header.Get("X-Id") != q.id || !bytes.Equal(body, want) {
		t.fault("wrong", "%v got the answer of %q with %d bytes", q.brief(), resp.Header.Get("X-Id"), len(body))
	}
}

// fallen checks an answer of the keeper.
func (t *tally) fallen(resp *http.Response, body []byte, r *bufio.Reader, q *request) {
	t.count(strconv.Itoa(resp.StatusCode))
	if !resp.Close || resp.Header.Get("Date") == "" || resp.ContentLength != int64(len(body)) && q.method != "HEAD" {
		t.fault("wrong", "%v: %+v", q.brief(), resp)
	}
	if resp.StatusCode == 503 {
		if resp.Header.Get("Retry-After") == "" {
			t.fault("wrong", "no Retry-After")
		}
		t.Lock()
		t.s503[q.id] = true
		t.Unlock()
	}
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
		t.fault("after the answer", "%d: %q, %v", resp.StatusCode, rest, err)
	}
}

func endOf(err error) string {
	switch {
	case errors.Is(err, syscall.ECONNRESET):
		return "reset"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	}
	return "no answer"
}

// started reads which requests reached a handler, and how often.
func (s *service) started() map[string]int {
	b, err := os.ReadFile(s.log.Name())
	must(s.t, err)
	ids := map[string]int{}
	for line := range strings.Lines(string(b)) {
		ids[strings.TrimSpace(line)]++
	}
	return ids
}

// verdict fails the test for everything that a client must not see.
func (t *tally) verdict(tb testing.TB, s *service) {
	tb.Helper()
	t.Lock()
	defer t.Unlock()
	for what, n := range t.bad {
		tb.Errorf("%s: %d", what, n)
	}
	for _, s := range t.said {
		tb.Log(s)
	}
	started := s.started()
	for id, n := range started {
		if _, err := strconv.Atoi(id); err == nil && n > 1 {
			tb.Errorf("request %s was handled %d times", id, n)
		}
	}
	for id := range t.s503 {
		if started[id] > 0 {
			tb.Errorf("request %s got a 503 after a handler had it", id)
		}
	}
	got, given := t.n["500"]+t.n["503"], s.sum.S500+s.sum.S503
	if given < got || given > got+t.n["abandoned"] {
		tb.Errorf("not every answer has arrived")
	}
	if t.n["cut"] > s.sum.Cut {
		tb.Errorf("answers were cut that the keeper didn't cut")
	}
	tb.Logf("clients: %v; keeper: %+v", t.n, s.sum)
}
