package server

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/upgrader"
)

func insecure() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }

// testCertificate is the one that net/http/httptest brings along.
func testCertificate() tls.Certificate {
	ts := httptest.NewUnstartedServer(nil)
	ts.StartTLS()
	defer ts.Close()
	return ts.TLS.Certificates[0]
}

func serverConfig() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{testCertificate()}}
}

// secure is web with TLS and HTTP/2.
func secure(t *testing.T, h http.HandlerFunc) *Service {
	return HTTP("web", &http.Server{Handler: h, TLSConfig: serverConfig()}, "127.0.0.1:0")
}

func h2Client(t *testing.T) *http.Client {
	tr := &http.Transport{TLSClientConfig: insecure(), ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: proctest.Patience(t)}
}

// fetch returns the body, and whether the connection had been used before.
func fetch(t *testing.T, hc *http.Client, url string) (body string, reused bool, err error) {
	trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }}
	r, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "GET", url, nil)
	if err != nil {
		return "", false, err
	}
	res, err := hc.Do(r)
	if err != nil {
		return "", false, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.Proto + " " + string(b), reused, err
}

// wantFetch is for an answer of hello.
func wantFetch(t *testing.T, hc *http.Client, url, proto string) {
	t.Helper()
	if body, _, err := fetch(t, hc, url); body != proto+" hello" {
		t.Fatal(body, err)
	}
}

func dialTLS(t *testing.T, a net.Addr) *client {
	t.Helper()
	c, err := tls.Dial(a.Network(), a.String(), insecure())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return newClient(t, c)
}

func TestTLSDrain(t *testing.T) {
	t.Parallel()
	h := newSlow()
	drainUnmoved(t, start(t, Options{IdleGrace: time.Second}, secure(t, h.ServeHTTP)), h, dialTLS)
}

// drainUnmoved plays clients of each sort over a drain in which nothing moves.
func drainUnmoved(t *testing.T, r *rig, h *slow, connect func(*testing.T, net.Addr) *client) {
	t.Helper()
	inFlight, oneMore, idle := connect(t, r.Addr("web")), connect(t, r.Addr("web")), connect(t, r.Addr("web"))
	oneMore.get("/")
	idle.get("/")
	inFlight.send("GET", "/slow", "")
	<-h.began
	r.replace(t)
	oneMore.wantLast()
	idle.wantEOF()
	close(h.release)
	inFlight.wantLastAnswer()
	r.wantEnd(t)
}

// wantLast sends a request after whose answer the connection ends, and says so.
func (c *client) wantLast() {
	c.t.Helper()
	c.send("GET", "/", "")
	c.wantLastAnswer()
}

func (c *client) wantLastAnswer() {
	c.t.Helper()
	res, body := c.answer()
	wantAnswer(c.t, res, body, 200, "hello", true)
	c.wantEOF()
}

// GOAWAY doesn't wait for HTTP/1: an idle HTTP/2 connection ends while another
// is busy, and streams in flight complete.
func TestHTTP2Drain(t *testing.T) {
	t.Parallel()
	h := newSlow()
	r := start(t, Options{IdleGrace: time.Hour}, secure(t, h.ServeHTTP))
	base := "https://" + r.Addr("web").String()
	idle, busy := h2Client(t), h2Client(t)
	wantFetch(t, idle, base, "HTTP/2.0")
	type answer struct {
		body string
		err  error
	}
	stream := make(chan answer, 1)
	go func() {
		body, _, err := fetch(t, busy, base+"/slow")
		stream <- answer{body, err}
	}()
	<-h.began
	http1 := dialTLS(t, r.Addr("web"))
	http1.send("GET", "/slow", "")
	<-h.began
	table := r.runners[0].(*httpRunner).table
	if n := table.len(); n != 2 {
		t.Fatalf("%d HTTP/2 connections", n)
	}

	r.gen.end(upgrader.Replaced, time.Minute)
	proctest.Poll(t, "the end of the idle HTTP/2 connection, which needn't wait for others", func() bool { return table.len() == 1 })
	close(h.release)
	if a := <-stream; a.body != "HTTP/2.0 hello" {
		t.Error(a)
	}
	res, body := http1.answer()
	wantAnswer(t, res, body, 200, "hello", true)
	r.wantEnd(t)
}

// After a drain that was taken back HTTP/2 is served as before.
func TestHTTP2Resumed(t *testing.T) {
	t.Parallel()
	h := newSlow()
	r := start(t, Options{IdleGrace: time.Hour}, secure(t, h.ServeHTTP))
	base := "https://" + r.Addr("web").String()
	held := dialTLS(t, r.Addr("web"))
	held.send("GET", "/slow", "")
	<-h.began
	for range 2 {
		r.replace(t)
		r.resume(t)
		hc := h2Client(t)
		for i := range 3 {
			body, reused, err := fetch(t, hc, base)
			if body != "HTTP/2.0 hello" || reused != (i > 0) {
				t.Fatal(body, reused, err)
			}
		}
	}
	close(h.release)
	held.answer()
}

func TestUnencryptedHTTP2(t *testing.T) {
	t.Parallel()
	h := newSlow()
	hs := &http.Server{Handler: h, Protocols: new(http.Protocols)}
	hs.Protocols.SetHTTP1(true)
	hs.Protocols.SetUnencryptedHTTP2(true)
	r := start(t, Options{IdleGrace: time.Second}, HTTP("web", hs, "127.0.0.1:0"))
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	defer tr.CloseIdleConnections()
	hc := &http.Client{Transport: tr, Timeout: proctest.Patience(t)}
	base := "http://" + r.Addr("web").String()
	wantFetch(t, hc, base, "HTTP/2.0")
	done := make(chan string, 1)
	go func() {
		body, _, _ := fetch(t, hc, base+"/slow")
		done <- body
	}()
	<-h.began
	dial(t, r.Addr("web")).get("/")
	r.replace(t)
	select {
	case <-r.done:
		t.Error("didn't wait for a stream")
	case <-time.After(20 * time.Millisecond):
	}
	close(h.release)
	if body := <-done; body != "HTTP/2.0 hello" {
		t.Error(body)
	}
	r.wantEnd(t)
}

// certificateFiles writes the test certificate as PEM.
func certificateFiles(t *testing.T) (cert, key string) {
	t.Helper()
	c := testCertificate()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{
		cert: {Type: "CERTIFICATE", Bytes: c.Certificate[0]},
		key:  {Type: "PRIVATE KEY", Bytes: der},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestHTTPS(t *testing.T) {
	cert, key := certificateFiles(t)
	r := start(t, Options{}, HTTPS("web", &http.Server{Handler: http.HandlerFunc(hello)}, cert, key, "127.0.0.1:0"))
	wantFetch(t, h2Client(t), "https://"+r.Addr("web").String(), "HTTP/2.0")
}

func TestHTTP2SwitchedOff(t *testing.T) {
	hs := &http.Server{
		Handler:      http.HandlerFunc(hello),
		TLSConfig:    serverConfig(),
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	r := start(t, Options{}, HTTP("web", hs, "127.0.0.1:0"))
	wantFetch(t, h2Client(t), "https://"+r.Addr("web").String(), "HTTP/1.1")
}

// HTTP/2 by golang.org/x/net, which the application has configured.
func TestForeignHTTP2(t *testing.T) {
	t.Parallel()
	h := newSlow()
	hs := &http.Server{Handler: h, TLSConfig: serverConfig()}
	shut := make(chan struct{}, 10)
	hs.RegisterOnShutdown(func() { shut <- struct{}{} })
	//lint:ignore SA1019 applications still use it
	if err := http2.ConfigureServer(hs, &http2.Server{MaxConcurrentStreams: 7}); err != nil {
		t.Fatal(err)
	}
	r := start(t, Options{IdleGrace: time.Hour}, HTTP("web", hs, "127.0.0.1:0"))
	base := "https://" + r.Addr("web").String()
	wantFetch(t, h2Client(t), base, "HTTP/2.0")
	r.gen.end(upgrader.Replaced, time.Minute)
	r.wantEnd(t)
	<-shut
	if len(shut) > 0 {
		t.Error("RegisterOnShutdown's function was called twice")
	}
}

func TestBadCertificate(t *testing.T) {
	_, err := New(Options{Upgrader: upgrader.Plain()}, HTTPS("web", &http.Server{}, "/nonexistent", "/nonexistent", ":0"))
	if err == nil || !strings.Contains(err.Error(), `"web"`) {
		t.Error(err)
	}
	if _, err = New(Options{Upgrader: upgrader.Plain()}, HTTPS("web", &http.Server{}, "", "", ":0")); err == nil {
		t.Error("HTTPS without a certificate")
	}
}

// Listeners that the application has wrapped are served, but don't move.
func TestWrappedListener(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"own", "tls", "gate"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			gen := newFake()
			ln, err := gen.ListenNamed("", "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			connect := dial
			switch kind {
			case "own":
				ln = struct{ net.Listener }{ln}
			case "tls":
				ln = tls.NewListener(ln, serverConfig())
				connect = dialTLS
			}
			h := newSlow()
			svc := HTTP("web", &http.Server{Handler: h})
			svc.Listeners = []net.Listener{ln}
			r := startOn(t, t.Context(), gen, Options{IdleGrace: time.Second}, svc)
			drainUnmoved(t, r, h, connect)
		})
	}
}

// A client that connects and says nothing doesn't hold up a drain, nor whoever asks
// how far it is.
func TestSilentTLSClient(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	svc := HTTP("web", &http.Server{Handler: http.HandlerFunc(hello)})
	svc.Listeners = []net.Listener{tls.NewListener(ln, serverConfig())}
	r := start(t, Options{IdleGrace: time.Millisecond}, svc)
	c := dial(t, r.Addr("web"))
	accepted(t, r, 1)
	r.gen.end(upgrader.Replaced, time.Hour)
	c.wantEOF()
	r.wantEnd(t)
}
