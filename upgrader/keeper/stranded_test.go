//go:build linux

package keeper

import (
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/kept"
	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/vault"
)

// noLine hears nothing.
type noLine struct{}

func (noLine) Send(_ kept.Message, files ...int) { closeAll(files) }
func (noLine) Roomy() bool                       { return true }
func (noLine) Close()                            {}

// A worker closes its line a little before it counts as dead. What nobody has then is
// kept for the one after it; if it lives on it is the last, and they are ended.
func TestStrandedWhileAWorkerDies(t *testing.T) {
	for name, dies := range map[string]bool{"it dies": true, "it lives on": false} {
		t.Run(name, func(t *testing.T) {
			keepFake(t, Service{}, func(w *world) {
				w.last().ready()
				s, p := w.last().process()
				hungUp := time.Now()
				w.a.ask(func() {
					p.line = noLine{}
					s.hungUp(p)
					s.strand([]stranded{{Conn: vault.Conn{FD: -1}}})
				})
				left := func() (kept int, untaken int64) {
					w.a.ask(func() { kept, untaken = len(s.stranded), s.rescued.Untaken })
					return kept, untaken
				}
				if dies {
					proctest.Pace(lastBreath / 2)
					w.last().die(syscall.WaitStatus(syscall.SIGKILL))
					synctest.Wait()
					if kept, untaken := left(); kept != 1 || untaken != 0 {
						t.Errorf("%d kept, %d ended", kept, untaken)
					}
					return
				}
				proctest.Poll(t, "the end of what nobody takes", func() bool {
					kept, untaken := left()
					return kept == 0 && untaken == 1
				})
				if after := time.Since(hungUp); after < lastBreath {
					t.Errorf("ended after %v", after)
				}
			})
		})
	}
}

// Of those who wait for an answer the first is who has waited longest; who doesn't
// wait comes last.
func TestWhoIsHandedOnFirst(t *testing.T) {
	now := time.Now()
	conn := func(waits bool, quiet time.Duration) stranded {
		return stranded{Conn: vault.Conn{Waits: waits}, since: now.Add(-quiet)}
	}
	long, short, silent := conn(true, time.Second), conn(true, time.Millisecond), conn(false, time.Hour)
	for _, pair := range [][2]stranded{{long, short}, {long, silent}, {short, silent}} {
		if sooner(pair[0], pair[1]) >= 0 || sooner(pair[1], pair[0]) <= 0 {
			t.Errorf("%+v is not before %+v", pair[0], pair[1])
		}
	}
}

// ownership is what a service's rights say of one connection.
type ownership struct {
	w *world
	s *service
}

const someCookie = 1

// inherit is when a worker dies that had it; it reports whether the keeper takes it.
func (o ownership) inherit() bool {
	n := 0
	o.w.a.ask(func() { n = len(o.s.claim([]stranded{{Conn: vault.Conn{FD: -1, Cookie: someCookie}}})) })
	return n == 1
}

func (o ownership) now() *right { return o.s.rights.of[someCookie] }

func (o ownership) drop() { o.s.rights.drop(someCookie, o.now()) }

// free reports whether nobody has it.
func (o ownership) free() bool {
	if o.s.unheld([]uint64{someCookie})[someCookie] == nil {
		return false
	}
	o.drop()
	return true
}

// Somebody finds out whose a connection is, late, and takes it only if nobody else has
// it by then: not the keeper, and no worker that lives or has just died.
func TestWhoeverHasAConnectionKeepsIt(t *testing.T) {
	keepFake(t, Service{}, func(w *world) {
		s, p := w.last().process()
		o := ownership{w, s}
		// A worker that dies has it, whoever is still looking.
		if !o.free() {
			t.Error("nobody has it, and it can't be taken")
		}
		trial := s.rights.try(someCookie)
		if !o.inherit() || s.rights.keep(someCookie, trial) {
			t.Error("not taken from who is still looking")
		}
		// The keeper has it now. A worker that died before can't have it any more.
		s.rights.drop(someCookie, trial)
		if o.free() || o.inherit() {
			t.Error("taken from the keeper")
		}
		// It was sent to a worker, which sent it on to one that dies.
		sent := o.now()
		s.rights.send(sent, newEstate())
		if o.free() {
			t.Error("taken while it is on its way to a worker")
		}
		if !o.inherit() || s.rights.back(someCookie, sent) {
			t.Error("not taken from who has sent it")
		}
		o.drop()
		if !o.free() {
			t.Error("it has ended, and its right is still somebody's")
		}

		p.estate.own = map[uint64]bool{someCookie: true}
		close(p.estate.gone)
		close(p.estate.opened)
		if o.free() {
			t.Error("taken from a worker that has just died")
		}
	})
}

// Who looks for a connection's owner waits until it is certain whether another one has it.
func TestWhoLooksForAnOwnerWaits(t *testing.T) {
	dead := newEstate()
	close(dead.gone)
	sent := func(o ownership) *right {
		it := o.s.rights.take(someCookie)
		o.s.rights.send(it, dead)
		return it
	}
	tried := func(o ownership) *right { return o.s.rights.try(someCookie) }
	for name, c := range map[string]struct {
		begin func(ownership) *right
		has   func(ownership, *right)
	}{
		"sent to a dead worker":      {sent, func(o ownership, it *right) { o.s.rights.back(someCookie, it) }},
		"looked for by another":      {tried, func(o ownership, it *right) { o.s.rights.keep(someCookie, it) }},
		"left by a worker meanwhile": {tried, func(o ownership, it *right) { o.inherit() }},
	} {
		for _, free := range []bool{false, true} {
			keepFake(t, Service{}, func(w *world) {
				s, _ := w.last().process()
				o := ownership{w, s}
				it := c.begin(o)
				found := make(chan bool, 1)
				go func() { found <- o.free() }()
				synctest.Wait()
				if len(found) > 0 {
					t.Errorf("%s: decided before it was certain", name)
				}
				if free {
					s.rights.drop(someCookie, it)
				} else {
					c.has(o, it)
				}
				if got := <-found; got != free {
					t.Errorf("%s: found free %v, want %v", name, got, free)
				}
				o.drop()
			})
		}
	}
}

// What a dead worker had claimed its sender takes back, and may send to the next one:
// who asks what the dead one has left must not hear of it.
func TestWhatWasClaimedIsNotLeft(t *testing.T) {
	e := newEstate()
	e.own, e.left = map[uint64]bool{}, map[uint64]bool{}
	b := &bequest{Rescued: &vault.Rescued{
		Idle:    []vault.Conn{{Cookie: 1, Marked: true}},
		Claimed: []vault.Conn{{Cookie: 2, Marked: true}},
	}}
	e.record(b)
	if len(b.claimed) != 1 || len(b.idle) != 1 || !e.left[1] || !e.own[1] || e.left[2] || e.own[2] {
		t.Errorf("claimed %v, idle %v, left %v, own %v", b.claimed, b.idle, e.left, e.own)
	}
}
