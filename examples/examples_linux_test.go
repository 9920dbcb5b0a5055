package examples_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
)

// scenario is an example with its clients.
type scenario struct {
	program string
	args    []string
	clients []client
}

func scenarios(t *testing.T) []scenario {
	cert, key, roots := certificate(t)
	return []scenario{
		{"http", nil, []client{connections(plain, http1)}},
		{"https", []string{"-cert", cert, "-key", key}, []client{connections(secure(roots), http1), http2(roots)}},
		{"grpc", nil, []client{calls, count}},
		{"tcp", nil, []client{connections(plain, lines)}},
		{"sse", nil, []client{events}},
		{"websocket", nil, []client{messages}},
	}
}

// perKind is how many clients of a kind there are.
const perKind = 6

// An upgrade loses nothing, of any kind of service.
func TestUpgrades(t *testing.T) {
	for _, m := range []mode{alone, kept} {
		for _, s := range scenarios(t) {
			t.Run(fmt.Sprintf("%s/%s", m, s.program), func(t *testing.T) {
				t.Parallel()
				b := start(t, m, s.program, s.args...)
				counts, stop := load(t, b.addr, perKind, s.clients...)
				b.goesOn(counts)
				for range testenv.Count(3, 50) {
					b.upgrade()
					b.goesOn(counts)
				}
				stop()
				for _, what := range []string{refused, apology, lost, wrong} {
					if counts.get(what) > 0 {
						t.Errorf("%d %s", counts.get(what), what)
					}
				}
				if moves := s.program == "http"; moves != (counts.get(told) == 0) {
					t.Errorf("%d were told to come back", counts.get(told))
				}
				testenv.Result(t, "%v", counts)
			})
		}
	}
}

// Of a process that is killed only what it had under way is lost, and nobody is
// refused: kept.
func TestKills(t *testing.T) {
	for _, s := range scenarios(t) {
		t.Run(s.program, func(t *testing.T) {
			t.Parallel()
			b := start(t, kept, s.program, s.args...)
			counts, stop := load(t, b.addr, perKind, s.clients...)
			b.goesOn(counts)
			kills := testenv.Count(3, 30)
			for n := range kills {
				b.kill()
				b.serves(n + 2)
				b.goesOn(counts)
				b.rest()
			}
			stop()
			for _, what := range []string{refused, wrong} {
				if counts.get(what) > 0 {
					t.Errorf("%d %s", counts.get(what), what)
				}
			}
			// Each client has one thing under way; plain HTTP/1.1 is rescued.
			if n := counts.get(lost) + counts.get(apology); n == 0 && s.program != "http" || n > kills*perKind*len(s.clients) {
				t.Errorf("%d lost or answered with an apology, of %d clients killed %d times", n, perKind*len(s.clients), kills)
			}
			testenv.Result(t, "%d kills: %v", kills, counts)
		})
	}
}

// The control of TestKills: alone, nobody is left to hold the port.
func TestKilledAloneItRefuses(t *testing.T) {
	t.Parallel()
	b := start(t, alone, "http")
	counts, stop := load(t, b.addr, perKind, connections(plain, http1))
	b.goesOn(counts)
	b.kill()
	proctest.Await(t, "its end", b.ended)
	c, err := net.Dial("tcp", b.addr)
	if err == nil {
		c.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("connect: %v", err)
	}
	stop()
}

// A panic in a goroutine of a request costs that request a 500, and nobody else
// anything.
func TestCrash(t *testing.T) {
	for _, m := range []mode{alone, kept} {
		t.Run(string(m), func(t *testing.T) {
			t.Parallel()
			b := start(t, m, "http")
			counts, stop := load(t, b.addr, perKind, connections(plain, http1))
			b.goesOn(counts)
			resp, err := http.Get("http://" + b.addr + "/sum?a=1&b=x")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusInternalServerError {
				t.Errorf("%s", resp.Status)
			}
			b.serves(2)
			b.goesOn(counts)
			stop()
			for _, what := range []string{refused, apology, lost, wrong} {
				if counts.get(what) > 0 {
					t.Errorf("%d %s", counts.get(what), what)
				}
			}
			testenv.Result(t, "%v", counts)
		})
	}
}

// rest keeps deaths from following each other so fast that the keeper gives up.
func (b *bed) rest() {
	if testenv.Count(0, 1) == 1 {
		proctest.Pace(13 * time.Second)
	}
}

// certificate makes one for localhost, in files.
func certificate(t *testing.T) (cert, key string, roots *x509.CertPool) {
	t.Helper()
	dir := t.TempDir()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	roots = x509.NewCertPool()
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	roots.AppendCertsFromPEM(public)
	for path, text := range map[string][]byte{cert: public, key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key, roots
}
