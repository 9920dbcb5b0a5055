package main

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

var statusColumns = []string{"GEN", "PID", "STATE", "UP", "BUILD", "MEMORY", "OPEN", "IDLE", "ACTIVE", "MOVED"}

const (
	stateColumn = 2
	buildColumn = 4
)

// table prints a line per process, right-aligned but for words.
func (p *statusPrinter) table(s control.Service) {
	rows := [][]string{statusColumns}
	states := []control.State{""}
	for _, g := range s.Generations {
		for _, w := range g.Workers {
			rows = append(rows, p.row(g, w))
			states = append(states, w.State)
		}
	}
	if len(rows) == 1 {
		return
	}
	widths := columnWidths(rows)
	for i, row := range rows {
		p.w.WriteString(" ")
		for col, cell := range row {
			p.w.WriteString(" " + p.cell(col, widths[col], cell, i == 0, states[i]))
		}
		p.w.WriteByte('\n')
	}
}

// cell pads before it colours, since colours have no width.
func (p *statusPrinter) cell(col, width int, text string, isHead bool, state control.State) string {
	pad := strings.Repeat(" ", width-utf8.RuneCountInString(text))
	switch {
	case col == stateColumn || col == buildColumn:
		text += pad
	default:
		text = pad + text
	}
	switch {
	case isHead:
		return p.faint(text)
	case col == stateColumn:
		return p.state(state, text)
	}
	return text
}

func columnWidths(rows [][]string) []int {
	widths := make([]int, len(statusColumns))
	for _, row := range rows {
		for col, cell := range row {
			widths[col] = max(widths[col], utf8.RuneCountInString(cell))
		}
	}
	return widths
}

func (p *statusPrinter) row(g control.Generation, w control.Worker) []string {
	row := []string{
		fmt.Sprint(g.Number), fmt.Sprint(w.PID), printable(string(w.State)), p.since(w.Started),
		printable(shorten(orElse(w.Build, "-"), 12)), memoryText(w.Memory),
	}
	if c := w.Conns; c != nil {
		return append(row, fmt.Sprint(c.Open), fmt.Sprint(c.Idle), fmt.Sprint(c.Active), fmt.Sprint(c.Moved))
	}
	return append(row, "-", "-", "-", "-")
}

func shorten(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

func memoryText(bytes int64) string {
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
