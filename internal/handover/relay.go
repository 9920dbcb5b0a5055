//go:build unix

package handover

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/tablecloth-go/tablecloth/internal/link"
)

// Relay passes connections on, from the workers of one generation to those of
// the next, without touching them: the keeper's part in a handover. It answers
// an old worker only when a new one has answered, so that each connection has the
// same owners as without it. While a connection is on its way the relay has a
// descriptor of it.
type Relay struct {
	log logrus.FieldLogger
	// orphan gets a connection that no new worker took after its old worker
	// had ended.
	orphan func(*Item)

	workers []*Sender
	next    atomic.Uint32 // of workers, the one to be asked first
}

// NewRelay returns a Relay to those workers, which should have said hello (see
// Sender.Takes). A worker that fails is no longer used. orphan is called with a
// connection that no worker takes after the old one has gone: it is the caller's
// then.
func NewRelay(log logrus.FieldLogger, orphan func(*Item), workers ...*Sender) *Relay {
	return &Relay{log: log, orphan: orphan, workers: workers}
}

// Servers are the names that the workers said in their hellos.
func (s *Sender) Servers() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make([]string, 0, len(s.servers))
	for name := range s.servers {
		names = append(names, name)
	}
	return names
}

// free is how many connections the receiver still has room for.
func (s *Sender) free() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.closing {
		return 0
	}
	return s.room - s.due
}

// Run serves one old worker, at the other end of l, which it takes over. preferred
// is its own replacement, which gets what it can take; nil: any worker. Run
// returns, as Receive does, when the old worker has nothing more to send, and
// everything that it sent has found its place. Several Runs may be under way.
func (r *Relay) Run(ctx context.Context, l *link.Conn, preferred *Sender) (Received, error) {
	defer l.Close()
	stop := context.AfterFunc(ctx, func() { l.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	p := &passage{r: r, l: l, preferred: preferred}
	p.cond.L = &p.mu
	err := p.run()
	if ctx.Err() != nil && err != nil {
		err = ctx.Err()
	}
	got := p.finish()
	if err != nil && err != io.ErrUnexpectedEOF {
		// What was read is answered; what was not is the old worker's.
		l.SetWriteDeadline(time.Now().Add(5 * time.Second))
		l.Send(appendAbort(nil, err.Error()))
	}
	return got, err
}

// passage is one Run.
type passage struct {
	r         *Relay
	l         *link.Conn
	preferred *Sender
	in        incoming

	mu      sync.Mutex
	cond    sync.Cond // waiting changed
	own     descriptors
	waiting []*transit // unanswered batches, in order
	got     Received
}

// transit is a batch on its way.
type transit struct {
	answer  answer
	left    int     // items whose fate is unknown
	refused []*Item // kept until somebody has heard of it
}

func (p *passage) run() error {
	h := hello{lowest: lowestVersion, highest: highestVersion, room: p.room()}
	for _, s := range p.r.workers {
		for _, name := range s.Servers() {
			if !slices.Contains(h.servers, name) {
				h.servers = append(h.servers, name)
			}
		}
	}
	if err := p.l.Send(h.append(nil)); err != nil {
		return unexpected(err)
	}
	for {
		m, err := p.l.Recv()
		if errors.Is(err, link.ErrTruncated) {
			p.r.log.Warn("handover: " + err.Error())
			p.add(&transit{answer: answer{seq: p.in.lost(), all: codeNoRoom}})
			p.answer()
			continue
		}
		if err != nil {
			return unexpected(err)
		}
		items, end, err := p.in.message(&m)
		if end || err != nil {
			return err
		}
		if len(items) > 0 {
			p.batch(items)
		}
	}
}

// room that all workers have together. It needs p.mu once run has begun to read.
func (p *passage) room() int {
	n := 0
	for _, s := range p.r.workers {
		n += max(0, s.free())
	}
	return min(n, p.own.room(0))
}

// finish waits until everything that was read has its place, and was answered.
func (p *passage) finish() Received {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.waiting) > 0 {
		p.cond.Wait()
	}
	return p.got
}

func (p *passage) add(t *transit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = append(p.waiting, t)
}

func (p *passage) batch(items []*Item) {
	t := &transit{answer: answer{seq: p.in.next - 1}, left: len(items)}
	p.add(t)
	for i, it := range items {
		p.pass(t, i, it)
	}
}

// pass gives an item to a worker that has room for it.
func (p *passage) pass(t *transit, i int, it *Item) {
	s, err := p.r.pick(it.Server, p.preferred)
	if err != nil {
		p.settled(t, i, it, err)
		return
	}
	s.Put(it, func(it *Item, err error) {
		if refusedByReceiver(err) || err == nil {
			p.settled(t, i, it, err)
			return
		}
		p.pass(t, i, it) // that worker has failed: is there another?
	})
}

func refusedByReceiver(err error) bool {
	return errors.Is(err, ErrNoRoom) || errors.Is(err, ErrNoServer) || errors.Is(err, ErrRefused)
}

// pick reserves room for one connection.
func (r *Relay) pick(server string, preferred *Sender) (*Sender, error) {
	if preferred != nil && preferred.serves(server) && preferred.Reserve() {
		return preferred, nil
	}
	err := ErrNobody
	first := int(r.next.Add(1))
	for i := range r.workers {
		s := r.workers[(first+i)%len(r.workers)]
		switch {
		case s.Err() != nil:
		case !s.serves(server):
			err = ErrNoServer
		case s.Reserve():
			return s, nil
		default:
			err = ErrNoRoom
		}
	}
	return nil, err
}

func (s *Sender) serves(server string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.servers[server]
}

// settled notes what became of an item.
func (p *passage) settled(t *transit, i int, it *Item, err error) {
	p.mu.Lock()
	if err == nil {
		p.got.Adopted++
	} else {
		p.got.Refused++
		t.answer.refused = append(t.answer.refused, refusal{i, codeOf(err)})
		t.refused = append(t.refused, it)
	}
	t.left--
	p.mu.Unlock()
	if err == nil {
		it.Close()
	}
	p.answer()
}

// answer tells the old worker of batches whose items all have a place, or none.
func (p *passage) answer() {
	p.mu.Lock()
	var deaf []*Item
	for len(p.waiting) > 0 && p.waiting[0].left == 0 {
		t := p.waiting[0]
		p.waiting = p.waiting[1:]
		t.answer.room = p.room()
		if p.l.Send(t.answer.append(nil)) != nil {
			deaf = append(deaf, t.refused...)
			continue
		}
		for _, it := range t.refused {
			it.Close()
		}
	}
	p.cond.Broadcast()
	p.mu.Unlock()
	for _, it := range deaf {
		p.r.orphan(it)
	}
}
