package top

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/cmd/internal/golden"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// ago is a time before noon.
func ago(d time.Duration) time.Time { return noon.Add(-d) }

func process(pid int, up time.Duration, build string) control.Process {
	return control.Process{PID: pid, Started: ago(up), Binary: "/usr/bin/web", Build: build, Memory: 31 << 20}
}

// web is a kept service in the middle of an upgrade, after one that has failed.
func web() control.Service {
	deadline := ago(-18 * time.Second)
	old, fresh := process(4711, 2*time.Hour, "v1.4.0"), process(4802, 13*time.Second, "v1.5.0")
	old.CPU, fresh.CPU = 3723.5, 1.25
	return control.Service{
		Name: "web", State: control.Serving, Generation: 8, Workers: 1, Upgrades: 6, Restarts: 1,
		Listen: []string{"http=tcp:0.0.0.0:8080"},
		Generations: []control.Generation{
			{Number: 6, State: control.Draining, Confirmed: true, Deadline: &deadline,
				Holdouts: []control.Conn{{Peer: "10.0.0.7:41234", State: "active", Since: ago(15 * time.Second), Request: "GET /slow"}},
				Workers:  []control.Worker{{Process: old, State: control.Draining, Since: ago(12 * time.Second), Conns: &control.Conns{Open: 3, Active: 3, Moved: 212, Requests: 1000}}}},
			{Number: 8, State: control.Serving, Confirmed: true,
				Workers: []control.Worker{{Process: fresh, State: control.Serving, Since: ago(12 * time.Second), Rescued: 7,
					Conns: &control.Conns{Open: 412, Idle: 398, Active: 14, Adopted: 212, Requests: 5000}}}},
		},
		LastOutcome: &control.Outcome{Trigger: "control", Result: control.Failed, Reason: "it ended before it was ready", Exit: "exit status 7",
			Output: []string{"reading /etc/web.yaml", "\x1b[31mno such database: \tusers"}, Hint: "see its log", Generation: 6, PID: 4711, At: ago(50 * time.Second)},
		LastCrash: &control.Crash{At: ago(time.Hour), Generation: 5, PID: 4500, Uptime: 90 * time.Second, Exit: "signal: killed"},
	}
}

func history() []control.Event {
	failed := control.Outcome{Result: control.Failed, Reason: "it ended before it was ready", Exit: "exit status 7", Generation: 6}
	ready := control.Outcome{Result: control.Ready, Generation: 8, PID: 4802, Took: 312 * time.Millisecond, Confirmed: true}
	events := []control.Event{
		{At: ago(time.Hour), Kind: control.EventDeath, Generation: 5, PID: 4500, Text: "signal: killed"},
		{At: ago(51 * time.Second), Kind: control.EventUpgrade, Generation: 7, Text: "control"},
		{At: ago(51 * time.Second), Kind: control.EventStart, Generation: 7, PID: 4790, Text: "upgrade"},
		{At: ago(50 * time.Second), Kind: control.EventFailed, Generation: 7, Text: "it ended before it was ready", Outcome: &failed},
		{At: ago(13 * time.Second), Kind: control.EventUpgrade, Generation: 8, Text: "control"},
		{At: ago(13 * time.Second), Kind: control.EventStart, Generation: 8, PID: 4802, Text: "upgrade"},
		{At: ago(12 * time.Second), Kind: control.EventReady, Generation: 8, PID: 4802, Text: "ready by library"},
		{At: ago(12 * time.Second), Kind: control.EventDrain, Generation: 6, PID: 4711, Text: "replaced"},
		{At: ago(12 * time.Second), Kind: control.EventUpgraded, Generation: 8, Outcome: &ready},
	}
	for i := range events {
		events[i].Seq, events[i].Service = uint64(i+1), "web"
	}
	return events
}

func status(services ...control.Service) control.Status {
	keeper := process(812, 76*time.Hour, "")
	return control.Status{Version: 1, Mode: "kept", Keeper: &keeper, Services: services}
}

// watching is a model that has seen web for two seconds.
func watching(more ...control.Service) *Model {
	n := 0
	m := newModel(func() string { n++; return fmt.Sprint("order ", n) })
	for _, ev := range history() {
		m.update(noon, happened{ev})
	}
	before := web()
	was := *before.Generations[1].Workers[0].Conns
	was.Requests, was.Adopted = 2592, 150
	before.Generations[1].Workers[0].Conns = &was
	before.Generations[1].Workers[0].CPU = 0.75
	m.update(noon, answered{status: status(append([]control.Service{before}, more...)...), asked: ago(2 * time.Second)})
	m.update(noon, answered{status: status(append([]control.Service{web()}, more...)...), asked: noon})
	return m
}

func fleet() []control.Service {
	retry := ago(-31 * time.Second)
	return []control.Service{
		{Name: "api", State: control.Serving, Generation: 1, Workers: 2, Generations: []control.Generation{{Number: 1, State: control.Serving, Confirmed: true, Workers: []control.Worker{
			{Process: process(901, 76*time.Hour, ""), State: control.Serving, Since: ago(76 * time.Hour)},
			{Process: process(902, 3*time.Second, ""), Index: 1, State: control.Starting, Since: ago(3 * time.Second)},
		}}}},
		{Name: "jobs", State: control.GaveUp, Generation: 4, Workers: 1, RetryAt: &retry},
	}
}

// seen is what a screen shows, which must be as large as it is.
func seen(t *testing.T, m *Model, columns, lines int) string {
	t.Helper()
	view := m.view(columns, lines)
	if len(view) != lines {
		t.Errorf("%d lines of %d", len(view), lines)
	}
	var b strings.Builder
	for _, l := range view {
		if w := l.width(); w > columns {
			t.Errorf("%d columns of %d: %s", w, columns, l)
		}
		b.WriteString(strings.TrimRight(l.String(), " ") + "\n")
	}
	if strings.Contains(b.String(), "\x1b") {
		t.Error("escape sequences of a program come through")
	}
	return b.String()
}

func TestWhatIsSeen(t *testing.T) {
	for _, c := range []struct {
		name           string
		model          *Model
		keys           string
		columns, lines int
	}{
		{"upgrade", watching(), "", 80, 24},
		{"upgrade", watching(), "", 132, 40},
		{"upgrade", watching(), "", 60, 20},
		{"upgrade", watching(), "", 40, 12},
		{"fleet", watching(fleet()...), "", 80, 24},
		{"fleet", watching(fleet()...), "down", 60, 20},
		{"fleet", watching(fleet()...), "end s", 80, 24},
		{"why", watching(), "w", 80, 24},
		{"why", watching(), "w", 40, 12},
		{"events", watching(), "e", 80, 24},
		{"help", watching(), "?", 80, 24},
		{"question", watching(), "u", 80, 24},
		{"question", watching(), "s", 40, 12},
		{"asked", watching(), "u y", 80, 24},
		{"nothing yet", newModel(nil), "", 80, 24},
	} {
		for key := range strings.FieldsSeq(c.keys) {
			c.model.update(noon, pressed(key))
		}
		name := fmt.Sprintf("%s %dx%d", c.name, c.columns, c.lines)
		if c.name == "fleet" {
			name += " " + c.keys
		}
		golden.Compare(t, strings.ReplaceAll(strings.TrimSpace(name), " ", "-")+".txt", seen(t, c.model, c.columns, c.lines))
	}
}

// TestEverySizeIsFilled: whatever the terminal's size, nothing is broken by it.
func TestEverySizeIsFilled(t *testing.T) {
	for columns := range 100 {
		for _, lines := range []int{0, 1, 2, 3, 5, 7, 10, 13, 24, 60} {
			for _, keys := range []string{"", "w", "e", "?", "s"} {
				m := watching(fleet()...)
				m.update(noon, pressed(keys))
				seen(t, m, columns, lines)
			}
		}
	}
}

func TestWithoutUnicode(t *testing.T) {
	m := watching()
	var b strings.Builder
	for _, l := range m.view(80, 24) {
		a := l.ascii()
		if a.width() != l.width() {
			t.Errorf("%q is as wide as %q", a, l)
		}
		b.WriteString(strings.TrimRight(a.String(), " ") + "\n")
	}
	for _, r := range b.String() {
		if r > '~' {
			t.Errorf("%q", r)
		}
	}
	golden.Compare(t, "ascii-80x24.txt", b.String())
	if got := say("größe 世界 \x1b", plain).ascii().String(); got != "gr??e ???? ." {
		t.Errorf("%q", got)
	}
}

// TestNothingIsDoneWithoutAYes: of all keys.
func TestNothingIsDoneWithoutAYes(t *testing.T) {
	for _, first := range []string{"u", "r", "s"} {
		for _, key := range []string{"n", "esc", "ctrl-c", "q", "enter", "u", "r", "s", " ", "x", "up"} {
			m := watching()
			if acts := m.update(noon, pressed(first)); acts != nil || m.question == nil {
				t.Errorf("%s: %v", first, acts)
			}
			if acts := m.update(noon, pressed(key)); acts != nil || len(m.orders) > 0 {
				t.Errorf("%s, %s: %v", first, key, acts)
			}
		}
	}
}

func TestOrders(t *testing.T) {
	for _, c := range []struct {
		keys     string
		services []control.Service
		want     order
	}{
		{"u y", nil, order{what: upgrading, service: "web"}},
		{"r Y", nil, order{what: restarting, service: "web"}},
		{"s y", nil, order{what: stopping}},
		{"s !", nil, order{what: stopping, now: true}},
		{"s y", fleet(), order{what: stopping, service: "web"}},
		{"down s y", fleet(), order{what: stopping, service: "api"}},
		{"s a", fleet(), order{what: stopping}},
		{"tab tab tab down u y", fleet(), order{what: upgrading, service: "api"}},
	} {
		m := watching(c.services...)
		var acts []any
		for key := range strings.FieldsSeq(c.keys) {
			acts = m.update(noon, pressed(key))
		}
		c.want.id = "order 1"
		if len(acts) != 1 || acts[0] != any(c.want) {
			t.Errorf("%s: %+v, want %+v", c.keys, acts, c.want)
		}
	}
}

func TestAnUpgradeThatIsUnderWay(t *testing.T) {
	m := watching()
	m.update(noon, pressed("u"))
	m.update(noon, pressed("y"))
	if m.update(noon, pressed("u")); m.question != nil {
		t.Error("asks for another one")
	}
	if acts := m.update(noon, pressed("c")); len(acts) != 1 || acts[0] != any(withdrawal{"order 1"}) {
		t.Errorf("%v", acts)
	}
	// Leaving would cancel it.
	if acts := m.update(noon, pressed("ctrl-c")); acts != nil || m.question == nil {
		t.Errorf("%v", acts)
	}
	if acts := m.update(noon, pressed("ctrl-c")); len(acts) != 1 || acts[0] != any(leave{}) {
		t.Errorf("%v", acts)
	}
	m.update(noon, concluded{id: "order 1", outcome: &control.Outcome{Result: control.Failed, Reason: "no database"}})
	if text := seen(t, m, 80, 24); !strings.Contains(text, "web: upgrade failed: no database  w: why") {
		t.Error(text)
	}
	if acts := m.update(noon, pressed("q")); len(acts) != 1 || acts[0] != any(leave{}) {
		t.Errorf("%v", acts)
	}
}

func TestAServiceThatIsGoneAndComesBack(t *testing.T) {
	m := watching()
	m.update(noon, answered{asked: noon, err: &control.Error{Message: "nothing listens", Err: control.ErrNotRunning}})
	m.update(noon.Add(12*time.Second), answered{asked: noon.Add(12 * time.Second), err: &control.Error{Err: control.ErrNotRunning}})
	text := seen(t, m, 80, 24)
	if !strings.Contains(text, "not running for 12s") || !strings.Contains(text, "gone") {
		t.Error(text)
	}
	m.update(noon, pressed("u"))
	if m.question != nil {
		t.Error("somebody is to be upgraded")
	}
	// The next keeper counts from one again, and so do its events.
	later := noon.Add(time.Minute)
	again := web()
	again.Generation = 1
	again.Generations = []control.Generation{{Number: 1, State: control.Serving, Confirmed: true,
		Workers: []control.Worker{{Process: control.Process{PID: 7001, Started: later}, State: control.Serving, Since: later}}}}
	for i, kind := range []string{control.EventStart, control.EventReady} {
		m.update(later, happened{control.Event{Seq: uint64(i + 1), At: later, Kind: kind, Service: "web", Generation: 1, PID: 7001}})
	}
	later = later.Add(time.Second)
	m.update(later, answered{status: status(again), asked: later})
	text = seen(t, m, 80, 24)
	if strings.Contains(text, "not running") || !strings.Contains(text, " 7001 serving") || !strings.Contains(text, "gen 1 pid 7001") {
		t.Error(text)
	}
}

func TestOtherTroubleIsSaid(t *testing.T) {
	m := watching()
	m.update(noon, answered{asked: noon, err: errors.New("connection broken")})
	if text := seen(t, m, 80, 24); !strings.Contains(text, "connection broken for 0s") {
		t.Error(text)
	}
	m.update(noon, answered{status: status(web()), asked: noon})
	m.now = noon.Add(10 * time.Second)
	if text := seen(t, m, 80, 24); !strings.Contains(text, "no answer for 10s") {
		t.Error(text)
	}
}

func TestEventsThatComeTwice(t *testing.T) {
	m := watching()
	n := len(m.events)
	for _, ev := range history() {
		m.update(noon, happened{ev})
	}
	if len(m.events) != n {
		t.Errorf("%d events of %d", len(m.events), n)
	}
	for i := range 3 * maxEvents {
		m.update(noon, happened{control.Event{Seq: uint64(n + i + 1), At: noon, Kind: control.EventRoll, Service: "web"}})
	}
	if len(m.events) > maxEvents {
		t.Errorf("%d events are held", len(m.events))
	}
}

// TestAloneLives: the library tells less than the keeper does.
func TestAloneLives(t *testing.T) {
	var ls lives
	at := noon
	tell := func(kind string, generation, pid int) {
		at = at.Add(time.Second)
		ls.hear(control.Event{At: at, Kind: kind, Generation: generation, PID: pid, Outcome: &control.Outcome{Generation: 1}})
	}
	tell(control.EventReady, 1, 10)
	tell(control.EventStart, 2, 11)
	tell(control.EventFailed, 1, 0)
	tell(control.EventStart, 2, 12)
	tell(control.EventReady, 2, 12)
	tell(control.EventDrain, 1, 10)
	tell(control.EventGone, 1, 10)
	var got []string
	for _, l := range ls {
		got = append(got, fmt.Sprintf("%d %s %s", l.number, l.state(at), l.how))
	}
	if want := "1  gone, 2  failed, 2 serving "; strings.Join(got, ", ") != want {
		t.Errorf("%q, want %q", strings.Join(got, ", "), want)
	}
}

// TestLivesOfARollback: one worker of generation 2 is still there when the upgrade
// to 3 fails, and the others come back as 4.
func TestLivesOfARollback(t *testing.T) {
	var ls lives
	failed := &control.Outcome{Generation: 2, Result: control.Failed}
	for i, ev := range []control.Event{
		{Kind: control.EventStart, Generation: 2, PID: 20}, {Kind: control.EventStart, Generation: 2, PID: 21},
		{Kind: control.EventReady, Generation: 2, PID: 20}, {Kind: control.EventReady, Generation: 2, PID: 21},
		{Kind: control.EventStart, Generation: 3, PID: 30}, {Kind: control.EventRoll, Generation: 3, PID: 30},
		{Kind: control.EventDrain, Generation: 2, PID: 20},
		{Kind: control.EventStart, Generation: 3, PID: 31}, {Kind: control.EventStart, Generation: 4, PID: 40},
		{Kind: control.EventFailed, Generation: 3, Outcome: failed}, {Kind: control.EventReady, Generation: 4, PID: 40},
		{Kind: control.EventDrain, Generation: 3, PID: 30}, {Kind: control.EventKill, Generation: 3, PID: 30}, {Kind: control.EventGone, Generation: 3, PID: 30},
	} {
		ev.At = noon.Add(time.Duration(i) * time.Second)
		ls.hear(ev)
	}
	var got []string
	for _, l := range ls {
		at := 0
		if !l.endedAt.IsZero() {
			at = int(l.endedAt.Sub(noon) / time.Second)
		}
		got = append(got, fmt.Sprintf("%d %s %s %d", l.number, l.state(noon.Add(time.Minute)), l.how, at))
	}
	if want := "2 serving  0, 3  failed 13, 4 serving  0"; strings.Join(got, ", ") != want {
		t.Errorf("%q, want %q", strings.Join(got, ", "), want)
	}
}

func TestKilledAndDiedLives(t *testing.T) {
	var ls lives
	for i, ev := range []control.Event{
		{Kind: control.EventStart, Generation: 1, PID: 1}, {Kind: control.EventStart, Generation: 1, PID: 2},
		{Kind: control.EventDeath, Generation: 1, PID: 1}, // its other worker goes on
		{Kind: control.EventStart, Generation: 2, PID: 3}, {Kind: control.EventKill, Generation: 1, PID: 2}, {Kind: control.EventGone, Generation: 1, PID: 2},
		{Kind: control.EventDeath, Generation: 2, PID: 3},
	} {
		ev.At = noon.Add(time.Duration(i) * time.Second)
		ls.hear(ev)
		if i == 2 && !ls[0].endedAt.IsZero() {
			t.Error("a generation ends with its first worker")
		}
	}
	if ls[0].how != "killed" || ls[1].how != "died" {
		t.Errorf("%s, %s", ls[0].how, ls[1].how)
	}
}
