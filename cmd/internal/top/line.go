package top

import (
	"strings"

	"github.com/rivo/uniseg"

	"github.com/tablecloth-go/tablecloth/cmd/internal/phrase"
)

// look is how a piece of text is shown: a colour, and more.
type look uint8

const (
	good look = 1 << iota
	busy
	bad
	faint
	bold
	inverse

	plain look = 0
)

// span is text in one look.
type span struct {
	text string
	look look
}

// line is one of the screen: its spans follow each other.
type line []span

// say makes a line of what may come from elsewhere.
func say(text string, l look) line { return line{{phrase.Printable(text), l}} }

func (l line) and(text string, as look) line {
	return append(l, span{phrase.Printable(text), as})
}

func (l line) String() string {
	var b strings.Builder
	for _, s := range l {
		b.WriteString(s.text)
	}
	return b.String()
}

func (l line) width() int { return uniseg.StringWidth(l.String()) }

// cut shortens l to so many columns, and marks that.
func (l line) cut(columns int) line {
	if l.width() <= columns {
		return l
	}
	var short line
	left := columns - 1 // for the mark
	for _, s := range l {
		head := prefix(s.text, left)
		short = append(short, span{head, s.look})
		if left -= uniseg.StringWidth(head); len(head) < len(s.text) {
			if columns > 0 {
				short = append(short, span{"…", s.look})
			}
			break
		}
	}
	return short
}

// prefix is as much of s as fits into so many columns.
func prefix(s string, columns int) string {
	for rest, width, at, state := s, 0, 0, -1; rest != ""; {
		var cluster string
		var w int
		cluster, rest, w, state = uniseg.FirstGraphemeClusterInString(rest, state)
		if width += w; width > columns {
			return s[:at]
		}
		at += len(cluster)
	}
	return s
}

// filled is l in exactly so many columns.
func (l line) filled(columns int) line {
	l = l.cut(columns)
	if n := columns - l.width(); n > 0 {
		l = append(l, span{strings.Repeat(" ", n), plain})
	}
	return l
}

// spread puts r to the right end of a line, if there is room for both.
func spread(l, r line, columns int) line {
	if l.width()+1+r.width() > columns {
		return l.cut(columns)
	}
	return append(l.filled(columns-r.width()), r...)
}

// in gives all of l one more look.
func (l line) in(as look) line {
	var all line
	for _, s := range l {
		all = append(all, span{s.text, s.look | as})
	}
	return all
}

// wrapped breaks text between words where it can, else anywhere.
func wrapped(text string, columns int) []string {
	columns = max(columns, 1)
	var lines []string
	line := ""
	for _, word := range strings.Fields(phrase.Printable(text)) {
		if line != "" && uniseg.StringWidth(line)+1+uniseg.StringWidth(word) > columns {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
		for uniseg.StringWidth(line) > columns {
			head := prefix(line, columns)
			if head == "" { // not even one character fits
				return append(lines, "…")
			}
			lines, line = append(lines, head), line[len(head):]
		}
	}
	return append(lines, line)
}

// plainest are the characters that stand for those of ours where there is only
// ASCII.
var plainest = map[string]string{
	"…": "~", "·": ".", "▸": ">", "→": ">", "←": "<", "↑": "^", "↓": "v", "─": "-",
	starting: ".", serving: "=", draining: "~", ended: "|", died: "x",
}

// ascii is l without any other characters, and as wide.
func (l line) ascii() line {
	var all line
	for _, s := range l {
		var b strings.Builder
		for rest, state := s.text, -1; rest != ""; {
			var cluster string
			var w int
			cluster, rest, w, state = uniseg.FirstGraphemeClusterInString(rest, state)
			switch p, known := plainest[cluster]; {
			case known:
				b.WriteString(p)
			case len(cluster) == 1:
				b.WriteString(cluster)
			default:
				b.WriteString(strings.Repeat("?", w))
			}
		}
		all = append(all, span{b.String(), s.look})
	}
	return all
}
