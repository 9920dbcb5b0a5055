//go:build linux

package keeper

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"syscall"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/kept"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// service is what the actor knows about one service, beside its state.
type service struct {
	a        *actor
	conf     *Service
	state    state
	procs    map[int]*process
	programs map[int]*program // by the generation for which they were read
	timers   map[timerKey]*time.Timer
	waiters  map[int]*waiter
	sockets  []*socket // bound here or passed from above: held for ever
	stored   []*socket // pushed by workers
	lastID   int

	began    map[int]time.Time // by generation
	failures map[int]failure   // by generation: its first death before it was ready
	decided  control.Outcome   // of the last change
	outcome  *control.Outcome
	crash    *control.Crash
	current  int  // number of the last committed generation
	spoke    bool // the last committed generation said itself that it was ready
	restarts int
	upgrades int
	retryAt  time.Time
	lastEnd  end
	notes    []string
	env      []string // for every worker
	stranded []stranded
	rescued  control.Rescued
	past     *control.Conns // counted by workers that are gone; nil: by none
	off      string         // why nothing can be rescued from the newest worker; "": it can, or it has no library
}

type timerKey struct {
	kind eventKind
	id   int
}

// waiter is somebody who has asked for an upgrade.
type waiter struct {
	id      string // for Outcomes
	trigger string
	done    func(control.Outcome)
}

type failure struct {
	end  end
	pid  int
	hint string
}

// process is one worker process.
type process struct {
	proc, index, generation int
	why                     trigger
	program                 *program
	child                   child
	started                 time.Time
	readyBy                 string
	confirmed               bool
	words                   string // STATUS=
	status                  *kept.Status
	build                   string
	line                    line
	helloed                 bool
	signals                 []syscall.Signal // for when it has been started
	probing                 chan struct{}    // closed when nothing has to be found out any more
	staged                  []*socket
	removed                 []string
	deadline                time.Time
	drained                 *kept.Drain
	replaced                bool // it was told to drain while the service goes on
	crashed                 *kept.Crash
	watchdog                *time.Timer
	killed                  string // why
	estate                  *estate
}

func newService(a *actor, conf *Service, sockets []*socket) *service {
	return &service{a: a, conf: conf, state: newState(conf.policy()), sockets: sockets,
		procs: map[int]*process{}, programs: map[int]*program{}, timers: map[timerKey]*time.Timer{},
		waiters: map[int]*waiter{}, began: map[int]time.Time{}, failures: map[int]failure{}}
}

func (c *Service) policy() policy {
	return policy{
		workers: c.Workers, maxDraining: c.MaxDraining, restart: c.Restart, maxDeaths: c.MaxDeaths,
		deathWindow: c.DeathWindow, pause: c.GiveUpPause, exitOnGiveUp: c.GiveUp == GiveUpExit,
		readyTimeout: c.ReadyTimeout, killTimeout: c.KillTimeout, stopTimeout: c.StopTimeout,
	}
}

// feed lets the state machine decide, and does what it says.
func (s *service) feed(e event) {
	e.at = time.Now()
	var todo []action
	s.state, todo = next(s.state, e)
	for _, t := range todo {
		s.perform(t)
	}
	s.tidy()
	s.place()
}

func (s *service) perform(t action) {
	switch t.kind {
	case doSpawn:
		s.spawn(t)
	case doCommit:
		s.commit(t)
	case doDrain:
		s.drain(s.procs[t.proc], t.reason, t.after)
	case doKill:
		s.kill(s.procs[t.proc], t.reason)
	case doArm:
		s.arm(t)
	case doAnswer:
		s.answer(t)
	case doGiveUp:
		text := fmt.Sprintf("%d deaths in %v: nothing is started for %v", len(s.state.deaths), s.conf.DeathWindow, t.after)
		if s.conf.GiveUp == GiveUpExit {
			text = fmt.Sprintf("%d deaths in %v: stopping", len(s.state.deaths), s.conf.DeathWindow)
		}
		s.tell(control.Event{Kind: control.EventGiveUp, Text: text})
		s.a.os.announce(notice{kind: "status", text: s.conf.Name + ": gave up: " + text})
	}
}

// arm starts a timer; those of a backoff are given a jitter, so that services
// which died of the same cause don't all come back at once.
func (s *service) arm(t action) {
	after := t.after
	if t.timer == evBackoffOver {
		after = time.Duration(float64(after) * (0.75 + rand.Float64()/2))
	}
	if t.timer == evBackoffOver || t.timer == evPauseOver {
		s.retryAt = time.Now().Add(after)
	}
	key := timerKey{t.timer, t.proc + t.id}
	if old := s.timers[key]; old != nil {
		old.Stop()
	}
	s.timers[key] = time.AfterFunc(after, func() {
		s.a.post(func() {
			delete(s.timers, key)
			s.feed(event{kind: t.timer, proc: t.proc, id: t.id})
		})
	})
}

// tidy lets go of what no process needs any more.
func (s *service) tidy() {
	needed := map[int]bool{s.state.good: true}
	for _, g := range s.state.generations {
		needed[g.program] = true
	}
	for n, p := range s.programs {
		if !needed[n] {
			p.close()
			delete(s.programs, n)
		}
	}
	for key, t := range s.timers {
		_, w := s.state.find(key.id)
		if key.kind == evKillTimeout && w == nil || key.kind == evReadyTimeout && !s.awaits(key.id) {
			t.Stop()
			delete(s.timers, key)
		}
	}
	for n := range s.began {
		if s.state.generation(n) == nil && n != s.current {
			delete(s.began, n)
			delete(s.failures, n)
		}
	}
}

// awaits reports whether a generation has workers that aren't ready yet.
func (s *service) awaits(number int) bool {
	g := s.state.generation(number)
	if g == nil {
		return false
	}
	for _, w := range g.workers {
		if w.life == starting || w.life == ready {
			return true
		}
	}
	return false
}

func (s *service) release() {
	s.place()
	for _, t := range s.timers {
		t.Stop()
	}
	for _, p := range s.programs {
		p.close()
	}
	s.programs = map[int]*program{}
}

func (s *service) spawn(t action) {
	p := &process{proc: t.proc, index: t.index, generation: t.generation, why: t.why, started: time.Now(),
		probing: make(chan struct{}), estate: newEstate()}
	s.procs[t.proc] = p
	if s.began[t.generation].IsZero() {
		s.began[t.generation] = time.Now()
		s.announceChange(t)
	}
	if t.why == byDeath || t.why == byCrash || t.why == byLeave {
		s.restarts++
	}
	if s.programs[t.program] == nil {
		args := t.args
		if args == nil && s.programs[s.state.good] != nil {
			args = s.programs[s.state.good].given
		}
		found, err := s.a.os.prepare(s.conf, args)
		if err != nil {
			s.a.later = append(s.a.later, func() { s.died(p, end{failed: err}) })
			return
		}
		s.programs[t.program] = found
	}
	p.program = s.programs[t.program]
	held := append(append([]*socket(nil), s.sockets...), s.stored...)
	s.a.os.start(&launch{
		conf: s.conf, program: p.program, generation: p.generation, index: p.index, env: s.environment(p), sockets: held, readyFD: s.conf.readyFD(),
		started: func(c child) { s.a.post(func() { s.startedAs(p, c) }) },
		dead:    func() *bequest { return p.estate.open(s.conf.rescueOptions()) },
		ended:   func(e end) { s.a.post(func() { s.died(p, e) }) },
	})
}

// announceChange says that a generation is about to start.
func (s *service) announceChange(t action) {
	if s.state.change == nil || s.state.change.number != t.generation || t.why == byStart {
		return
	}
	s.tell(control.Event{Kind: control.EventUpgrade, Generation: t.generation, Text: string(t.why)})
	s.a.os.announce(notice{kind: "reloading", text: s.conf.Name + ": upgrading"})
}

func (s *service) environment(p *process) []string {
	return append(append([]string(nil), s.env...),
		"TABLECLOTH_SERVICE="+s.conf.Name,
		"TABLECLOTH_GENERATION="+itoa(p.generation),
		"TABLECLOTH_WORKER="+itoa(p.index),
		markerKey+"="+s.marker(p))
}

func (s *service) startedAs(p *process, c child) {
	p.child = c
	s.tell(control.Event{Kind: control.EventStart, Generation: p.generation, PID: c.PID(), Text: string(p.why)})
	for _, sig := range p.signals {
		c.Signal(sig)
	}
	if s.procs[p.proc] == p && p.readyBy == "" {
		s.a.os.watch(c, &probe{mode: s.conf.readyMode(), alive: s.conf.aliveFor(), sockets: s.sockets, patient: s.spoke},
			func(by string, confirmed bool) { s.a.post(func() { s.found(p, by, confirmed) }) }, p.probing)
	}
}

// found is a sign from outside that p is ready; its own word is worth more, if
// there will be one.
func (s *service) found(p *process, by string, confirmed bool) {
	if p.helloed && s.conf.readyMode() == "auto" {
		return
	}
	s.ready(p, by, confirmed)
}

// ready counts once: by whatever was first.
func (s *service) ready(p *process, by string, confirmed bool) {
	if s.procs[p.proc] != p {
		return
	}
	if p.readyBy != "" {
		s.belated(p, by)
		return
	}
	p.readyBy, p.confirmed = by, confirmed
	p.settled()
	if !confirmed && p.child != nil {
		if hint := s.a.os.advise(p.child, s.sockets); hint != "" {
			s.note(hint)
		}
	}
	s.feed(event{kind: evReady, proc: p.proc})
}

// belated is a process's own word after it had been taken for ready: then its
// successors will have one too.
func (s *service) belated(p *process, by string) {
	if by != "notify" && by != "library" {
		return
	}
	p.readyBy, p.confirmed = by, true
	if p.generation == s.current {
		s.spoke = true
	}
}

// settled ends the probing.
func (p *process) settled() {
	if p.probing != nil {
		close(p.probing)
		p.probing = nil
	}
}

// note keeps a text for status, once.
func (s *service) note(text string) {
	for _, n := range s.notes {
		if n == text {
			return
		}
	}
	s.notes = append(s.notes, text)
	s.a.log.WithField("service", s.conf.Name).Warn(text)
}

// commit makes processes act for the service.
func (s *service) commit(t action) {
	s.current = t.generation
	s.spoke = true
	for _, proc := range t.procs {
		p := s.procs[proc]
		s.spoke = s.spoke && (p.readyBy == "library" || p.readyBy == "notify")
		if p.line != nil {
			s.introduce(p)
			p.line.Send(&kept.Go{})
		}
		s.applyStore(p)
		text := "ready by " + p.readyBy
		if !p.confirmed {
			text += ", not confirmed"
		}
		s.tell(control.Event{Kind: control.EventReady, Generation: p.generation, PID: p.pid(), Text: text})
		s.a.os.announce(notice{kind: "serving", service: s.conf.Name, worker: p.pid(),
			text: fmt.Sprintf("%s: generation %d serves (pid %d)", s.conf.Name, p.generation, p.pid())})
	}
	s.a.later = append(s.a.later, s.a.ready)
}

func (p *process) pid() int {
	if p.child == nil {
		return 0
	}
	return p.child.PID()
}

// signal reaches a process that is still being started as soon as it has been.
func (p *process) signal(sig syscall.Signal) {
	if p.child == nil {
		p.signals = append(p.signals, sig)
		return
	}
	p.child.Signal(sig)
}

// drain tells a process to end: by message if it understands that, else by the
// stop signal.
func (s *service) drain(p *process, reason string, timeout time.Duration) {
	p.settled()
	again := p.drained != nil
	p.deadline = time.Now().Add(timeout)
	p.drained = &kept.Drain{Reason: reason, Timeout: timeout}
	p.replaced = p.replaced || reason != kept.Stopped
	s.tell(control.Event{Kind: control.EventDrain, Generation: p.generation, PID: p.pid(), Text: reason})
	if p.line != nil {
		p.line.Send(p.drained)
		return
	}
	if again { // many programs take a second one for impatience
		return
	}
	p.signal(s.conf.stopSignal())
	p.signal(syscall.SIGCONT) // a stopped process couldn't end
}

func (s *service) kill(p *process, reason string) {
	p.settled()
	p.killed = reason
	if reason == "kill timeout" || reason == "watchdog" {
		s.tell(control.Event{Kind: control.EventKill, Generation: p.generation, PID: p.pid(), Text: reason})
	}
	p.signal(syscall.SIGKILL)
}

// marker tells the descendants of one process from all others.
func (s *service) marker(p *process) string {
	return fmt.Sprintf("%s.%s.%d", s.a.id, s.conf.Name, p.proc)
}

func itoa(n int) string { return strconv.Itoa(n) }
