package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

const roleVariable = "TABLECLOTH_TEST_ROLE"

// roles are what the test binary plays when it is started with roleVariable set.
var roles = map[string]func(){"tablecloth": main}

func TestMain(m *testing.M) {
	role := os.Getenv(roleVariable)
	if role == "" {
		os.Exit(m.Run())
	}
	os.Unsetenv(roleVariable)
	roles[role]()
}

// as makes a command of the test binary in a role.
func as(t *testing.T, role string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role, "GORACE=atexit_sleep_ms=0")
	return cmd
}

// result is how a run of the command ended.
type result struct {
	stdout, stderr string
	status         int
}

// tablecloth runs the command.
func tablecloth(t *testing.T, args ...string) result {
	t.Helper()
	return startTablecloth(t, args...).wait(t)
}

type running struct {
	cmd         *exec.Cmd
	out, errOut bytes.Buffer
	ended       chan error
}

func startTablecloth(t *testing.T, args ...string) *running {
	t.Helper()
	r := &running{cmd: as(t, "tablecloth", args...), ended: make(chan error, 1)}
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.errOut
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { r.ended <- r.cmd.Wait() }()
	return r
}

func (r *running) wait(t *testing.T) result {
	t.Helper()
	return r.waitFor(t, proctest.Patience(t))
}

func (r *running) waitFor(t *testing.T, long time.Duration) result {
	t.Helper()
	select {
	case err := <-r.ended:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
	case <-time.After(long):
		r.cmd.Process.Signal(syscall.SIGABRT)
		<-r.ended
		t.Fatalf("%v does not end:\n%s%s", r.cmd.Args, &r.out, &r.errOut)
	}
	return result{r.out.String(), r.errOut.String(), r.cmd.ProcessState.ExitCode()}
}

// expect compares an exit status, and looks for what must have been said.
func (r result) expect(t *testing.T, status int, stdout, stderr string) {
	t.Helper()
	if r.status != status {
		t.Errorf("exit status %d, want %d", r.status, status)
	}
	if !strings.Contains(r.stdout, stdout) || stdout == "" && r.stdout != "" {
		t.Errorf("stdout %q, want %q", r.stdout, stdout)
	}
	if !strings.Contains(r.stderr, stderr) || stderr == "" && r.stderr != "" {
		t.Errorf("stderr %q, want %q", r.stderr, stderr)
	}
	if strings.Contains(r.stdout+r.stderr, "\x1b") {
		t.Errorf("escape sequences without a terminal: %q %q", r.stdout, r.stderr)
	}
}

// fakeService answers on a control socket as a test says.
type fakeService struct {
	status   func() control.Status
	outcomes control.Outcomes
	upgrade  func(context.Context, control.UpgradeRequest) control.Outcome
	stop     func(control.StopRequest) error
	scale    func(control.ScaleRequest) control.Outcome
	hear     func(control.Broadcast) (control.BroadcastAnswer, error)

	path   string
	events *control.Events
	server *control.Server
	ln     *control.Listener
}

func (f *fakeService) Status() control.Status {
	st := control.Status{}
	if f.status != nil {
		st = f.status()
	}
	st.Mode = cmp.Or(st.Mode, "alone")
	return st
}

func (f *fakeService) Upgrade(ctx context.Context, r control.UpgradeRequest) control.Outcome {
	return f.upgrade(ctx, r)
}

func (f *fakeService) Outcome(ctx context.Context, id string) (control.Outcome, bool) {
	return f.outcomes.Wait(ctx, id)
}

func (f *fakeService) Stop(_ context.Context, r control.StopRequest) error { return f.stop(r) }
func (f *fakeService) Scale(_ context.Context, r control.ScaleRequest) control.Outcome {
	return f.scale(r)
}

func (f *fakeService) Broadcast(_ context.Context, b control.Broadcast) (control.BroadcastAnswer, error) {
	return f.hear(b)
}

func (f *fakeService) Live() bool  { return true }
func (f *fakeService) Ready() bool { return true }

func startService(t *testing.T, f *fakeService) *fakeService {
	t.Helper()
	return serve(t, f, f)
}

// serve answers by b, which is f or a part of it.
func serve(t *testing.T, f *fakeService, b control.Backend) *fakeService {
	t.Helper()
	ln, err := control.Listen(filepath.Join(t.TempDir(), "control"), control.ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f.path, f.ln, f.events = ln.Path(), ln, control.NewEvents(0)
	f.server = &control.Server{Backend: b, Events: f.events}
	served := make(chan error, 1)
	go func() { served <- f.server.Serve(ln) }()
	t.Cleanup(func() {
		f.server.Close()
		<-served
	})
	return f
}
