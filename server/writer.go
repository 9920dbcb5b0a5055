package server

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
)

// writer1 is the application's ResponseWriter of HTTP/1, writer2 that of HTTP/2:
// they offer what net/http's own offer there, as applications look for it with type
// assertions. Being one pointer, they fit into an interface without an allocation.
type (
	writer1 struct{ x *request }
	writer2 struct{ x *request }
)

func (x *request) writer() http.ResponseWriter {
	if x.http2 {
		return writer2{x}
	}
	return writer1{x}
}

func (w writer1) Header() http.Header { return w.x.w.Header() }

// WriteHeader passes a second status on as well, for net/http complains of it.
func (w writer1) WriteHeader(status int) {
	if stage(w.x.stage.Load()) == sent {
		w.x.w.WriteHeader(status)
		return
	}
	w.x.begin(status)
}

func (w writer1) Write(b []byte) (int, error) {
	if err := w.x.begin(http.StatusOK); err != nil {
		return 0, err
	}
	return w.x.w.Write(b)
}

func (w writer1) WriteString(s string) (int, error) {
	if err := w.x.begin(http.StatusOK); err != nil {
		return 0, err
	}
	return io.WriteString(w.x.w, s)
}

func (w writer1) Flush() { w.FlushError() }

func (w writer1) FlushError() error {
	if err := w.x.begin(http.StatusOK); err != nil {
		return err
	}
	return http.NewResponseController(w.x.w).Flush()
}

// CloseNotify is for applications that still use it.
func (w writer1) CloseNotify() <-chan bool {
	//lint:ignore SA1019 see above
	return w.x.w.(http.CloseNotifier).CloseNotify()
}

// Unwrap leads http.ResponseController to deadlines and full duplex.
func (w writer1) Unwrap() http.ResponseWriter { return w.x.w }

// ReadFrom keeps sendfile(2) and splice(2).
func (w writer1) ReadFrom(src io.Reader) (int64, error) {
	if err := w.x.begin(http.StatusOK); err != nil {
		return 0, err
	}
	return io.Copy(w.x.w, src)
}

func (w writer1) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	x := w.x
	x.mu.Lock()
	defer x.mu.Unlock()
	if stage(x.stage.Load()) == spoiled {
		return nil, nil, errAnswered
	}
	c, buf, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		return nil, nil, err
	}
	x.stage.Store(uint32(hijacked))
	return x.conn.h.table.hijack(c), buf, nil
}

func (w writer2) Header() http.Header {
	if w.x.rare.header == nil {
		w.x.rare.header = make(http.Header)
	}
	return w.x.rare.header
}

func (w writer2) WriteHeader(status int)            { writer1(w).WriteHeader(status) }
func (w writer2) Write(b []byte) (int, error)       { return writer1(w).Write(b) }
func (w writer2) WriteString(s string) (int, error) { return writer1(w).WriteString(s) }
func (w writer2) Flush()                            { writer1(w).FlushError() }
func (w writer2) FlushError() error                 { return writer1(w).FlushError() }
func (w writer2) CloseNotify() <-chan bool          { return writer1(w).CloseNotify() }
func (w writer2) Unwrap() http.ResponseWriter       { return w.x.w }

func (w writer2) Push(target string, opts *http.PushOptions) error {
	if p, ok := w.x.w.(http.Pusher); ok {
		return p.Push(target, opts)
	}
	return errors.ErrUnsupported
}
