package report

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/tablecloth-go/tablecloth/bench/internal/measure"
	"github.com/tablecloth-go/tablecloth/bench/internal/system"
	"github.com/tablecloth-go/tablecloth/internal/strict"
)

//go:embed page.md
var page string

// Read merges files of results.
func Read(paths ...string) (All, error) {
	var a All
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			return a, err
		}
		var r measure.Results
		if err := json.Unmarshal(b, &r); err != nil {
			return a, fmt.Errorf("%s: %w", path, err)
		}
		a.Runs = append(a.Runs, r)
	}
	return a, nil
}

// Write makes dir/bench.md, and the plots in dir/bench.
func (a All) Write(dir string) error {
	plots := filepath.Join(dir, "bench")
	if err := os.MkdirAll(plots, 0o777); err != nil {
		return err
	}
	names := systemNames()
	for _, action := range []string{"upgrade", "crash"} {
		if err := a.lostBars(filepath.Join(plots, "lost-"+action+".svg"), action, names); err != nil {
			return err
		}
		if err := a.timelines(filepath.Join(plots, "timeline-"+action+".svg"), action, names); err != nil {
			return err
		}
	}
	text, err := a.markdown()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "bench.md"), text, 0o666)
}

func (a All) markdown() ([]byte, error) {
	t, err := template.New("page").Parse(page)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, map[string]any{
		"Runs":     a.Runs,
		"Upgrades": a.upgrades("upgrade", false),
		"Blind":    a.upgrades("upgrade", true),
		"Idle":     a.upgrades("idle", false),
		"Crashes":  a.crashes("crash"),
		"Panics":   a.crashes("panic"),
		"Steady":   a.steadyTable(),
		"Better":   a.betterThanOurs(),
		"Systems":  a.systemsTable(),
		"LeftOut":  a.leftOut(),
		"Events":   a.eventCount(),
	})
	return b.Bytes(), err
}

func systemNames() []string {
	var names []string
	for _, s := range system.Catalogue() {
		names = append(names, s.Name)
	}
	return names
}

func title(name string) string {
	if s, err := system.Find(name); err == nil {
		return s[0].Title
	}
	return name
}

// table is one in Markdown; "" if it has no rows.
func table(head []string, rows [][]string) string {
	if len(rows) == 0 {
		return ""
	}
	var b strings.Builder
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line(head)
	align := make([]string, len(head))
	for i := range align {
		align[i] = "---:"
	}
	align[0] = "---"
	line(align)
	for _, r := range rows {
		line(r)
	}
	return strings.TrimSpace(b.String())
}

func (a All) upgrades(action string, blind bool) string {
	var rows [][]string
	for _, name := range systemNames() {
		e := a.events(name, action, blind)
		if len(e) == 0 {
			continue
		}
		rows = append(rows, []string{
			title(name) + unfinished(e),
			counts(e, refused).String(),
			counts(e, broken).String(),
			counts(e, func(e *measure.Event) int64 { return e.LostOf(measure.Posts) }).String(),
			counts(e, (*measure.Event).Closed).String(),
			counts(e, func(e *measure.Event) int64 { return e.Ends[strict.Announced] }).String(),
			counts(e, func(e *measure.Event) int64 { return e.Moved }).String(),
			millis(e, func(e *measure.Event) time.Duration { return e.FirstNew }).String(),
			of(e, againstStart).String(),
			a.besides(name, action, blind, againstBeside).estimate(),
			millis(e, func(e *measure.Event) time.Duration { return e.LastOld }).String(),
			millis(e, func(e *measure.Event) time.Duration { return e.Gap }).String(),
			of(e, slowdown).String(),
			a.besides(name, action, blind, slowdownAgainstBeside).estimate(),
			of(e, longCut).String(),
		})
	}
	return table([]string{"system", "refused", "broken", "POSTs among them", "closed", "announced", "moved", "first new, ms", "× start", "× start beside", "last old, ms", "gap, ms", "p99 ×", "p99 × beside", "long cut"}, rows)
}

// unfinished says how many upgrades had no effect.
func unfinished(events []measure.Event) string {
	n := 0
	for _, e := range events {
		if e.Error != "" || e.FirstNew == measure.Never {
			n++
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" (**%d of %d upgrades failed**)", n, len(events))
}

// againstStart is the time to the first new answer over that of a start without
// load, from exec to the first answer.
func againstStart(e *measure.Event) (float64, bool) {
	return float64(e.FirstNew) / float64(max(1, e.Start)), e.FirstNew != measure.Never
}

// besides compares the events of a system with the starts beside it of the same
// round, in which the machine is the same.
func (a All) besides(name, action string, blind bool, ratio func(e, beside *measure.Event) (float64, bool)) sample {
	var s sample
	for _, r := range a.Runs {
		one := All{Runs: []measure.Results{r}}
		byRound := map[int]*measure.Event{}
		for _, e := range one.events(name, "beside", blind) {
			byRound[e.Round] = &e
		}
		for _, e := range one.events(name, action, blind) {
			if b := byRound[e.Round]; b != nil && b.Error == "" {
				if v, ok := ratio(&e, b); ok {
					s = append(s, v)
				}
			}
		}
	}
	return s
}

// againstBeside is the time to the first new answer over that of a start beside
// the same load.
func againstBeside(e, beside *measure.Event) (float64, bool) {
	return float64(e.FirstNew) / float64(max(1, beside.Beside)), e.FirstNew != measure.Never && beside.Beside > 0
}

// slowdownAgainstBeside is the 99th percentile of latency in an upgrade over that
// in a start beside the same load.
func slowdownAgainstBeside(e, beside *measure.Event) (float64, bool) {
	return float64(e.During.P99) / float64(max(1, beside.During.P99)), e.During.N > 0 && beside.During.N > 0
}

// longCut is how many connections ended that were HTTP no more; none, if the
// system has such.
func longCut(e *measure.Event) (float64, bool) { return float64(e.LongCut), e.Long > 0 }

// slowdown is the 99th percentile of latency in an event over that before it.
func slowdown(e *measure.Event) (float64, bool) {
	return float64(e.During.P99) / float64(max(1, e.Before.P99)), e.Before.N > 0 && e.During.N > 0
}

func (a All) crashes(action string) string {
	var rows [][]string
	for _, name := range systemNames() {
		e := a.events(name, action, false)
		if len(e) == 0 {
			continue
		}
		row := []string{
			title(name),
			counts(e, refused).String(),
			counts(e, broken).String(),
			counts(e, status).String(),
			counts(e, (*measure.Event).Closed).String(),
			of(e, longCut).String(),
			millis(e, func(e *measure.Event) time.Duration { return e.Next }).String(),
			millis(e, func(e *measure.Event) time.Duration { return e.Gap }).String(),
		}
		if action == "panic" {
			row = append(row, e[0].Answer)
		}
		rows = append(rows, row)
	}
	head := []string{"system", "refused", "broken", "5xx", "closed", "long cut", "next answer, ms", "gap, ms"}
	if action == "panic" {
		head = append(head, "its own request")
	}
	return table(head, rows)
}

func (a All) cpu(name string) sample {
	var s sample
	for _, st := range a.steady(name, byTurns) {
		s = append(s, perAnswer(st))
	}
	return s
}

// cpuRatio compares rounds, as the machine is the same within each.
func (a All) cpuRatio(name, base string, m mode) sample {
	var s sample
	for _, r := range a.Runs {
		one := All{Runs: []measure.Results{r}}
		byRound := map[int]float64{}
		for _, st := range one.steady(base, m) {
			byRound[st.Round] = perAnswer(st)
		}
		for _, st := range one.steady(name, m) {
			if b := byRound[st.Round]; b > 0 {
				s = append(s, perAnswer(st)/b)
			}
		}
	}
	return s
}

// cost is what can be told best of a system's CPU time.
func (a All) cost(name string) sample {
	if s := a.cpuRatio(name, "killed-0", together); len(s) > 0 {
		return s
	}
	return a.cpuRatio(name, "killed-0", byTurns)
}

// perAnswer is CPU time in microseconds.
func perAnswer(st measure.Steady) float64 {
	return float64(st.CPU) / float64(max(1, st.Answers)) / float64(time.Microsecond)
}

func (a All) steadyTable() string {
	var rows [][]string
	for _, name := range systemNames() {
		st := a.steady(name, byTurns)
		if len(st) == 0 {
			continue
		}
		var memory sample
		latency := make([]sample, 4)
		for _, s := range st {
			memory = append(memory, float64(s.Memory)/(1<<20))
			for i, d := range []time.Duration{s.Latency.P50, s.Latency.P99, s.Latency.P999, s.Latency.Max} {
				latency[i] = append(latency[i], float64(d)/float64(time.Millisecond))
			}
		}
		row := []string{title(name), a.cpu(name).String(), a.cpuRatio(name, "killed-0", byTurns).estimate(),
			a.cpuRatio(name, "killed-0", together).estimate(), a.cpuRatio(name, "killed-0", saturated).estimate(), memory.String()}
		for _, s := range latency {
			row = append(row, s.String())
		}
		rows = append(rows, row)
	}
	return table([]string{"system", "CPU per request, µs", "× net/http", "× together", "× saturated", "memory, MB", "p50, ms", "p99, ms", "p99.9, ms", "max, ms"}, rows)
}

// betterThanOurs says for each measure who beats us at it.
func (a All) betterThanOurs() []string {
	var foreign []string
	for _, s := range system.Catalogue() {
		if !s.Ours {
			foreign = append(foreign, s.Name)
		}
	}
	var lines []string
	say := func(what, ours string, f func(string) sample) {
		b := better(foreign, ours, f)
		if len(b) == 0 {
			return
		}
		for i, s := range b {
			b[i] = fmt.Sprintf("%s (%s)", title(s), number(f(s).median()))
		}
		lines = append(lines, fmt.Sprintf("%s: %s has %s; less: %s.", what, title(ours), number(f(ours).median()), strings.Join(b, ", ")))
	}
	ev := func(action string, f func([]measure.Event) sample) func(string) sample {
		return func(name string) sample { return f(a.events(name, action, false)) }
	}
	firstNew := ev("upgrade", func(e []measure.Event) sample {
		return millis(e, func(e *measure.Event) time.Duration { return e.FirstNew })
	})
	next := ev("crash", func(e []measure.Event) sample {
		return millis(e, func(e *measure.Event) time.Duration { return e.Next })
	})
	lostIn := func(action string) func(string) sample {
		return ev(action, func(e []measure.Event) sample { return counts(e, (*measure.Event).Lost) })
	}
	gap := ev("upgrade", func(e []measure.Event) sample {
		return millis(e, func(e *measure.Event) time.Duration { return e.Gap })
	})
	for _, ours := range []string{"tablecloth", "kept"} {
		say("Milliseconds from the trigger of an upgrade to the first new answer", ours, firstNew)
		say("Longest time without an answer in an upgrade, ms", ours, gap)
		say("Failed requests in an upgrade", ours, lostIn("upgrade"))
		say("Failed requests, answered with 5xx or not, when the process is killed", ours, lostIn("crash"))
		say("Milliseconds from a kill to the next answer of another process", ours, next)
		say("CPU time per request, × net/http", ours, a.cost)
	}
	return lines
}

func (a All) systemsTable() string {
	var rows [][]string
	for _, s := range system.Catalogue() {
		if v := a.version(s.Name); v != "–" {
			rows = append(rows, []string{"`" + s.Name + "`", s.Title, v, s.Setup})
		}
	}
	return strings.ReplaceAll(table([]string{"name", "system", "version", "how"}, rows), "---:", "---")
}

func (a All) leftOut() []string {
	seen := map[string]string{}
	for _, r := range a.Runs {
		for name, why := range r.LeftOut {
			seen[name] = why
		}
	}
	var lines []string
	for _, name := range systemNames() {
		if why := seen[name]; why != "" && a.version(name) == "–" {
			lines = append(lines, title(name)+": "+why)
		}
	}
	return lines
}

func (a All) eventCount() string {
	n := map[string]int{}
	for _, r := range a.Runs {
		for _, e := range r.Events {
			n[e.Action]++
		}
	}
	var parts []string
	for _, action := range []string{"upgrade", "beside", "crash", "panic", "idle"} {
		if n[action] > 0 {
			parts = append(parts, fmt.Sprintf("%d × %s", n[action], action))
		}
	}
	return strings.Join(parts, ", ")
}
