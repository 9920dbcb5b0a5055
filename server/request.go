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
)

// patience is how long the answer to a crash waits for the handler. One that
// returns in time keeps its connection; for one that doesn't (it may wait for
// the goroutine that died) the answer is sent at once and the connection is
// given up, as the next request on it would wait too.
const patience = 20 * time.Millisecond

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

// request is one request on its way through the application. It is also the
// context of that request, so that Go and Draining find it: that saves an
// allocation. It is never used for another request: contexts may be kept.
//
// The answer to a crash may be written while the handler still runs, and changes
// its header map. HTTP/1 can answer past net/http, and so past that map; on HTTP/2
// the application has a map of its own.
type request struct {
	context.Context // of net/http's request
	conn            *connection
	w               http.ResponseWriter
	r               *http.Request      // net/http's; the application has a copy
	cancel          context.CancelFunc // of HTTP/2, else nil
	header          http.Header        // the application's on HTTP/2; nil until it asks
	stage           atomic.Uint32

	mu       sync.Mutex // guards changes of stage, and what follows
	answered bool       // the 500 has been written
	aborted  bool       // to be cut at the end
	ended    bool       // no goroutine can join any more
	joined   int32      // goroutines of Go
	alone    chan struct{}
	taken    <-chan time.Time // the client has had its time to take the answer
}

// Value finds the request, and its server, from its context.
func (x *request) Value(key any) any {
	switch key {
	case requestKey{}:
		return x
	case serverKey{}:
		return x.conn.h.s
	}
	return x.Context.Value(key)
}

// join counts a goroutine which the request's end is to wait for; false: too
// late. It may be called for no request, as leave, spoil and abort may.
func (x *request) join() bool {
	if x == nil {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.ended {
		x.joined++
	}
	return !x.ended
}

func (x *request) leave() {
	if x == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.joined--; x.joined == 0 && x.alone != nil {
		close(x.alone)
		x.alone = nil
	}
}

// finish waits for the request's goroutines, then completes the answer. It
// reports whether the connection, or HTTP/2 stream, is to be cut.
func (x *request) finish() (abort bool) {
	abort = x.complete()
	if x.taken == nil {
		return abort
	}
	// What net/http has not read would turn the answer into a reset on its way.
	<-x.taken
	return true // net/http must not answer as well
}

func (x *request) complete() (abort bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for x.joined > 0 {
		x.waitAlone(0)
	}
	x.ended = true
	switch stage(x.stage.Load()) {
	case fresh: // net/http answers with an empty 200
		if len(x.header) > 0 || x.mustClose() {
			x.passHeader(http.StatusOK)
		}
	case sent:
		x.passTrailers()
	case spoiled:
		x.answer()
	}
	return x.aborted
}

// begin passes status and header on, once.
func (x *request) begin(status int) error {
	if stage(x.stage.Load()) == sent {
		return nil
	}
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
	if status >= 200 || status == http.StatusSwitchingProtocols {
		x.stage.Store(uint32(sent))
	}
	return nil
}

// waitAlone gives up x.mu until the request's goroutines have ended, or the time
// is over; 0: however long it takes.
func (x *request) waitAlone(d time.Duration) {
	if x.joined == 0 {
		return
	}
	if x.alone == nil {
		x.alone = make(chan struct{})
	}
	alone := x.alone
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
	if x.header == nil && !closing {
		return
	}
	to := x.w.Header()
	if x.header != nil {
		clear(to)
		maps.Copy(to, x.header)
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
	if x.header == nil {
		return
	}
	to := x.w.Header()
	for k, v := range x.header {
		if strings.HasPrefix(k, http.TrailerPrefix) {
			to[k] = v
		}
	}
	for _, list := range x.header["Trailer"] {
		for k := range strings.SplitSeq(list, ",") {
			k = http.CanonicalHeaderKey(strings.TrimSpace(k))
			if v, ok := x.header[k]; ok {
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
	switch stage(x.stage.Load()) {
	case fresh:
		x.stage.Store(uint32(spoiled))
		time.AfterFunc(patience, x.answerNow)
	case sent:
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
	u, err := url.ParseRequestURI(x.r.RequestURI)
	if err != nil {
		u = new(url.URL)
	}
	r := &http.Request{
		Method: x.r.Method, URL: u, RequestURI: x.r.RequestURI, Host: x.r.Host,
		Proto: x.r.Proto, ProtoMajor: x.r.ProtoMajor, ProtoMinor: x.r.ProtoMinor,
		Header: make(http.Header), RemoteAddr: x.r.RemoteAddr, Body: http.NoBody,
	}
	return r.WithContext(context.WithoutCancel(x))
}
