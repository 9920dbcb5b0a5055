package vault

import (
	"math/rand/v2"
	"net"
	"testing"
)

// talk moves bytes over a connection and tells its account, in random pieces.
type talk struct {
	t          *testing.T
	peer, ours *net.TCPConn
	fd         int
	view       *View
	a          *Account
	rx, tx     int64
}

func newTalk(t *testing.T) *talk {
	tab, v, _ := memory(t)
	peer, ours := pair(t)
	fd := descriptor(ours)
	return &talk{t: t, peer: peer, ours: ours, fd: fd, view: v, a: tab.FollowAccepted(fd, 1)}
}

func (k *talk) read(s string, whole bool) {
	k.t.Helper()
	_, err := k.peer.Write([]byte(s))
	must(k.t, err)
	for len(s) > 0 {
		n := len(s)
		if !whole {
			n = 1 + rand.IntN(n)
		}
		b := make([]byte, n)
		n, err := k.ours.Read(b)
		must(k.t, err)
		k.a.Read(b[:n])
		k.rx += int64(n)
		s = s[n:]
	}
}

func (k *talk) write(s string) {
	k.t.Helper()
	for len(s) > 0 {
		n := 1 + rand.IntN(len(s))
		k.a.Write([]byte(s[:n]))
		_, err := k.ours.Write([]byte(s[:n]))
		must(k.t, err)
		k.tx += int64(n)
		s = s[n:]
	}
}

func (k *talk) want(v Verdict, kind Kind) {
	k.t.Helper()
	lines, err := k.view.Lines()
	must(k.t, err)
	c, err := Inspect(k.fd)
	must(k.t, err)
	if len(lines) != 1 {
		k.t.Fatal(lines)
	}
	if got := Classify(lines[0], c); got.Verdict != v || got.Kind != kind {
		k.t.Fatalf("%+v: want %v, kind %b; %+v, %+v", got, v, kind, lines[0], c)
	}
	if v == Leave && lines[0].taken(c) {
		k.t.Fatalf("nobody has touched it: %+v, %+v", lines[0], c)
	}
}

// readSilently tells the account of s after the verdict.
func (k *talk) readSilently(s string, v Verdict) {
	k.t.Helper()
	_, err := k.peer.Write([]byte(s))
	must(k.t, err)
	b := make([]byte, len(s))
	_, err = k.ours.Read(b)
	must(k.t, err)
	first := k.a.First()
	if first == nil {
		k.t.Fatal("the account doesn't want them")
	}
	copy(first, b)
	k.want(v, 0)
	k.a.Read(b)
	k.rx += int64(len(s))
	k.want(v, 0)
}
