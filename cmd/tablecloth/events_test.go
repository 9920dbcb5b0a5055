package main

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/cmd/internal/golden"
	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

func TestEventsCommand(t *testing.T) {
	f := startService(t, &fakeService{})
	f.events.Publish(control.Event{Kind: control.EventStart, Generation: 2, PID: 4712})
	f.events.Publish(control.Event{Kind: control.EventHandover, Generation: 1, PID: 4711, Text: "connections have moved", Counts: map[string]int{"moved": 212, "kept": 3}})
	r := tablecloth(t, "events", "--control", f.path)
	r.expect(t, exitDone, "     1  start     gen 2 pid 4712\n", "")
	r.expect(t, exitDone, "     2  handover  gen 1 pid 4711: connections have moved; kept 3, moved 212\n", "")
	r = tablecloth(t, "events", "--json", "--since", "1", "--control", f.path)
	var ev control.Event
	if err := json.Unmarshal([]byte(r.stdout), &ev); err != nil || ev.Seq != 2 || ev.Counts["moved"] != 212 {
		t.Errorf("%v: %+v", err, r)
	}
}

func TestEventsFollowUntilCtrlC(t *testing.T) {
	f := startService(t, &fakeService{})
	f.events.Publish(control.Event{Kind: control.EventStart})
	cmd := as(t, "tablecloth", "events", "--follow", "--control", f.path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := time.AfterFunc(proctest.Patience(t), func() { cmd.Process.Kill() })
	defer stop.Stop()
	lines := bufio.NewScanner(out)
	for _, kind := range []string{control.EventStart, control.EventReady, control.EventStop} {
		if !lines.Scan() || !strings.Contains(lines.Text(), kind) {
			t.Errorf("%q, want %s", lines.Text(), kind)
		}
		if kind == control.EventStart {
			f.events.EndStreams() // as at a change of generations
			f.events.Publish(control.Event{Kind: control.EventReady})
			f.events.Publish(control.Event{Kind: control.EventStop})
		}
	}
	cmd.Process.Signal(os.Interrupt)
	if err := cmd.Wait(); err != nil {
		t.Errorf("after Ctrl-C: %v", err)
	}
}

func TestVersionCommand(t *testing.T) {
	tablecloth(t, "version").expect(t, exitDone, "tablecloth ", "")
	var v version
	r := tablecloth(t, "version", "--json")
	if err := json.Unmarshal([]byte(r.stdout), &v); err != nil || v.Control != control.Version || v.Go == "" {
		t.Errorf("%v: %+v", err, r)
	}
}

// TestHelpFitsATerminal pins every --help as it is shown. 24 lines are enough for
// those that one needs in a hurry.
func TestHelpFitsATerminal(t *testing.T) {
	long := map[string]bool{"": true, "run": true, "unit": true, "demo": true, "doctor": true}
	commands := []string{""}
	for _, c := range newRootCommand().Commands() {
		if c.IsAvailableCommand() && c.Name() != "completion" {
			commands = append(commands, c.Name())
		}
	}
	for _, command := range commands {
		r := tablecloth(t, strings.Fields(command+" --help")...)
		if n := strings.Count(r.stdout, "\n"); n > 24 && !long[command] || r.status != 0 {
			t.Errorf("%s: %d lines, exit status %d", command, n, r.status)
		}
		checkWidth(t, r.stdout, 80)
		if command != "demo" && command != "unit" { // their defaults are of the machine
			golden.Compare(t, "help/"+orElse(command, "tablecloth")+".txt", r.stdout)
		}
	}
}
