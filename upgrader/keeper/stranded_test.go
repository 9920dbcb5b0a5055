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
