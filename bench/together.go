package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/tablecloth-go/tablecloth/bench/internal/measure"
	"github.com/tablecloth-go/tablecloth/bench/internal/system"
)

// measureTogether lets all systems of a round run at the same time, each with a
// process of this program that loads and watches it. What the machine does besides
// meets all of them alike.
func measureTogether(ctx context.Context, o settings, names []string) error {
	systems, err := system.Find(names...)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "tablecloth-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	results := o.results()
	results.Together = true
	r := rand.New(rand.NewPCG(o.seed, 0))
	for round := range o.rounds {
		r.Shuffle(len(systems), func(i, j int) { systems[i], systems[j] = systems[j], systems[i] })
		if err := results.together(ctx, o, systems, round, dir); err != nil {
			return err
		}
		if err := results.write(o.out); err != nil {
			return err
		}
	}
	return nil
}

// together measures one round. It fails if one of the systems does, as the others
// had less company then.
func (r *results) together(ctx context.Context, o settings, systems []*system.System, round int, dir string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var running []*exec.Cmd
	outs := make([]string, len(systems))
	for i, s := range systems {
		outs[i] = filepath.Join(dir, s.Name+".json")
		cmd := exec.CommandContext(ctx, self, "steady", s.Name, "--rounds=1", "--window", fmt.Sprint(o.seconds),
			"--blind", o.blind.String(), "--saturated="+strconv.FormatBool(o.saturated), "--seed", strconv.FormatUint(o.seed+uint64(round), 10), "-o", outs[i])
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it ends what it has started
		cmd.Stderr = os.Stderr
		if err = cmd.Start(); err != nil {
			break
		}
		running = append(running, cmd)
	}
	for _, cmd := range running {
		err = errors.Join(err, cmd.Wait())
	}
	for i, s := range systems {
		if err == nil {
			err = r.take(outs[i], s.Name, round)
		}
	}
	return err
}

// take adds what was measured of one system.
func (r *results) take(path, name string, round int) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var one measure.Results
	if err := json.Unmarshal(data, &one); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if len(one.Steady) != 1 {
		return fmt.Errorf("%s wasn't measured: %s", name, one.LeftOut[name])
	}
	r.Versions[name] = one.Versions[name]
	st := one.Steady[0]
	st.Round = round
	r.add(st)
	return os.Remove(path)
}
