package diag

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

func TestSocketsAreSeen(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		ln, err := net.Listen("tcp", at)
		if err != nil {
			t.Logf("%s: %v", at, err) // a machine without IPv6
			continue
		}
		defer ln.Close()
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.Write([]byte("hello"))
		me, err := Look(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		server, client := netip.MustParseAddrPort(ln.Addr().String()), netip.MustParseAddrPort(c.LocalAddr().String())
		var listening, accepted, connected *Socket
		proctest.Check(t, func() error {
			all, err := Sockets()
			if err != nil {
				t.Fatal(err)
			}
			for i, s := range all {
				switch {
				case s.Listening && s.Local == server:
					listening = &all[i]
				case s.Local == server && s.Peer == client:
					accepted = &all[i]
				case s.Local == client && s.Peer == server:
					connected = &all[i]
				}
			}
			if listening == nil || listening.Waiting != 1 || accepted == nil || accepted.Waiting != 5 || connected == nil {
				return fmt.Errorf("%v %+v %+v %+v", at, listening, accepted, connected)
			}
			return nil
		})
		if !me.Inodes[listening.Inode] || !me.Inodes[connected.Inode] || listening.Room < 1 || !connected.Established {
			t.Errorf("%+v %+v %+v", listening, connected, me)
		}
		if accepted.Inode != 0 {
			t.Errorf("what nobody has accepted belongs to nobody: %+v", accepted)
		}
		if Owners()[connected.Inode] != os.Getpid() {
			t.Error("the owner isn't found")
		}
		if connected.Sent > time.Minute {
			t.Errorf("%+v", connected)
		}
	}
}

func TestLook(t *testing.T) {
	p, err := Look(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if p.Descriptors < 3 || p.Limit < 3 || p.State == "" || Name(os.Getpid()) == "" {
		t.Errorf("%+v", p)
	}
	if (&Process{Descriptors: 90, Limit: 100}).Full() != 90 || (&Process{Descriptors: 90}).Full() != 0 {
		t.Error("shares")
	}
	if _, err := Look(1 << 30); !os.IsNotExist(err) {
		t.Error(err)
	}
}
