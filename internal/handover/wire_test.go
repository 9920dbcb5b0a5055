//go:build unix

package handover

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/link"
)

var quiet = func() *logrus.Logger {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return l
}()

func TestConstants(t *testing.T) {
	if maxMessage != link.MaxData || maxFiles != link.MaxFiles {
		t.Fatal("link has other limits")
	}
}

// throughWire encodes items as a sender does and decodes them as a receiver does.
func throughWire(t *testing.T, items []*Item) []*Item {
	t.Helper()
	var in incoming
	var out []*Item
	for seq := uint32(0); len(items) > 0; seq++ {
		b := &batch{seq: seq}
		items = b.fill(items, maxFiles)
		if len(b.items) == 0 {
			t.Fatal("an item fits in no batch")
		}
		for _, m := range b.prefixMessages(1) {
			if len(m) > link.MaxData {
				t.Fatalf("prefix message of %d bytes", len(m))
			}
			if err := in.prefix(m[2:]); err != nil {
				t.Fatal(err)
			}
		}
		m := b.append(nil, 1)
		if len(m) > link.MaxData {
			t.Fatalf("batch of %d bytes", len(m))
		}
		got, err := in.batch(m[2:], make([]int, len(b.items)))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, got...)
	}
	return out
}

func TestItemsSurviveTheWire(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	now := time.Now()
	var items []*Item
	for i := range 800 {
		it := &Item{Server: fmt.Sprintf("server%d", i%3), Since: now.Add(-time.Duration(r.Int64N(1e12))), Served: i%2 == 0}
		if i%5 == 0 {
			it.HeadSince = now.Add(-time.Duration(r.Int64N(1e10)))
			it.Prefix = make([]byte, 1+r.IntN(4000))
		}
		if i%97 == 0 {
			it.Prefix = make([]byte, 1+r.IntN(1<<20))
		}
		if i == 500 {
			it.Prefix = make([]byte, MaxPrefix)
		}
		for j := 0; j < len(it.Prefix); j += 1 + r.IntN(50) {
			it.Prefix[j] = byte(r.Uint32())
		}
		items = append(items, it)
	}
	got := throughWire(t, items)
	if len(got) != len(items) {
		t.Fatal(len(got))
	}
	for i, it := range items {
		g := got[i]
		if g.Server != it.Server || g.Served != it.Served || !bytes.Equal(g.Prefix, it.Prefix) {
			t.Fatalf("item %d differs", i)
		}
		if !near(g.Since, it.Since) || !near(g.HeadSince, it.HeadSince) {
			t.Fatalf("item %d: %v for %v, %v for %v", i, g.Since, it.Since, g.HeadSince, it.HeadSince)
		}
	}
}

// near: ages are taken at both ends, at two moments.
func near(a, b time.Time) bool {
	if a.IsZero() || b.IsZero() {
		return a.IsZero() && b.IsZero()
	}
	return a.Sub(b).Abs() < 30*time.Second
}

func TestVersions(t *testing.T) {
	for _, c := range []struct {
		low, high int
		ok        bool
	}{{1, 1, true}, {1, 9, true}, {2, 9, false}, {0, 0, false}} {
		_, err := hello{lowest: c.low, highest: c.high}.version()
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrVersion) {
			t.Errorf("%d to %d: %v", c.low, c.high, err)
		}
	}
	// A hello of a later version may be longer.
	b := append(hello{lowest: 1, highest: 7, room: 5, servers: []string{"a", "b"}}.append(nil), "more"...)
	if h, err := decodeHello(b); err != nil || h.room != 5 || len(h.servers) != 2 || h.highest != 7 {
		t.Fatal(h, err)
	}
}

type refuseAll struct{}

func (refuseAll) Claim(*Item) error { return nil }
func (refuseAll) Adopt(it *Item)    { it.Close() }

// Whatever comes, a receiver closes the descriptors that it doesn't give on, and
// doesn't panic.
func FuzzReceiver(f *testing.F) {
	b := &batch{}
	b.fill([]*Item{{Server: "web", Prefix: []byte("GET")}, {Server: "no", HeadSince: time.Now()}}, 2)
	f.Add(b.append(nil, 1), 2)
	f.Add(b.append(nil, 1), 1)
	f.Add(b.append(nil, 1)[:20], 2)
	f.Add(append([]byte{byte(kindPrefix), 1, 1}, "GET / HT"...), 0)
	f.Add(appendEnd(nil, 1, 3), 0)
	f.Add([]byte{}, 3)
	l, other, err := link.Pair()
	if err != nil {
		f.Fatal(err)
	}
	other.Close() // answers go nowhere
	defer l.Close()
	f.Fuzz(func(t *testing.T, data []byte, n int) {
		r := &receiver{l: l, room: func(int) int { return 1 }, c: ReceiverConfig{Targets: map[string]Target{"web": refuseAll{}}}}
		var fds []int
		for range min(max(n, 0), 5) {
			fd, err := unix.Dup(0)
			if err != nil {
				t.Fatal(err)
			}
			unix.CloseOnExec(fd)
			fds = append(fds, fd)
		}
		if items, _, _ := r.in.message(&link.Message{Data: data, Files: append([]int(nil), fds...)}); len(items) > 0 {
			r.batch(items)
		}
		for _, fd := range fds {
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
				t.Fatalf("descriptor %d of %x is still open", fd, data)
			}
		}
	})
}

// Whatever a receiver says, nothing that is in flight changes hands by it.
func FuzzAnswer(f *testing.F) {
	f.Add(answer{seq: 0, room: 7, refused: []refusal{{1, codeNoRoom}}}.append(nil))
	f.Add(answer{seq: 1}.append(nil))
	f.Add(answer{seq: 0, refused: []refusal{{0, codeNoRoom}}}.append(nil))
	f.Add(appendAbort(nil, "no"))
	f.Add(hello{lowest: 1, highest: 1}.append(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		settled := 0
		it := &Item{FD: -1, settle: func(*Item, error) { settled++ }}
		s := &Sender{log: quiet, flight: []*batch{{items: []*Item{it, it}}}, due: 2, failed: make(chan struct{})}
		s.cond.L = &s.mu
		err := s.hear(link.Message{Data: data})
		if (err == nil) != (settled == 2) {
			t.Fatal(err, settled)
		}
		decodeHello(data)
	})
}
