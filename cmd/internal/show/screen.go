package show

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/strict"
)

// screen is where the show is seen: a terminal, on which the last line is always
// how things are, or anything else that takes lines.
type screen struct {
	w      io.Writer
	live   bool
	colour bool
	json   bool
	every  time.Duration // a status
	shown  bool          // one is on the last line
}

func newScreen(c Config) *screen {
	s := &screen{w: c.Out, live: c.Live && !c.JSON, colour: c.Colour, json: c.JSON, every: 2 * time.Second}
	if s.live {
		s.every = 100 * time.Millisecond
	}
	return s
}

const eraseLine = "\r\x1b[K"

// line shows what stays.
func (s *screen) line(text string) {
	if s.json {
		return
	}
	if s.shown {
		text = eraseLine + text
	}
	s.shown = false
	fmt.Fprintln(s.w, text)
}

// status shows how things are now.
func (s *screen) status(r *strict.Report) {
	c := &r.Total
	text := fmt.Sprintf("%s  %s requests  %s  %s  %s closed  p99 %s",
		clock(r.Elapsed), number(c.Requests), s.bad(failed(c), "failed"), s.bad(c.Broken(), "lost"),
		number(closed(c)), short(r.Latency.P99))
	if !s.live {
		s.line(text)
		return
	}
	fmt.Fprint(s.w, eraseLine+text)
	s.shown = true
}

// act shows what came of one.
func (s *screen) act(r *Row, now time.Duration) {
	text := fmt.Sprintf("%s  %s: ", clock(now), r.Act)
	switch {
	case r.Error != "":
		text += s.paint(red, r.Error)
	case r.Took > 0:
		text += fmt.Sprintf("%s, answers %s after", r.Came, short(r.Took))
	default:
		text += r.Came
	}
	s.line(text)
}

const (
	red   = "31"
	green = "32"
	bold  = "1"
)

func (s *screen) paint(colour, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// bad is a number that should be zero, and of what.
func (s *screen) bad(n int64, what string) string {
	if n == 0 {
		return s.paint(green, "0 "+what)
	}
	return s.paint(red, number(n)+" "+what)
}

// number has commas between thousands.
func number(n int64) string {
	digits := strconv.FormatInt(n, 10)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

func clock(d time.Duration) string { return fmt.Sprintf("%5.1f s", d.Seconds()) }

// short is a duration with two or three digits.
func short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
