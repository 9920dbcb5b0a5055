package keeper

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the tables in testdata anew")

var testPolicy = policy{
	workers: 1, maxDraining: 2, restart: RestartAlways, maxDeaths: 2, deathWindow: time.Minute, pause: time.Minute,
	readyTimeout: time.Minute, killTimeout: 30 * time.Second, stopTimeout: 8 * time.Second,
}

func with(change func(*policy)) policy {
	p := testPolicy
	change(&p)
	return p
}

var (
	two     = with(func(p *policy) { p.workers = 2 })
	never   = with(func(p *policy) { p.restart = RestartNever })
	failing = with(func(p *policy) { p.restart = RestartOnFailure })
	rolling = with(func(p *policy) { p.workers = 3; p.rolling = true })
	serial  = with(func(p *policy) { p.workers = 2; p.serial = true })
	hasty   = with(func(p *policy) { p.killTimeout = time.Second; p.maxDeaths = -1 })
	exits   = with(func(p *policy) { p.exitOnGiveUp = true; p.maxDeaths = 0 })
)

// script is events in a short form: "ready 1", "died 1 clean", "request 7 now",
// "restart 8", "+2s" for time that passes.
func play(t testing.TB, p policy, script string) (state, time.Time) {
	s, at := newState(p), time.Unix(1000, 0)
	for line := range strings.SplitSeq(script, ",") {
		line = strings.TrimSpace(line)
		if d, ok := strings.CutPrefix(line, "+"); ok {
			step, err := time.ParseDuration(d)
			if err != nil {
				t.Fatal(err)
			}
			at = at.Add(step)
			continue
		}
		if line != "" {
			s, _ = next(s, parseEvent(t, line, at))
		}
	}
	return s, at
}

func parseEvent(t testing.TB, line string, at time.Time) event {
	e := event{at: at, why: byControl}
	var n int
	words := strings.Fields(line)
	name := words[0]
	for _, w := range words[1:] {
		switch w {
		case "clean":
			e.clean = true
		case "absent":
			e.absent = true
		case "now":
			e.now = true
		case "gently":
			e.gently = true
		default:
			if _, err := fmt.Sscan(w, &n); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
		}
	}
	e.proc, e.id, e.request = n, n, n
	switch name {
	case "restart":
		e.kind, e.condition = evRequest, toRestart
		return e
	case "scale":
		e.kind, e.condition, e.workers, e.request = evRequest, toScale, n, 70
		return e
	case "adjust":
		p := hasty
		e.kind, e.condition, e.policy, e.request = evRequest, toAdjust, &p, 70
		return e
	case "hup":
		e.kind, e.why = evRequest, bySignal
		return e
	}
	for k := range eventKinds {
		if strings.ReplaceAll(k.String(), " ", "-") == name {
			e.kind = k
			return e
		}
	}
	t.Fatalf("no such event: %s", line)
	return e
}

func (a action) String() string {
	switch a.kind {
	case doSpawn:
		return fmt.Sprintf("spawn p%d as %d of g%d from g%d (%s)", a.proc, a.index, a.generation, a.program, a.why)
	case doCommit:
		if a.partial {
			return fmt.Sprintf("commit p%v of g%d, more to come", a.procs, a.generation)
		}
		return fmt.Sprintf("commit p%v of g%d", a.procs, a.generation)
	case doDrain:
		return fmt.Sprintf("drain p%d %s %v", a.proc, a.reason, a.after)
	case doKill:
		return fmt.Sprintf("kill p%d (%s)", a.proc, a.reason)
	case doArm:
		return fmt.Sprintf("arm %v %d %v", a.timer, a.proc+a.id, a.after)
	case doAnswer:
		if a.request == 0 {
			return fmt.Sprintf("record %s %s", a.result, a.reason)
		}
		return fmt.Sprintf("answer r%d %s %s", a.request, a.result, a.reason)
	}
	return a.kind.String()
}

func (s state) String() string {
	var b strings.Builder
	b.WriteString(s.phase.String())
	if s.waiting {
		b.WriteString(" waiting")
	}
	for _, g := range s.generations {
		fmt.Fprintf(&b, " g%d[", g.number)
		for i, w := range g.workers {
			if i > 0 {
				b.WriteString(" ")
			}
			fmt.Fprintf(&b, "p%d %v", w.proc, w.life)
			if w.crashed {
				b.WriteString("!")
			}
			if w.outdated {
				b.WriteString(" outdated")
			}
		}
		b.WriteString("]")
	}
	for name, o := range map[string]*order{"change": s.change} {
		if o != nil {
			fmt.Fprintf(&b, " %s%v", name, o.requests)
			if o.replaced > 0 {
				fmt.Fprintf(&b, " replaced %d", o.replaced)
			}
			if o.failing != "" {
				b.WriteString(" failing")
			}
		}
	}
	if s.further != nil {
		fmt.Fprintf(&b, " further%v", s.further.requests)
	}
	fmt.Fprintf(&b, " good=g%d", s.good)
	return b.String()
}

// situations are all the kinds of state that a service can be in, with the
// script that leads there.
var situations = []struct {
	name   string
	policy policy
	script string
}{
	{"before the start", testPolicy, ""},
	{"first start", testPolicy, "start"},
	{"first start failed twice", testPolicy, "start, died 1, died 2"},
	{"serving", testPolicy, "start, ready 1, +2s"},
	{"upgrading", testPolicy, "start, ready 1, +2s, request 7"},
	{"upgrading, another asked for", testPolicy, "start, ready 1, +2s, request 7, request 8"},
	{"upgrading by a signal", testPolicy, "start, ready 1, +2s, hup, request 8"},
	{"upgrade being killed", testPolicy, "start, ready 1, +2s, request 7, ready-timeout 2"},
	{"upgraded, old one drains", testPolicy, "start, ready 1, +2s, request 7, ready 2"},
	{"old one being killed", testPolicy, "start, ready 1, +2s, request 7, ready 2, kill-timeout 1"},
	{"as many drain as may", testPolicy, "start, ready 1, +2s, request 7, ready 2, request 8, ready 3, request 9"},
	{"restarting after a death", testPolicy, "start, ready 1, +2s, died 1"},
	{"restart died at once", testPolicy, "start, ready 1, died 1, ready 2, died 2"},
	{"upgrading, and the old one died", testPolicy, "start, ready 1, +2s, request 7, died 1"},
	{"crashed, successor starts", testPolicy, "start, ready 1, +2s, crashed 1"},
	{"told to leave, successor starts", testPolicy, "start, ready 1, +2s, leaving 1"},
	{"gave up", testPolicy, "start, ready 1, +2s, died 1, ready 2, +2s, died 2, ready 3, +2s, died 3"},
	{"gave up, upgrading", testPolicy, "start, ready 1, +2s, died 1, ready 2, +2s, died 2, ready 3, +2s, died 3, request 7"},
	{"gave up on one that still answers", testPolicy, "start, ready 1, +2s, died 1, ready 2, +2s, died 2, ready 3, +2s, crashed 3"},
	{"stopping", testPolicy, "start, ready 1, +2s, stop"},
	{"stopping, two drain", testPolicy, "start, ready 1, +2s, request 7, ready 2, stop"},
	{"leaving", testPolicy, "start, ready 1, +2s, stop gently"},
	{"ended", testPolicy, "start, ready 1, +2s, stop, died 1"},
	{"two workers: first start", two, "start"},
	{"two workers: one is ready", two, "start, ready 1"},
	{"two workers: serving", two, "start, ready 1, ready 2, +2s"},
	{"two workers: one died", two, "start, ready 1, ready 2, +2s, died 1"},
	{"two workers: upgrading, one is ready", two, "start, ready 1, ready 2, +2s, request 7, ready 3"},
	{"two workers: upgrading, one has failed", two, "start, ready 1, ready 2, +2s, request 7, ready 3, died 4"},
	{"two workers: scaling to three", two, "start, ready 1, ready 2, +2s, scale 3"},
	{"two workers: scaled to one", two, "start, ready 1, ready 2, +2s, scale 1"},
	{"one by one: serving", rolling, "start, ready 1, ready 2, ready 3, +2s"},
	{"one by one: the first is starting", rolling, "start, ready 1, ready 2, ready 3, +2s, request 7"},
	{"one by one: one is replaced", rolling, "start, ready 1, ready 2, ready 3, +2s, request 7, ready 4, died 1, died 2"},
	{"one by one: the second failed", rolling, "start, ready 1, ready 2, ready 3, +2s, request 7, ready 4, died 1 clean, ready-timeout 2"},
	{"one by one: going back", rolling, "start, ready 1, ready 2, ready 3, +2s, request 7, ready 4, died 1 clean, died 5"},
	{"one by one: can't go back", rolling, "start, ready 1, ready 2, ready 3, +2s, request 7, ready 4, died 1 clean, died 5, died 6"},
	{"serial: first start", serial, "start"},
	{"serial: one is ready", serial, "start, ready 1"},
	{"never restarted: serving", never, "start, ready 1, +2s"},
	{"restarted on failure: serving", failing, "start, ready 1, +2s"},
	{"exits instead of giving up: serving", exits, "start, ready 1, +2s"},
}

// inputs are all events, for each process that a situation above may have.
func inputs() []string {
	all := []string{"start", "request 70", "request 70 now", "restart 70", "scale 1", "scale 3", "adjust", "hup 0", "cancel 7", "cancel 8",
		"stop", "stop now", "stop gently", "ready-timeout 1", "ready-timeout 2", "backoff-over 1", "pause-over 1"}
	for _, kind := range []string{"ready", "died", "crashed", "leaving", "hung", "kill-timeout"} {
		for proc := 1; proc <= 6; proc++ {
			all = append(all, fmt.Sprintf("%s %d", kind, proc))
		}
	}
	return append(all, "died 1 clean", "died 1 absent")
}

// TestTheTable holds what happens in every situation at every event: all of it is
// in testdata/next.txt, to be read. Events that change nothing are left out.
func TestTheTable(t *testing.T) {
	var b strings.Builder
	for _, sit := range situations {
		s, at := play(t, sit.policy, sit.script)
		fmt.Fprintf(&b, "%s: %s\n    %v\n", sit.name, sit.script, s)
		for _, in := range inputs() {
			before := s.clone()
			got, todo := next(s, parseEvent(t, in, at))
			if !reflect.DeepEqual(before, s.clone()) {
				t.Errorf("%s, %s: the state that was passed was changed", sit.name, in)
			}
			check(t, got)
			if reflect.DeepEqual(got.clone(), before) && len(todo) == 0 {
				continue
			}
			fmt.Fprintf(&b, "  %s\n    %v\n", in, got)
			for _, a := range todo {
				fmt.Fprintf(&b, "      %v\n", a)
			}
		}
		b.WriteString("\n")
	}
	file := filepath.Join("testdata", "next.txt")
	if *update {
		os.MkdirAll("testdata", 0o755)
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("%s doesn't say what happens: -update, and read the difference", file)
	}
}

// A failed upgrade that has ended a pause brings back what the pause had left out,
// and is over then.
func TestBackOutOfAPause(t *testing.T) {
	paused := "start, ready 1, ready 2, ready 3, +2s, died 3, ready 4, +2s, died 4, ready 5, +2s, died 5"
	s, _ := play(t, rolling, paused+", request 7, ready 6, died 7")
	if s.phase != running || s.change == nil || s.change.failing == "" {
		t.Fatalf("not what is meant: %v", s)
	}
	s, _ = play(t, rolling, paused+", request 7, ready 6, died 7, ready 8, ready 9")
	if s.change != nil {
		t.Errorf("the upgrade is not over: %v", s)
	}
	for i := range rolling.workers {
		if s.acting(i) == nil {
			t.Errorf("nobody serves as %d: %v", i, s)
		}
	}
}
