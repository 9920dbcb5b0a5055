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
	for _, kind := range []string{"tls", "greeter", "unix"} {
		for _, off := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, off %v", kind, off), func(t *testing.T) {
				t.Parallel()
				b := newBed(t)
				b.set.Web, b.set.RescueOff = nil, off
				addr := "127.0.0.1:0"
				switch kind {
				case "tls":
					b.set.TLS = []string{addr}
				case "greeter":
					b.set.Others = []string{addr}
				case "unix":
					addr = "unix:" + b.dir + "/socket"
					b.set.Web = []string{addr}
				}
				b.service().Listen = []string{kind + "=" + addr}
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
	over := c
	if kind == "tls" {
		over = tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	}
	io.WriteString(over, "GET /half HTTP/1.1\r\nHost: test\r\n\r\n")
	for said := ""; !strings.HasSuffix(said, "the first part"); {
		p := make([]byte, 1000)
		n, err := over.Read(p)
		if err != nil {
			b.t.Fatal(err)
		}
		said += string(p[:n])
	}
	io.WriteString(over, strings.Repeat("nobody reads this", 1000))
	return c
}

// TestUnixConnections all end when their worker dies, idle ones too; what was sent on
// them arrives, and the next worker serves the same socket.
func TestUnixConnections(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	addr := "unix:" + b.dir + "/socket"
	b.set.Web, b.service().Listen = []string{addr}, []string{"web=" + addr}
	b.start()
	idle, hangs, half := b.raw(), b.raw(), b.raw()
	idle.works()
	hangs.send("GET /hang HTTP/1.1\r\nHost: test\r\n\r\n")
	b.active(1)
	half.send("GET /half HTTP/1.1\r\nHost: test\r\n\r\n")
	part := half.part()
	b.kill()
	idle.end()
	hangs.end()
	if rest, err := io.ReadAll(half.br); err != nil || string(part)+string(rest) != "the first part" {
		t.Errorf("half an answer ends with %q, %v", rest, err)
	}
	if r := b.status().Rescued; r == nil || r.Closed != 3 || r.Lost != 0 {
		t.Errorf("%+v", r)
	}
	if g := b.raw().works(); g != "2" {
		t.Errorf("generation %s answers", g)
	}
}
