package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/bench/internal/measure"
	"github.com/tablecloth-go/tablecloth/bench/internal/system"
	"github.com/tablecloth-go/tablecloth/internal/strict"
)

// The test binary is also the measured programs.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "serve" {
		if err := program(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 2 && os.Args[1] == "steady" {
		main()
		return
	}
	if err := system.Adopt(); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// upgradeOf upgrades a system once, under a small load. Only counts matter, so
// the window is generous.
func upgradeOf(t *testing.T, name string) measure.Event {
	found, err := system.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	events, err := measure.Measure(t.Context(), &system.Bed{Self: self, Dir: t.TempDir()}, found[0], measure.Plan{
		Action: "upgrade", Events: 1, Warm: 300 * time.Millisecond, Window: 3 * time.Second, Seed: 1,
		Groups: []strict.Group{{Kind: strict.Idle, N: 40, Pause: 500 * time.Millisecond}, {Kind: strict.Post, N: 10}, {Kind: strict.Connect, Rate: 20}},
	})
	if err != nil {
		t.Fatal(err)
	}
	e := events[0]
	if e.Error != "" || e.FirstNew == measure.Never || e.Open != 50 {
		t.Fatalf("%+v", e)
	}
	return e
}

func TestTableclothAgainstTableflip(t *testing.T) {
	ours, theirs := upgradeOf(t, "tablecloth"), upgradeOf(t, "tableflip")
	if ours.Lost() != 0 || ours.Closed() != 0 || ours.Ends[strict.Announced] != 0 {
		t.Errorf("tablecloth failed %v, ended %v", ours.Failed, ours.Ends)
	}
	if ours.Moved < 50 {
		t.Errorf("%d of 50 connections were seen to move", ours.Moved)
	}
	// The same measurement must see what the other one closes.
	if theirs.Closed()+theirs.Ends[strict.Announced] < 40 || theirs.Moved != 0 {
		t.Errorf("tableflip ended %v, moved %d", theirs.Ends, theirs.Moved)
	}
}

func TestAllTogether(t *testing.T) {
	out := filepath.Join(t.TempDir(), "results.json")
	if err := measureTogether(t.Context(), settings{rounds: 2, seconds: 0.5, seed: 1, saturated: true, out: out}, []string{"killed-0", "kept"}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var r measure.Results
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	if !r.Together || !r.Saturated || len(r.Steady) != 4 {
		t.Fatalf("%+v", r)
	}
	for i, st := range r.Steady {
		if st.Round != i/2 || st.Answers == 0 || st.Failed > 0 || st.CPU == 0 {
			t.Errorf("%+v", st)
		}
	}
}
