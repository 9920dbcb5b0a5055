package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

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

const busyText = `web: serving, generation 7, keeper pid 812 up 3d04h
  listens on   http=tcp:0.0.0.0:8080  admin=tcp:127.0.0.1:8081
               local=unix:/run/web/web.sock
  GEN  PID STATE       UP BUILD        MEMORY OPEN IDLE ACTIVE MOVED
    6 4711 draining 2h03m v1.4.0        31.2M    3    0      3   212
    7 4802 serving    12s 8f3a9c1d2b4…  31.2M    -    -      -     -
  gen 6        /usr/bin/web has changed on disk since pid 4711 was started
  gen 6        is ended by force in 18s
  gen 6        waits for 10.0.0.7:41234: active since 12s: GET /slow
  gen 6        waits for 10.0.0.8:1: hijacked since 1h00m
  gen 6        waits for 10.0.0.9:1: idle since 0s
  gen 6        waits for 1 more
  gen 7        not confirmed: the program does not say when it is ready
  gen 7        pid 4802 says: warm·[2J
  last upgrade 1m00s ago (SIGHUP): upgrade failed: the new process has ended:
               exit status 7
               hint: see its log
  last crash   1h00m ago: gen 5 pid 4500 caught after 1m30s: boom
  counts       upgrades 6, restarts 1, recent crashes 1
  note         rescue: off
`

func TestStatusForPeople(t *testing.T) {
	var b strings.Builder
	if err := printStatus(&b, busyStatus(), now); err != nil {
		t.Fatal(err)
	}
	if b.String() != busyText {
		t.Errorf("got\n%s\nwant\n%s", b.String(), busyText)
	}
	for line := range strings.Lines(b.String()) {
		if n := utf8.RuneCountInString(line); n > 81 {
			t.Errorf("%d columns: %s", n-1, line)
		}
	}
}

func TestTheTableIsAligned(t *testing.T) {
	for _, colours := range []palette{false, true} {
		var b strings.Builder
		p := statusPrinter{w: &b, palette: colours, now: now}
		p.table(busyStatus().Services[0])
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
