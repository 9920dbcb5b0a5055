//go:build unix

package upgrader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/gate"
	"github.com/tablecloth-go/tablecloth/internal/kept"
	"github.com/tablecloth-go/tablecloth/internal/link"
	"github.com/tablecloth-go/tablecloth/internal/proc"
	"github.com/tablecloth-go/tablecloth/internal/vault"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
	"github.com/tablecloth-go/tablecloth/upgrader/sd"
)

// underKeeper is the succession of a worker: its keeper starts and ends
// generations, and this process asks it for them.
type underKeeper struct {
	u       *Upgrader
	conn    *kept.Conn
	welcome kept.Welcome
	manager *manager      // the same keeper, by systemd's protocol
	goes    chan struct{} // closed: its Go
	asked   chan struct{} // has room for one: it wants to know how we are
	inquiry atomic.Int64  // the last one's number
	lost    chan struct{} // closed: the keeper is dead, or doesn't make sense

	mu      sync.Mutex
	waiting map[string]chan control.Outcome // upgrades asked for, by ID
	heir    *keptHeir                       // where connections go at a drain
	told    bool                            // to drain
}

// welcomeTimeout bounds the wait for the keeper's first word.
const welcomeTimeout = 10 * time.Second

// newKept says hello to the keeper; nil, nil: there is none.
func newKept(u *Upgrader) (*underKeeper, error) {
	conn, err := kept.Dial()
	if conn == nil || err != nil {
		return nil, err
	}
	os.Unsetenv(kept.Env) // the programs that we start aren't kept
	k := &underKeeper{u: u, conn: conn, goes: make(chan struct{}), asked: make(chan struct{}, 1), lost: make(chan struct{}),
		waiting: make(map[string]chan control.Outcome)}
	if err := k.greet(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("greet the keeper: %w", err)
	}
	u.generation, u.worker = k.welcome.Generation, k.welcome.Worker
	u.o.KillTimeout = k.welcome.KillTimeout
	if u.o.PIDFile != "" && u.generation == 1 && u.worker == 0 {
		u.log.Info("the keeper has the PID file (--pidfile, --worker-pidfile): none is written here")
	}
	env := sd.Take()
	if k.manager, err = newManager(env, u.log); err != nil {
		return nil, err
	}
	sockets, err := env.Sockets()
	u.inventory.activate(sockets)
	go k.listen()
	go k.reportStatus()
	return k, err
}

func (k *underKeeper) greet() error {
	k.conn.Link().SetDeadline(time.Now().Add(welcomeTimeout))
	defer k.conn.Link().SetDeadline(time.Time{})
	if err := k.conn.Send(&kept.Hello{Version: kept.Version, Build: buildVersion()}); err != nil {
		return err
	}
	m, files, err := k.conn.Recv()
	if err != nil {
		return err
	}
	w, ok := m.(*kept.Welcome)
	if !ok || len(files) > 0 || w.Generation < 1 {
		return fmt.Errorf("it answered with %T instead of a welcome", m)
	}
	k.welcome = *w
	return nil
}

// listen hears the keeper for as long as it lives.
func (k *underKeeper) listen() {
	defer close(k.lost)
	for {
		m, files, err := k.conn.Recv()
		if errors.Is(err, link.ErrTruncated) { // none but a Peer has descriptors
			k.u.log.WithError(err).Error("no link to another worker: connections don't move over it")
			continue
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				k.u.log.WithError(err).Error("lost the keeper")
			}
			k.u.post((*life).orphaned)
			return
		}
		k.hear(m, files)
	}
}

func (k *underKeeper) hear(m kept.Message, files []int) {
	switch m := m.(type) {
	case *kept.Go:
		select {
		case <-k.goes:
		default:
			close(k.goes)
		}
	case *kept.Outcome:
		k.mu.Lock()
		if c := k.waiting[m.ID]; c != nil {
			c <- m.Outcome
			delete(k.waiting, m.ID)
		}
		k.mu.Unlock()
	case *kept.Drain:
		k.drain(m)
	case *kept.Inquiry:
		k.inquiry.Store(int64(m.Number))
		select {
		case k.asked <- struct{}{}:
		default: // one answer for both
		}
	case *kept.Broadcast:
		k.u.hearBroadcast(Broadcast{From: m.From, Message: m.Message})
	case *kept.Peer:
		k.meet(m, files)
		return
	}
	(&link.Message{Files: files}).Close()
}

// meet takes a link to another worker.
func (k *underKeeper) meet(m *kept.Peer, files []int) {
	if len(files) != 1 {
		k.u.log.Errorf("the keeper sent %d descriptors for a link to a worker", len(files))
		(&link.Message{Files: files}).Close()
		return
	}
	l, err := link.New(files[0])
	if err != nil {
		k.u.log.WithError(err).Error("the keeper's link to another worker is none")
		return
	}
	if m.Role == kept.Predecessor {
		k.u.connectionsFrom(l)
		return
	}
	h := newKeptHeir(m.PID, l)
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.told {
		k.heir = h
		return
	}
	select {
	case k.u.heirs <- Successor{PID: h.id, Link: l, Dead: h.died}:
	default:
		l.Close()
	}
}

// drain does what the keeper says.
func (k *underKeeper) drain(m *kept.Drain) {
	k.mu.Lock()
	h := k.heir
	k.told = true
	k.mu.Unlock()
	if h == nil {
		h = newKeptHeir(0, nil)
	}
	k.u.post(func(l *life) { l.dismissed(Reason(m.Reason), m.Timeout, h) })
}

// startVault makes this worker's connections outlive it, and gives the keeper
// what it needs for that.
func (k *underKeeper) startVault(servers []string) *vault.Table {
	if !k.welcome.Rescue {
		return nil
	}
	h, err := vault.Start()
	if err != nil {
		k.u.log.WithError(err).Warn("rescue: off: connections won't outlive this process")
		k.conn.Send(&kept.Vault{PID: h.PID, Error: err.Error()})
		h.Close()
		return nil
	}
	defer h.Close()
	said := kept.Vault{PID: h.PID, Servers: servers}
	if err := k.conn.Send(&said, int(h.Sock.Fd()), int(h.Memory.Fd())); err != nil {
		k.u.log.WithError(err).Warn("rescue: off: the keeper doesn't hear")
		return nil
	}
	return h.Table
}

// listening tells the keeper where what is in the vault was accepted.
func (k *underKeeper) listening(servers [][]net.Addr, others []net.Addr) {
	m := &kept.Listening{Others: tcpAddresses(others)}
	for _, s := range servers {
		m.Servers = append(m.Servers, tcpAddresses(s))
	}
	k.conn.Send(m)
}

func tcpAddresses(all []net.Addr) (texts []string) {
	for _, a := range all {
		if a, ok := a.(*net.TCPAddr); ok {
			texts = append(texts, a.AddrPort().String())
		}
	}
	return texts
}

func (k *underKeeper) foreignListener(string, string) gate.Socket { return nil }

func (k *underKeeper) trouble(error) {} // what goes to stderr reaches the keeper

// announce: sockets that this generation has bound by itself are the keeper's
// too from its go on, for the generations to come.
func (k *underKeeper) announce() error {
	k.manager.keep(k.u.inventory)
	if k.manager.sent() {
		k.manager.barrier() // they come by another way than Ready, which must not overtake them
	}
	if err := k.conn.Send(&kept.Ready{}); err != nil {
		return fmt.Errorf("say ready to the keeper: %w", err)
	}
	select {
	case <-k.goes:
		go k.manager.pet(k.u)
		return nil
	case <-k.lost:
		return errors.New("the keeper died before this worker was to serve")
	}
}

func (k *underKeeper) acting() {}

// attempt asks the keeper, which sends a Drain apart from the outcome.
func (k *underKeeper) attempt(ctx context.Context, l launch) attempted {
	answer := make(chan control.Outcome, 1)
	k.mu.Lock()
	k.waiting[l.ids[0]] = answer
	k.mu.Unlock()
	r := l.request
	r.ID = l.ids[0]
	if err := k.conn.Send(&kept.Upgrade{UpgradeRequest: r}); err != nil {
		return attempted{outcome: control.Outcome{Result: control.Failed, Reason: "the keeper doesn't hear: " + err.Error()}}
	}
	l.started(0)
	select {
	case o := <-answer:
		return attempted{outcome: o}
	case <-k.lost:
		return attempted{outcome: control.Outcome{Result: control.Failed, Reason: "the keeper died"}}
	case <-ctx.Done():
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.waiting, l.ids[0]) // its outcome interests nobody
		return attempted{outcome: control.Outcome{Result: control.Failed, Reason: errCancelled.Error()}}
	}
}

func (k *underKeeper) predecessorDone() <-chan struct{} { return closedChan }

func (k *underKeeper) hurry() {}

func (k *underKeeper) leave() {}

func (k *underKeeper) handsUp(c control.Crash) bool {
	return k.conn.Send(&kept.Crash{Error: c.Error, Stack: c.Stack, Count: 1}) == nil
}

// stopService: a signal to this process means this process, anything else the
// service.
func (k *underKeeper) stopService(r control.StopRequest, signal string) bool {
	select {
	case <-k.lost:
		return false
	default:
	}
	if signal != "" {
		return k.conn.Send(&kept.Leave{Reason: signal}) == nil
	}
	return k.conn.Send(&kept.Stop{Now: r.Now}) == nil
}

func (k *underKeeper) event(e control.Event) { k.conn.Send(&kept.Event{Event: e}) }

func (k *underKeeper) broadcast(message []byte) error {
	if err := k.conn.Send(&kept.Broadcast{From: k.welcome.Worker, Message: message}); err != nil {
		return fmt.Errorf("upgrader: broadcast: %w", err)
	}
	return nil
}

func (k *underKeeper) letGo(it *item) { k.manager.letGo(it) }

func (k *underKeeper) record(history, bool) {} // the keeper remembers

func (k *underKeeper) resume() error { return nil }

// close leaves the link to the end of the process.
func (k *underKeeper) close(bool) error {
	k.conn.Send(k.status(true))
	return nil
}

// status is what only this process knows.
func (k *underKeeper) status(unready bool) *kept.Status {
	heard := k.inquiry.Load()
	g := control.Generation{Workers: make([]control.Worker, 1)}
	k.u.fillIn(&g)
	return &kept.Status{Conns: g.Workers[0].Conns, Holdouts: g.Holdouts, Unready: unready, Inquiry: int(heard)}
}

// statusBeat is how often a worker tells of itself without being asked: what it has
// counted since is lost where it is killed.
const statusBeat = 5 * time.Second

// reportStatus tells the keeper what only this process knows. What /proc tells is
// the keeper's to ask.
func (k *underKeeper) reportStatus() {
	tick := time.NewTicker(statusBeat)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-k.asked:
		case <-k.u.over:
			return
		case <-k.lost:
			return
		}
		var s *kept.Status
		k.u.ask(func(l *life) { s = k.status(l.phase == draining || l.phase == stopping) })
		if s == nil {
			return
		}
		k.conn.Send(s)
	}
}

// keptHeir is the worker that takes a kept worker's connections. Its death is
// the keeper's affair, but for connections on their way to it.
type keptHeir struct {
	id     int
	link   *link.Conn // nil: connections can't move
	died   chan struct{}
	never  chan struct{}
	handle *proc.Handle
}

func newKeptHeir(pid int, l *link.Conn) *keptHeir {
	h := &keptHeir{id: pid, link: l, died: make(chan struct{}), never: make(chan struct{})}
	if l == nil || pid == 0 {
		return h
	}
	p, err := proc.Open(pid)
	if err != nil {
		if errors.Is(err, os.ErrProcessDone) {
			close(h.died)
		}
		return h
	}
	h.handle = p
	go func() {
		<-p.Done()
		close(h.died)
	}()
	return h
}

func (h *keptHeir) pid() int                             { return h.id }
func (h *keptHeir) handover() *link.Conn                 { return h.link }
func (h *keptHeir) dead() <-chan struct{}                { return h.died }
func (h *keptHeir) kept() bool                           { return true }
func (h *keptHeir) left() bool                           { return false }
func (h *keptHeir) bury()                                {}
func (h *keptHeir) expire() <-chan struct{}              { return h.never }
func (h *keptHeir) forward(control.UpgradeRequest) error { return errors.ErrUnsupported }
func (h *keptHeir) stop() error                          { return nil }
func (h *keptHeir) event(control.Event)                  {}
func (h *keptHeir) status(control.Generation)            {}
