package server

import (
	"bytes"
	"maps"
	"net/http"
	"strconv"
)

const internalError = "internal server error\n"

// answer writes the 500, once. hanging: the handler still runs. x.mu is held.
func (x *request) answer(hanging bool) {
	if x.answered {
		return
	}
	x.answered = true
	p := x.h.s.errorPage(x.errorPageRequest(hanging))
	to := x.w.Header()
	clear(to)
	maps.Copy(to, p.header)
	to.Set("Content-Length", strconv.Itoa(p.body.Len()))
	if hanging || x.mustClose() {
		to.Set("Connection", "close")
	}
	x.w.WriteHeader(http.StatusInternalServerError)
	x.w.Write(p.body.Bytes())
}

func (x *request) errorPageRequest(hanging bool) *http.Request {
	r := x.sketch()
	if !hanging {
		r.Header = x.r.Header.Clone()
	}
	return r
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
