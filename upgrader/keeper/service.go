//go:build linux

package keeper

import (
	"fmt"
	"strconv"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/pidfile"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// service is what the actor knows about one service, beside its state.
type service struct {
	a          *actor
	name       string
	serial     int // no two services of a keeper have the same
	conf       *Service
	state      state
	procs      map[int]*process
	programs   map[int]*program // by the generation for which they were read
	timers     map[timerKey]*time.Timer
	waiters    map[int]*waiter
	sockets    []*socket       // bound here or passed from above: given to each new process
	stored     []*socket       // pushed by workers
	always     []*socket       // of sockets: those that nobody has asked for by name
	pidfile    *pidfile.File   // of the workers; nil: none
	designs    map[int]*design // what orders that are not decided yet will make of this
	lastID     int
	lastDesign int
	leaving    bool // not part of the configuration any more

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
	stranded []stranded
	rights   *rights // to connections
	rescued  control.Rescued
	past     *control.Conns // counted by workers that are gone; nil: by none
	off      string         // why nothing can be rescued from the newest worker; "": it can, or it has no library
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

func newService(a *actor, d *design) *service {
	a.lastService++
	return &service{a: a, name: d.conf.Name, serial: a.lastService, conf: d.conf, sockets: d.sockets, pidfile: d.pidfile, state: newState(d.conf.policy()), designs: map[int]*design{},
		procs: map[int]*process{}, programs: map[int]*program{}, timers: map[timerKey]*time.Timer{},
		waiters: map[int]*waiter{}, began: map[int]time.Time{}, failures: map[int]failure{}, rights: newRights()}
}

func (c *Service) policy() policy {
	return policy{
		workers: c.Workers, rolling: c.Rolling, serial: c.SerialStart, lead: len(c.Listen) == 0, maxDraining: c.MaxDraining, restart: c.Restart, maxDeaths: c.MaxDeaths,
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
		vain := s.a.mustStart && s.state.good == 0
		if vain {
			go s.a.post(func() { s.a.stop("", false) })
		}
		if vain || s.conf.GiveUp == GiveUpExit {
			text = fmt.Sprintf("%d deaths in %v: stopping", len(s.state.deaths), s.conf.DeathWindow)
		}
		s.tell(control.Event{Kind: control.EventGiveUp, Text: text})
		s.a.os.announce(notice{kind: "status", text: s.conf.Name + ": gave up: " + text})
	}
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

func itoa(n int) string { return strconv.Itoa(n) }
