//go:build linux

package keeper

import (
	"context"
	"io"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// world is an operating system whose processes do what the test says. Its clock is
// that of a synctest bubble: time passes, and takes none, when everybody waits.
type world struct {
	t        *testing.T
	a        *actor
	mu       sync.Mutex
	disk     string // what prepare finds; "": nothing
	prepared int
	children []*fakeChild
	notices  []notice
	reports  []string
	fate     func(c *fakeChild) // what each process does when it has been started
}

type fakeChild struct {
	w       *world
	l       *launch
	pid     int
	program string
	signals []syscall.Signal
	deaf    bool          // ignores SIGTERM
	ended   chan struct{} // closed
	at      time.Time
}

func (c *fakeChild) PID() int { return c.pid }

func (c *fakeChild) Output() []string { return []string{"last words of " + c.program} }

func (c *fakeChild) Signal(sig syscall.Signal) error {
	c.w.mu.Lock()
	c.signals = append(c.signals, sig)
	deaf := c.deaf
	c.w.mu.Unlock()
	switch {
	case sig == syscall.SIGKILL:
		c.die(syscall.WaitStatus(syscall.SIGKILL))
	case sig == syscall.SIGTERM && !deaf:
		c.die(0)
	}
	return nil
}

func (c *fakeChild) die(status syscall.WaitStatus) {
	c.w.mu.Lock()
	was := isClosed(c.ended)
	if !was {
		close(c.ended)
	}
	c.w.mu.Unlock()
	if !was {
		go c.l.ended(end{status: status, output: c.Output()})
	}
}

func (c *fakeChild) isDead() bool {
	synctest.Wait()
	return isClosed(c.ended)
}

func (c *fakeChild) ready() {
	s, p := c.process()
	c.w.a.post(func() { s.ready(p, "notify", true) })
}

func (c *fakeChild) process() (s *service, p *process) {
	c.w.a.ask(func() { s, p = c.w.a.process(c.pid) })
	return s, p
}

func exited(code int) syscall.WaitStatus { return syscall.WaitStatus(code << 8) }

// keepFake runs a keeper in a world of its own, in a synctest bubble.
func keepFake(t *testing.T, conf Service, test func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		log := logrus.New()
		log.SetOutput(io.Discard)
		w := &world{t: t, disk: "v1"}
		w.a = newActor(w.system(), log)
		c := Config{Services: []Service{conf}}
		c.Services[0].Name, c.Services[0].Command = "web", []string{"/bin/web"}
		if err := c.fill(); err != nil {
			t.Fatal(err)
		}
		w.a.services = []*service{newService(w.a, &design{conf: &c.Services[0]})}
		go w.a.run()
		synctest.Wait()
		test(w)
		w.mu.Lock()
		w.fate = nil
		for _, c := range w.children {
			c.deaf = false
		}
		w.mu.Unlock()
		backend{w.a}.Stop(t.Context(), control.StopRequest{Now: true})
		<-w.a.done
	})
}

func (w *world) system() system {
	return system{
		prepare: func(*Service, []string) (*program, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.prepared++
			if w.disk == "" {
				return nil, syscall.ENOENT
			}
			return &program{path: w.disk}, nil
		},
		start: func(l *launch) {
			w.mu.Lock()
			c := &fakeChild{w: w, l: l, pid: 10000000 + len(w.children), program: l.program.path, ended: make(chan struct{}), at: time.Now()}
			w.children = append(w.children, c)
			fate := w.fate
			w.mu.Unlock()
			go func() {
				l.started(c)
				if fate != nil {
					fate(c)
				}
			}()
		},
		watch:    func(child, *probe, func(string, bool), <-chan struct{}) {},
		announce: w.announce,
		advise:   func(child, []*socket) string { return "" },
		report:   func(_ *Service, b []byte) { w.mu.Lock(); w.reports = append(w.reports, string(b)); w.mu.Unlock() },
	}
}

func (w *world) announce(n notice) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notices = append(w.notices, n)
	if n.told != nil {
		close(n.told)
	}
}

// last is the newest process.
func (w *world) last() *fakeChild {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.children[len(w.children)-1]
}

// await returns the first event of that kind behind number seq.
func (w *world) await(kind string, seq uint64) control.Event {
	w.t.Helper()
	r := w.a.events.Follow(seq)
	for {
		for _, e := range r.Next(w.t.Context()) {
			if e.Kind == kind {
				return e
			}
		}
	}
}

func (w *world) count() int {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.children)
}

func (w *world) status() control.Service {
	synctest.Wait()
	return backend{w.a}.Status().Services[0]
}

// upgrade asks for one, in the background.
func (w *world) upgrade(r control.UpgradeRequest) <-chan control.Outcome {
	done := make(chan control.Outcome, 1)
	go func() { done <- backend{w.a}.Upgrade(context.Background(), r) }()
	synctest.Wait()
	return done
}
