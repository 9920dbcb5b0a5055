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
		inherit := func() (n int) {
			w.a.ask(func() { n = len(s.claim([]stranded{{Conn: vault.Conn{FD: -1, Cookie: cookie}}})) })
			return n
		}
		free := func() bool {
			mine := s.unheld([]uint64{cookie})
			s.rights.dropAll(mine)
			return len(mine) > 0
		}
		// A worker that dies has it, whoever is still looking.
		if !free() {
			t.Error("nobody has it, and it can't be taken")
		}
		trial := s.rights.try(cookie)
		if trial == nil || s.rights.try(cookie) != nil {
			t.Error("tried by nobody, or by two")
		}
		if inherit() != 1 || s.rights.keep(cookie, trial) {
			t.Error("not taken from who is still looking")
		}
		// The keeper has it now. A worker that died before can't have it any more.
		s.rights.drop(cookie, trial)
		if free() || inherit() != 0 {
			t.Error("taken from the keeper")
		}
		// It was sent to a worker, which sent it on to one that dies.
		sent := s.rights.of[cookie]
		s.rights.send(sent)
		if inherit() != 1 || s.rights.back(cookie, sent) {
			t.Error("not taken from who has sent it")
		}
		// Who looks for it waits until it is certain whether it was taken.
		for _, taken := range []bool{false, true} {
			sent := s.rights.of[cookie]
			s.rights.send(sent)
			found := make(chan bool, 1)
			go func() { found <- free() }()
			synctest.Wait()
			if len(found) > 0 {
				t.Error("decided before it was certain")
			}
			if taken {
				s.rights.drop(cookie, sent)
			} else {
				s.rights.back(cookie, sent)
			}
			if <-found != taken {
				t.Errorf("taken by a worker: %v, found with none: %v", taken, !taken)
			}
		}
		if !free() {
			t.Error("it has ended, and its right is still somebody's")
		}

		p.estate.own = map[uint64]bool{cookie: true}
		close(p.estate.gone)
		close(p.estate.opened)
		if free() {
			t.Error("taken from a worker that has just died")
		}
	})
}
