package top

import (
	"fmt"
	"time"

	"github.com/tablecloth-go/tablecloth/cmd/internal/phrase"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// workers is the table of processes, in n lines at most.
func (m *Model) workers(s *control.Service, columns, n int) []line {
	var rows [][]span
	for _, g := range s.Generations {
		for _, w := range g.Workers {
			rows = append(rows, m.worker(g, w))
		}
	}
	return clip(grid(workerColumns, rows, columns), n)
}

var workerColumns = []column{
	{title: "GEN"}, {title: "WKR", empty: "0"}, {title: "PID"}, {title: "STATE", left: true},
	{title: "FOR", drop: 9, empty: "-"}, {title: "UP", drop: 2}, {title: "BUILD", left: true, empty: "-", drop: 3},
	{title: "MEM", empty: "-", drop: 6}, {title: "CPU", empty: "-", drop: 7},
	{title: "OPEN", empty: "-"}, {title: "IDLE", empty: "-", drop: 5}, {title: "BUSY", empty: "-"},
	{title: "REQ/S", empty: "-", drop: 8}, {title: "MOVED", empty: "-", drop: 10}, {title: "TAKEN", empty: "-", drop: 4},
	{title: "RESCUED", empty: "0", drop: 1},
}

func (m *Model) worker(g control.Generation, w control.Worker) []span {
	since := func(t time.Time) span {
		if t.IsZero() {
			return span{"-", plain}
		}
		return span{phrase.Duration(m.now.Sub(t).Truncate(time.Second)), plain}
	}
	count := func(of func(*control.Conns) int64, as look) span {
		if w.Conns == nil {
			return span{"-", plain}
		}
		return span{phrase.Count(of(w.Conns)), as}
	}
	done, over, known := m.rates.of(w.PID)
	cpu, requests := span{"-", plain}, span{"-", plain}
	if known {
		cpu.text = fmt.Sprintf("%.0f%%", done.cpu/over.Seconds()*100)
		if w.Conns != nil {
			requests.text = phrase.Count(int64(float64(done.requests)/over.Seconds() + 0.5))
		}
	}
	moving, taking := plain, plain
	if done.moved > 0 {
		moving = bold
	}
	if done.adopted > 0 {
		taking = bold
	}
	build := w.Build
	if build == "" {
		build = "-"
	}
	return []span{
		{fmt.Sprint(g.Number), plain}, {fmt.Sprint(w.Index), plain}, {fmt.Sprint(w.PID), plain},
		{phrase.Printable(string(w.State)), stateLook(w.State)},
		since(w.Since), since(w.Started), {phrase.Printable(phrase.Shorten(build, 10)), plain},
		{phrase.Memory(w.Memory), plain}, cpu,
		count(func(c *control.Conns) int64 { return int64(c.Open) }, plain),
		count(func(c *control.Conns) int64 { return int64(c.Idle) }, plain),
		count(func(c *control.Conns) int64 { return int64(c.Active) }, plain),
		requests,
		count(func(c *control.Conns) int64 { return c.Moved }, moving),
		count(func(c *control.Conns) int64 { return c.Adopted }, taking),
		{phrase.Count(w.Rescued), plain},
	}
}

// clip keeps the first n lines, and says that there are more.
func clip(lines []line, n int) []line {
	if len(lines) <= n {
		return lines
	}
	if n < 1 {
		return nil
	}
	return append(lines[:n-1:n-1], say(fmt.Sprintf(" … %d more", len(lines)-n+1), faint))
}
