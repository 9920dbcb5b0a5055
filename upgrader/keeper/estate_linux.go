package keeper

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/kept"
	"github.com/tablecloth-go/tablecloth/internal/vault"
)

// estate is what a worker leaves when it dies: the connections in its vault. It
// isn't the actor's alone, as it is opened where the worker is waited for.
type estate struct {
	gone   chan struct{} // closed when the worker is dead
	opened chan struct{} // closed when left is complete

	using sync.Mutex   // the vault, for a second perhaps
	vault *vault.Vault // nil: none yet, or no more

	mu      sync.Mutex // what follows, for a moment
	diedAt  time.Time
	servers []string // by their numbers in the vault's table
	listen  []listening
	others  []netip.AddrPort
	givers  []*estate // workers that were told to send connections to this one
	heirs   []*estate // workers that this one was told to send connections to, the last one living perhaps
	link    int       // this one's end of the link to that one, once more; -1: none
	own     map[uint64]bool
	left    map[uint64]bool
}

// listening is where a server accepts connections.
type listening struct {
	addr   netip.AddrPort
	server string
}

// stranded is a connection between two requests that no worker has.
type stranded struct {
	vault.Conn
	server  string // "": nobody knows
	since   time.Time
	refused int // so many workers would not have it
	right   *right
}

// bequest is what was found in an estate.
type bequest struct {
	*vault.Rescued
	options vault.Options
	idle    []stranded
	sent    []stranded // on their way to another process
	claimed []stranded // on their way from one
}

func newEstate() *estate {
	return &estate{gone: make(chan struct{}), opened: make(chan struct{}), link: -1}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// adopt takes over a worker's vault. lost is called when it dies before its
// worker. An error says why there is no vault.
func (e *estate) adopt(h *host, m *kept.Vault, files []int, lost func()) error {
	e.using.Lock()
	defer e.using.Unlock()
	switch {
	case m.Error != "" || len(files) != 2:
		closeAll(files)
		h.reapVault(m.PID)
		return errors.New(m.Error)
	case e.vault != nil || isClosed(e.gone):
		closeAll(files) // which ends it
		return errors.New("one too many, or too late")
	}
	v, err := h.adopt(m.PID, os.NewFile(uintptr(files[0]), "vault"), os.NewFile(uintptr(files[1]), "table"))
	if err != nil {
		return err
	}
	e.vault = v
	e.mu.Lock()
	e.servers = m.Servers
	e.mu.Unlock()
	go func() {
		<-v.Dead()
		e.using.Lock()
		defer e.using.Unlock()
		if e.vault == v {
			e.vault = nil
			v.End()
			lost()
		}
	}()
	return nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// hear takes down where the worker accepts connections.
func (e *estate) hear(m *kept.Listening) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.listen, e.others = nil, addresses(m.Others)
	for i, texts := range m.Servers {
		if i >= len(e.servers) {
			break
		}
		for _, a := range addresses(texts) {
			e.listen = append(e.listen, listening{a, e.servers[i]})
		}
	}
}

func addresses(texts []string) (all []netip.AddrPort) {
	for _, t := range texts {
		if a, err := netip.ParseAddrPort(t); err == nil {
			all = append(all, a)
		}
	}
	return all
}

// open rescues what can be rescued. The worker is dead, but not waited for. When
// it returns the vault is dead too. nil: there was none.
func (e *estate) open(o vault.Options) *bequest {
	close(e.gone)
	e.using.Lock() // an adoption may be under way
	defer e.using.Unlock()
	defer close(e.opened)
	v := e.vault
	e.vault = nil
	e.mu.Lock()
	defer e.mu.Unlock()
	e.diedAt = time.Now()
	if v == nil {
		return nil
	}
	for _, l := range e.listen {
		o.Listen = append(o.Listen, l.addr)
	}
	o.Others = e.others
	givers := e.givers
	e.mu.Unlock()
	o.Doubt = slices.ContainsFunc(givers, func(g *estate) bool { return !g.diedBefore(e) })
	b := &bequest{Rescued: v.Rescue(context.Background(), o), options: o}
	e.mu.Lock()
	e.own, e.left = map[uint64]bool{}, map[uint64]bool{}
	e.record(b)
	return b
}

// record needs e.mu.
func (e *estate) record(b *bequest) {
	for _, c := range b.Claimed { // whoever was sending it may have it still, and send it on
		b.claimed = append(b.claimed, e.strand(c))
	}
	for _, c := range b.Idle {
		e.left[c.Cookie] = true
		if !c.Marked && len(e.heirs) > 0 { // taken from the table, but not closed yet: it has moved
			c.Else = vault.Judgment{Verdict: vault.Idle}
			b.Counts.Idle--
			b.Counts.Sent++
			b.sent = append(b.sent, e.strand(c))
			continue
		}
		e.own[c.Cookie] = true
		b.idle = append(b.idle, e.strand(c))
	}
	for _, c := range b.Ended {
		e.own[c], e.left[c] = true, true
	}
	for _, c := range b.Sent {
		e.left[c.Cookie] = true
		b.sent = append(b.sent, e.strand(c))
	}
}

func (e *estate) strand(c vault.Conn) stranded {
	s := stranded{Conn: c, since: time.Now().Add(-c.Quiet)}
	if c.Marked {
		if int(c.Server) < len(e.servers) {
			s.server = e.servers[c.Server]
		}
		return s
	}
	for _, l := range e.listen {
		if l.addr.Port() == c.Local.Port() && (l.addr.Addr().IsUnspecified() || l.addr.Addr().Unmap() == c.Local.Addr()) {
			s.server = l.server
		}
	}
	return s
}

var errNoVault = errors.New("no vault")

// held tells which connections a living worker has; errNoVault: it is dead, or
// nobody can ask.
func (e *estate) held() (map[uint64]vault.State, error) {
	e.using.Lock()
	defer e.using.Unlock()
	if e.vault == nil {
		return nil, errNoVault
	}
	return e.vault.Held(vault.DefaultTimeout)
}

// holds is held, however long it takes; false: nobody can tell.
func (e *estate) holds() (map[uint64]vault.State, bool) {
	for !isClosed(e.gone) {
		held, err := e.held()
		if err == nil || errors.Is(err, errNoVault) {
			return held, err == nil
		}
		select {
		case <-e.gone:
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil, false
}

// bequeathed are the connections of a dead worker that were its own, as far as is
// known. It waits until they are.
func (e *estate) bequeathed() map[uint64]bool {
	<-e.opened
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.own)
}

// bind notes that one worker sends connections to another. link is the sender's
// end, which is duplicated.
func (e *estate) bind(heir *estate, link int) {
	e.mu.Lock()
	if e.link >= 0 {
		unix.Close(e.link)
	}
	e.heirs, e.link = append(e.heirs, heir), -1
	if fd, err := unix.FcntlInt(uintptr(link), unix.F_DUPFD_CLOEXEC, 0); err == nil {
		e.link = fd
	}
	e.mu.Unlock()
	heir.mu.Lock()
	defer heir.mu.Unlock()
	heir.givers = append(heir.givers, e)
}

// bereft reports whether the worker was to send connections to one that is dead.
func (e *estate) bereft() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.heirs) > 0 && isClosed(e.heirs[len(e.heirs)-1].gone)
}

// kin are the workers between which and this one connections moved, and this one's
// end of the link to the last heir; -1: none. It is asked once, as estates that
// knew each other would stay for ever.
func (e *estate) kin() (givers, heirs []*estate, link int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	givers, heirs, link = e.givers, e.heirs, e.link
	e.givers, e.heirs, e.link = nil, nil, -1
	return givers, heirs, link
}

// diedBefore reports whether e was dead when other died, which is dead.
func (e *estate) diedBefore(other *estate) bool {
	if !isClosed(e.opened) {
		return false
	}
	e.mu.Lock()
	at := e.diedAt
	e.mu.Unlock()
	other.mu.Lock()
	defer other.mu.Unlock()
	return at.Before(other.diedAt)
}

// adopt makes a vault one of the children that only one knows how to wait for.
func (h *host) adopt(pid int, sock, memory *os.File) (*vault.Vault, error) {
	if !h.reserveVault(pid) {
		sock.Close()
		memory.Close()
		return nil, fmt.Errorf("process %d is not a vault", pid)
	}
	v, err := vault.Adopt(pid, sock, memory)
	if err != nil {
		h.forgetVault(pid)
		return nil, err
	}
	go func() {
		<-v.Dead()
		h.forgetVault(pid)
	}()
	return v, nil
}

// reapVault ends one that won't be adopted.
func (h *host) reapVault(pid int) {
	if h.reserveVault(pid) {
		vault.Reap(pid)
		h.forgetVault(pid)
	}
}

// reserveVault makes sure that a worker doesn't name another worker.
func (h *host) reserveVault(pid int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if pid <= 0 || h.leaders[pid] || h.vaults[pid] {
		return false
	}
	h.vaults[pid] = true
	return true
}

func (h *host) forgetVault(pid int) {
	h.mu.Lock()
	delete(h.vaults, pid)
	h.mu.Unlock()
	h.kick()
}
