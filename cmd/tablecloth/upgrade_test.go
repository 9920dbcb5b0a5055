package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// ended makes a service whose upgrades all end like that.
func ended(out control.Outcome) *fakeService {
	return &fakeService{upgrade: func(_ context.Context, r control.UpgradeRequest) control.Outcome {
		out.ID, out.Trigger, out.At = r.ID, r.Trigger, time.Now()
		return out
	}}
}

func TestUpgradeSaysHowItEnded(t *testing.T) {
	gaveUp := ended(control.Outcome{Result: control.Failed, Reason: "the new process has ended", Exit: "exit status 7"})
	gaveUp.status = func() control.Status {
		return control.Status{Services: []control.Service{{Name: "web", State: control.GaveUp}}}
	}
	down := ended(control.Outcome{Result: control.Failed, Service: "web", Generation: 1, Reason: "the new process has ended", Exit: "exit status 7"})
	down.status = func() control.Status {
		return control.Status{Services: []control.Service{{Name: "api", State: control.Serving}, {Name: "web", State: control.Starting}}}
	}
	died := ended(control.Outcome{Result: control.Failed, Service: "web", Generation: 1, PID: 4711, Reason: "the new process has ended"})
	died.status = down.status // since then
	for _, c := range []struct {
		name           string
		service        *fakeService
		status         int
		stdout, stderr string
	}{
		{"ready", ended(control.Outcome{Result: control.Ready, Generation: 5, PID: 4712, Took: 312 * time.Millisecond, Confirmed: true}),
			exitDone, "generation 5 is ready: pid 4712, after 312ms\n", ""},
		{"not confirmed", ended(control.Outcome{Result: control.Ready, Service: "web", Generation: 5, PID: 4712, Took: 3 * time.Second}),
			exitDone, "web: generation 5 is ready: pid 4712, after 3s (not confirmed", ""},
		{"failed", ended(control.Outcome{Result: control.Failed, Generation: 4, PID: 4711, Reason: "the new process has ended before it was ready",
			Exit: "exit status 7", Output: []string{"listening", "\x1b[31mno database"}}),
			exitFailed, "", "tablecloth: error: upgrade failed: the new process has ended before it was ready: exit status 7\n" +
				"  listening\n  ·[31mno database\ntablecloth: hint: generation 4 (pid 4711) still serves\n"},
		{"timed out", ended(control.Outcome{Result: control.TimedOut, Reason: "not ready within 1m0s", Hint: "raise ReadyTimeout"}),
			exitFailed, "", "tablecloth: error: upgrade timed out: not ready within 1m0s\ntablecloth: hint: raise ReadyTimeout\n"},
		{"refused", ended(control.Outcome{Result: control.Refused, Reason: "the service is being stopped"}),
			exitRefused, "", "tablecloth: error: upgrade refused: the service is being stopped\n"},
		{"gave up", gaveUp, exitGaveUp, "", "tablecloth: hint: nothing serves"},
		{"nothing served before", down, exitGaveUp, "", "tablecloth: hint: nothing serves"},
		{"what served is started again", died, exitFailed, "", "generation 1 (pid 4711) still serves"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := startService(t, c.service)
			tablecloth(t, "upgrade", "--control", f.path).expect(t, c.status, c.stdout, c.stderr)
			r := tablecloth(t, "--control", f.path, "upgrade", "--json")
			var out control.Outcome
			if err := json.Unmarshal([]byte(r.stdout), &out); err != nil || r.status != c.status || out.Result == "" {
				t.Errorf("%v, exit status %d: %s", err, r.status, r.stdout)
			}
		})
	}
}

// An outcome that can't be printed is unknown to who has asked, not a failure.
func TestAnOutcomeThatCantBePrinted(t *testing.T) {
	f := startService(t, ended(control.Outcome{Result: control.Ready, Generation: 5, PID: 4712}))
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	testenv.Need(t, "/dev/full", err == nil)
	defer full.Close()
	var stderr strings.Builder
	cmd := as(t, "tablecloth", "upgrade", "--control", f.path, "--json")
	cmd.Stdout, cmd.Stderr = full, &stderr
	cmd.Run()
	if n := cmd.ProcessState.ExitCode(); n != exitUnknown || !strings.Contains(stderr.String(), "tablecloth: error: the outcome can't be printed: ") {
		t.Errorf("exit status %d: %s", n, &stderr)
	}
}

func TestOutputThatCantBeWritten(t *testing.T) {
	f := startService(t, &fakeService{})
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	testenv.Need(t, "/dev/full", err == nil)
	defer full.Close()
	for _, args := range [][]string{{"version"}, {"version", "--json"}, {"--help"}, {"status", "--control", f.path}, {"doctor", "--control", f.path}} {
		var stderr strings.Builder
		cmd := as(t, "tablecloth", args...)
		cmd.Stdout, cmd.Stderr = full, &stderr
		cmd.Run()
		if n := cmd.ProcessState.ExitCode(); n != exitFailed || !strings.Contains(stderr.String(), "no space left") {
			t.Errorf("%q: exit status %d: %s", args, n, &stderr)
		}
	}
}

func TestUpgradePassesOnWhatIsAsked(t *testing.T) {
	asked := make(chan control.UpgradeRequest, 1)
	f := startService(t, &fakeService{upgrade: func(_ context.Context, r control.UpgradeRequest) control.Outcome {
		asked <- r
		return control.Outcome{ID: r.ID, Result: control.Ready, Confirmed: true}
	}})
	t.Setenv(control.EnvPath, f.path)
	tablecloth(t, "upgrade", "web", "--now", "--", "--port", "80").expect(t, exitDone, "is ready", "")
	if got := proctest.Await(t, "a request", asked); got.Service != "web" || !got.Now || !slices.Equal(got.Args, []string{"--port", "80"}) {
		t.Errorf("%+v", got)
	}
	tablecloth(t, "upgrade", "a", "b", "--all-at-once").expect(t, exitDone, "is ready", "")
	if got := proctest.Await(t, "a request", asked); !slices.Equal(got.Services, []string{"a", "b"}) || got.Service != "" || !got.AllAtOnce || got.All {
		t.Errorf("%+v", got)
	}
	tablecloth(t, "restart", "a", "b").expect(t, exitDone, "is ready", "")
	if got := proctest.Await(t, "a request", asked); !slices.Equal(got.Services, []string{"a", "b"}) || !got.Restart {
		t.Errorf("%+v", got)
	}
	tablecloth(t, "upgrade").expect(t, exitDone, "is ready", "")
	if got := proctest.Await(t, "a request", asked); got.Service != "" || got.Now || got.Args != nil {
		t.Errorf("%+v", got)
	}
}

// TestUpgradeOfSeveralServices: each has its line, those after a failure have none.
func TestUpgradeOfSeveralServices(t *testing.T) {
	good := control.Outcome{Service: "api", Result: control.Ready, Generation: 3, PID: 4712, Took: time.Second, Confirmed: true}
	bad := control.Outcome{Service: "web", Result: control.Failed, Generation: 4, PID: 4711, Reason: "the new process has ended", Exit: "exit status 7", Output: []string{"no database"}}
	out := bad
	out.Services = []control.Outcome{good, bad}
	out.Changes = &control.Changes{Added: []string{"jobs"}, Replaced: []string{"api", "web"}, Unchanged: []string{"db", "mail"}}
	f := startService(t, ended(out))
	r := tablecloth(t, "upgrade", "--control", f.path)
	r.expect(t, exitFailed,
		"added:       jobs\nreplaced:    api, web\nnot touched: db, mail\napi: generation 3 is ready: pid 4712, after 1s\n",
		"tablecloth: error: web: upgrade failed: the new process has ended: exit status 7\n  no database\ntablecloth: hint: generation 4 (pid 4711) still serves\n")
	if strings.Count(r.stderr, "error") != 1 {
		t.Error(r.stderr)
	}
	out = control.Outcome{Result: control.Refused, Reason: "tablecloth.yaml:3:5: unknown key"}
	f = startService(t, ended(out))
	tablecloth(t, "upgrade", "--control", f.path).expect(t, exitRefused, "", "tablecloth: error: upgrade refused: tablecloth.yaml:3:5: unknown key\n")
}

func TestUsageErrors(t *testing.T) {
	for _, args := range [][]string{
		{"upgrade", "a", "b", "--", "arg"}, {"upgrade", "--no-such-flag"}, {"upgrade", "--timeout", "soon"},
		{"upgrade", "--pidfile", "x", "--control", "y"}, {"upgrade", "--pidfile", "x", "web"},
		{"upgrade", "--pidfile", "x", "--", "arg"}, {"upgrade", "--pidfile", "x", "--now"},
		{"scale"}, {"scale", "web"}, {"scale", "web=0"}, {"scale", "=2"}, {"scale", "2", "3"}, {"broadcast"}, {"broadcast", "a", "b", "c"},
		{"check", "x"}, {"check", "-f", "/no/such/file"}, {"init", "a", "b"}, {"events", "--since", "-1"}, {"events", "x"}, {"version", "x"},
		{"no-such-command"}, {"upgrad"}, {"--no-such-flag"},
	} {
		r := tablecloth(t, args...)
		r.expect(t, exitUsage, "", "tablecloth: hint: ")
		if !strings.HasPrefix(r.stderr, "tablecloth: error: ") || strings.Count(r.stderr, "\n") != 2 {
			t.Errorf("%v: %q", args, r.stderr)
		}
	}
	tablecloth(t, "check", "web.yaml").expect(t, exitUsage, "", "tablecloth: error: tablecloth check takes no argument: \"web.yaml\"\ntablecloth: hint: did you mean --file web.yaml?\n")
	tablecloth(t, "events", "web").expect(t, exitUsage, "", "tablecloth: error: tablecloth events takes no argument: \"web\"\n")
	tablecloth(t, "events", "--since", "x").expect(t, exitUsage, "", "tablecloth: error: invalid argument \"x\" for \"--since\" flag: invalid syntax\n")
	tablecloth(t, "upgrad").expect(t, exitUsage, "", "tablecloth: hint: did you mean tablecloth upgrade?\n")
}

func TestNotRunning(t *testing.T) {
	for _, command := range []string{"upgrade", "status", "stop", "events"} {
		r := tablecloth(t, command, "--control", t.TempDir()+"/none")
		r.expect(t, exitNotRunning, "", "tablecloth: error: nothing listens on the control socket")
	}
}

// waiting is a service whose upgrade lasts until its requester has gone. then says
// what came of it.
func waiting(t *testing.T, then func(control.UpgradeRequest) *control.Outcome) (*fakeService, chan struct{}) {
	began := make(chan struct{})
	f := &fakeService{}
	f.upgrade = func(ctx context.Context, r control.UpgradeRequest) control.Outcome {
		f.outcomes.Begin(r.ID)
		close(began)
		<-ctx.Done()
		if out := then(r); out != nil {
			f.outcomes.Finish(*out)
		} else {
			f.outcomes.Forget(r.ID)
		}
		return control.Outcome{}
	}
	return startService(t, f), began
}

func TestCtrlCCancelsTheUpgrade(t *testing.T) {
	f, began := waiting(t, func(r control.UpgradeRequest) *control.Outcome {
		return &control.Outcome{ID: r.ID, Result: control.Failed, Reason: "cancelled", Generation: 4, PID: 4711}
	})
	c := startTablecloth(t, "upgrade", "--control", f.path)
	proctest.Await(t, "the upgrade", began)
	c.cmd.Process.Signal(os.Interrupt)
	c.wait(t).expect(t, exitFailed, "", "tablecloth: error: upgrade failed: interrupted: the upgrade was cancelled\n")
}

func TestCtrlCCanComeTooLate(t *testing.T) {
	f, began := waiting(t, func(r control.UpgradeRequest) *control.Outcome {
		return &control.Outcome{ID: r.ID, Result: control.Ready, Generation: 5, PID: 4712, Confirmed: true}
	})
	c := startTablecloth(t, "upgrade", "--control", f.path)
	proctest.Await(t, "the upgrade", began)
	c.cmd.Process.Signal(os.Interrupt)
	c.wait(t).expect(t, exitDone, "generation 5 is ready", "")
}

func TestTheEndOfTheTimeoutCancelsTheUpgrade(t *testing.T) {
	for timeout := 100 * time.Millisecond; ; timeout *= 4 {
		f, began := waiting(t, func(r control.UpgradeRequest) *control.Outcome {
			return &control.Outcome{ID: r.ID, Result: control.Failed, Generation: 4, PID: 4711}
		})
		r := tablecloth(t, "upgrade", "--control", f.path, "--timeout", timeout.String())
		select {
		case <-began:
			r.expect(t, exitFailed, "", fmt.Sprintf("no outcome within --timeout %v: the upgrade was cancelled", timeout))
			return
		default: // it was over before the service was asked
			r.expect(t, exitUnknown, "", "its outcome is not known")
		}
	}
}

func TestAnUpgradeOfWhichNobodyKnowsAnything(t *testing.T) {
	f, began := waiting(t, func(control.UpgradeRequest) *control.Outcome { return nil })
	c := startTablecloth(t, "upgrade", "--control", f.path)
	proctest.Await(t, "the upgrade", began)
	c.cmd.Process.Signal(os.Interrupt)
	c.wait(t).expect(t, exitUnknown, "", "its outcome is not known\n")
}

// One that has moved to the next generation can't be cancelled by going away.
func TestAnUpgradeThatGoesOnAfterCtrlC(t *testing.T) {
	t.Parallel() // the command asks for three seconds
	began := make(chan struct{}, 1)
	f := &fakeService{}
	f.upgrade = func(_ context.Context, r control.UpgradeRequest) control.Outcome {
		f.outcomes.Begin(r.ID)
		began <- struct{}{}
		return control.Outcome{ID: r.ID, Result: control.Moved}
	}
	startService(t, f)
	c := startTablecloth(t, "upgrade", "--control", f.path)
	proctest.Await(t, "the upgrade", began)
	c.cmd.Process.Signal(os.Interrupt)
	c.wait(t).expect(t, exitUnknown, "", "interrupted: the upgrade is still under way\n")
}

// Times on the command line are read, and refused, as those of a file.
func TestTimesOfFlags(t *testing.T) {
	for _, c := range []struct{ args, says string }{
		{"upgrade --timeout 5", "5: a time needs its unit: did you mean 5s?"},
		{"scale --timeout -5s 2", "-5s: a time can't be negative"},
		{"stop --timeout soon", "no time like 30s"},
		{"status --interval 5", "did you mean 5s?"},
		{"unit --kill-timeout -1s -- /bin/sh", "a time can't be negative"},
		{"unit --stop-timeout 0 -- /bin/sh", "leave it out for the default, 8s"},
	} {
		tablecloth(t, strings.Fields(c.args)...).expect(t, exitUsage, "", c.says)
	}
	tablecloth(t, "unit", "--kill-timeout", "1d", "--", "/bin/sh").expect(t, exitDone, "--kill-timeout=24h0m0s", "")
}
