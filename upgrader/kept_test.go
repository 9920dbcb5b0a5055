//go:build linux

package upgrader

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/kept"
	"github.com/tablecloth-go/tablecloth/internal/link"
	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

// A worker without a descriptor left can't take a link to another one. It has a
// keeper all the same.
func TestNoRoomForALink(t *testing.T) {
	ours, theirs, err := link.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	far, err := fromFile(theirs)
	if err != nil {
		t.Fatal(err)
	}
	keeper := kept.New(far)
	defer keeper.Close()
	if err := keeper.Send(&kept.Peer{Role: kept.Predecessor}, 0); err != nil {
		t.Fatal(err)
	}
	if err := keeper.Send(&kept.Go{}); err != nil {
		t.Fatal(err)
	}
	k := &underKeeper{u: Plain(), conn: kept.New(ours), goes: make(chan struct{}), lost: make(chan struct{})}
	defer k.u.Close()
	proctest.NoDescriptorLeft(t)
	go k.listen()
	select {
	case <-k.goes:
	case <-k.lost:
		t.Fatal("the worker has given up its keeper")
	case <-proctest.Context(t).Done():
		t.Fatal("nothing was heard")
	}
}

// A keeper may replace a worker in the moment in which that begins to serve. What
// it accepted then would be cut at its end.
func TestDismissedBeforeItServes(t *testing.T) {
	for _, dismissed := range []bool{false, true} {
		u, keeper := keptOne(t)
		ln, err := u.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if dismissed {
			if err := keeper.Send(&kept.Drain{Reason: string(Replaced), Timeout: proctest.Patience(t)}); err != nil {
				t.Fatal(err)
			}
			proctest.Await(t, "the end of the worker", u.Exit())
		}
		if err := keeper.Send(&kept.Go{}); err != nil {
			t.Fatal(err)
		}
		if err := u.Ready(); err != nil {
			t.Fatal(err)
		}
		accepted := make(chan struct{})
		go func() {
			if c, err := ln.Accept(); err == nil {
				c.Close()
				close(accepted)
			}
		}()
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if !dismissed {
			proctest.Await(t, "a connection", accepted)
			continue
		}
		proctest.Quiet(100 * time.Millisecond)
		if isClosed(accepted) {
			t.Error("a worker that is to end has accepted a connection")
		}
	}
}

// keptOne is a worker in this process, and its keeper's end.
func keptOne(t *testing.T) (*Upgrader, *kept.Conn) {
	path := filepath.Join(t.TempDir(), "keeper")
	lines, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer lines.Close()
	t.Setenv(kept.Env, path)
	far := make(chan *kept.Conn, 1)
	go func() {
		uc, err := lines.AcceptUnix()
		if err != nil {
			close(far)
			return
		}
		c := kept.New(link.From(uc, false))
		c.Send(&kept.Welcome{Generation: 1})
		far <- c
	}()
	u := build(Options{Log: Discard})
	k, err := newKept(u)
	if err != nil {
		t.Fatal(err)
	}
	u.succession = k
	go u.live(&life{u: u})
	keeper := proctest.Await(t, "the worker", far)
	t.Cleanup(func() {
		u.Close()
		keeper.Close()
	})
	return u, keeper
}
