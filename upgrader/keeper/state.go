package keeper

import (
	"slices"
	"time"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// trigger is what asked for something.
type trigger string

const (
	byStart   trigger = "start"
	bySignal  trigger = "SIGHUP"
	byControl trigger = "control"
	byDeath   trigger = "death"
	byCrash   trigger = "crash" // a caught one
	byLeave   trigger = "leave" // a worker was told to end, and not the service
	byScale   trigger = "scale"
	byFailure trigger = "roll back" // of an upgrade one by one
)

// condition is what was asked for.
type condition uint8

const (
	toUpgrade condition = iota // what is on disk now
	toRestart                  // the last good program again
	toScale                    // more of it, or less
	toAdjust                   // as much of it, under another policy
)

// result is how it ended: answered to whoever asked.
type result = control.Result

// phase is what a service as a whole is doing.
type phase uint8

const (
	idle     phase = iota // not started yet
	running               // workers serve, start, or will as soon as the backoff is over
	paused                // gave up: nothing is started until the pause is over
	stopping              // all drain
	ended                 // no process is left, and none will come
)

func (p phase) String() string {
	return [...]string{"idle", "running", "paused", "stopping", "ended"}[p]
}

// life is what one worker process is doing.
type life uint8

const (
	starting life = iota
	ready         // waits for the others of its generation
	serving       // its generation was committed
	draining      // told to end
	doomed        // killed: its death is yet to come
)

func (l life) String() string {
	return [...]string{"starting", "ready", "serving", "draining", "doomed"}[l]
}

// worker is one process.
type worker struct {
	proc      int // never used twice
	index     int
	life      life
	born      time.Time
	crashed   bool // says that it isn't to be trusted any more
	leaving   bool // was told to end, and not the service
	committed bool // has served
	outdated  bool // serves, but its upgrade failed: goes when one of the last good program can take its place
	unwanted  bool // killed because another one took its place: its death means nothing
}

// generation is one run of the service's program: all its workers after an
// upgrade, or the replacements of some after a death.
type generation struct {
	number  int
	program int // number of the generation for which it was read from disk
	why     trigger
	workers []worker
}

// order is a change that somebody asked for.
type order struct {
	condition condition
	why       trigger
	args      []string // nil: as they are
	requests  []int    // to be answered; a signal's is not among them
	sticky    bool     // a signal asked too: no requester can cancel it alone
	workers   int      // how many there are to be; 0: as many as there are
	lead      bool     // the first worker is to start alone
	policy    *policy  // comes with it; nil: as it is
	design    int      // by which the program is read; 0: the last one

	number    int    // of its generation, once it has begun
	rolling   bool   // one by one
	waiting   []int  // indices of workers that are not started yet
	replaced  int    // so many have been, one by one
	abandoned bool   // those that were replaced can't go back
	failing   result // decided, but processes of it still live; "": may succeed
	reason    string // why it fails
	alone     bool   // replacements wait for its outcome: it ended a pause
}

// policy is what changes only together with the program, but for the number of
// workers.
type policy struct {
	workers      int
	rolling      bool // replace workers one by one
	serial       bool // start workers one by one
	lead         bool // start the first one alone: it may open sockets for the others
	maxDraining  int
	restart      RestartPolicy
	maxDeaths    int // <0: never give up
	deathWindow  time.Duration
	pause        time.Duration
	exitOnGiveUp bool
	readyTimeout time.Duration
	killTimeout  time.Duration
	stopTimeout  time.Duration
}

// state is everything that decides what a service does next.
type state struct {
	policy      policy
	phase       phase
	generations []generation // with processes, oldest first
	good        int          // program of the last generation that was ready; 0: none yet
	change      *order       // the one under way
	further     *order       // exactly one, for all that came meanwhile
	retired     []bool       // by index: ended, and not to be restarted
	deaths      []time.Time  // within the window
	quick       int          // deaths in a row that came too soon
	waiting     bool         // backing off
	lastNumber  int
	lastProc    int
	lastTimer   int  // of the backoff and the pause
	gently      bool // stopping: as an upgrade's drain, in its time
}

// eventKind is what can happen to a service.
type eventKind uint8

const (
	evStart eventKind = iota
	evRequest
	evCancel
	evStop
	evReady
	evDied
	evCrashed
	evLeaving
	evHung // the watchdog heard nothing
	evReadyTimeout
	evKillTimeout
	evBackoffOver
	evPauseOver
	eventKinds // how many there are
)

func (k eventKind) String() string {
	return [...]string{"start", "request", "cancel", "stop", "ready", "died", "crashed", "leaving", "hung",
		"ready timeout", "kill timeout", "backoff over", "pause over"}[k]
}

type event struct {
	kind      eventKind
	at        time.Time
	proc      int       // ready, died, crashed, leaving, hung, kill timeout
	id        int       // generation of a ready timeout; timer of backoff and pause over
	request   int       // request, cancel; 0: nobody waits for an answer
	condition condition // request
	why       trigger   // request
	args      []string  // request
	now       bool      // request, stop
	gently    bool      // stop: as an upgrade's drain, in its time
	workers   int       // request: how many there are to be
	lead      bool      // request: the first worker is to start alone
	policy    *policy   // request
	design    int       // request
	clean     bool      // died: with status 0
	absent    bool      // died: there is no such program, or it can't be run
	reason    string    // died: why it could not be started
}

// actionKind is what is to be done.
type actionKind uint8

const (
	doSpawn  actionKind = iota
	doCommit            // these workers act for the service now; the program is the last good one
	doDrain
	doKill
	doArm    // a timer
	doAnswer // a request
	doGiveUp
	doExit // nothing is left
)

func (k actionKind) String() string {
	return [...]string{"spawn", "commit", "drain", "kill", "arm", "answer", "give up", "exit"}[k]
}

type action struct {
	kind       actionKind
	proc       int // spawn, drain, kill; arm: whose kill timeout
	procs      []int
	index      int
	generation int
	program    int
	args       []string // spawn: of a program to be read from disk
	design     int      // spawn, answer: by which it is read; 0: the last one
	partial    bool     // commit: more workers of the upgrade are to come; the program is not the last good one yet
	condition  condition
	why        trigger
	reason     string // drain: kept.Replaced…; answer: why not
	timer      eventKind
	id         int
	after      time.Duration // arm, drain
	request    int
	result     result
}

func newState(p policy) state {
	return state{policy: p, retired: make([]bool, p.workers)}
}

// clone makes a copy which shares nothing that next changes.
func (s state) clone() state {
	s.generations = slices.Clone(s.generations)
	for i := range s.generations {
		s.generations[i].workers = slices.Clone(s.generations[i].workers)
	}
	s.change, s.further = s.change.clone(), s.further.clone()
	s.retired = slices.Clone(s.retired)
	s.deaths = slices.Clone(s.deaths)
	return s
}

func (o *order) clone() *order {
	if o == nil {
		return nil
	}
	c := *o
	c.requests, c.waiting = slices.Clone(o.requests), slices.Clone(o.waiting)
	return &c
}

// find returns the worker that proc is; nil: it is gone.
func (s *state) find(proc int) (*generation, *worker) {
	for i := range s.generations {
		g := &s.generations[i]
		for j := range g.workers {
			if g.workers[j].proc == proc {
				return g, &g.workers[j]
			}
		}
	}
	return nil, nil
}

func (s *state) generation(number int) *generation {
	for i := range s.generations {
		if s.generations[i].number == number {
			return &s.generations[i]
		}
	}
	return nil
}

// each calls f for every worker there is.
func (s *state) each(f func(*generation, *worker)) {
	for i := range s.generations {
		g := &s.generations[i]
		for j := range g.workers {
			f(g, &g.workers[j])
		}
	}
}

// acting returns the worker that serves as number index.
func (s *state) acting(index int) *worker {
	var found *worker
	s.each(func(_ *generation, w *worker) {
		if w.index == index && w.life == serving {
			found = w
		}
	})
	return found
}

// changes reports whether g is what an order has begun.
func (s *state) changes(g *generation) bool {
	return s.change != nil && s.change.number == g.number
}

// coming reports whether a replacement of worker index is on its way.
func (s *state) coming(index int) bool {
	found := false
	s.each(func(g *generation, w *worker) {
		if w.index == index && !w.committed && !w.unwanted && !s.changes(g) {
			found = true
		}
	})
	return found
}

// rolls reports whether g is what replaces workers one by one.
func (s *state) rolls(g *generation) bool { return s.changes(g) && s.change.rolling }

// needs reports whether an order comes with a design.
func (s *state) needs(design int) bool {
	return s.change != nil && s.change.design == design || s.further != nil && s.further.design == design
}

// retire says whether there is to be a worker of that index at all.
func (s *state) retire(index int, yes bool) {
	if index < len(s.retired) {
		s.retired[index] = yes
	}
}

// drains counts generations that have nothing left to do but to end.
func (s *state) drains() int {
	n := 0
	for _, g := range s.generations {
		if slices.ContainsFunc(g.workers, func(w worker) bool { return w.life == draining }) {
			n++
		}
	}
	return n
}
