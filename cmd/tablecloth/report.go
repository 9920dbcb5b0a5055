package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tablecloth-go/tablecloth/cmd/internal/phrase"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// reportOf is a status for people, in lines of so many columns. before is what was
// used of the CPUs when it was last made; nil: it is made once.
func reportOf(w io.Writer, st control.Status, now time.Time, columns int, before *cpuTimes) string {
	var b strings.Builder
	p := statusPrinter{w: &b, palette: paletteFor(w), now: now, columns: max(columns, 40), before: before}
	if st.Keeper != nil && len(st.Services) != 1 {
		fmt.Fprintf(&b, "keeper: pid %d, up %s, %s\n\n", st.Keeper.PID, p.since(st.Keeper.Started), counted(len(st.Services), "service"))
	}
	for i, s := range st.Services {
		if i > 0 {
			b.WriteByte('\n')
		}
		p.service(st, s)
	}
	if before != nil {
		before.remember(st, now)
	}
	return b.String()
}

type statusPrinter struct {
	palette
	w       *strings.Builder
	now     time.Time
	columns int
	before  *cpuTimes
}

func (p *statusPrinter) service(st control.Status, s control.Service) {
	p.head(st, s)
	if s.RetryAt != nil {
		p.line("starts again", "in "+shortDuration(s.RetryAt.Sub(p.now)))
	}
	if len(s.Listen) > 0 {
		p.list("listens on", s.Listen)
	}
	p.table(s)
	for _, g := range s.Generations {
		p.generation(g)
	}
	p.lastOutcome(s.LastOutcome)
	p.lastCrash(s.LastCrash)
	if s.Restarts > 0 || s.Crashes > 0 {
		p.line("counts", fmt.Sprintf("upgrades %d, restarts %d, recent crashes %d", s.Upgrades, s.Restarts, s.Crashes))
	}
	if r := s.Rescued; r != nil {
		p.line("rescued", fmt.Sprintf("from %d dead workers: %d connections went on, %d got a 500, %d a 503, %d were cut, %d closed, %d lost",
			r.Workers, r.Idle, r.S500, r.S503, r.Cut, r.Closed+r.Ended, r.Lost))
	}
	if o := s.Output; o != nil && o.DroppedLines > 0 {
		p.line("output", fmt.Sprintf("%d of %d lines were dropped: nobody reads them", o.DroppedLines, o.Lines))
	}
	for _, n := range s.Notes {
		p.line("note", n)
	}
}

// head is a service in one line, or, where there is no room, in two.
func (p *statusPrinter) head(st control.Status, s control.Service) {
	name := printable(orElse(s.Name, "service"))
	fmt.Fprintf(p.w, "%s: %s", name, p.state(s.State, string(s.State)))
	column := utf8.RuneCountInString(name) + len(": ") + len(s.State)
	add := func(text string, paint func(string) string) {
		width := utf8.RuneCountInString(text)
		if space := ", "; column+len(space)+width <= p.columns {
			p.w.WriteString(space)
			column += len(space) + width
		} else {
			p.w.WriteString(",\n  ")
			column = 2 + width
		}
		p.w.WriteString(paint(text))
	}
	asItIs := func(s string) string { return s }
	add(fmt.Sprintf("generation %d", s.Generation), asItIs)
	if n, all := serving(s), s.Workers; all > 1 && n == all {
		add(counted(n, "worker"), asItIs)
	} else if all > 1 {
		add(fmt.Sprintf("%d of %d workers", n, all), p.bad)
	}
	if st.Keeper != nil && len(st.Services) == 1 {
		add(fmt.Sprintf("keeper pid %d up %s", st.Keeper.PID, p.since(st.Keeper.Started)), asItIs)
	}
	p.w.WriteByte('\n')
}

// serving counts the workers that serve.
func serving(s control.Service) int {
	n := 0
	eachWorker(s, func(_ control.Generation, w control.Worker) {
		if w.State == control.Serving {
			n++
		}
	})
	return n
}

func (p *statusPrinter) state(s control.State, text string) string {
	switch s {
	case control.Serving:
		return p.good(text)
	case control.GaveUp, control.Down, control.Stopped:
		return p.bad(text)
	default:
		return p.busy(text)
	}
}

func (p *statusPrinter) since(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return shortDuration(p.now.Sub(t))
}

const labelWidth = 12

func (p *statusPrinter) textWidth() int { return p.columns - 2 - labelWidth - 1 }

// line prints text after a label, in as many lines as it takes.
func (p *statusPrinter) line(label, text string) {
	for _, l := range wrap(strings.Fields(printable(text)), " ", p.textWidth()) {
		p.put(label, l)
		label = ""
	}
}

func (p *statusPrinter) put(label, text string) {
	fmt.Fprintf(p.w, "  %s %s\n", p.faint(fmt.Sprintf("%-*s", labelWidth, label)), text)
}

func (p *statusPrinter) list(label string, items []string) {
	for _, l := range wrap(items, "  ", p.textWidth()) {
		p.put(label, printable(l))
		label = ""
	}
}

// wrap joins words into lines of at most width columns, unless one word is longer.
func wrap(words []string, space string, width int) []string {
	var lines []string
	line := ""
	for _, w := range words {
		switch {
		case line == "":
			line = w
		case utf8.RuneCountInString(line+space+w) <= width:
			line += space + w
		default:
			lines, line = append(lines, line), w
		}
	}
	return append(lines, line)
}

// generation tells what the table has no room for.
func (p *statusPrinter) generation(g control.Generation) {
	number := fmt.Sprintf("gen %d", g.Number)
	if g.State == control.Serving && !g.Confirmed {
		p.line(number, "not confirmed: the program does not say when it is ready")
	}
	for _, w := range g.Workers {
		if w.Changed {
			p.line(number, fmt.Sprintf("%s has changed on disk since pid %d was started", w.Binary, w.PID))
		}
		if w.Status != "" {
			p.line(number, fmt.Sprintf("pid %d says: %s", w.PID, firstLine(w.Status)))
		}
	}
	if g.Deadline != nil {
		p.line(number, phrase.Force(g, p.now))
	}
	for i, c := range g.Holdouts {
		if i == 3 {
			p.line(number, fmt.Sprintf("waits for %d more", len(g.Holdouts)-i))
			break
		}
		p.line(number, fmt.Sprintf("waits for %s: %s since %s%s", c.Peer, c.State, p.since(c.Since), prefixed(": ", c.Request)))
	}
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

func (p *statusPrinter) lastOutcome(o *control.Outcome) {
	if o == nil {
		return
	}
	p.line("last upgrade", fmt.Sprintf("%s ago (%s): %s", p.since(o.At), o.Trigger, firstLine(outcomeLine(*o))))
	if o.Result != control.Ready && o.Hint != "" {
		p.line("", "hint: "+o.Hint)
	}
}

func (p *statusPrinter) lastCrash(c *control.Crash) {
	if c == nil {
		return
	}
	p.line("last crash", fmt.Sprintf("%s ago: %s", p.since(c.At), phrase.Crash(*c)))
}
