//go:build linux

package rescue

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/strict"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
	"github.com/tablecloth-go/tablecloth/upgrader/keeper"
)

// recorded is a handler that writes down each request before anything else, where
// it outlives the process. Its answer follows from the request alone.
func recorded(log *os.File) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(strict.HeaderID)
		fmt.Fprintln(log, id) // one write(2), in append mode
		q := r.URL.Query()
		size, _ := strconv.Atoi(q.Get("size"))
		pause, _ := strconv.Atoi(q.Get("pause"))
		if q.Has("interim") {
			w.WriteHeader(http.StatusEarlyHints)
		}
		if !q.Has("early") {
			sum := crc32.NewIEEE()
			io.Copy(sum, r.Body)
			w.Header().Set("X-Sum", strconv.Itoa(int(sum.Sum32())))
		}
		time.Sleep(time.Duration(pause) * time.Millisecond)
		body := bodyOf(id, size)
		if q.Has("length") {
			w.Header().Set("Content-Length", strconv.Itoa(size))
		}
		half := len(body) / 2
		w.Write(body[:half])
		if q.Has("flush") {
			http.NewResponseController(w).Flush()
			time.Sleep(time.Duration(pause) * time.Millisecond)
		}
		w.Write(body[half:])
	}
}

// bodyOf looks like the end of a chunked body, which it isn't.
func bodyOf(id string, size int) []byte {
	unit := []byte(id + "0\r\n\r\n")
	return bytes.Repeat(unit, size/len(unit)+1)[:size]
}

// records is what the clients know of all requests, by themselves.
type records struct {
	addr  string
	churn bool // a connection for each request
	ids   atomic.Int64
	stop  chan struct{}

	mu       sync.Mutex
	wrong    []string
	outcomes map[string]string // of requests, by id
	counts   map[string]int
}

func (r *records) fault(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts["WRONG"]++
	if len(r.wrong) < 20 {
		r.wrong = append(r.wrong, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
	}
}

func (r *records) faults() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts["WRONG"]
}

func (r *records) note(id, outcome string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outcomes[id] = outcome
	r.counts[outcome]++
}

// question is one request and what its answer must be.
type question struct {
	id     string
	method string
	bytes  []byte
	body   []byte // of the answer
	sum    string // of the request's body; "": the handler doesn't read it
	last   bool   // the connection ends with the answer
	stray  bool   // line ends follow
}

func (q *question) head() string {
	head, _, _ := strings.Cut(string(q.bytes), "\r\n\r\n")
	return strings.ReplaceAll(head, "\r\n", "; ")
}

func (r *records) question(last bool) *question {
	q := &question{id: strconv.FormatInt(r.ids.Add(1), 10), method: "GET"}
	var args []string
	for _, a := range []string{"interim", "early", "length", "flush"} {
		if rand.IntN(4) == 0 {
			args = append(args, a+"=1")
		}
	}
	size := rand.IntN(300)
	if rand.IntN(8) == 0 {
		size = rand.IntN(100 << 10)
	}
	args = append(args, fmt.Sprintf("size=%d&pause=%d", size, rand.IntN(2)*rand.IntN(20)))
	q.body = bodyOf(q.id, size)
	var body []byte
	proto, more := "HTTP/1.1", ""
	switch rand.IntN(8) {
	case 0:
		q.method, q.body = "HEAD", nil
	case 1, 2, 3:
		q.method, body = "POST", make([]byte, rand.IntN(1+rand.IntN(30<<10)))
	}
	query := strings.Join(args, "&")
	early := strings.Contains(query, "early")
	if last && rand.IntN(4) == 0 && !early && !strings.Contains(query, "interim") {
		proto, q.last = "HTTP/1.0", true // early, net/http would reset the connection
	}
	for i := range body {
		body[i] = byte(rand.Uint32())
	}
	if !early {
		q.sum = strconv.Itoa(int(crc32.ChecksumIEEE(body)))
	}
	tail := body
	if q.method == "POST" && proto == "HTTP/1.1" && rand.IntN(2) == 0 {
		more, tail = "Transfer-Encoding: chunked\r\n", chunked(body)
	} else if q.method == "POST" {
		more = fmt.Sprintf("Content-Length: %d\r\n", len(body))
		if rand.IntN(4) == 0 && !q.last {
			tail, q.stray = append(tail, "\r\n"...), true // as old clients do
		}
	}
	q.bytes = fmt.Appendf(nil, "%s /record?%s %s\r\nHost: test\r\n%s: %s\r\n%s\r\n", q.method, query, proto, strict.HeaderID, q.id, more)
	q.bytes = append(q.bytes, tail...)
	return q
}

func chunked(b []byte) (out []byte) {
	for len(b) > 0 {
		n := 1 + rand.IntN(len(b))
		out = fmt.Appendf(out, "%x\r\n%s\r\n", n, b[:n])
		b = b[n:]
	}
	return append(out, "0\r\n\r\n"...)
}

// client has one connection after the other.
func (r *records) client() {
	for {
		select {
		case <-r.stop:
			return
		default:
		}
		nc, err := net.Dial("tcp", r.addr)
		if err != nil {
			r.fault("connect: %v", err)
			return
		}
		nc.SetDeadline(time.Now().Add(time.Minute))
		c := &talker{records: r, TCPConn: nc.(*net.TCPConn), br: bufio.NewReader(nc)}
		for c.batch() && !r.churn && c.rest() {
		}
		nc.Close()
	}
}

type talker struct {
	*records
	*net.TCPConn
	br *bufio.Reader
}

// rest is the time between two exchanges, in which nothing must happen.
func (c *talker) rest() bool {
	select {
	case <-c.stop:
		return false
	default:
	}
	if rand.IntN(2) == 0 {
		return true
	}
	c.SetReadDeadline(time.Now().Add(rand.N(50 * time.Millisecond)))
	_, err := c.br.Peek(1)
	c.SetReadDeadline(time.Now().Add(time.Minute))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	c.fault("an idle connection ends: %v", err)
	return false
}

// batch sends requests at once, and reads their answers. It reports whether the
// connection goes on.
func (c *talker) batch() bool {
	var all []*question
	var bytes []byte
	n := 1
	if !c.churn {
		n += rand.IntN(1 + rand.IntN(4))
	}
	for i := range n {
		q := c.question(i == n-1)
		all = append(all, q)
		bytes = append(bytes, q.bytes...)
	}
	ends := rand.IntN(16) == 0
	var sender sync.WaitGroup
	sender.Go(func() {
		c.send(bytes)
		if ends {
			c.CloseWrite()
		}
	})
	defer sender.Wait()
	for i, q := range all {
		if !c.answer(q, i == n-1) {
			for _, behind := range all[i+1:] {
				c.note(behind.id, "nothing")
			}
			c.SetWriteDeadline(time.Unix(1, 0)) // nobody reads any more
			return false
		}
	}
	if ends {
		c.end("after our own end")
	}
	return !ends
}

// send cuts anywhere, sometimes with a pause.
func (c *talker) send(b []byte) {
	for len(b) > 0 {
		n := len(b)
		if rand.IntN(3) == 0 {
			n = 1 + rand.IntN(n)
		}
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
		b = b[n:]
		if len(b) > 0 && rand.IntN(3) == 0 {
			time.Sleep(rand.N(20 * time.Millisecond))
		}
	}
}

// answer reads one, and reports whether the connection goes on.
func (c *talker) answer(q *question, last bool) bool {
	var resp *http.Response
	for resp == nil || resp.StatusCode < 200 {
		if _, err := c.br.Peek(1); err != nil {
			c.fault("request %s: no answer: %v", q.id, err)
			return false
		}
		var err error
		if resp, err = http.ReadResponse(c.br, &http.Request{Method: q.method}); err != nil {
			c.cut(q, err)
			return false
		}
	}
	body, err := io.ReadAll(resp.Body)
	if resp.Close && (q.stray || !last) && resp.StatusCode == 200 && errors.Is(err, syscall.ECONNRESET) {
		c.note(q.id, "cut") // net/http doesn't wait until what it hasn't read is gone
		return false
	}
	if resp.StatusCode >= 500 {
		c.note(q.id, strconv.Itoa(resp.StatusCode))
		if id := resp.Header.Get(strict.HeaderID); id != "" || !resp.Close || err != nil {
			c.fault("request %s: %s with id %q, close %v, %v", q.id, resp.Status, id, resp.Close, err)
		}
		c.end("behind a " + resp.Status)
		return false
	}
	if id := resp.Header.Get(strict.HeaderID); id != q.id || resp.StatusCode != 200 || resp.Header.Get("X-Sum") != q.sum {
		c.fault("request %s: %s, the answer to %q, sum %q for %q", q.id, resp.Status, id, resp.Header.Get("X-Sum"), q.sum)
		return false
	}
	switch whole := bytes.Equal(body, q.body); {
	case err != nil && bytes.HasPrefix(q.body, body):
		c.cut(q, err)
		return false
	case err == nil && resp.ProtoMinor == 0 && resp.ContentLength < 0 && !whole && bytes.HasPrefix(q.body, body):
		c.note(q.id, "cut") // there is no other way to see it
		return false
	case err != nil || !whole:
		c.fault("request %s: a body of %d bytes is not the right one of %d: %v", q.id, len(body), len(q.body), err)
		return false
	}
	c.note(q.id, "answered")
	if resp.Close && (q.stray || !last) {
		return false
	}
	if resp.Close {
		c.end("behind the last answer, to " + q.head())
	} else if last && c.br.Buffered() > 0 {
		rest, _ := c.br.Peek(c.br.Buffered())
		c.fault("request %s: behind its answer: %q", q.id, rest)
	}
	return !resp.Close
}

func (c *talker) cut(q *question, err error) {
	c.note(q.id, "cut")
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		c.fault("within the answer to %s: %v", q.head(), err)
	}
}

// end requires that the connection ends, and nothing comes before.
func (c *talker) end(when string) {
	if rest, err := io.ReadAll(c.br); err != nil || len(rest) > 0 {
		c.fault("%s: %q, %v", when, rest, err)
	}
}

// TestRecords compares what clients, each with its own record, were told with what
// handlers have written down, while workers die between random interleavings of
// everything that HTTP/1 allows.
func TestRecords(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	kills := soak(10, 300)
	r := b.recorded(&records{}, 40, func() {
		for i := range kills {
			time.Sleep(rand.N(150 * time.Millisecond))
			b.killSome(i%3 == 0)
		}
	})
	r.verdict(b)
	testenv.Result(t, "%d times killed, one of two, or both: %v", kills, r.counts)
	if r.counts["answered"] == 0 || r.counts["500"]+r.counts["503"] == 0 {
		t.Error("nothing has happened")
	}
}

// TestRecordsWithoutRescue is what TestRecords is measured by.
func TestRecordsWithoutRescue(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.service().Rescue = keeper.Off
	kills := 0
	r := &records{}
	b.recorded(r, 40, func() {
		for ; kills < 10 && r.faults() == 0; kills++ {
			time.Sleep(100 * time.Millisecond)
			b.kill()
		}
	})
	if len(r.wrong) == 0 {
		t.Errorf("the test finds nothing wrong after %d kills: %v", kills, r.counts)
	}
}

// TestKilledAllTheTime: a worker lives for some milliseconds, and many clients want
// a connection for each request. What they lose is counted, and next to nothing: an
// upgrade overtakes the last one here, whose connections are still on their way.
func TestKilledAllTheTime(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	kills := soak(10, 300)
	r := b.recorded(&records{churn: true}, soak(60, 400), func() {
		for range kills {
			was, seq := b.worker(0), b.lastSeq()
			syscall.Kill(was, syscall.SIGKILL)
			go b.client.Upgrade(b.ctx(), control.UpgradeRequest{Restart: true})
			b.await(control.EventReady, seq)
			time.Sleep(30 * time.Millisecond)
		}
	})
	if wrong := r.counts["WRONG"]; wrong <= 1+r.counts["answered"]/10000 {
		t.Logf("tolerated: %v", r.wrong)
		r.wrong = nil
	}
	r.verdict(b)
	testenv.Result(t, "%d kills: %v, rescued %+v", kills, r.counts, *b.status().Rescued)
}

// verdict requires also that each answer which the keeper says to have given has
// arrived.
func (r *records) verdict(b *bed) {
	b.t.Helper()
	for _, w := range r.wrong {
		b.t.Error(w)
	}
	same := func() bool {
		s := b.status().Rescued
		return s != nil && s.Lost == 0 && s.S500 == int64(r.counts["500"]) && s.S503 == int64(r.counts["503"])
	}
	for deadline := time.Now().Add(30 * time.Second); !same(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Errorf("clients got %v, the keeper says %+v", r.counts, b.status().Rescued)
			return
		}
	}
}

// recorded runs n clients while do is killing workers.
func (b *bed) recorded(r *records, n int, do func()) *records {
	b.set.Record = filepath.Join(b.dir, "record")
	b.start()
	r.addr, r.stop, r.outcomes, r.counts = b.addr, make(chan struct{}), map[string]string{}, map[string]int{}
	var clients sync.WaitGroup
	for range n {
		clients.Go(r.client)
	}
	do()
	close(r.stop)
	clients.Wait()
	r.compare(b.set.Record)
	return r
}

// killSome kills the worker that serves; or one of two between whom connections
// move, or both.
func (b *bed) killSome(moving bool) {
	was, seq := b.worker(0), b.lastSeq()
	if !moving {
		syscall.Kill(was, syscall.SIGKILL)
	}
	// A request makes the keeper forget its patience with what dies young.
	go b.client.Upgrade(b.ctx(), control.UpgradeRequest{Restart: true})
	e := b.await(control.EventReady, seq)
	if moving {
		time.Sleep(rand.N(20 * time.Millisecond))
		two := []int{was, e.PID}
		rand.Shuffle(2, func(i, j int) { two[i], two[j] = two[j], two[i] })
		for _, pid := range two[rand.IntN(2):] {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	b.worker(was)
}

// compare looks for what neither side can see alone.
func (r *records) compare(path string) {
	data, err := os.ReadFile(path)
	if err != nil {
		r.fault("%v", err)
	}
	ran := map[string]int{}
	for id := range strings.Lines(string(data)) {
		ran[strings.TrimSpace(id)]++
	}
	for id, outcome := range maps.Clone(r.outcomes) {
		switch n := ran[id]; {
		case n > 1:
			r.fault("request %s (%s) was given to %d handlers", id, outcome, n)
		case n == 0 && (outcome == "answered" || outcome == "cut"):
			r.fault("request %s (%s) was given to no handler", id, outcome)
		case n == 1 && (outcome == "503" || outcome == "nothing"):
			r.fault("request %s (%s) was given to a handler", id, outcome)
		}
	}
}
