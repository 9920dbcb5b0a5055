package strict_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/strict"
)

// deadline bounds what must not hang.
func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func serve(t *testing.T, network, addr string, h http.Handler) net.Listener {
	t.Helper()
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	hs := &http.Server{Handler: h}
	go hs.Serve(ln)
	t.Cleanup(func() { hs.Close() })
	return ln
}

// everyKind is some clients of each kind, quick ones.
func everyKind() []strict.Group {
	var gs []strict.Group
	for _, k := range strict.Kinds() {
		gs = append(gs, strict.Group{Kind: k, N: 2, Rate: 50, Pause: 5 * time.Millisecond, Delay: 10 * time.Millisecond, Size: 30 << 10})
	}
	return gs
}

// balanced fails unless each request and each connection is accounted for.
func balanced(t *testing.T, r *strict.Report) {
	t.Helper()
	for k, c := range r.Kinds {
		ends := int64(0)
		for _, n := range c.Ends {
			ends += n
		}
		if c.Requests != c.OK+c.Failed() {
			t.Errorf("%s: %d requests, %d ok, %d failed", k, c.Requests, c.OK, c.Failed())
		}
		if c.Connects != ends {
			t.Errorf("%s: %d connects, %d ends", k, c.Connects, ends)
		}
	}
	if r.Open != 0 || r.InFlight != 0 {
		t.Errorf("at the end %d connections are open, %d requests in flight", r.Open, r.InFlight)
	}
}

// counting calls done when h has answered n requests of each path but /long,
// which answers when the client ends.
func counting(h http.Handler, n int64, done func()) http.Handler {
	paths := map[string]*atomic.Int64{"/": {}, "/echo": {}, "/pid": {}, "/slow": {}}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r)
		if c := paths[r.URL.Path]; c != nil {
			c.Add(1)
		}
		for _, c := range paths {
			if c.Load() < n {
				return
			}
		}
		done()
	})
}

func TestAFaultlessServer(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			addr := "127.0.0.1:0"
			if network == "unix" {
				addr = filepath.Join(t.TempDir(), "s")
			}
			ctx, cancel := context.WithCancel(deadline(t))
			ln := serve(t, network, addr, counting(strict.Handler(3), 50, cancel))
			heard := int64(0)
			r := strict.Load{Network: network, Addr: ln.Addr().String(), Groups: everyKind(), Seed: 1, OnAnswer: func(a strict.Answer) {
				heard++
				if a.Generation != 3 || a.PID != os.Getpid() || a.Kind == "" || a.At <= 0 {
					t.Errorf("%+v", a)
				}
			}}.Run(ctx)
			balanced(t, r)
			if heard != r.Total.OK {
				t.Errorf("told of %d answers of %d", heard, r.Total.OK)
			}
			if err := r.Err(); err != nil {
				t.Error(err)
			}
			for _, k := range strict.Kinds() {
				if c := r.Kinds[k]; c == nil || c.OK == 0 || len(c.Ends) != 1 {
					t.Errorf("%s: %+v", k, c)
				}
			}
			if s := r.Generations[3]; s.Answers != r.Total.OK || s.Last < s.First || r.PIDs[os.Getpid()] != r.Total.OK {
				t.Errorf("%d answers, of which the generation %+v, processes %v", r.Total.OK, s, r.PIDs)
			}
			if r.Latency.N != r.Total.OK || r.Latency.P50 > r.Latency.P99 || r.Latency.Max == 0 {
				t.Errorf("latency %+v of %d answers", r.Latency, r.Total.OK)
			}
		})
	}
}

func TestTimelineAddsUp(t *testing.T) {
	ctx, cancel := context.WithCancel(deadline(t))
	ln := serve(t, "tcp", "127.0.0.1:0", counting(strict.Handler(1), 20, cancel))
	run := strict.Load{Network: "tcp", Addr: ln.Addr().String(), Groups: everyKind(), Bucket: time.Millisecond}.Start(ctx)
	run.Mark("begun")
	r := run.Wait()
	ok, connects, marks, last := int64(0), int64(0), 0, time.Duration(-1)
	for _, b := range r.Timeline {
		if b.At <= last || b.P99 > b.Max {
			t.Errorf("bucket %+v behind that of %v", b, last)
		}
		last = b.At
		ok, connects, marks = ok+b.OK, connects+b.Connects, marks+len(b.Marks)
	}
	if ok != r.Total.OK || connects != r.Total.Connects || marks != 1 || last > r.Elapsed {
		t.Errorf("timeline has %d ok, %d connects, %d marks, to %v; want %d, %d, 1, %v", ok, connects, marks, last, r.Total.OK, r.Total.Connects, r.Elapsed)
	}
}

func TestMovedConnectionsAreCounted(t *testing.T) {
	ctx, cancel := context.WithCancel(deadline(t))
	var n atomic.Int64
	ln := serve(t, "tcp", "127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g := n.Add(1)
		if g == 10 {
			cancel()
		}
		strict.Handler(int(g)).ServeHTTP(w, r)
	}))
	run := strict.Load{Network: "tcp", Addr: ln.Addr().String(), Groups: []strict.Group{{Kind: strict.Post, N: 1}}}.Start(ctx)
	third, never := run.Answered(3), run.Answered(1000)
	<-third
	<-run.Answered(1)
	r := run.Wait()
	select {
	case <-never:
		t.Error("generation 1000 is said to have answered")
	default:
	}
	if r.Total.Moved != r.Total.OK-1 || int64(len(r.Generations)) != r.Total.OK {
		t.Errorf("%d answers, each of a generation of its own: moved %d, generations %v", r.Total.OK, r.Total.Moved, r.Generations)
	}
}

func TestRequestsInFlightAtTheEndAreAwaited(t *testing.T) {
	ctx, cancel := context.WithCancel(deadline(t))
	begun := make(chan struct{})
	ln := serve(t, "tcp", "127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		<-ctx.Done()
		strict.Handler(1).ServeHTTP(w, r)
	}))
	run := strict.Load{Network: "tcp", Addr: ln.Addr().String(), Groups: []strict.Group{{Kind: strict.Post, N: 1}}}.Start(ctx)
	<-begun
	if r := run.Snapshot(); r.Open != 1 || r.InFlight != 1 || r.Total.Requests != 1 {
		t.Errorf("while the handler works: %+v", r)
	}
	cancel()
	r := run.Wait()
	balanced(t, r)
	if r.Total.OK != 1 || r.Total.Ends[strict.Ours] != 1 {
		t.Errorf("%+v", r.Total)
	}
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}
}

// TestSettled: what begins later isn't waited for.
func TestSettled(t *testing.T) {
	ctx, cancel := context.WithCancel(deadline(t))
	defer cancel()
	arrived, release := make(chan struct{}, 2), make(chan struct{})
	ln := serve(t, "tcp", "127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case arrived <- struct{}{}:
		case <-ctx.Done():
		}
		select {
		case <-release:
		case <-ctx.Done():
		}
		strict.Handler(1).ServeHTTP(w, r)
	}))
	run := strict.Load{Network: "tcp", Addr: ln.Addr().String(), Groups: []strict.Group{{Kind: strict.Post, N: 2}}}.Start(ctx)
	<-arrived
	<-arrived
	settled := run.Settled()
	release <- struct{}{}
	<-arrived // the next one, of the client that has got its answer
	select {
	case <-settled:
		t.Error("settled, with a request under way")
	default:
	}
	release <- struct{}{}
	for ended := false; !ended; { // one of the two may be the one that began later
		select {
		case <-settled:
			ended = true
		case <-arrived:
		case release <- struct{}{}:
		}
	}
	cancel()
	balanced(t, run.Wait())
	select {
	case <-run.Settled():
	default:
		t.Error("unsettled, with nothing under way")
	}
}
