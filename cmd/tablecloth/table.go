package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tablecloth-go/tablecloth/cmd/internal/phrase"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// column is one of the table of processes.
type column struct {
	title string
	left  bool // aligned; numbers are right
	text  func(p *statusPrinter, g control.Generation, w control.Worker) string
	// empty is what says nothing: a column that has only this is left out.
	empty string
	// drop is which column goes first where there is no room: 1 before 2. 0: none.
	drop int
}

const (
	stateTitle = "STATE"
	buildTitle = "BUILD"
	minBuild   = 7
)

var statusColumns = []column{
	{title: "GEN", text: func(_ *statusPrinter, g control.Generation, _ control.Worker) string { return fmt.Sprint(g.Number) }},
	{title: "WKR", empty: "0", text: func(_ *statusPrinter, _ control.Generation, w control.Worker) string { return fmt.Sprint(w.Index) }},
	{title: "PID", text: func(_ *statusPrinter, _ control.Generation, w control.Worker) string { return fmt.Sprint(w.PID) }},
	{title: stateTitle, left: true, text: func(_ *statusPrinter, _ control.Generation, w control.Worker) string {
		return printable(string(w.State))
	}},
	{title: "FOR", drop: 8, empty: "-", text: func(p *statusPrinter, _ control.Generation, w control.Worker) string { return p.since(w.Since) }},
	{title: "UP", drop: 1, text: func(p *statusPrinter, _ control.Generation, w control.Worker) string { return p.since(w.Started) }},
	{title: buildTitle, left: true, empty: "-", drop: 5, text: func(_ *statusPrinter, _ control.Generation, w control.Worker) string {
		return printable(shorten(orElse(w.Build, "-"), 12))
	}},
	{title: "MEM", empty: "-", drop: 7, text: func(_ *statusPrinter, _ control.Generation, w control.Worker) string { return memoryText(w.Memory) }},
	{title: "CPU", empty: "-", drop: 6, text: func(p *statusPrinter, _ control.Generation, w control.Worker) string { return p.cpu(w.Process) }},
	{title: "OPEN", empty: "-", text: conns(func(c *control.Conns) int64 { return int64(c.Open) })},
	{title: "IDLE", empty: "-", drop: 4, text: conns(func(c *control.Conns) int64 { return int64(c.Idle) })},
	{title: "BUSY", empty: "-", text: conns(func(c *control.Conns) int64 { return int64(c.Active) })},
	{title: "MOVED", empty: "-", drop: 3, text: conns(func(c *control.Conns) int64 { return c.Moved })},
	{title: "RESCUED", empty: "0", drop: 2, text: func(_ *statusPrinter, _ control.Generation, w control.Worker) string { return fmt.Sprint(w.Rescued) }},
}

func conns(count func(*control.Conns) int64) func(*statusPrinter, control.Generation, control.Worker) string {
	return func(_ *statusPrinter, _ control.Generation, w control.Worker) string {
		if w.Conns == nil {
			return "-"
		}
		return countText(count(w.Conns))
	}
}

// table prints a line per process.
func (p *statusPrinter) table(s control.Service) {
	var states []control.State
	columns := make([][]string, len(statusColumns))
	for _, g := range s.Generations {
		for _, w := range g.Workers {
			states = append(states, w.State)
			for i, c := range statusColumns {
				columns[i] = append(columns[i], c.text(p, g, w))
			}
		}
	}
	if len(states) == 0 {
		return
	}
	shown := p.fit(columns)
	for row := -1; row < len(states); row++ {
		p.w.WriteString(" ")
		for _, i := range shown {
			text, state := statusColumns[i].title, control.State("")
			if row >= 0 {
				text, state = columns[i][row], states[row]
			}
			p.w.WriteString(" " + p.cell(statusColumns[i], width(i, columns[i]), text, state))
		}
		p.w.WriteByte('\n')
	}
}

// fit chooses the columns that say something, as many as there is room for.
func (p *statusPrinter) fit(columns [][]string) []int {
	var shown []int
	for i, c := range statusColumns {
		if c.empty == "" || slices.ContainsFunc(columns[i], func(s string) bool { return s != c.empty }) {
			shown = append(shown, i)
		}
	}
	for {
		total := 1
		for _, i := range shown {
			total += 1 + width(i, columns[i])
		}
		over := total - p.columns
		if over <= 0 {
			return shown
		}
		if build := slices.IndexFunc(shown, func(i int) bool { return statusColumns[i].title == buildTitle }); build >= 0 {
			i := shown[build]
			if w := width(i, columns[i]); w > minBuild {
				for row, text := range columns[i] {
					columns[i][row] = shorten(text, max(minBuild, w-over))
				}
				continue
			}
		}
		first := -1
		for at, i := range shown {
			if d := statusColumns[i].drop; d > 0 && (first < 0 || d < statusColumns[shown[first]].drop) {
				first = at
			}
		}
		if first < 0 {
			return shown
		}
		shown = slices.Delete(shown, first, first+1)
	}
}

func width(i int, texts []string) int {
	w := len(statusColumns[i].title)
	for _, s := range texts {
		w = max(w, utf8.RuneCountInString(s))
	}
	return w
}

// cell pads before it colours, since colours have no width.
func (p *statusPrinter) cell(c column, width int, text string, state control.State) string {
	pad := strings.Repeat(" ", width-utf8.RuneCountInString(text))
	if c.left {
		text += pad
	} else {
		text = pad + text
	}
	switch {
	case state == "":
		return p.faint(text)
	case c.title == stateTitle:
		return p.state(state, text)
	}
	return text
}

// cpuTimes is what processes had used of the CPUs.
type cpuTimes struct {
	at   time.Time
	used map[int]float64 // seconds, by PID
}

func (c *cpuTimes) remember(st control.Status, now time.Time) {
	c.at, c.used = now, map[int]float64{}
	for _, s := range st.Services {
		for _, g := range s.Generations {
			for _, w := range g.Workers {
				c.used[w.PID] = w.CPU
			}
		}
	}
}

// cpu is what a process has used, or the share that it uses.
func (p *statusPrinter) cpu(w control.Process) string {
	if p.before != nil {
		used, known := p.before.used[w.PID]
		if d := p.now.Sub(p.before.at).Seconds(); known && d > 0 {
			return fmt.Sprintf("%.0f%%", max(0, w.CPU-used)/d*100)
		}
		return "…"
	}
	if w.CPU <= 0 {
		return "-"
	}
	return shortDuration(time.Duration(w.CPU * float64(time.Second)))
}

// countText has five digits at most.
func countText(n int64) string { return phrase.Count(n) }

func shorten(s string, n int) string { return phrase.Shorten(s, n) }

func memoryText(bytes int64) string { return phrase.Memory(bytes) }
