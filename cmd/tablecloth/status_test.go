package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tablecloth-go/tablecloth/cmd/internal/golden"
	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

var now = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// busyStatus is a service in the middle of an upgrade.
func busyStatus() control.Status {
	deadline, code := now.Add(18*time.Second), 7
	process := func(pid int, up time.Duration, build string) control.Process {
		return control.Process{PID: pid, Started: now.Add(-up), Binary: "/usr/bin/web", Build: build, Memory: 31<<20 + 1<<18}
	}
	old := process(4711, 2*time.Hour+3*time.Minute, "v1.4.0")
	old.Changed = true
	keeper := process(812, 76*time.Hour, "")
	return control.Status{
		Version: 1, Mode: "kept", Keeper: &keeper,
		Services: []control.Service{{
			Name: "web", State: control.Serving, Generation: 7, Upgrades: 6, Restarts: 1, Crashes: 1,
			Listen: []string{"http=tcp:0.0.0.0:8080", "admin=tcp:127.0.0.1:8081", "local=unix:/run/web/web.sock"},
			Generations: []control.Generation{
				{Number: 6, State: control.Draining, Confirmed: true, Deadline: &deadline,
					Workers: []control.Worker{{Process: old, State: control.Draining, Conns: &control.Conns{Open: 3, Active: 3, Moved: 212}}},
					Holdouts: []control.Conn{
						{Peer: "10.0.0.7:41234", State: "active", Since: now.Add(-12 * time.Second), Request: "GET /slow"},
						{Peer: "10.0.0.8:1", State: "hijacked", Since: now.Add(-time.Hour)},
						{Peer: "10.0.0.9:1", State: "idle", Since: now},
						{Peer: "10.0.0.9:2", State: "idle", Since: now},
					}},
				{Number: 7, State: control.Serving, Workers: []control.Worker{
					{Process: process(4802, 12*time.Second, "8f3a9c1d2b4e5f60"), State: control.Serving, Status: "warm\x1b[2J"},
				}},
			},
			LastOutcome: &control.Outcome{Trigger: "SIGHUP", Result: control.Failed, Reason: "the new process has ended", Exit: "exit status 7", ExitCode: &code, At: now.Add(-time.Minute), Hint: "see its log"},
			LastCrash:   &control.Crash{At: now.Add(-time.Hour), Generation: 5, PID: 4500, Uptime: 90 * time.Second, Caught: true, Error: "boom\ngoroutine 1"},
			Notes:       []string{"rescue: off"},
		}},
	}
}

// fleet is a keeper of several services, as one finds it at three in the morning.
func fleet() control.Status {
	st := busyStatus()
	web := &st.Services[0]
	web.Name, web.Workers = "web", 3
	web.Generations[0].Workers[0].Since = now.Add(-42 * time.Second)
	web.Generations[0].Workers[0].CPU = 3723.5
	worker := web.Generations[1].Workers[0]
	worker.Conns = &control.Conns{Open: 412, Idle: 398, Active: 14, Moved: 0, Requests: 12345678}
	worker.Status, worker.CPU, worker.Since = "", 1.25, now.Add(-11*time.Second)
	dying := worker
	dying.Index, dying.PID, dying.State, dying.Rescued, dying.Conns = 1, 4803, control.Starting, 7, nil
	web.Generations[1].Workers = []control.Worker{worker, dying}
	web.Generations[1].Confirmed = true
	web.Rescued = &control.Rescued{Workers: 1, Idle: 7, S500: 2}
	retry := now.Add(31 * time.Second)
	st.Services = append(st.Services, control.Service{Name: "api", State: control.Serving, Generation: 1, Workers: 1, Listen: []string{"unix:/run/api.sock"},
		Generations: []control.Generation{{Number: 1, State: control.Serving, Confirmed: true, Workers: []control.Worker{
			{Process: control.Process{PID: 901, Started: now.Add(-76 * time.Hour), Memory: 180 << 20, CPU: 86400}, State: control.Serving, Since: now.Add(-76 * time.Hour)},
		}}},
		Output: &control.Output{Lines: 1000, DroppedLines: 12},
	}, control.Service{Name: "jobs", State: control.GaveUp, Generation: 4, Workers: 1, Crashes: 6, Restarts: 5, RetryAt: &retry,
		LastCrash: &control.Crash{At: now.Add(-29 * time.Second), Generation: 4, PID: 5001, Uptime: 120 * time.Millisecond, Exit: "signal: segmentation fault (core dumped)"}})
	return st
}

// checkWidth sees to it that nothing is broken by the terminal.
func checkWidth(t *testing.T, text string, columns int) {
	t.Helper()
	for line := range strings.Lines(text) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > columns {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

func TestStatusForPeople(t *testing.T) {
	for _, c := range []struct {
		name    string
		status  control.Status
		columns int
		lines   int // 0: any
	}{
		{"busy", busyStatus(), 80, 24},
		{"fleet", fleet(), 80, 40},
		{"fleet", fleet(), 132, 0},
		{"fleet", fleet(), 60, 0},
		{"fleet", fleet(), 44, 0},
	} {
		text := reportOf(io.Discard, c.status, now, c.columns, nil)
		golden.Compare(t, fmt.Sprintf("status/%s-%d.txt", c.name, c.columns), text)
		checkWidth(t, text, c.columns)
		if n := strings.Count(text, "\n"); c.lines > 0 && n > c.lines {
			t.Errorf("%s: %d lines", c.name, n)
		}
	}
}

// TestStatusAsJSON: the format that scripts read.
func TestStatusAsJSON(t *testing.T) {
	var b strings.Builder
	if err := printJSON(&b, fleet()); err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "status/fleet.json", b.String())
}

// TestStatusOfARollingUpgrade: not all of a generation is ended by force.
func TestStatusOfARollingUpgrade(t *testing.T) {
	deadline := now.Add(20 * time.Second)
	worker := func(pid int, s control.State) control.Worker {
		return control.Worker{Process: control.Process{PID: pid}, State: s}
	}
	for _, c := range []struct {
		workers []control.Worker
		want    string
	}{
		{[]control.Worker{worker(1, control.Draining)}, "is ended by force in 20s"},
		{[]control.Worker{worker(1, control.Serving), worker(2, control.Draining)}, "pid 2 is ended by force in 20s"},
		{[]control.Worker{worker(1, control.Draining), worker(2, control.Serving), worker(3, control.Draining)}, "the first of 2 workers is ended by force in 20s"},
	} {
		g := control.Generation{Number: 6, Confirmed: true, Deadline: &deadline, Workers: c.workers}
		st := control.Status{Services: []control.Service{{Name: "web", State: control.Serving, Generations: []control.Generation{g}}}}
		if text := reportOf(io.Discard, st, now, 80, nil); !strings.Contains(text, "gen 6        "+c.want+"\n") {
			t.Errorf("%s is not in\n%s", c.want, text)
		}
	}
}

func TestTheTableIsAligned(t *testing.T) {
	for _, colours := range []palette{false, true} {
		var b strings.Builder
		p := statusPrinter{w: &b, palette: colours, now: now, columns: 80}
		p.table(fleet().Services[0])
		widths := map[int]bool{}
		for line := range strings.Lines(b.String()) {
			if strings.Contains(line, "\x1b[") != bool(colours) {
				t.Errorf("%q", line)
			}
			for _, code := range []string{"\x1b[0m", "\x1b[2m", "\x1b[32m", "\x1b[33m", "\x1b[31m"} {
				line = strings.ReplaceAll(line, code, "")
			}
			widths[utf8.RuneCountInString(line)] = true
		}
		if len(widths) != 1 {
			t.Errorf("lines of different widths: %s", b.String())
		}
	}
}

func TestCPUWhileWatching(t *testing.T) {
	before := cpuTimes{at: now.Add(-2 * time.Second), used: map[int]float64{4802: 0.25, 901: 86400}}
	text := reportOf(io.Discard, fleet(), now, 80, &before)
	if !strings.Contains(text, " 50% ") || !strings.Contains(text, "  0%") {
		t.Error(text)
	}
	if before.at != now || before.used[4802] != 1.25 {
		t.Errorf("%+v", before)
	}
}

func TestAScreenIsNotScrolled(t *testing.T) {
	text := strings.Repeat("x\n", 30)
	if got := screen(text, 24); strings.Count(got, "\n") != 23 || !strings.Contains(got, "… 8 more lines") || strings.Count(got, "x") != 22 {
		t.Errorf("%q", got)
	}
	if got := screen("x\ny\n", 24); got != "\x1b[Hx\x1b[K\ny\x1b[K\n\x1b[J" {
		t.Errorf("%q", got)
	}
}

func TestStatusOfNamedServices(t *testing.T) {
	f := startService(t, &fakeService{status: fleet})
	t.Setenv(control.EnvPath, f.path)
	r := tablecloth(t, "status", "api", "web")
	if r.expect(t, exitDone, "api: serving", ""); strings.Contains(r.stdout, "jobs") || !strings.Contains(r.stdout, "web: serving") {
		t.Error(r.stdout)
	}
	tablecloth(t, "status", "wbe").expect(t, exitUsage, "", "tablecloth: error: no service is called wbe\ntablecloth: hint: there is web, api, jobs\n")
	tablecloth(t, "status", "--watch", "--interval", "1ms").expect(t, exitUsage, "", "100ms or more")
}

func TestStatusWatched(t *testing.T) {
	asked := make(chan struct{}, 100)
	f := startService(t, &fakeService{status: func() control.Status { asked <- struct{}{}; return fleet() }})
	c := startTablecloth(t, "status", "--watch", "--interval", "100ms", "--json", "--control", f.path)
	for range 3 {
		proctest.Await(t, "a request", asked)
	}
	c.cmd.Process.Signal(os.Interrupt)
	r := c.wait(t)
	r.expect(t, exitDone, `"version":1`, "")
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	var st control.Status
	if err := json.Unmarshal([]byte(lines[0]), &st); err != nil || len(lines) < 2 || len(st.Services) != 3 {
		t.Errorf("%v: %d lines", err, len(lines))
	}
}

func TestStatusCommand(t *testing.T) {
	st := busyStatus()
	f := startService(t, &fakeService{status: func() control.Status { return st }})
	tablecloth(t, "status", "--control", f.path).expect(t, exitDone, "web: serving, generation 7", "")
	var got control.Status
	r := tablecloth(t, "status", "--control", f.path, "--json")
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil || got.Services[0].Generations[1].Workers[0].PID != 4802 {
		t.Errorf("%v: %+v", err, got)
	}
	retry := time.Now().Add(time.Hour)
	gone := control.Status{Services: []control.Service{{Name: "web", State: control.GaveUp, RetryAt: &retry}}}
	f = startService(t, &fakeService{status: func() control.Status { return gone }})
	tablecloth(t, "status", "--control", f.path).expect(t, exitGaveUp, "web: gave up", "")
	tablecloth(t, "status", "--control", f.path, "--json").expect(t, exitGaveUp, `"gave up"`, "")
}

func TestDurationsAreShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-1: "0s", 0: "0s", 1500 * time.Microsecond: "2ms", 312 * time.Millisecond: "312ms",
		999999 * time.Microsecond: "1s", 1240 * time.Millisecond: "1.2s", 59960 * time.Millisecond: "1m0s",
		61 * time.Second: "1m01s", 3 * time.Hour: "3h00m", 50 * time.Hour: "2d02h",
	} {
		if got := shortDuration(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}
