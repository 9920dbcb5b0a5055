package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tablecloth-go/tablecloth/bench/internal/measure"
	"github.com/tablecloth-go/tablecloth/bench/internal/system"
	"github.com/tablecloth-go/tablecloth/internal/strict"
)

// settings of a measurement.
type settings struct {
	rounds, events int
	seconds        float64 // window
	blind          time.Duration
	seed           uint64
	idle           int
	together       bool
	saturated      bool
	out            string
}

func (o *settings) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.IntVar(&o.rounds, "rounds", 3, "rounds; each measures every system once, in another order")
	f.IntVar(&o.events, "events", 1, "events in a round, of each system")
	f.Float64Var(&o.seconds, "window", 3, "`seconds` that are watched before an event, and from it on")
	f.DurationVar(&o.blind, "blind", 0, "clients don't see the end of a connection that comes so shortly before they send, as on a network (2ms)")
	f.Uint64Var(&o.seed, "seed", 1, "of what clients send, and of the order")
	f.StringVarP(&o.out, "out", "o", "results.json", "`file` for the results")
}

var actions = map[string]string{
	"upgrade": "Replace the program under load",
	"crash":   "kill -9 the process that serves, under load",
	"panic":   "Let a goroutine panic that nobody recovers, under load",
	"idle":    "Replace the program under many idle connections",
	"beside":  "Start the program once more beside the one that serves, under load",
	"steady":  "Do nothing: CPU time per request, memory, latency",
}

func actionCommands() []*cobra.Command {
	var cmds []*cobra.Command
	for _, action := range []string{"upgrade", "beside", "crash", "panic", "steady", "idle"} {
		var o settings
		cmd := &cobra.Command{
			Use:   action + " [SYSTEM...]",
			Short: actions[action],
			RunE: func(cmd *cobra.Command, names []string) error {
				if o.together {
					return measureTogether(cmd.Context(), o, names)
				}
				return measureAll(cmd.Context(), o, []string{action}, names)
			},
		}
		o.flags(cmd)
		switch action {
		case "idle":
			cmd.Flags().IntVarP(&o.idle, "connections", "n", 2000, "idle connections")
		case "steady":
			cmd.Flags().BoolVar(&o.together, "together", false, "all systems at the same time, each under a load of its own: tells differences of one percent")
			cmd.Flags().BoolVar(&o.saturated, "saturated", false, "with clients that don't pause")
		}
		cmds = append(cmds, cmd)
	}
	return cmds
}

func allCommand() *cobra.Command {
	var o settings
	var quick, full bool
	var kinds []string
	cmd := &cobra.Command{
		Use:   "all [SYSTEM...]",
		Short: "Upgrades, starts beside, crashes, panics and the steady state of all systems",
		Long: `Measure upgrades, starts beside, crashes, panics and the steady state, by turns.

--quick takes 3 to 4 minutes, for upgrades and crashes; --full takes about two
and a half hours.`,
		RunE: func(cmd *cobra.Command, names []string) error {
			preset(cmd, &o, quick, full)
			for _, k := range kinds {
				if actions[k] == "" {
					return fmt.Errorf("there is no action %q; there are %s", k, strings.Join(slices.Sorted(maps.Keys(actions)), ", "))
				}
			}
			return measureAll(cmd.Context(), o, kinds, names)
		},
	}
	o.flags(cmd)
	cmd.Flags().StringSliceVar(&kinds, "actions", []string{"upgrade", "beside", "crash", "panic", "steady"}, "what to measure")
	cmd.Flags().BoolVar(&quick, "quick", false, "one round, a short window")
	cmd.Flags().BoolVar(&full, "full", false, "20 rounds")
	cmd.Flags().IntVarP(&o.idle, "connections", "n", 2000, "idle connections")
	cmd.MarkFlagsMutuallyExclusive("quick", "full")
	return cmd
}

// preset sets what wasn't asked for by a flag of its own.
func preset(cmd *cobra.Command, o *settings, quick, full bool) {
	set := func(name, value string) {
		if !cmd.Flags().Changed(name) {
			cmd.Flags().Set(name, value)
		}
	}
	switch {
	case quick:
		set("rounds", "1")
		set("actions", "upgrade,crash")
		set("window", "1.8")
		set("events", "1")
	case full:
		set("rounds", "20")
		set("window", "2")
		set("events", "1")
	}
}

// measureAll does rounds of all actions with all systems, interleaved, so that
// what the machine does besides meets all of them.
func measureAll(ctx context.Context, o settings, kinds, names []string) error {
	systems, err := system.Find(names...)
	if err != nil {
		return err
	}
	if err := system.Adopt(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "tablecloth-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bed, err := system.NewBed(dir)
	if err != nil {
		return err
	}
	results := o.results()
	systems = results.available(bed, systems)
	r := rand.New(rand.NewPCG(o.seed, 0))
	for round := range o.rounds {
		for _, kind := range kinds {
			for _, i := range r.Perm(len(systems)) {
				s := systems[i]
				if s.Skip[kind] != "" || ctx.Err() != nil {
					continue
				}
				if err := results.measure(ctx, bed, s, o.plan(kind, round), round); err != nil {
					fmt.Fprintf(os.Stderr, "%s %s: %v\n", kind, s.Name, err)
				}
			}
		}
		// A long measurement that is interrupted isn't lost.
		if err := results.write(o.out); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (o settings) plan(kind string, round int) measure.Plan {
	p := measure.Plan{
		Action: kind,
		Events: o.events,
		Warm:   700 * time.Millisecond,
		Window: time.Duration(o.seconds * float64(time.Second)),
		Blind:  o.blind,
		Seed:   o.seed + uint64(round),
	}
	p.Groups = o.groups(kind)
	return p
}

func (o settings) groups(kind string) []strict.Group {
	switch {
	case kind == "idle":
		return measure.Mostly(o.idle)
	case o.saturated:
		return measure.Restless()
	}
	return measure.Mix()
}

// results are those of this call.
type results struct{ measure.Results }

func (o settings) results() *results {
	return &results{measure.Results{
		Command:   "bench " + strings.Join(os.Args[1:], " "),
		Commit:    commit(),
		Date:      time.Now().UTC().Truncate(time.Second),
		Machine:   machine(),
		Load:      loadAverages(),
		Seed:      o.seed,
		Blind:     o.blind,
		Window:    time.Duration(o.seconds * float64(time.Second)),
		Groups:    o.groups(""),
		Saturated: o.saturated,
		Versions:  map[string]string{},
		LeftOut:   map[string]string{},
	}}
}

// available drops the systems that can't be measured here, and says so.
func (r *results) available(b *system.Bed, systems []*system.System) []*system.System {
	var found []*system.System
	for _, s := range systems {
		v, err := s.Version(b)
		if err != nil {
			r.LeftOut[s.Name] = err.Error()
			fmt.Fprintf(os.Stderr, "%s is left out: %v\n", s.Name, err)
			continue
		}
		r.Versions[s.Name] = v
		found = append(found, s)
	}
	return found
}

func (r *results) measure(ctx context.Context, b *system.Bed, s *system.System, p measure.Plan, round int) error {
	if p.Action == "steady" {
		st, err := measure.MeasureSteady(ctx, b, s, p)
		if err != nil {
			return err
		}
		st.Round = round
		r.add(st)
		return nil
	}
	events, err := measure.Measure(ctx, b, s, p)
	for _, e := range events {
		e.Round = round
		if round > 0 || e.Number > 0 {
			e.Line = nil // one is drawn
		}
		r.Events = append(r.Events, e)
		fmt.Println(summary(e))
	}
	return err
}

func (r *results) add(st measure.Steady) {
	r.Steady = append(r.Steady, st)
	fmt.Printf("steady   %-14s %s per answer, %d MB, p99 %s\n", st.System,
		(st.CPU / time.Duration(max(1, st.Answers))).Round(time.Microsecond), st.Memory>>20, st.Latency.P99)
}

func summary(e measure.Event) string {
	s := fmt.Sprintf("%-8s %-14s %4d requests, failed: %d fresh, %d GET, %d POST; %3d of %d connections closed, %d announced, %d moved; new after %d ms, gap %d ms",
		e.Action, e.System, e.Requests, e.LostOf(measure.Fresh), e.LostOf(measure.Reused), e.LostOf(measure.Posts),
		e.Closed(), e.Open, e.Ends[strict.Announced], e.Moved, e.FirstNew.Milliseconds(), e.Gap.Milliseconds())
	if e.Error != "" {
		s += "; " + e.Error
	}
	return s
}

func (r *results) write(path string) error {
	b, err := json.Marshal(r.Results)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o666)
}

func commit() string {
	out, err := exec.Command("git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

func machine() string {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	model := "unknown processor"
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			model = strings.TrimSpace(value)
			break
		}
	}
	return fmt.Sprintf("Linux %s, %d CPUs, %s", strings.TrimSpace(string(kernel)), runtime.NumCPU(), model)
}

// loadAverages tells how busy the machine is with other things.
func loadAverages() []float64 {
	b, _ := os.ReadFile("/proc/loadavg")
	l := make([]float64, 3)
	fmt.Sscan(string(b), &l[0], &l[1], &l[2])
	return l
}
