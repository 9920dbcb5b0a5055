package server

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

func TestTrailersAndEarlyHints(t *testing.T) {
	r := start(t, Options{}, web(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Link", "</a.css>")
		h.Set("X-Gone", "1")
		w.WriteHeader(http.StatusEarlyHints)
		h.Del("X-Gone")
		h.Set("Trailer", "X-Sum, x-other")
		h["Date"] = nil // switched off
		w.WriteHeader(http.StatusAccepted)
		h.Set("X-Late", "lost, as with net/http")
		io.WriteString(w, "body")
		h.Set("X-Sum", "42")
		h.Set("X-Other", "43")
		h.Set(http.TrailerPrefix+"X-More", "44")
	}))
	c := dial(t, r.Addr("web"))
	c.send("GET", "/", "")
	hints, err := http.ReadResponse(c.r, nil)
	if err != nil || hints.StatusCode != http.StatusEarlyHints || hints.Header.Get("Link") != "</a.css>" || hints.Header.Get("X-Gone") != "1" {
		t.Fatal(hints, err)
	}
	res, body := c.answer()
	wantAnswer(t, res, body, http.StatusAccepted, "body", false)
	want := http.Header{"X-Sum": {"42"}, "X-Other": {"43"}, "X-More": {"44"}}
	if fmt.Sprint(res.Trailer) != fmt.Sprint(want) {
		t.Errorf("trailers %v, want %v", res.Trailer, want)
	}
	for _, name := range []string{"X-Gone", "X-Late", "Date"} {
		if v, ok := res.Header[name]; ok {
			t.Errorf("%s: %q", name, v)
		}
	}
}

func TestNothingWritten(t *testing.T) {
	r := start(t, Options{}, web(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/header" {
			w.Header().Set("X-Kept", "1")
		}
	}))
	c := dial(t, r.Addr("web"))
	res, body := c.get("/")
	wantAnswer(t, res, body, 200, "", false)
	res, body = c.get("/header")
	wantAnswer(t, res, body, 200, "", false)
	if res.Header.Get("X-Kept") != "1" {
		t.Error("header lost")
	}
}

func TestWriterKeepsInterfaces(t *testing.T) {
	check := func(w http.ResponseWriter, r *http.Request) {
		if _, ok := w.(http.Flusher); !ok {
			t.Error("no Flusher")
		}
		if _, ok := w.(io.StringWriter); !ok {
			t.Error("no StringWriter")
		}
		if _, ok := w.(http.Hijacker); ok != (r.ProtoMajor == 1) {
			t.Errorf("%s: Hijacker: %v", r.Proto, ok)
		}
		if _, ok := w.(io.ReaderFrom); ok != (r.ProtoMajor == 1) {
			t.Errorf("%s: ReaderFrom: %v", r.Proto, ok)
		}
		if _, ok := w.(http.Pusher); ok != (r.ProtoMajor == 2) {
			t.Errorf("%s: Pusher: %v", r.Proto, ok)
		}
		//lint:ignore SA1019 applications still use it
		if _, ok := w.(http.CloseNotifier); !ok {
			t.Error("no CloseNotifier")
		}
		rc := http.NewResponseController(w)
		for _, err := range []error{
			rc.SetReadDeadline(time.Now().Add(time.Hour)),
			rc.SetWriteDeadline(time.Now().Add(time.Hour)),
			rc.EnableFullDuplex(),
			rc.Flush(),
		} {
			if err != nil {
				t.Error(r.Proto, err)
			}
		}
	}
	r := start(t, Options{}, web(check))
	dial(t, r.Addr("web")).get("/")
	s := start(t, Options{}, secure(t, check))
	if _, _, err := fetch(t, h2Client(t), "https://"+s.Addr("web").String()); err != nil {
		t.Error(err)
	}
}

// io.Copy of a file ends in net/http's ReadFrom, hence in sendfile(2).
func TestReadFromReachesNetHTTP(t *testing.T) {
	path := filepath.Join(t.TempDir(), "big")
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	if err := os.WriteFile(path, want, 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, Options{}, web(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, path) }))
	c := dial(t, r.Addr("web"))
	for range 2 {
		if _, body := c.get("/"); body != string(want) {
			t.Error("body differs")
		}
	}
	rec := &readerFrom{}
	x := &request{conn: &connection{h: &httpRunner{s: r.Server}}, w: rec, r: &http.Request{ProtoMajor: 1}}
	if n, err := io.Copy(x.writer(), struct{ io.Reader }{strings.NewReader("abc")}); n != 3 || err != nil || !rec.used {
		t.Errorf("%d %v; ReadFrom used: %v", n, err, rec.used)
	}
}

type readerFrom struct {
	page
	used bool
}

func (r *readerFrom) ReadFrom(src io.Reader) (int64, error) {
	r.used = true
	return io.Copy(io.Discard, src)
}

func TestHijack(t *testing.T) {
	conns := make(chan net.Conn, 2)
	echo := func(w http.ResponseWriter, r *http.Request) {
		c, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		conns <- c
		go func() {
			defer c.Close()
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
			io.Copy(c, buf)
		}()
	}
	r := start(t, Options{}, web(echo))
	c := dial(t, r.Addr("web"))
	c.send("GET", "/", "")
	tp := textproto.NewReader(c.r)
	if line, err := tp.ReadLine(); !strings.HasPrefix(line, "HTTP/1.1 101") {
		t.Fatal(line, err)
	}
	tp.ReadLine()
	hc := <-conns
	if _, ok := hc.(interface{ NetConn() net.Conn }).NetConn().(*net.TCPConn); !ok {
		t.Errorf("NetConn is no *net.TCPConn")
	}
	if _, ok := hc.(io.ReaderFrom); !ok {
		t.Error("no ReaderFrom: splice(2) is lost")
	}
	r.replace(t)
	fmt.Fprintln(c, "still here")
	if line, err := tp.ReadLine(); line != "still here" {
		t.Fatal(line, err)
	}
	if h := r.holdouts(); h.All != 1 || h.Oldest[0].State != stateHijacked {
		t.Errorf("holdouts %+v", h)
	}
	select {
	case <-r.done:
		t.Fatal("didn't wait for a hijacked connection")
	default:
	}
	c.Close()
	r.wantEnd(t)
}

func TestHijackedIsCutAtTimeout(t *testing.T) {
	ended := make(chan struct{})
	r := start(t, Options{}, web(func(w http.ResponseWriter, r *http.Request) {
		c, _, _ := w.(http.Hijacker).Hijack()
		io.WriteString(c, "x")
		io.Copy(io.Discard, c)
		close(ended)
	}))
	c := dial(t, r.Addr("web"))
	c.send("GET", "/", "")
	c.r.ReadByte()
	r.replace(t)
	r.gen.expire()
	proctest.Await(t, "cut", ended)
	r.wait(t)
}

func TestMultipartFilesAreRemoved(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	r := start(t, Options{}, web(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseMultipartForm(0); err != nil {
			t.Error(err)
		}
		if names, _ := filepath.Glob(dir + "/multipart-*"); len(names) == 0 {
			t.Error("no temporary file: the test proves nothing")
		}
	}))
	var body bytes.Buffer
	mw := multipart.NewWriter(&body)
	fw, _ := mw.CreateFormFile("f", "name")
	fw.Write(make([]byte, 11<<20))
	mw.Close()
	res, err := http.Post("http://"+r.Addr("web").String(), mw.FormDataContentType(), &body)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	r.gen.Stop()
	r.wait(t)
	if names, _ := filepath.Glob(dir + "/multipart-*"); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}

// The application's http.Server is as it was, and its hooks are called.
func TestUsersServer(t *testing.T) {
	type key struct{}
	states := make(chan http.ConnState, 10)
	shut := make(chan struct{})
	hs := &http.Server{
		ConnState:   func(c net.Conn, s http.ConnState) { states <- s },
		BaseContext: func(net.Listener) context.Context { return context.WithValue(context.Background(), key{}, "base ") },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if _, ok := c.(interface{ NetConn() net.Conn }).NetConn().(*net.TCPConn); !ok {
				t.Errorf("%T", c)
			}
			return context.WithValue(ctx, key{}, ctx.Value(key{}).(string)+"conn")
		},
	}
	hs.RegisterOnShutdown(func() { close(shut) })
	hs.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Context().Value(http.ServerContextKey) != hs {
			t.Error("another http.Server in the context")
		}
		fmt.Fprint(w, r.Context().Value(key{}))
	})
	handler := fmt.Sprintf("%p", hs.Handler)
	r := start(t, Options{}, HTTP("web", hs, "127.0.0.1:0"))
	c := dial(t, r.Addr("web"))
	if _, body := c.get("/"); body != "base conn" {
		t.Error(body)
	}
	r.gen.Stop()
	r.wait(t)
	proctest.Await(t, "RegisterOnShutdown", shut)
	for _, want := range []http.ConnState{http.StateNew, http.StateActive, http.StateIdle, http.StateClosed} {
		if got := <-states; got != want {
			t.Errorf("state %v, want %v", got, want)
		}
	}
	if fmt.Sprintf("%p", hs.Handler) != handler || hs.TLSConfig != nil || hs.TLSNextProto != nil {
		t.Error("the application's http.Server was changed")
	}
}
