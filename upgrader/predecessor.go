//go:build unix

package upgrader

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/link"
	"github.com/tablecloth-go/tablecloth/internal/proc"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// predecessor is the generation before this one, as this one sees it.
type predecessor struct {
	u        *Upgrader
	link     *link.Conn
	handover *link.Conn // nil: it has none for us
	pid      int
	process  *proc.Handle // nil: it had ended already, or can't be watched
	state    state
	items    []*item

	goes  chan message  // its go
	told  chan struct{} // closed: no more of the history will come
	ended chan struct{} // closed: the link is at its end
	err   error         // why, if not by EOF; set before ended is closed

	mu    sync.Mutex
	past  []json.RawMessage // parts of its history, unpacked when there is time
	taken bool              // more of it comes too late
	kill  *time.Timer
}

const (
	// stateTimeout bounds the wait for what should be there soon.
	stateTimeout = 10 * time.Second
	// historyTimeout is how long what has happened just before go is worth
	// waiting for.
	historyTimeout = time.Second
)

// meet reads what the predecessor has queued, and says hello.
func meet(u *Upgrader, parent *os.File) (*predecessor, error) {
	defer parent.Close()
	dup, err := duplicate(parent)
	if err != nil {
		return nil, err
	}
	l, err := fromFile(dup)
	if err != nil {
		return nil, fmt.Errorf("private link: %w", err)
	}
	p := &predecessor{u: u, link: l, goes: make(chan message, 1), told: make(chan struct{}), ended: make(chan struct{})}
	step("before hello")
	l.SetDeadline(time.Now().Add(stateTimeout))
	first, _, err := receive(l)
	if err == nil {
		// Said before anything else, so that the other side can tell what is
		// wrong from a process that has just died.
		err = send(l, message{Type: msgHello, Protocol: protocol, Oldest: protocolOldest, PID: os.Getpid()})
		if hasEnded(err) {
			err = nil // all that is needed was queued
		}
	}
	if err == nil {
		err = p.accept(first)
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("take over from the generation before: %w", err)
	}
	l.SetDeadline(time.Time{})
	p.watchProcess()
	step("after hello")
	go p.listen()
	return p, nil
}

func fromFile(f *os.File) (*link.Conn, error) {
	fd := -1
	raw, err := f.SyscallConn()
	if err == nil {
		err = raw.Control(func(old uintptr) { fd, err = syscall.Dup(int(old)) })
	}
	f.Close()
	if err != nil {
		return nil, err
	}
	return link.New(fd)
}

// accept reads the rest of what the state promises.
func (p *predecessor) accept(m message) error {
	if m.Type != msgState {
		return fmt.Errorf("garbled handoff message: %q instead of the state", m.Type)
	}
	if err := compatible(m); err != nil {
		return fmt.Errorf("%w: restart the service instead of upgrading it", err)
	}
	p.state, p.pid = *m.State, m.PID
	for len(p.items) < p.state.Files {
		m, raw, err := receive(p.link)
		if err != nil {
			return err
		}
		switch m.Type {
		case msgFiles:
			p.items = append(p.items, received(m, raw)...)
		case msgHistory:
			p.remember(m.History)
		}
	}
	return p.takeHandover()
}

// takeHandover takes the link for live connections out of the items.
func (p *predecessor) takeHandover() error {
	for i, it := range p.items {
		if it.Key.Kind == handovers {
			p.items = append(p.items[:i], p.items[i+1:]...)
			var err error
			p.handover, err = fromFile(it.file)
			return err
		}
	}
	return nil
}

// watchProcess opens the predecessor's process: as long as it is our parent its
// PID can't be another's.
func (p *predecessor) watchProcess() {
	if os.Getppid() != p.pid {
		return
	}
	h, err := proc.Open(p.pid)
	if err != nil {
		return
	}
	if os.Getppid() != p.pid {
		h.Close()
		return
	}
	p.process = h
}

// listen hears the predecessor until the end of the link.
func (p *predecessor) listen() {
	defer close(p.ended)
	for {
		m, _, err := receive(p.link)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
				p.err = err
			}
			return
		}
		p.hear(m)
	}
}

func (p *predecessor) hear(m message) {
	switch m.Type {
	case msgHistory:
		p.remember(m.History)
	case msgGo:
		select {
		case p.goes <- m:
			if !m.More {
				close(p.told)
			}
		default: // it has said so
		}
	case msgTold:
		select {
		case <-p.told:
		default:
			close(p.told)
		}
	case msgUpgrade:
		r := *m.Trigger
		p.u.post(func(l *life) { l.trigger(passedOn(r)) })
	case msgStop:
		p.u.Stop()
	case msgEvent:
		p.u.Event(*m.Event)
	case msgStatus:
		p.u.post(func(l *life) { l.before = m.Status })
	}
}

func (p *predecessor) remember(part json.RawMessage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.taken {
		p.past = append(p.past, part)
	}
}

// awaitGo sends ready, and waits for go, which it returns; nil: the predecessor
// has died without it, and this generation takes over.
func (p *predecessor) awaitGo(ready message) (*message, error) {
	step("before ready")
	select {
	case <-p.u.Exit(): // later it is a stop of the service: others may take us for it
		return nil, errors.New("stopped before it was this generation's turn")
	default:
	}
	if err := send(p.link, ready); err != nil && !hasEnded(err) {
		return nil, fmt.Errorf("say ready to the generation before: %w", err)
	}
	step("after ready")
	select {
	case m := <-p.goes:
		return p.committed(&m), nil
	case <-p.ended:
	}
	select {
	case m := <-p.goes: // it was the last that it said
		return p.committed(&m), nil
	default:
	}
	if p.err != nil {
		return nil, fmt.Errorf("take over from the generation before: %w", p.err)
	}
	if p.process != nil {
		<-p.process.Done()
	}
	p.u.log.Warn("the generation before died before it had handed over: taking over")
	return nil, nil
}

// known is what has arrived of its history so far.
func (p *predecessor) known() (h history) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, part := range p.past {
		if err := h.add(part); err != nil {
			p.u.log.WithError(err).Warn("the generation before")
		}
	}
	return h
}

// restore knows again what the predecessor knew, and what has come of the
// upgrade; said is its go.
func (p *predecessor) restore(said *message) {
	late := time.NewTimer(historyTimeout)
	defer late.Stop()
	select {
	case <-p.told:
	case <-p.ended:
	case <-late.C: // it may be stopped
	}
	h := p.known()
	p.mu.Lock()
	p.past, p.taken = nil, true
	p.mu.Unlock()
	if said != nil {
		p.u.restore(h, said.Outcome, said.IDs)
		return
	}
	p.u.restore(h, &control.Outcome{Trigger: triggerDeath, Result: control.Ready, Generation: p.u.generation,
		PID: os.Getpid(), Confirmed: true, At: time.Now()}, nil)
}

// hasEnded reports whether nothing could be said because nobody is there any more.
func hasEnded(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

func (p *predecessor) committed(m *message) *message {
	step("after go")
	p.killIn(p.state.KillTimeout + killGrace)
	return m
}

// acting says that this generation accepts.
func (p *predecessor) acting() {
	step("before acting")
	p.tell(message{Type: msgActing})
}

// tell sends a message to a predecessor that may have ended.
func (p *predecessor) tell(m message) {
	if err := send(p.link, m); err != nil {
		p.u.log.WithError(err).Debug("the generation before doesn't hear")
	}
}

// killIn ends the predecessor after d, unless it ends by itself: it may be
// stopped, or deaf.
func (p *predecessor) killIn(d time.Duration) {
	if p.process == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kill != nil {
		p.kill.Stop()
	}
	p.kill = time.AfterFunc(d, func() {
		if p.process.Ended() {
			return
		}
		p.u.log.WithField("pid", p.pid).Warn("kill timeout: the generation before has not ended by itself, killed")
		p.process.Kill(syscall.SIGKILL)
		p.u.Event(control.Event{Kind: control.EventKill, Generation: p.state.Generation - 1, PID: p.pid,
			Text: "the generation before outlived its kill timeout"})
	})
}

// awaitEnd returns when the predecessor's process has ended.
func (p *predecessor) awaitEnd() {
	<-p.ended
	if p.err != nil {
		p.u.log.WithError(p.err).Error("lost the link to the generation before")
	}
	if p.process != nil {
		<-p.process.Done()
	}
	p.mu.Lock()
	if p.kill != nil {
		p.kill.Stop()
	}
	p.mu.Unlock()
	if p.process != nil {
		p.process.Close()
	}
	p.link.Close()
	p.u.Event(control.Event{Kind: control.EventGone, Generation: p.state.Generation - 1, PID: p.pid,
		Text: "its process has ended"})
}
