//go:build linux

package integration

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/tablecloth-go/tablecloth/upgrader/sd"
)

// manager is a service manager's view of a service of Type=notify-reload, by
// the rules of one NotifyAccess=. It sees datagrams only.
type manager struct {
	access  string // "main", "all"
	main    int
	state   string // "starting", "active", "reloading", "stopping"
	ignored int
}

// hear obeys a datagram, or doesn't.
func (m *manager) hear(s said) error {
	if m.access == "main" && s.PID != m.main {
		m.ignored++
		return nil
	}
	if m.state == "stopping" {
		return fmt.Errorf("%v after STOPPING=1", s)
	}
	if main, ok := s.Get("MAINPID"); ok {
		fmt.Sscan(main, &m.main)
	}
	switch {
	case s.Has("READY"):
		m.state = "active"
	case s.Has("RELOADING"):
		if _, timed := s.Get("MONOTONIC_USEC"); m.state != "active" || !timed {
			return fmt.Errorf("%v while %s", s, m.state)
		}
		m.state = "reloading"
	case s.Has("STOPPING"):
		m.state = "stopping"
	}
	return nil
}

// believes replays everything that was said.
func (b *bed) believes(access string) *manager {
	b.t.Helper()
	m := &manager{access: access, main: b.cmd.Process.Pid, state: "starting"}
	for _, s := range b.manager.Said() {
		if err := m.hear(s); err != nil {
			b.t.Errorf("NotifyAccess=%s: %v", access, err)
		}
	}
	return m
}

func (b *bed) believe(state string, main int) {
	b.t.Helper()
	for _, access := range []string{"all", "main"} {
		m := b.believes(access)
		if m.main != main || m.state != state {
			b.t.Errorf("NotifyAccess=%s: %s, main PID %d; want %s, %d", access, m.state, m.main, state, main)
		}
	}
}

// The datagrams of a life: start, upgrade, failed upgrade, stop.
func TestServiceManagerIsTold(t *testing.T) {
	run(t, everyMode, func(t *testing.T, b *bed) {
		b.demo()
		first := b.pidInFile()
		b.believe("active", first)

		o := b.mustUpgrade()
		b.await("READY=1 of the new one", readyOf(o.PID))
		b.believe("active", o.PID)
		b.ended(first)

		b.link("/bin/false")
		b.upgrade()
		failed := b.await("READY=1 after the failure", readyOf(o.PID))
		if status, _ := failed.Get("STATUS"); !strings.Contains(status, "exit status 1") {
			t.Errorf("STATUS=%s doesn't tell why", status)
		}
		b.believe("active", o.PID)

		b.stop()
		b.believe("stopping", o.PID)
		b.inOrder(
			word{first, "READY"}, word{first, "RELOADING"}, word{first, "MAINPID"}, word{o.PID, "READY"},
			word{o.PID, "RELOADING"}, word{o.PID, "READY"}, word{o.PID, "STOPPING"})
	})
}

func readyOf(pid int) func(said) bool {
	return func(s said) bool { return s.PID == pid && s.Has("READY") }
}

// word is a datagram with such a key, of a process.
type word struct {
	pid int
	key string
}

// inOrder fails unless these, and no others that change the manager's mind, were
// said in this order. The descriptor store and mere STATUS= are not looked at.
func (b *bed) inOrder(want ...word) {
	b.t.Helper()
	var got []word
	for _, s := range b.manager.Said() {
		for _, key := range []string{"READY", "RELOADING", "STOPPING", "MAINPID"} {
			if _, has := s.Get(key); has {
				got = append(got, word{s.PID, key})
				break
			}
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		b.t.Errorf("said\n%v\nwant\n%v", got, want)
	}
}

// The successor dies while the old generation drains: that takes the service
// back, and says so.
func TestServiceManagerIsToldOfATakenBackService(t *testing.T) {
	run(t, everyMode, func(t *testing.T, b *bed) {
		b.demo("--kill-timeout", "1h")
		addr, first := b.tcp(), b.pidInFile()
		held := b.slowRequest(addr)
		o := b.mustUpgrade()
		syscall.Kill(o.PID, syscall.SIGKILL)
		b.await("the taken-back service", func(s said) bool {
			main, _ := s.Get("MAINPID")
			return s.Has("READY") && main == fmt.Sprint(first)
		})
		b.poll("an answer", func() bool {
			a, err := ask(t.Context(), "tcp", addr, "GET", "/")
			return err == nil && a.pid == first
		})
		b.serves(first)
		if m := b.believes("all"); m.main != first || m.state != "active" {
			t.Errorf("NotifyAccess=all: %s, main PID %d; want active, %d", m.state, m.main, first)
		}
		// Under =main the manager can't be told; it sees the end of its main
		// process by itself.
		if m := b.believes("main"); m.main != o.PID {
			t.Errorf("NotifyAccess=main: main PID %d, want that of the process that died, %d", m.main, o.PID)
		}
		held.Close()
		b.mustHeal()
	})
}

// The test's own rules: what an old generation may not say is noticed.
func TestManagerRules(t *testing.T) {
	m := &manager{access: "main", main: 1, state: "active"}
	hear := func(pid int, msg sd.Message) error { return m.hear(said{PID: pid, Message: msg}) }
	if err := hear(2, sd.Message{}.MainPID(2).Ready()); err != nil || m.main != 1 || m.ignored != 1 {
		t.Errorf("%v, %+v: another process was believed", err, m)
	}
	if err := hear(1, sd.Message{}.With("RELOADING", "1")); err == nil {
		t.Error("RELOADING=1 without its time was accepted")
	}
	hear(1, sd.Message{}.MainPID(2))
	hear(2, sd.Message{}.Stopping())
	if err := hear(2, sd.Message{}.Ready()); err == nil || m.state != "stopping" {
		t.Errorf("%v, %+v: READY=1 after STOPPING=1 was accepted", err, m)
	}
}
