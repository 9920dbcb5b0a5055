package live

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/handover"
)

// Claim is called for each connection that a handover.Receiver got, before it is
// acknowledged. An error refuses it.
func (t *Table) Claim(it *handover.Item) error {
	if !t.moves() {
		return errors.New("handover is switched off")
	}
	if t.ledger != nil {
		if a := t.ledger.Claim(it.FD, it.Prefix); a != nil {
			it.Owner = &accounted{it.FD, a}
		}
	}
	return nil
}

// Adopt takes over a connection that was acknowledged. It doesn't block.
func (t *Table) Adopt(it *handover.Item) {
	if a := accountOf(it); a != nil {
		a.Own()
	}
	t.mu.Lock()
	t.adopted++
	t.mu.Unlock()
	t.place(it, false)
}

// takeBack gets a connection that could not be moved.
func (t *Table) takeBack(it *handover.Item, why error) {
	if a := accountOf(it); a != nil {
		a.Back(len(it.Prefix))
	}
	stay := errors.Is(why, handover.ErrNoRoom) || errors.Is(why, handover.ErrNoServer) || errors.Is(why, handover.ErrRefused)
	if !stay {
		t.lot.start() // the drain is over, or about to be
	}
	t.place(it, stay)
}

// place finds a place for a connection between two requests; stay says that
// this generation's successor doesn't want it.
func (t *Table) place(it *handover.Item, stay bool) {
	d := t.drain.Load()
	stay = stay && d != nil
	if d != nil && !stay && d.moving() == move && d.reserve() == move {
		it.Server = t.name
		t.give(d, it)
		return
	}
	if !stay && len(it.Prefix) == 0 && t.lot.park(it) {
		return
	}
	t.inject(it, stay)
}

// inject gives a connection to the http.Server.
func (t *Table) inject(it *handover.Item, stay bool) {
	nc, account, err := t.dress(it)
	if errors.Is(err, errNoDescriptor) {
		t.placeLater(it, stay)
		return
	}
	if err != nil {
		t.log.WithError(err).Error("connection lost: no descriptor to serve it with")
		return
	}
	w, c := t.wrap(nc)
	if c == nil {
		nc.Close()
		return
	}
	c.account = account
	c.stay.Store(stay)
	c.served = it.Served
	c.since.Store(stamp(it.Since))
	c.headBegan = it.HeadSince
	if !it.HeadSince.IsZero() {
		c.spent = max(0, time.Since(it.HeadSince))
	}
	if l, ok := it.Owner.(leaving); ok {
		c.head.read = l.c.head.read - int64(len(it.Prefix))
		c.written.Store(l.c.written.Load())
	}
	if it.Served && len(it.Prefix) == 0 {
		c.idleSince(it.Since)
	}
	c.head.adopt(c, it.Prefix)
	t.add(c)
	t.injected.push(w)
}

var errNoDescriptor = errors.New("no descriptor left")

// placePause is between two attempts to find a descriptor for a connection.
const placePause = 20 * time.Millisecond

// placeLater is for a connection that waits until this process has a descriptor left,
// as one in the backlog does.
func (t *Table) placeLater(it *handover.Item, stay bool) {
	t.mu.Lock()
	t.pending++
	t.mu.Unlock()
	time.AfterFunc(placePause, func() {
		t.place(it, stay)
		t.mu.Lock()
		defer t.mu.Unlock()
		t.pending--
		t.tellDrain()
	})
}

// accountOf returns the account of a connection on its way; nil: none.
func accountOf(it *handover.Item) Account {
	if o, ok := it.Owner.(interface{ itsAccount() Account }); ok {
		return o.itsAccount()
	}
	return nil
}

// injected is a listener without a socket.
type injected struct {
	mu     sync.Mutex
	cond   sync.Cond
	queue  []net.Conn
	closed bool
}

func newInjected() *injected {
	l := new(injected)
	l.cond.L = &l.mu
	return l
}

func (l *injected) push(c net.Conn) {
	l.mu.Lock()
	closed := l.closed
	if !closed {
		l.queue = append(l.queue, c)
		l.cond.Signal()
	}
	l.mu.Unlock()
	if closed {
		c.Close()
	}
}

// Accept implements net.Listener.
func (l *injected) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queue) == 0 && !l.closed {
		l.cond.Wait()
	}
	if l.closed {
		return nil, net.ErrClosed
	}
	c := l.queue[0]
	l.queue[0] = nil
	l.queue = l.queue[1:]
	return c, nil
}

// Close implements net.Listener.
func (l *injected) Close() error {
	l.mu.Lock()
	l.closed = true
	rest := l.queue
	l.queue = nil
	l.cond.Broadcast()
	l.mu.Unlock()
	for _, c := range rest {
		c.Close()
	}
	return nil
}

// Addr implements net.Listener.
func (l *injected) Addr() net.Addr { return handedOver{} }

type handedOver struct{}

func (handedOver) Network() string { return "handover" }
func (handedOver) String() string  { return "handover" }
