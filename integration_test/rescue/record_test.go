//go:build linux

package rescue

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math/rand/v2"
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

	"github.com/tablecloth-go/tablecloth/internal/proctest"
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
		proctest.Pace(time.Duration(pause) * time.Millisecond)
		body := bodyOf(id, size)
		if q.Has("length") {
			w.Header().Set("Content-Length", strconv.Itoa(size))
		}
		half := len(body) / 2
		w.Write(body[:half])
		if q.Has("flush") {
			http.NewResponseController(w).Flush()
			proctest.Pace(time.Duration(pause) * time.Millisecond)
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

// TestRecords compares what clients, each with its own record, were told with what
// handlers have written down, while workers die between random interleavings of
// everything that HTTP/1 allows.
func TestRecords(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	kills := soak(10, 300)
	r := b.recorded(&records{}, 40, func() {
		for i := range kills {
			proctest.Pace(rand.N(150 * time.Millisecond))
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
			r.more(b.t, 100)
			b.kill()
		}
	})
	if len(r.wrong) == 0 {
		t.Errorf("the test finds nothing wrong after %d kills: %v", kills, r.counts)
	}
}

// TestKilledAllTheTime: a worker lives for some milliseconds, and many clients want
// a connection for each request.
func TestKilledAllTheTime(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	kills := soak(10, 300)
	r := b.recorded(&records{churn: true}, soak(60, 400), func() {
		for range kills {
			was, seq := b.worker(0), b.lastSeq()
			proctest.Kill(was, syscall.SIGKILL)
			go b.client.Upgrade(b.ctx(), control.UpgradeRequest{Restart: true})
			b.await(control.EventReady, seq)
			proctest.Pace(30 * time.Millisecond)
		}
	})
	r.verdict(b)
	testenv.Result(t, "%d kills: %v, rescued %+v", kills, r.counts, *b.status().Rescued)
}

// verdict requires also that each answer which the keeper says to have given has
// arrived, and that all connections have ended with their clients.
func (r *records) verdict(b *bed) {
	b.t.Helper()
	for _, w := range r.wrong {
		b.t.Error(w)
	}
	b.letGo()
	proctest.Check(b.t, func() error {
		if s := b.status().Rescued; s == nil || s.Lost != 0 || s.S500 != int64(r.counts["500"]) || s.S503 != int64(r.counts["503"]) {
			return fmt.Errorf("clients got %v, the keeper says %+v", r.counts, s)
		}
		return nil
	})
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

// more waits until clients were told so much of n more requests.
func (r *records) more(t testing.TB, n int) {
	t.Helper()
	told := func() int {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.outcomes) + r.counts["WRONG"]
	}
	before := told()
	proctest.Poll(t, "more answers", func() bool { return told() >= before+n })
}

// killSome kills the worker that serves; or one of two between whom connections
// move, or both.
func (b *bed) killSome(moving bool) {
	was, seq := b.worker(0), b.lastSeq()
	if !moving {
		proctest.Kill(was, syscall.SIGKILL)
	}
	// A request makes the keeper forget its patience with what dies young.
	go b.client.Upgrade(b.ctx(), control.UpgradeRequest{Restart: true})
	e := b.await(control.EventReady, seq)
	if moving {
		proctest.Pace(rand.N(20 * time.Millisecond))
		two := []int{was, e.PID}
		rand.Shuffle(2, func(i, j int) { two[i], two[j] = two[j], two[i] })
		for _, pid := range two[rand.IntN(2):] {
			proctest.Kill(pid, syscall.SIGKILL)
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
