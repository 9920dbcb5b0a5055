package server

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"strconv"
	"time"
)

const internalError = "internal server error\n"

// answer writes the 500, once, in the handler's place.
func (x *request) answer() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.answered {
		return
	}
	x.answered = true
	r := x.sketch()
	r.Header = x.r.Header.Clone()
	x.writePage(x.conn.h.s.errorPage(r), x.mustClose())
}

// answerNow answers for a handler that doesn't return.
func (x *request) answerNow() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.joined.Load() == ended || x.aborted {
		return
	}
	x.answered = true
	p := x.conn.h.s.errorPage(x.sketch())
	if !x.http2 {
		x.answerPast(p)
		return
	}
	x.writePage(p, true)
	http.NewResponseController(x.w).Flush()
	x.rare.cancel()
}

func (x *request) writePage(p *page, closing bool) {
	to := x.w.Header()
	clear(to)
	maps.Copy(to, p.header)
	to.Set("Content-Length", strconv.Itoa(p.body.Len()))
	if closing {
		to.Set("Connection", "close")
	}
	x.w.WriteHeader(http.StatusInternalServerError)
	x.w.Write(p.body.Bytes())
}

// lingering is how long the client of a handler that doesn't return has for
// taking its answer before the connection is cut (cf. net/http's
// rstAvoidanceDelay).
const lingering = 500 * time.Millisecond

// answerPast answers past net/http, whose ResponseWriter is the handler's. Nothing
// of an answer lies in net/http's buffers: informational statuses are sent at
// once. The connection has no future: the handler must not read the next request.
func (x *request) answerPast(p *page) {
	var b bytes.Buffer
	p.header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	res := http.Response{
		StatusCode:    http.StatusInternalServerError,
		ProtoMajor:    1,
		ProtoMinor:    int(x.minor),
		Request:       &http.Request{Method: x.told.Method},
		Header:        p.header,
		Body:          io.NopCloser(&p.body),
		ContentLength: int64(p.body.Len()),
		Close:         true,
	}
	res.Write(&b)
	x.conn.nc.Write(b.Bytes())
	if c, ok := x.conn.nc.(interface{ CloseWrite() error }); ok {
		c.CloseWrite()
	}
	x.extras().taken = time.After(lingering)
	// net/http cancels the request's context when a read deadline passes.
	x.conn.nc.SetReadDeadline(time.Now().Add(lingering))
}

// errorPage renders Options.ErrorPage; a panic of it brings the default.
func (s *Server) errorPage(r *http.Request) *page {
	p := newPage()
	if s.o.ErrorPage != nil && s.render(p, r) {
		return p
	}
	p = newPage()
	p.header.Set("Content-Type", "text/plain; charset=utf-8")
	p.header.Set("X-Content-Type-Options", "nosniff")
	p.body.WriteString(internalError)
	return p
}

func (s *Server) render(p *page, r *http.Request) (ok bool) {
	defer s.contain("ErrorPage")
	s.o.ErrorPage.ServeHTTP(p, r)
	for _, name := range []string{"Connection", "Content-Length", "Transfer-Encoding", "Trailer"} {
		p.header.Del(name)
	}
	return true
}

// page is a ResponseWriter that keeps what it is given.
type page struct {
	header http.Header
	body   bytes.Buffer
}

func newPage() *page                              { return &page{header: make(http.Header)} }
func (p *page) Header() http.Header               { return p.header }
func (p *page) WriteHeader(int)                   {}
func (p *page) Write(b []byte) (int, error)       { return p.body.Write(b) }
func (p *page) WriteString(s string) (int, error) { return p.body.WriteString(s) }
