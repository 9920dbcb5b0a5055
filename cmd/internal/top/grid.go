package top

import (
	"slices"
	"strings"

	"github.com/rivo/uniseg"
)

// column is one of a table.
type column struct {
	title string
	left  bool // aligned; numbers are right
	// empty is what says nothing: a column that has only this is left out.
	empty string
	// drop is which column goes first where there is no room: 1 before 2. 0: none.
	drop int
}

// grid makes a table with its titles: of the columns that say something, as many
// as there is room for.
func grid(columns []column, rows [][]span, width int) []line {
	shown := worthwhile(columns, rows)
	for total(columns, rows, shown) > width {
		first := -1
		for i, c := range shown {
			if d := columns[c].drop; d > 0 && (first < 0 || d < columns[shown[first]].drop) {
				first = i
			}
		}
		if first < 0 {
			break
		}
		shown = slices.Delete(shown, first, first+1)
	}
	titles := make([]span, len(columns))
	for i, c := range columns {
		titles[i] = span{c.title, faint}
	}
	lines := make([]line, 0, len(rows)+1)
	for _, row := range append([][]span{titles}, rows...) {
		var l line
		for _, c := range shown {
			l = append(append(l, span{" ", plain}), padded(columns[c], row[c], widest(columns, rows, c))...)
		}
		lines = append(lines, l)
	}
	return lines
}

func worthwhile(columns []column, rows [][]span) []int {
	var shown []int
	for i, c := range columns {
		if c.empty == "" || slices.ContainsFunc(rows, func(r []span) bool { return r[i].text != c.empty }) {
			shown = append(shown, i)
		}
	}
	return shown
}

func total(columns []column, rows [][]span, shown []int) int {
	n := 0
	for _, c := range shown {
		n += 1 + widest(columns, rows, c)
	}
	return n
}

func widest(columns []column, rows [][]span, c int) int {
	w := uniseg.StringWidth(columns[c].title)
	for _, r := range rows {
		w = max(w, uniseg.StringWidth(r[c].text))
	}
	return w
}

func padded(c column, s span, width int) line {
	pad := span{strings.Repeat(" ", max(0, width-uniseg.StringWidth(s.text))), plain}
	if c.left {
		return line{s, pad}
	}
	return line{pad, s}
}
