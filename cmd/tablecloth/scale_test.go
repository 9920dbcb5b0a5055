package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

func TestScale(t *testing.T) {
	var asked []string
	f := startService(t, &fakeService{scale: func(r control.ScaleRequest) control.Outcome {
		asked = append(asked, fmt.Sprintf("%s=%d", r.Service, r.Workers))
		if r.Workers > 8 {
			return control.Outcome{ID: r.ID, Service: r.Service, Result: control.Failed, Reason: "worker 8 has ended", Generation: 2, PID: 7}
		}
		return control.Outcome{ID: r.ID, Service: r.Service, Result: control.Ready, Workers: r.Workers, Generation: 2, Took: time.Second, Confirmed: true}
	}})
	tablecloth(t, "scale", "--control", f.path, "web=4", "api=1").
		expect(t, exitDone, "web: 4 workers of generation 2, after 1s\napi: 1 worker of generation 2, after 1s\n", "")
	tablecloth(t, "scale", "--control", f.path, "2").expect(t, exitDone, "2 workers of generation 2", "")
	tablecloth(t, "scale", "--control", f.path, "web=9", "api=1").
		expect(t, exitFailed, "", "tablecloth: error: web: scaling failed: worker 8 has ended\n")
	if got := strings.Join(asked, " "); got != "web=4 api=1 =2 web=9" {
		t.Error(got)
	}
}

// A service that replaces itself has no workers.
func TestAloneNothingIsScaled(t *testing.T) {
	alone := &fakeService{}
	f := serve(t, alone, struct{ control.Backend }{alone})
	tablecloth(t, "scale", "--control", f.path, "2").
		expect(t, exitRefused, "", "tablecloth: error: scaling refused: this service has no workers that could be scaled\ntablecloth: hint: ")
}

func TestBroadcast(t *testing.T) {
	var heard []control.Broadcast
	f := startService(t, &fakeService{hear: func(b control.Broadcast) (control.BroadcastAnswer, error) {
		heard = append(heard, b)
		switch b.Service {
		case "deaf":
			return control.BroadcastAnswer{Deaf: 2}, nil
		case "none":
			return control.BroadcastAnswer{}, &control.Error{Message: `no service is called "none"`}
		}
		return control.BroadcastAnswer{Workers: 3, Deaf: 1}, nil
	}})
	t.Setenv(control.EnvPath, f.path)
	tablecloth(t, "broadcast", "reload the list").expect(t, exitDone, "sent to 3 workers; 1 other can't hear it\n", "")
	tablecloth(t, "broadcast", "web", "x", "--json").expect(t, exitDone, `"workers": 3`, "")
	tablecloth(t, "broadcast", "deaf", "x").expect(t, exitFailed, "", "none of 2 workers can hear it")
	tablecloth(t, "broadcast", "none", "x").expect(t, exitRefused, "", "broadcast refused: no service is called")
	if len(heard) != 4 || string(heard[0].Message) != "reload the list" || heard[0].Service != "" || heard[1].Service != "web" {
		t.Errorf("%+v", heard)
	}
	tablecloth(t, "broadcast", strings.Repeat("x", control.MaxBroadcast+1)).expect(t, exitUsage, "", "more than 32768 bytes")
}
