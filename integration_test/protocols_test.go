//go:build linux

package integration

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/strict"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
)

// Connections that can't move: what is in flight is completed, the ends are
// orderly, and the clients, which are Go's own, see no error at all.
func TestOtherProtocols(t *testing.T) {
	run(t, everyMode, func(t *testing.T, b *bed) {
		set := settings{H2C: true, Secure: []string{"127.0.0.1:0"}, KillTimeout: 30 * time.Second}
		set.Cert, set.Key = b.certificate()
		b.serve(set)
		web := b.tcp()
		_, secure := b.addr(2)
		clients := map[string]*poster{
			"TLS HTTP/1.1": newPoster(t, "https://"+secure, "HTTP/1.1", protocols(true, false, false)),
			"TLS HTTP/2":   newPoster(t, "https://"+secure, "HTTP/2.0", protocols(false, true, false)),
			"h2c":          newPoster(t, "http://"+web, "HTTP/2.0", protocols(false, false, true)),
		}
		n := testenv.Count(3, 50)
		for g := 1; g <= n+1; g++ {
			if g > 1 {
				old := b.pidInFile()
				b.mustUpgrade()
				b.ended(old)
			}
			for name, c := range clients {
				b.poll(fmt.Sprintf("an answer of generation %d by %s", g, name), func() bool { return c.seen(g) })
			}
		}
		for name, c := range clients {
			requests := c.end()
			testenv.Result(t, "%s: %d upgrades, %d requests, 0 failed", name, n, requests)
		}
	})
}

func protocols(http1, http2, h2c bool) *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(http1)
	p.SetHTTP2(http2)
	p.SetUnencryptedHTTP2(h2c)
	return p
}

// certificate makes one for a test.
func (b *bed) certificate() (cert, key string) {
	b.t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"test"}, NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &priv.PublicKey, priv)
	if err != nil {
		b.t.Fatal(err)
	}
	pkcs, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		b.t.Fatal(err)
	}
	cert, key = b.path("cert.pem"), b.path("key.pem")
	write(b.t, cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), 0o644)
	write(b.t, key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs})), 0o600)
	return cert, key
}

// poster is several clients of one http.Transport, which make requests that it
// must not repeat, some of them slow.
type poster struct {
	t      *testing.T
	url    string
	proto  string
	tr     *http.Transport
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	newest   int
	requests int
}

func newPoster(t *testing.T, url, proto string, p *http.Protocols) *poster {
	tr := &http.Transport{Protocols: p, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "test"}}
	ctx, cancel := context.WithCancel(context.Background())
	c := &poster{t: t, url: url, proto: proto, tr: tr, cancel: cancel}
	for i := range 4 {
		c.wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if i == 0 {
					c.request("GET", "/slow?ms=300", nil)
				} else {
					c.request("POST", "/echo", bytes.Repeat(fmt.Appendf(nil, "%d-%d ", i, n), 1+n%500))
				}
				proctest.Pace(2 * time.Millisecond)
			}
		})
	}
	t.Cleanup(func() { c.end() })
	return c
}

func (c *poster) request(method, path string, body []byte) {
	req, err := http.NewRequest(method, c.url+path, bytes.NewReader(body))
	if err != nil {
		c.t.Error(err)
		return
	}
	if c.proto == "HTTP/1.1" {
		req.GetBody = nil // no second try; in HTTP/2 a GOAWAY tells what was not processed
	}
	resp, err := c.tr.RoundTrip(req)
	if err != nil {
		c.t.Errorf("%s %s: %v", method, path, err)
		return
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 || method == "POST" && !bytes.Equal(got, body) || resp.Proto != c.proto {
		c.t.Errorf("%s %s: %s %s, %d bytes of %d, %v", method, path, resp.Proto, resp.Status, len(got), len(body), err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests++
	var g int
	fmt.Sscan(resp.Header.Get(strict.HeaderGeneration), &g)
	c.newest = max(c.newest, g)
}

func (c *poster) seen(generation int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.newest >= generation
}

func (c *poster) end() int {
	c.cancel()
	c.wg.Wait()
	c.tr.CloseIdleConnections()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.requests
}

// A hijacked connection, as websockets are, stays with its generation until it
// ends.
func TestHijackedConnectionsStay(t *testing.T) {
	run(t, everyMode, func(t *testing.T, b *bed) {
		b.demo("--kill-timeout", "1h")
		addr, old := b.tcp(), b.pidInFile()
		l := startLoad(t, "tcp", addr, strict.Group{Kind: strict.Upgraded, N: 5})
		l.sees(1)
		b.mustUpgrade()
		before := l.Snapshot().Total.OK
		b.poll("messages over the upgrade", func() bool { return l.Snapshot().Total.OK > before+20 })
		if !exists(fmt.Sprintf("/proc/%d/fd/0", old)) {
			t.Error("the old generation has ended under its connections")
		}
		r := l.stop()
		if err := unbroken(r); err != nil {
			t.Error(err)
		}
		if g := r.Generations[2].Answers; g != 0 {
			t.Errorf("generation 2 has answered %d messages of others", g)
		}
		if status := b.ended(old); status != 0 {
			t.Errorf("the old generation ended with %v", status)
		}
	})
}

// A stream of events hears of the drain, says goodbye, and goes on with the next
// generation.
func TestEventStreamsEnd(t *testing.T) {
	run(t, everyMode, func(t *testing.T, b *bed) {
		b.serve(settings{KillTimeout: time.Hour})
		addr := b.tcp()
		for g := 1; g <= 3; g++ {
			old := b.pidInFile()
			s := openStream(t, addr)
			if s.generation != g {
				t.Errorf("generation %d streams, want %d", s.generation, g)
			}
			s.until(t, "data: 1")
			b.mustUpgrade()
			s.until(t, "event: bye")
			if rest, err := io.ReadAll(s.body); err != nil {
				t.Errorf("the stream ends with %v after %q", err, rest)
			}
			if status := b.ended(old); status != 0 {
				t.Errorf("generation %d ended with %v", g, status)
			}
		}
	})
}

type stream struct {
	generation int
	body       *bufio.Reader
}

func openStream(t *testing.T, addr string) *stream {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience(t)))
	fmt.Fprint(c, "GET /ticks HTTP/1.1\r\nHost: test\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &stream{body: bufio.NewReader(resp.Body)}
	fmt.Sscan(resp.Header.Get(strict.HeaderGeneration), &s.generation)
	return s
}

func (s *stream) until(t *testing.T, line string) {
	t.Helper()
	for {
		got, err := s.body.ReadString('\n')
		if err != nil {
			t.Fatalf("the stream ends before %q: %v", line, err)
		}
		if strings.TrimSpace(got) == line {
			return
		}
	}
}
