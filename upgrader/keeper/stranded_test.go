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

// Somebody finds out whose a connection is, late, and takes it only if nobody else has
// it by then: not the keeper, and no worker that lives or has just died.
func TestWhoeverHasAConnectionKeepsIt(t *testing.T) {
	keepFake(t, Service{}, func(w *world) {
		const cookie = 1
		s, p := w.last().process()
		strand := func(c stranded) (n int) {
			w.a.ask(func() { s.strand([]stranded{c}); n = len(s.stranded) })
			return n
		}
		mine := s.unheld([]uint64{cookie})
		if mine[cookie] == 0 {
			t.Error("nobody has it, and it can't be taken")
		}
		if len(s.unheld([]uint64{cookie})) > 0 {
			t.Error("taken twice")
		}
		// It comes from the worker that had it meanwhile: that one counts.
		if n := strand(stranded{Conn: vault.Conn{FD: -1, Cookie: cookie}}); n != 1 {
			t.Errorf("%d stranded", n)
		}
		if n := strand(stranded{Conn: vault.Conn{FD: -1, Cookie: cookie}, right: mine[cookie]}); n != 1 {
			t.Errorf("%d stranded, with one that is out of date", n)
		}
		if len(s.unheld([]uint64{cookie})) > 0 {
			t.Error("taken from those that are stranded")
		}
		w.a.ask(func() { s.abandon(s.stranded); s.stranded = nil })
		mine = s.unheld([]uint64{cookie})
		if mine[cookie] == 0 {
			t.Error("it has ended, and its right is still somebody's")
		}
		s.rights.dropAll(mine)

		p.estate.own = map[uint64]bool{cookie: true}
		close(p.estate.gone)
		close(p.estate.opened)
		if len(s.unheld([]uint64{cookie})) > 0 {
			t.Error("taken from a worker that has just died")
		}
	})
}
