//go:build linux

package rescue

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

func selfSigned() *tls.Config {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	check(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	check(err)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}}}
}

// TestConnectionsThatCantGoOn end without a reset, which would destroy what was
// sent on them; also where the service has no other ones. Without rescue they
// are reset.
func TestConnectionsThatCantGoOn(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"tls", "greeter"} {
		for _, off := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, off %v", kind, off), func(t *testing.T) {
				t.Parallel()
				b := newBed(t)
				b.set.Web, b.set.RescueOff = nil, off
				if kind == "tls" {
					b.set.TLS = []string{"127.0.0.1:0"}
				} else {
					b.set.Others = []string{"127.0.0.1:0"}
				}
				b.service().Listen = []string{kind + "=127.0.0.1:0"}
				b.start()
				if n := len(b.named("tc-vault")); (n == 0) != off {
					t.Errorf("%d vaults", n)
				}
				c := b.unread(kind)
				syscall.Kill(b.worker(0), syscall.SIGKILL)
				_, err := io.Copy(io.Discard, c)
				if reset := errors.Is(err, syscall.ECONNRESET); reset != off {
					t.Errorf("the connection ends with %v", err)
				}
				if off {
					return
				}
				if e := b.await(control.EventRescue, 0); e.Counts["closed"] != 1 || b.status().Rescued.Closed != 1 {
					t.Errorf("%+v, %+v", e, b.status().Rescued)
				}
			})
		}
	}
}

// unread is a connection on which something was sent, and more has come than was
// read.
func (b *bed) unread(kind string) net.Conn {
	b.t.Helper()
	c, err := b.dial()
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	if kind == "greeter" {
		if _, err := io.ReadFull(c, make([]byte, len("hello\n"))); err != nil {
			b.t.Fatal(err)
		}
		io.WriteString(c, "nobody reads this")
		return c
	}
	tc := tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	io.WriteString(tc, "GET /half HTTP/1.1\r\nHost: test\r\n\r\n")
	for said := ""; !strings.HasSuffix(said, "the first part"); {
		p := make([]byte, 1000)
		n, err := tc.Read(p)
		if err != nil {
			b.t.Fatal(err)
		}
		said += string(p[:n])
	}
	io.WriteString(tc, strings.Repeat("nobody reads this", 1000))
	return c
}
