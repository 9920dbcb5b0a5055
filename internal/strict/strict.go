// Package strict drives an HTTP/1.1 service with clients that forgive nothing:
// one connection each, written and read by hand, no retry, no reconnect,
// requests that must not be repeated. What goes wrong is counted by what it was,
// so that a service which claims to lose nothing can be held to it.
//
// The service must answer every request with the headers HeaderID (that of the
// request, unchanged) and HeaderGeneration (a number from 1), may send HeaderPID,
// and must have:
//
//	GET  /          a body in which the request's id occurs
//	POST /echo      the request's body
//	POST /pid       a body of its own; that of the request is not read
//	GET  /slow?ms=N any body, after N milliseconds
//	GET  /long      101 Switching Protocols, then every byte comes back
//
// Handler is such a service.
package strict

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Headers that clients and service exchange.
const (
	HeaderID         = "X-Request-Id"
	HeaderGeneration = "X-Generation"
	HeaderPID        = "X-Pid"
)

// Defaults of Load and Group.
const (
	DefaultTimeout = 10 * time.Second
	DefaultBucket  = 100 * time.Millisecond
	DefaultSize    = 1 << 10
)

// Kind is how a client behaves.
type Kind string

// All kinds. Bodies are random, of Group.Size bytes (Post) or up to that.
const (
	Get       Kind = "get"       // GET /
	Post      Kind = "post"      // POST /echo
	Split     Kind = "split"     // POST /echo in pieces cut anywhere, with pauses of up to Delay
	Pipelined Kind = "pipelined" // 1 to 5 POST /echo at once, sometimes cut
	Slow      Kind = "slow"      // GET /slow?ms=, up to Delay
	Expect    Kind = "expect"    // POST /echo with Expect: 100-continue
	Unread    Kind = "unread"    // POST /pid, whose handler ignores the body
	CRLF      Kind = "crlf"      // POST /echo with a stray CRLF after the body
	Idle      Kind = "idle"      // POST /echo now and then
	HalfHead  Kind = "halfhead"  // POST /echo, the head cut and held back for Delay
	Long      Kind = "long"      // GET /slow?ms=Delay, one after the other
	Upgraded  Kind = "upgraded"  // GET /long, then messages to and fro
	Connect   Kind = "connect"   // POST /echo, each on a connection of its own, at Rate
)

// Kinds lists all of them.
func Kinds() []Kind {
	return []Kind{Get, Post, Split, Pipelined, Slow, Expect, Unread, CRLF, Idle, HalfHead, Long, Upgraded, Connect}
}

// Group is a number of clients of one kind.
type Group struct {
	Kind Kind
	// N is how many there are at a time. One whose connection has ended is
	// replaced by a new one. Connect: not used.
	N int
	// Rate is how many requests per second a group of kind Connect begins,
	// whether or not earlier ones have been answered.
	Rate float64
	// Pause is the mean pause between two requests on a connection. 0: the
	// kind's own; negative: none.
	Pause time.Duration
	// Size of bodies in bytes. 0: DefaultSize.
	Size int
	// Delay: see the kinds. 0: the kind's own.
	Delay time.Duration
}

// Load is what is done to a service.
type Load struct {
	Network string // "tcp", "unix"
	Addr    string
	Groups  []Group
	// Seed makes two runs send the same. Timing is never the same.
	Seed uint64
	// Timeout bounds a connect, and the time from the end of a request to the
	// end of its answer (beside what the handler was asked to take). 0:
	// DefaultTimeout.
	Timeout time.Duration
	// Blind is how long before it sends a client stops watching for the end of
	// its connection, as one far away can't see it. 0: it looks up to the end.
	Blind time.Duration
	// Bucket is the resolution of Report.Timeline. 0: DefaultBucket.
	Bucket time.Duration
	// OnFailure is told of each failed request, from the client's goroutine and
	// under a lock: it must neither block nor call Running's methods.
	OnFailure func(Failure)
	// OnAnswer is told of each good answer, in the same way.
	OnAnswer func(Answer)
}

// Run loads the service until ctx is done and what was then in flight has been
// answered, or has failed.
func (l Load) Run(ctx context.Context) *Report { return l.Start(ctx).Wait() }

// Start begins what Run does, without waiting for its end. It panics if a group
// is of no known kind.
func (l Load) Start(ctx context.Context) *Running {
	l.fill()
	r := &Running{load: l, rec: newRecorder(l), done: make(chan struct{})}
	var wg sync.WaitGroup
	index := uint64(0)
	for _, g := range l.Groups {
		g = g.filled()
		for range max(1, g.N) {
			if g.Kind != Connect && g.N <= 0 {
				break
			}
			index++
			c := r.newClient(g, index)
			wg.Go(func() { c.live(ctx) })
			if g.Kind == Connect {
				break
			}
		}
	}
	go func() {
		wg.Wait()
		r.rec.finish()
		close(r.done)
	}()
	return r
}

func (l *Load) fill() {
	if l.Timeout == 0 {
		l.Timeout = DefaultTimeout
	}
	if l.Bucket == 0 {
		l.Bucket = DefaultBucket
	}
}

// Running is a Load under way.
type Running struct {
	load Load
	rec  *recorder
	done chan struct{}
}

// Snapshot tells how things are now.
func (r *Running) Snapshot() *Report { return r.rec.report() }

// Done is closed at the end of the load.
func (r *Running) Done() <-chan struct{} { return r.done }

// Wait blocks until the end of the load.
func (r *Running) Wait() *Report {
	<-r.done
	return r.rec.report()
}

// Answered returns a channel that is closed when that generation, or a newer one,
// has answered.
func (r *Running) Answered(generation int) <-chan struct{} { return r.rec.await(generation) }

// Settled returns a channel that is closed when all requests which are under way
// now have ended, well or not.
func (r *Running) Settled() <-chan struct{} { return r.rec.settled() }

// Mark notes in the timeline that something was done to the service.
func (r *Running) Mark(text string) { r.rec.mark(text) }

func (r *Running) newClient(g Group, index uint64) *client {
	host := r.load.Addr
	if r.load.Network == "unix" {
		host = "localhost"
	}
	return &client{
		Running: r,
		host:    host,
		group:   g,
		rand:    rand.New(rand.NewPCG(r.load.Seed, index)),
		name:    fmt.Sprintf("%s-%x-%d", g.Kind, r.load.Seed, index),
		dialer:  net.Dialer{Timeout: r.load.Timeout, KeepAlive: -1},
	}
}
