package keeper

import (
	"fmt"
	"maps"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/kept"
	"github.com/tablecloth-go/tablecloth/internal/link"
	"github.com/tablecloth-go/tablecloth/internal/vault"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// rescues reports whether vaults are wanted.
func (c *Service) rescues() bool { return c.Rescue != Off }

// adoptVault is called from a worker's own goroutine, before anything that the
// worker says later is heard.
func (s *service) adoptVault(p *process, m *kept.Vault, files []int) {
	if !p.conf.rescues() || s.a.os.vaults == nil {
		closeAll(files)
		return
	}
	err := p.estate.adopt(s.a.os.vaults, m, files, func() {
		go s.a.post(func() { s.rescueOff(p, "the vault of process "+itoa(p.pid())+" was killed") })
	})
	s.a.post(func() {
		if err != nil {
			s.rescueOff(p, err.Error())
		} else {
			s.off = ""
		}
	})
}

// rescueOff keeps for status why a worker's connections can't be rescued.
func (s *service) rescueOff(p *process, why string) {
	s.off = why
	s.a.log.WithField("service", s.conf.Name).WithField("pid", p.pid()).Warn("rescue: off: " + why)
}

// inherit takes over what was found in a dead worker's estate.
func (s *service) inherit(p *process, b *bequest) {
	givers, heirs, l := p.estate.kin()
	if b == nil {
		if l >= 0 {
			unix.Close(l)
		}
		return
	}
	s.a.settling(b.Settled)
	if b.Counts != (vault.Counts{}) || len(b.claimed) > 0 {
		s.rescued.Workers++
	}
	s.rescued.Took += b.Took
	s.tellRescue(p, b.Counts, b.Took)
	if b.Err != nil {
		s.a.log.WithField("service", s.conf.Name).WithField("pid", p.pid()).WithError(b.Err).Error("connections could not be rescued")
	}
	s.strand(s.claim(b.idle))
	if len(b.claimed) > 0 {
		go s.sortOutClaimed(p, givers, b)
	}
	if len(b.sent) > 0 {
		go s.sortOutSent(p, heirs, l, b)
	} else if l >= 0 {
		unix.Close(l)
	}
}

// claim returns those of a dead worker's connections that the keeper hasn't got yet.
func (s *service) claim(conns []stranded) []stranded {
	own := conns[:0]
	for _, c := range conns {
		if c.right = s.rights.take(c.Cookie); c.right == nil {
			unix.Close(c.FD)
			continue
		}
		own = append(own, c)
	}
	return own
}

// tellRescue counts, and tells who watches. took is 0 for those whose fate was
// decided later than that of the others.
func (s *service) tellRescue(p *process, c vault.Counts, took time.Duration) {
	all := c.Idle + c.S500 + c.S503 + c.Cut + c.Ended + c.Closed + c.Lost
	if all == 0 {
		return
	}
	s.rescued.Idle += int64(c.Idle)
	s.rescued.S500 += int64(c.S500)
	s.rescued.S503 += int64(c.S503)
	s.rescued.Cut += int64(c.Cut)
	s.rescued.Ended += int64(c.Ended)
	s.rescued.Closed += int64(c.Closed)
	s.rescued.Lost += int64(c.Lost)
	s.tell(control.Event{Kind: control.EventRescue, Generation: p.generation, PID: p.pid(), Text: rescueText(c, took),
		Counts: map[string]int{"idle": c.Idle, "500": c.S500, "503": c.S503, "cut": c.Cut, "ended": c.Ended,
			"closed": c.Closed, "lost": c.Lost, "took_us": int(took.Microseconds())}})
}

func rescueText(c vault.Counts, took time.Duration) string {
	var parts []string
	add := func(n int, what string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, what))
		}
	}
	add(c.Idle, "go on")
	add(c.S500, "answered with 500")
	add(c.S503, "with 503")
	add(c.Cut, "cut")
	add(c.Ended, "ended")
	add(c.Closed, "closed")
	add(c.Lost, "lost")
	if took == 0 {
		return "connections: later " + strings.Join(parts, ", ")
	}
	return fmt.Sprintf("connections: %s, in %v", strings.Join(parts, ", "), took.Round(10*time.Microsecond))
}

// sortOutClaimed finds out which connections that a worker was about to own are nobody
// else's: who was sending them takes back, at once, what it heard nothing of.
func (s *service) sortOutClaimed(p *process, givers []*estate, b *bequest) {
	theirs := map[uint64]bool{}
	for _, g := range givers {
		if g.diedBefore(p.estate) {
			continue
		}
		held, known := g.afterwards()
		maps.Copy(theirs, held)
		if !known { // it is theirs to know
			for _, c := range b.claimed {
				theirs[c.Cookie] = true
			}
		}
	}
	s.settleLate(p, b, b.claimed, theirs)
}

// settleLate ends what sortOutClaimed and sortOutSent have begun: what nobody else has goes
// on, or comes to its end.
func (s *service) settleLate(p *process, b *bequest, conns []stranded, gone map[uint64]bool) {
	var cookies []uint64
	for _, c := range conns {
		if !gone[c.Cookie] {
			cookies = append(cookies, c.Cookie)
		}
	}
	mine := s.unheld(cookies)
	var idle, ending []stranded
	var over []vault.Farewell
	var counts vault.Counts
	for _, c := range conns {
		c.right = mine[c.Cookie]
		if c.right == nil || c.Taken || !c.Untouched() {
			unix.Close(c.FD)
			s.rights.drop(c.Cookie, c.right)
			continue
		}
		counts.Add(c.Else.Verdict)
		if c.Else.Verdict == vault.Idle {
			idle = append(idle, c)
		} else {
			over, ending = append(over, c.farewell(b.options.Page)), append(ending, c)
		}
	}
	s.a.post(func() { s.tellRescue(p, counts, 0) })
	ended := vault.Finish(over)
	s.a.settling(ended)
	go func() {
		<-ended // nobody else must answer before
		for _, c := range ending {
			s.rights.drop(c.Cookie, c.right)
		}
	}()
	s.bring(idle)
}

// afterwards waits until a worker knows which of its connections have moved, or is
// dead, and returns those that haven't. false: nobody can tell.
func (g *estate) afterwards() (map[uint64]bool, bool) {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		held, ok := g.holds()
		if !ok {
			if !isClosed(g.gone) {
				return nil, false
			}
			return g.bequeathed(), true
		}
		theirs, leaving := map[uint64]bool{}, false
		for c, state := range held {
			theirs[c] = true
			leaving = leaving || state == vault.Sent
		}
		if !leaving {
			return theirs, true
		}
		select {
		case <-g.gone:
		case <-time.After(pause):
		}
	}
}

// sortOutSent finds a home for connections whose worker died while it was sending
// them to another one, which may have got them.
func (s *service) sortOutSent(p *process, heirs []*estate, fd int, b *bequest) {
	if fd >= 0 {
		heirs[len(heirs)-1].hearOut(fd)
	}
	gone := map[uint64]bool{}
	for _, heir := range heirs {
		if !isClosed(heir.gone) {
			continue
		}
		<-heir.opened
		heir.mu.Lock()
		maps.Copy(gone, heir.left)
		heir.mu.Unlock()
	}
	s.settleLate(p, b, b.sent, gone)
}

// farewell ends a connection that was on its way when both its workers died.
func (c *stranded) farewell(page *vault.Page) vault.Farewell {
	f := vault.Farewell{FD: c.FD}
	if c.Else.Verdict == vault.Answer503 {
		f.Answer = page.Render(http.StatusServiceUnavailable, c.Else.Kind, time.Now())
	}
	return f
}

// hearOut waits until a worker has read everything that a dead one has sent to it,
// or is dead too. fd is the dead one's end of their link.
func (e *estate) hearOut(fd int) {
	l, err := link.New(fd)
	if err != nil {
		return
	}
	defer l.Close()
	l.CloseWrite() // the heir reads to the end, and closes its own
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if _, err := l.Recv(); err != nil {
				return
			}
		}
	}()
	select {
	case <-done:
	case <-e.gone:
		l.SetReadDeadline(time.Unix(1, 0))
		<-done
	}
}

// unheld tries for the right to connections, and returns those that nobody else has:
// neither the keeper nor a worker. First the right: what a worker gets from the
// keeper, or leaves to it, later than it was looked at is told by that.
func (s *service) unheld(cookies []uint64) map[uint64]*right {
	slices.Sort(cookies)
	mine := map[uint64]*right{}
	for _, c := range slices.Compact(cookies) {
		if r := s.rights.try(c); r != nil {
			mine[c] = r
		}
	}
	if len(mine) == 0 {
		return mine
	}
	held, known := s.heldByAnyone()
	for c, r := range mine {
		if !known || held[c] || !s.rights.keep(c, r) {
			s.rights.drop(c, r)
			delete(mine, c)
		}
	}
	return mine
}

// heldByAnyone finds the connections of all workers that live, or whose estate has not
// come to the keeper yet. One which moves meanwhile may be looked for in vain where it
// comes to and then where it comes from: so they are looked at again as long as some
// move, and at least once. false: the keeper ends.
func (s *service) heldByAnyone() (all map[uint64]bool, known bool) {
	all = map[uint64]bool{}
	const most = 10
	for look, moving := 0, true; look < 2 || moving && look < most; look++ {
		moving = false
		estates, ok := s.estates()
		if !ok {
			return nil, false
		}
		for _, e := range estates {
			held, ok := e.holds()
			for c, state := range held {
				all[c] = true
				moving = moving || state == vault.Sent
			}
			if !ok && isClosed(e.gone) {
				maps.Copy(all, e.bequeathed())
			}
		}
	}
	return all, true
}

// estates are those of all workers whose end the service hasn't heard of; false: the
// keeper ends.
func (s *service) estates() (all []*estate, ok bool) {
	ok = s.a.ask(func() {
		for _, p := range s.procs {
			all = append(all, p.estate)
		}
	})
	return all, ok
}

// settling counts connections that are being ended, for whom the keeper waits.
func (a *actor) settling(done <-chan struct{}) {
	a.endings.Add(1)
	go func() {
		<-done
		a.endings.Add(-1)
	}()
}

// lastEndings is how long a keeper that ends waits for clients to hang up. What
// they were sent has left by then, all but always.
const lastEndings = time.Second

func (a *actor) settled() {
	for end := time.Now().Add(lastEndings); a.endings.Load() > 0 && time.Now().Before(end); {
		time.Sleep(2 * time.Millisecond)
	}
}

func (c *Service) rescueOptions() vault.Options {
	return vault.Options{Timeout: c.RescueTimeout, Page: c.page}
}

// maxPage bounds a crash page: it is sent at once.
const maxPage = 64 << 10

// readPage reads the crash page.
func (c *Service) readPage() error {
	if c.CrashPage == "" {
		return nil
	}
	body, err := os.ReadFile(c.CrashPage)
	if err == nil && len(body) > maxPage {
		err = fmt.Errorf("%s: %d bytes, at most %d", c.CrashPage, len(body), maxPage)
	}
	if err != nil {
		return &Error{Err: fmt.Errorf("crash page: %w", err)}
	}
	if body == nil {
		body = []byte{}
	}
	c.page = &vault.Page{Body: body, ContentType: mime.TypeByExtension(filepath.Ext(c.CrashPage))}
	return nil
}
