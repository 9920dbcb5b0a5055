package show

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/strict"
)

func opening(kept bool) string {
	n := 0
	for _, g := range clients(kept) {
		n += g.N
	}
	return fmt.Sprintf(`A service under load from %d clients that forgive nothing (one connection each,
no retry, no reconnect) and from 100 new connections per second. Meanwhile:
`, n)
}

// invitation is what one can do to the service while it stays.
func (s *show) invitation() string {
	return fmt.Sprintf(`
The service stays at http://%[1]s/ and so do its clients. Try:
  curl http://%[1]s/
  curl http://%[1]s/asyncerror
  kill -HUP $(cat %[2]s/pid)
  %[3]s status --control %[2]s/control
  %[3]s upgrade --control %[2]s/control
Its program is %[2]s/demo: replace it first.
Ctrl-C ends it.
`, s.stage.web, s.stage.dir, s.Command)
}

// score shows all of it as tables.
func (s *screen) score(sc *Score) error {
	if s.json {
		e := json.NewEncoder(s.w)
		e.SetIndent("", "  ")
		return e.Encode(sc)
	}
	s.line("")
	s.acts(sc.Acts)
	s.line("")
	s.clients(sc.Report)
	s.line("")
	s.verdict(sc)
	return nil
}

func (s *screen) acts(rows []*Row) {
	s.line(s.paint(bold, fmt.Sprintf("%-36s %7s %7s %4s %3s %6s %4s %6s", "what was done", "took", "sent", "5xx", "cut", "failed", "lost", "closed")))
	for _, r := range rows {
		took := "-"
		if r.Took > 0 {
			took = short(r.Took)
		}
		s.line(fmt.Sprintf("%s %7s %7s %4s %3s %s %s %6s", pad(what(r), 36), took, number(r.Requests),
			number(r.Errors), number(r.Cut), s.cell(r.Failed, 6), s.cell(r.Lost, 4), number(r.Closed)))
	}
}

func what(r *Row) string {
	switch {
	case r.Error != "":
		return r.Act + ": " + r.Error
	case r.Came != "":
		return r.Act + ": " + r.Came
	}
	return r.Act
}

func (s *screen) clients(r *strict.Report) {
	s.line(s.paint(bold, fmt.Sprintf("%-20s %8s %8s %6s %8s %6s %8s %8s", "clients", "requests", "correct", "5xx", "failed", "lost", "closed", "moved")))
	for _, k := range strict.Kinds() {
		if c := r.Kinds[k]; c != nil {
			s.count(string(k), c)
		}
	}
	s.count("all", &r.Total)
}

func (s *screen) count(name string, c *strict.Count) {
	s.line(fmt.Sprintf("%-20s %8s %8s %6s %s %s %8s %8s", name, number(c.Requests), number(c.OK), number(c.Faults[strict.Status]),
		s.cell(failed(c), 8), s.cell(c.Broken(), 6), number(closed(c)), number(c.Moved)))
}

// cell is a right-aligned number that should be zero.
func (s *screen) cell(n int64, width int) string {
	text := fmt.Sprintf("%*s", width, number(n))
	if n == 0 {
		return text
	}
	return s.paint(red, text)
}

// pad makes text width columns wide.
func pad(text string, width int) string {
	r := []rune(strings.ReplaceAll(text, "\n", " "))
	if len(r) > width {
		r = append(r[:width-1], '…')
	}
	return string(r) + strings.Repeat(" ", width-len(r))
}

func (s *screen) verdict(sc *Score) {
	c := &sc.Report.Total
	colour, word := green, "NOTHING FELL"
	switch {
	case sc.Interrupted:
		colour, word = bold, "INTERRUPTED"
	case !sc.OK:
		colour, word = red, "SOMETHING FELL"
	}
	s.line(fmt.Sprintf("%s: %d of %s requests failed, %d of %s connections were lost.",
		s.paint(colour, word), failed(c)-sc.cut(), number(c.Requests), c.Broken()-sc.cut(), number(c.Connects)))
	if closed(c) > 0 {
		s.line(fmt.Sprintf("%s were closed otherwise: %s told so in an answer, %s while idle.",
			number(closed(c)), number(c.Ends[strict.Announced]), number(c.Ends[strict.ClosedIdle])))
	}
	if n := c.Faults[strict.Status]; n > 0 {
		s.line(fmt.Sprintf("%s requests died with their process, and were told so by a 500 or 503.", number(n)))
	}
	if n := sc.cut(); n > 0 {
		s.line(fmt.Sprintf("%s answers were half sent when their process was killed, and end visibly.", number(n)))
	}
	if c.Moved > 0 {
		s.line(fmt.Sprintf("%s times a connection went on in the next generation.", number(c.Moved)))
	}
	if took := handovers(sc.Acts); len(took) > 0 {
		s.line(fmt.Sprintf("The next generation answered %s after its start or the crash (median of %d).", short(took[len(took)/2]), len(took)))
	}
	l := sc.Report.Latency
	s.line(fmt.Sprintf("Answers took %s (median), %s (p99), %s (longest).", short(l.P50), short(l.P99), short(l.Max)))
	if !sc.OK {
		s.failures(sc.Report.Failures)
	}
}

func handovers(rows []*Row) []time.Duration {
	var took []time.Duration
	for _, r := range rows {
		if r.Took > 0 {
			took = append(took, r.Took)
		}
	}
	slices.Sort(took)
	return took
}

// failures shows the first ones.
func (s *screen) failures(fs []strict.Failure) {
	for i, f := range fs {
		if i == 5 {
			s.line("  …")
			return
		}
		s.line(strings.TrimRight(pad(fmt.Sprintf("  at %s, %s: %s: %s", short(f.At), f.Kind, f.Fault, f.Detail), 80), " "))
	}
}
