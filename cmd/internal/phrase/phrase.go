// Package phrase says what control tells in a few words: the same ones in all
// commands, and nothing in them that a terminal would obey.
package phrase

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// Printable keeps control characters of a program's output, and so escape
// sequences, from the terminal.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' {
			return ' '
		}
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '·'
		}
		return r
	}, s)
}

// FirstLine is s up to its first line's end.
func FirstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// Shorten cuts s to n characters, and marks that.
func Shorten(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// Counted is "1 worker", "2 workers".
func Counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// Duration has two or three digits that matter.
func Duration(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
	}
}

// Count has five digits at most.
func Count(n int64) string {
	switch {
	case n < 100000:
		return fmt.Sprint(n)
	case n < 10000000:
		return fmt.Sprintf("%dk", n/1000)
	}
	return fmt.Sprintf("%dM", n/1000000)
}

// Memory is a number of bytes; 0 or less: "-".
func Memory(bytes int64) string {
	const mib = 1 << 20
	switch {
	case bytes <= 0:
		return "-"
	case bytes < 100*mib:
		return fmt.Sprintf("%.1fM", float64(bytes)/mib)
	case bytes < 10240*mib:
		return fmt.Sprintf("%dM", bytes/mib)
	default:
		return fmt.Sprintf("%.1fG", float64(bytes)/1024/mib)
	}
}

// Outcome is for where the service is known already.
func Outcome(out control.Outcome) string {
	if out.Result == control.Ready {
		return Success(out) + Unconfirmed(out, "")
	}
	return Failure("upgrade", out)
}

// Success tells which generation is ready, or how many workers there are where
// only their number has changed.
func Success(out control.Outcome) string {
	if onlyScaled(out) {
		return fmt.Sprintf("%s of generation %d, after %s", Counted(out.Workers, "worker"), out.Generation, Duration(out.Took))
	}
	return fmt.Sprintf("generation %d is ready: pid %d, after %s", out.Generation, out.PID, Duration(out.Took))
}

func onlyScaled(out control.Outcome) bool { return out.PID == 0 && out.Workers > 0 }

// Unconfirmed is "" if the program said itself that it is ready.
func Unconfirmed(out control.Outcome, why string) string {
	if out.Confirmed || onlyScaled(out) {
		return ""
	}
	return " (not confirmed" + why + ")"
}

// Failure tells why what was asked has failed.
func Failure(what string, out control.Outcome) string {
	line := fmt.Sprintf("%s %s", what, out.Result)
	for _, s := range []string{out.Reason, out.Exit} {
		if s != "" && !strings.Contains(line, s) {
			line += ": " + s
		}
	}
	return line
}

// Event is what an event says, or else what can be said of its particulars.
func Event(ev control.Event) string {
	var parts []string
	switch {
	case ev.Text != "":
		parts = append(parts, FirstLine(ev.Text))
	case ev.Outcome != nil:
		parts = append(parts, Outcome(*ev.Outcome))
	case ev.Crash != nil:
		parts = append(parts, died(*ev.Crash))
	}
	if n := counts(ev.Counts); n != "" && ev.Kind != control.EventGap {
		parts = append(parts, n)
	}
	return strings.Join(parts, "; ")
}

// counts is in the order of the names.
func counts(all map[string]int) string {
	var parts []string
	for name, n := range all {
		parts = append(parts, fmt.Sprintf("%s %d", name, n))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// Crash tells in a line who died how, or has caught a crash.
func Crash(c control.Crash) string {
	if c.PID == 0 {
		return fmt.Sprintf("gen %d %s", c.Generation, died(c))
	}
	return fmt.Sprintf("gen %d pid %d %s", c.Generation, c.PID, died(c))
}

func died(c control.Crash) string {
	what := c.Error
	if what == "" {
		what = c.Exit
	}
	switch {
	case c.Caught:
		return fmt.Sprintf("caught after %s: %s", Duration(c.Uptime), FirstLine(what))
	case c.PID == 0:
		return "could not be started: " + FirstLine(what)
	}
	return fmt.Sprintf("died after %s: %s", Duration(c.Uptime), FirstLine(what))
}

// Force tells when a drain of a generation is ended by force, which has a deadline.
func Force(g control.Generation, now time.Time) string {
	left := Duration(g.Deadline.Sub(now))
	drains := Drains(g)
	switch {
	case len(drains) > 1:
		return fmt.Sprintf("the first of %d workers is ended by force in %s", len(drains), left)
	case len(drains) < len(g.Workers) && len(drains) == 1:
		return fmt.Sprintf("pid %d is ended by force in %s", drains[0].PID, left)
	}
	return "is ended by force in " + left
}

// Drains are the workers of a generation that have been told to end.
func Drains(g control.Generation) []control.Worker {
	return slices.DeleteFunc(slices.Clone(g.Workers), func(w control.Worker) bool {
		return w.State != control.Draining && w.State != control.Stopping
	})
}
