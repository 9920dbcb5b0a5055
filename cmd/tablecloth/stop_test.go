package main

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proc"
	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

func TestStopWaitsUntilTheServiceIsGone(t *testing.T) {
	asked := make(chan control.StopRequest, 1)
	f := startService(t, &fakeService{stop: func(r control.StopRequest) error {
		asked <- r
		return nil
	}})
	c := startTablecloth(t, "stop", "--now", "--control", f.path)
	if r := proctest.Await(t, "a request", asked); !r.Now || r.Service != "" {
		t.Errorf("%+v", r)
	}
	c.waits(t, 100*time.Millisecond)
	f.server.Close()
	c.wait(t).expect(t, exitDone, "", "")
}

// waits checks that the command hasn't ended after a while.
func (r *running) waits(t *testing.T, d time.Duration) {
	t.Helper()
	proctest.Quiet(d)
	select {
	case <-r.ended:
		t.Fatal("it does not wait")
	default:
	}
}

// The socket can be gone before the last process is.
func TestStopWaitsForTheProcesses(t *testing.T) {
	worker := exec.Command("sleep", "1000")
	if err := worker.Start(); err != nil {
		t.Fatal(err)
	}
	defer worker.Wait()
	defer worker.Process.Kill()
	started, err := proc.StartTime(worker.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeService{status: func() control.Status {
		w := control.Worker{Process: control.Process{PID: worker.Process.Pid, Started: started}}
		// A PID of another namespace: some process, but not one started then.
		other := control.Worker{Process: control.Process{PID: os.Getpid(), Started: started.Add(-time.Hour)}}
		return control.Status{Services: []control.Service{{Generations: []control.Generation{{Workers: []control.Worker{w, other}}}}}}
	}}
	f.stop = func(control.StopRequest) error {
		go f.server.Close()
		return nil
	}
	startService(t, f)
	c := startTablecloth(t, "stop", "--control", f.path)
	c.waits(t, 300*time.Millisecond)
	worker.Process.Kill()
	worker.Wait()
	c.wait(t).expect(t, exitDone, "", "")
}

func TestStopOfOneServiceOfSeveral(t *testing.T) {
	asked := make(chan struct{})
	f := &fakeService{stop: func(control.StopRequest) error { close(asked); return nil }}
	f.status = func() control.Status {
		a := control.Service{Name: "a", State: control.Serving, Generations: []control.Generation{{Number: 1}}}
		b := a
		b.Name = "b"
		select {
		case <-asked:
			a.State, a.Generations = control.Down, nil
		default:
		}
		return control.Status{Services: []control.Service{a, b}}
	}
	startService(t, f)
	tablecloth(t, "stop", "a", "--control", f.path).expect(t, exitDone, "", "")
}

func TestStopThatFails(t *testing.T) {
	f := startService(t, &fakeService{stop: func(r control.StopRequest) error {
		if r.Service == "x" {
			return &control.Error{Message: `there is no service "x"`, Hint: "there is web"}
		}
		return nil
	}})
	tablecloth(t, "stop", "x", "--control", f.path).
		expect(t, exitRefused, "", "tablecloth: error: stop refused: there is no service \"x\"\ntablecloth: hint: there is web\n")
	tablecloth(t, "stop", "--timeout", "100ms", "--control", f.path).expect(t, exitFailed, "", "is still there after 100ms\n")
}
