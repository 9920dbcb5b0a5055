package server

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/live"
)

// patience is how long the answer to a crash waits for the handler. One that
// returns in time keeps its connection; for one that doesn't (it may wait for
// the goroutine that died) the answer is sent at once and the connection is
// given up, as the next request on it would wait too.
const patience = 100 * time.Millisecond

// moment is how long the start of an answer waits for the request's goroutines,
// if there are any: one that panics may have woken the handler by a deferred
// WaitGroup.Done, some microseconds before its panic can be seen here.
const moment = 2 * time.Millisecond

// errAnswered is what a handler gets for its writes after a goroutine of its
// request has panicked.
var errAnswered = errors.New("server: a goroutine of this request panicked: it is answered with a 500")

// stage is how far the answer to a request is.
type stage uint32

const (
	fresh    stage = iota // nothing was sent
	sent                  // the application's status was passed on
	hijacked              // the connection is the application's
	spoiled               // the application's answer is not wanted any more
)

// request is one request on its way through the application. It is never used for
// another request: what leads to it may be kept.
//
// The answer to a crash may be written while the handler still runs, and changes
// its header map. HTTP/1 can answer past net/http, and so past that map; on HTTP/2
// the application has a map of its own.
type request struct {
	conn  *connection
	w     http.ResponseWriter
	r     *http.Request // net/http's. The application may have it, and change it
	ctx   context.Context
	told  live.Request // what r said at first
	host  string
	minor byte // of HTTP/1's version
	http2 bool
	found bool // by a context of its own
	stage atomic.Uint32

	// Most requests have no goroutines. Then nobody else has them, and they do
	// without the lock.
	joined   atomic.Int32 // goroutines of Go; ended: none can join any more
	mu       sync.Mutex   // guards what follows, and stage while others have the request
	answered bool         // the 500 has been written
	aborted  bool         // to be cut at the end
	rare     *rare        // nil: nothing of it
}

const ended = -1

// rare is what most requests don't need.
type rare struct {
	copied *http.Request      // the application's, if the request has a context of its own
	cancel context.CancelFunc // of HTTP/2
	header http.Header        // the application's on HTTP/2; nil until it asks
	alone  chan struct{}      // somebody waits for the goroutines of Go
	taken  <-chan time.Time   // the client has had its time to take the answer
}

func (x *request) extras() *rare {
	if x.rare == nil {
		x.rare = new(rare)
	}
	return x.rare
}

// own gives the request a context of its own, and returns the application's copy.
func (x *request) own() *http.Request {
	x.found = true
	m := x.extras()
	if x.http2 {
		x.ctx, m.cancel = context.WithCancel(x.ctx)
	}
	x.ctx = &requestContext{x.ctx, x}
	m.copied = x.r.WithContext(x.ctx)
	return m.copied
}

// disown undoes it.
func (x *request) disown() {
	if x.rare.cancel != nil {
		x.rare.cancel()
	}
	x.r.MultipartForm = x.rare.copied.MultipartForm // net/http removes its files
}

// ownHeader is the application's if it isn't net/http's.
func (x *request) ownHeader() http.Header {
	if x.http2 {
		return x.rare.header
	}
	return nil
}

// join counts a goroutine which the request's end is to wait for; false: too
// late. It may be called for no request, as leave, spoil and abort may.
func (x *request) join() bool {
	if x == nil {
		return false
	}
	for {
		n := x.joined.Load()
		if n == ended {
			return false
		}
		if x.joined.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (x *request) leave() {
	if x == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.joined.Add(-1) == 0 && x.rare != nil && x.rare.alone != nil {
		close(x.rare.alone)
		x.rare.alone = nil
	}
}

// finish waits for the request's goroutines, then completes the answer. It
// reports whether the connection, or HTTP/2 stream, is to be cut.
func (x *request) finish() (abort bool) {
	abort = x.complete()
	if x.rare == nil || x.rare.taken == nil {
		return abort
	}
	// What net/http has not read would turn the answer into a reset on its way.
	<-x.rare.taken
	return true // net/http must not answer as well
}

func (x *request) complete() (abort bool) {
	if !x.joined.CompareAndSwap(0, ended) {
		x.await()
	}
	switch stage(x.stage.Load()) {
	case fresh: // net/http answers with an empty 200
		if len(x.ownHeader()) > 0 || x.mustClose() {
			x.passHeader(http.StatusOK)
		}
	case sent:
		x.passTrailers()
	case spoiled:
		x.answer()
	}
	return x.aborted
}

// await returns when the request's goroutines have ended, and none can join.
func (x *request) await() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for !x.joined.CompareAndSwap(0, ended) {
		x.waitAlone(0)
	}
}

// begin passes status and header on, once.
func (x *request) begin(status int) error {
	if stage(x.stage.Load()) == sent {
		return nil
	}
	final := status >= 200 || status == http.StatusSwitchingProtocols
	valid := status <= 999 // else net/http panics, before it has sent anything
	if final && valid && x.joined.Load() == 0 && x.stage.CompareAndSwap(uint32(fresh), uint32(sent)) {
		x.passHeader(status)
		x.w.WriteHeader(status)
		return nil
	}
	return x.beginShared(status, final)
}

// beginShared is begin where goroutines of the request may come in between.
func (x *request) beginShared(status int, final bool) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.waitAlone(moment)
	switch stage(x.stage.Load()) {
	case sent:
		return nil
	case hijacked:
		return http.ErrHijacked
	case spoiled:
		return errAnswered
	}
	x.passHeader(status)
	x.w.WriteHeader(status)
	if final {
		x.stage.Store(uint32(sent))
	}
	return nil
}

// waitAlone gives up x.mu until the request's goroutines have ended, or the time
// is over; 0: however long it takes.
func (x *request) waitAlone(d time.Duration) {
	if x.joined.Load() <= 0 { // ended: a handler has kept its writer too long
		return
	}
	m := x.extras()
	if m.alone == nil {
		m.alone = make(chan struct{})
	}
	alone := m.alone
	x.mu.Unlock()
	defer x.mu.Lock()
	var over <-chan time.Time
	if d > 0 {
		over = time.After(d)
	}
	select {
	case <-alone:
	case <-over:
	}
}

// passHeader comes before a status, of which there may be several: all but the
// last are informational.
func (x *request) passHeader(status int) {
	closing := status >= 200 && x.mustClose()
	own := x.ownHeader()
	if own == nil && !closing {
		return
	}
	to := x.w.Header()
	if own != nil {
		clear(to)
		maps.Copy(to, own)
	}
	if closing {
		to["Connection"] = []string{"close"}
	}
}

// mustClose reports whether this is the last answer on its connection: in a
// drain, of one that can't move. On HTTP/2 it makes net/http send a GOAWAY.
func (x *request) mustClose() bool {
	s := x.conn.h.s
	return s.draining.Load() && !(s.moving.Load() && x.conn.live.MayMove())
}

// passTrailers is for HTTP/2.
func (x *request) passTrailers() {
	own := x.ownHeader()
	if own == nil {
		return
	}
	to := x.w.Header()
	for k, v := range own {
		if strings.HasPrefix(k, http.TrailerPrefix) {
			to[k] = v
		}
	}
	for _, list := range own["Trailer"] {
		for k := range strings.SplitSeq(list, ",") {
			k = http.CanonicalHeaderKey(strings.TrimSpace(k))
			if v, ok := own[k]; ok {
				to[k] = v
			}
		}
	}
}

// spoil takes the answer away from the application, if nothing of it was sent;
// else what was sent is cut.
func (x *request) spoil() {
	if x == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.stage.CompareAndSwap(uint32(fresh), uint32(spoiled)):
		time.AfterFunc(patience, x.answerNow)
	case stage(x.stage.Load()) == sent:
		x.aborted = true
	}
}

// abort cuts the connection at the end.
func (x *request) abort() {
	if x == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if stage(x.stage.Load()) != hijacked {
		x.aborted = true
	}
}

// sketch is what hooks and error pages may know of the request while its
// handler runs: only what the handler can't change.
func (x *request) sketch() *http.Request {
	u, err := url.ParseRequestURI(x.told.URI)
	if err != nil {
		u = new(url.URL)
	}
	r := &http.Request{
		Method: x.told.Method, URL: u, RequestURI: x.told.URI, Host: x.host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: int(x.minor),
		Header: make(http.Header), RemoteAddr: x.conn.peer(), Body: http.NoBody,
	}
	switch {
	case x.http2:
		r.Proto, r.ProtoMajor = "HTTP/2.0", 2
	case x.minor == 0:
		r.Proto = "HTTP/1.0"
	}
	return r.WithContext(context.WithoutCancel(x.ctx))
}
