package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/cmd/internal/diag"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// healthy is a service with which nothing is wrong.
func healthy() control.Service {
	return control.Service{Name: "web", State: control.Serving, Generation: 2, Workers: 1, Listen: []string{"tcp:127.0.0.1:80"},
		Generations: []control.Generation{{Number: 2, State: control.Serving, Confirmed: true, Workers: []control.Worker{
			{Process: control.Process{PID: 42, Started: now.Add(-time.Hour)}, State: control.Serving, Since: now.Add(-time.Hour), Heard: now},
		}}}}
}

// examined is what the doctor finds of a service, as it is told.
func examined(change func(*control.Service, *ward)) string {
	s := healthy()
	w := &ward{now: now, owners: func() map[uint64]int { return map[uint64]int{7: os.Getpid()} },
		look: func(int) (*diag.Process, error) {
			return &diag.Process{State: "sleeping", Descriptors: 10, Limit: 1024}, nil
		},
		changed: func(int, string) (bool, error) { return false, nil }}
	if change != nil {
		change(&s, w)
	}
	w.status = control.Status{Keeper: &control.Process{PID: 1}, Services: []control.Service{s}}
	var b strings.Builder
	tellAilments(&b, w.status, w.examine(nil))
	return b.String()
}

func sees(p diag.Process) func(int) (*diag.Process, error) {
	return func(int) (*diag.Process, error) { return &p, nil }
}

func TestDoctorOfAService(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "web")
	if err := os.WriteFile(binary, []byte("\x7fELF"), 0o755); err != nil {
		t.Fatal(err)
	}
	retry := now.Add(20 * time.Second)
	local := netip.MustParseAddrPort("127.0.0.1:80")
	for _, c := range []struct {
		name   string
		change func(*control.Service, *ward)
		want   []string
	}{
		{"nothing", nil, []string{"nothing is wrong with web\n"}},
		{"gave up", func(s *control.Service, _ *ward) {
			s.State, s.Generations, s.Crashes, s.RetryAt = control.GaveUp, nil, 6, &retry
			s.LastCrash = &control.Crash{Generation: 2, PID: 42, Exit: "exit status 2", Output: []string{"no database"}}
		}, []string{"web: nothing serves: gave up after 6 deaths, next start in 20s\n      gen 2 pid 42 died after 0s: exit status 2\n      no database\n    > see why"}},
		{"fewer workers", func(s *control.Service, _ *ward) { s.Workers = 3 }, []string{"web: 1 of 3 workers serve\n"}},
		{"not ready", func(s *control.Service, w *ward) {
			s.Generations[0].Workers[0].State, s.Generations[0].Workers[0].Status, s.State = control.Starting, "warming up", control.Starting
			w.look = sees(diag.Process{State: "running", Inodes: map[uint64]bool{9: true}})
			w.sockets = []diag.Socket{{Listening: true, Inode: 9, Local: local}}
		}, []string{"generation 2 (pid 42) is not ready, 1h00m after its start\n      it says: warming up\n      it is running\n      it has the socket of 127.0.0.1:80\n"}},
		{"failed upgrade", func(s *control.Service, _ *ward) {
			s.LastOutcome = &control.Outcome{At: now.Add(-time.Minute), Result: control.TimedOut, Reason: "not ready within 1m0s", Output: []string{"waiting for the database"}, Hint: "use --ready listen"}
		}, []string{"the last upgrade, 1m00s ago: upgrade timed out: not ready within 1m0s\n      waiting for the database\n    > use --ready listen\n"}},
		{"drain", func(s *control.Service, w *ward) {
			deadline := now.Add(10 * time.Second)
			s.Generations = append([]control.Generation{{Number: 1, State: control.Draining, Deadline: &deadline,
				Workers: []control.Worker{{Process: control.Process{PID: 41}, State: control.Draining, Since: now.Add(-20 * time.Second), Heard: now}},
				Holdouts: []control.Conn{{Peer: "10.0.0.7:99", State: "hijacked", Since: now.Add(-time.Hour)},
					{Peer: "127.0.0.1:99", State: "active", Since: now.Add(-time.Second), Request: "GET /slow"}}}}, s.Generations...)
			w.sockets = []diag.Socket{{Local: netip.MustParseAddrPort("127.0.0.1:99"), Peer: netip.MustParseAddrPort("127.0.0.1:81"), Inode: 1},
				{Local: netip.MustParseAddrPort("127.0.0.1:99"), Peer: local, Inode: 7}}
		}, []string{"web: generation 1 is still draining after 20s, and is ended by force in 10s\n",
			"      10.0.0.7:99: hijacked for 1h00m\n", fmt.Sprintf("      127.0.0.1:99 (pid %d, ", os.Getpid()), "): active for 1s: GET /slow\n", "can't move"}},
		{"drain of a program that says nothing", func(s *control.Service, w *ward) {
			s.Generations[0].State, s.Generations[0].Workers[0].State = control.Draining, control.Draining
			s.State, s.Workers = control.Starting, 0
			w.look = sees(diag.Process{State: "sleeping", Inodes: map[uint64]bool{9: true, 10: true}})
			w.sockets = []diag.Socket{{Inode: 9, Local: local, Peer: netip.MustParseAddrPort("10.0.0.7:99"), Established: true, Received: 3 * time.Minute, Waiting: 12},
				{Inode: 10, Local: local, Peer: netip.MustParseAddrPort("10.0.0.8:99"), Received: time.Second}}
		}, []string{"pid 42 has 10.0.0.7:99: last heard of 3m00s ago, 12 bytes unread\n", "pid 42 has 10.0.0.8:99: the other side has closed it\n", "> the program was told to end"}},
		{"drain of a program that hangs", func(s *control.Service, w *ward) {
			s.Generations[0].State, s.Generations[0].Workers[0].State, s.State, s.Workers = control.Draining, control.Draining, control.Starting, 0
		}, []string{"pid 42 has no connection left, and is sleeping\n"}},
		{"drain of one worker of two", func(s *control.Service, w *ward) {
			deadline := now.Add(10 * time.Second)
			old := s.Generations[0].Workers[0]
			old.PID, old.State, old.Since = 41, control.Draining, now.Add(-20*time.Second)
			s.Generations[0].Deadline, s.Generations[0].Workers = &deadline, []control.Worker{old, s.Generations[0].Workers[0]}
		}, []string{"web: a part of generation 2 (1 of 2 workers) is still draining after 20s,\n    and pid 41 is ended by force in 10s\n", "pid 41 has no connection left"}},
		{"never started", func(s *control.Service, _ *ward) {
			s.State, s.Generation, s.Generations = control.Stopped, 0, nil
			s.LastCrash = &control.Crash{Generation: 1, Exit: "stat /usr/bin/web: no such file or directory"}
		}, []string{"web: nothing serves: stopped\n      gen 1 could not be started: stat /usr/bin/web: no such file or directory\n"}},
		{"stopped by its name", func(s *control.Service, _ *ward) {
			s.State, s.Generations = control.Stopped, nil
			s.LastCrash = &control.Crash{Generation: 1, PID: 41, Exit: "exit status 1"}
		}, []string{"nothing is wrong with web\n"}},
		{"stopped", func(_ *control.Service, w *ward) { w.look = sees(diag.Process{State: "stopped"}) },
			[]string{"pid 42 is stopped: it does nothing at all\n    > kill -CONT 42\n"}},
		{"silent", func(s *control.Service, _ *ward) { s.Generations[0].Workers[0].Heard = now.Add(-time.Minute) },
			[]string{"pid 42 was last heard of 1m00s ago\n"}},
		{"descriptors", func(_ *control.Service, w *ward) {
			w.look = sees(diag.Process{State: "sleeping", Descriptors: 1000, Limit: 1024, Inodes: map[uint64]bool{1: true}})
		}, []string{"pid 42 has 1000 of 1024 descriptors open\n      1 of them are sockets\n    > raise the limit"}},
		{"backlog", func(_ *control.Service, w *ward) {
			w.look = sees(diag.Process{Inodes: map[uint64]bool{9: true}})
			w.sockets = []diag.Socket{{Listening: true, Inode: 9, Local: local, Waiting: 129, Room: 128}}
		}, []string{"web: 129 of 128 connects that may wait at 127.0.0.1:80 do: the next ones are\n    dropped\n"}},
		{"backlog of another service", func(_ *control.Service, w *ward) {
			w.look = sees(diag.Process{Inodes: map[uint64]bool{9: true}})
			w.sockets = []diag.Socket{{Listening: true, Inode: 9, Local: netip.MustParseAddrPort("127.0.0.1:81"), Waiting: 129, Room: 128}}
		}, []string{"nothing is wrong"}},
		{"binary that is gone", func(s *control.Service, _ *ward) { s.Generations[0].Workers[0].Binary = "/no/such/web" },
			[]string{"generation 2 (pid 42) doesn't run what lies on the disk: /no/such/web\n    is not there any more\n    > tablecloth upgrade web\n"}},
		{"another binary", func(s *control.Service, w *ward) {
			s.Generations[0].Workers[0].Binary = binary
			w.changed = func(int, string) (bool, error) { return true, nil }
		}, []string{"is another file now"}},
		{"binary that was written to", func(s *control.Service, _ *ward) {
			s.Generations[0].Workers[0].Binary = binary
			s.Generations[0].Workers[0].Started = time.Now().Add(-24 * 365 * time.Hour)
		}, []string{"was changed after its", "tablecloth upgrade web"}},
		{"output", func(s *control.Service, _ *ward) { s.Output = &control.Output{Lines: 10, DroppedLines: 3} },
			[]string{"3 of 10 lines of output were dropped"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := examined(c.change)
			for _, want := range c.want {
				if !strings.Contains(got, want) {
					t.Errorf("got\n%s\nwant\n%s", got, want)
				}
			}
			if n := strings.Count(got, "\nweb: "); n > 0 {
				t.Errorf("%d more: %s", n, got)
			}
		})
	}
}

// TestDoctorTellsServicesFromUnits: by their names, and by what there is.
func TestDoctorTellsServicesFromUnits(t *testing.T) {
	dir := t.TempDir()
	unit := filepath.Join(dir, "web.service")
	if err := os.WriteFile(unit, []byte("[Service]\nExecStart=/usr/bin/web\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := healthy()
	s.Generations[0].Workers[0].PID, s.Generations[0].Workers[0].Heard = os.Getpid(), time.Time{}
	s.Output = &control.Output{Lines: 10, DroppedLines: 3}
	f := startService(t, &fakeService{status: func() control.Status { return control.Status{Services: []control.Service{s}} }})
	t.Setenv(control.EnvPath, f.path)
	for _, args := range [][]string{{"doctor"}, {"doctor", "web"}, {"doctor", "web", "--control", f.path}} {
		if r := tablecloth(t, args...); r.status != exitFailed || !strings.Contains(r.stdout, "web: 3 of 10 lines of output were dropped") {
			t.Errorf("%v: %+v", args, r)
		}
	}
	var all []ailment
	if err := json.Unmarshal([]byte(tablecloth(t, "doctor", "--json").stdout), &all); err != nil || len(all) != 1 || all[0].ID != "output" || all[0].Service != "web" {
		t.Errorf("%v: %+v", err, all)
	}
	tablecloth(t, "doctor", unit).expect(t, exitFailed, "systemctl edit", "")
	t.Chdir(dir)
	tablecloth(t, "doctor", "web.service").expect(t, exitFailed, "systemctl edit", "")
	tablecloth(t, "doctor", "api", "--control", f.path).expect(t, exitUsage, "", "no service is called api")
	tablecloth(t, "doctor", "--control", filepath.Join(dir, "none")).expect(t, exitNotRunning, "", "nothing listens")
	who := "no service is"
	if systemdRuns() {
		who = "neither a service nor a unit of systemd is"
	}
	tablecloth(t, "doctor", "nothing-of-that-name").
		expect(t, exitUsage, "", "tablecloth: error: "+who+" called nothing-of-that-name\ntablecloth: hint: there is web\n")
	well := healthy()
	well.Generations[0].Workers[0].PID, well.Generations[0].Workers[0].Heard = os.Getpid(), time.Time{}
	f = startService(t, &fakeService{status: func() control.Status { return control.Status{Services: []control.Service{well}} }})
	r := tablecloth(t, "doctor", "--control", f.path)
	if r.status != exitDone || r.stdout != "nothing is wrong with web\n" {
		t.Errorf("%+v", r)
	}
}
