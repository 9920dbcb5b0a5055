package top

import (
	"fmt"
	"time"

	"github.com/tablecloth-go/tablecloth/cmd/internal/phrase"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

var serviceColumns = []column{
	{title: " ", left: true}, {title: "SERVICE", left: true}, {title: "STATE", left: true}, {title: "GEN"}, {title: "WORKERS", drop: 2},
	{title: "OPEN", empty: "-", drop: 3}, {title: "BUSY", empty: "-", drop: 4}, {title: "REQ/S", empty: "-", drop: 1}, {title: "", left: true, empty: ""},
}

// services is the table of several of them; the one that is selected is seen.
func (m *Model) services(columns, n int) []line {
	var rows [][]span
	at := 0
	for i, s := range m.status.Services {
		if s.Name == m.selected {
			at = i
		}
		rows = append(rows, m.serviceRow(s))
	}
	all := grid(serviceColumns, rows, columns)
	if n = max(n-1, 1); len(rows) > n {
		first := min(max(0, at-n/2), len(rows)-n)
		all = append(all[:1:1], all[1+first:1+first+n]...)
	}
	return all
}

func (m *Model) serviceRow(s control.Service) []span {
	mark, as := " ", plain
	if s.Name == m.selected {
		mark, as = "▸", bold
	}
	open, active, requests := span{"-", plain}, span{"-", plain}, span{"-", plain}
	var o, b, r float64
	for _, g := range s.Generations {
		for _, w := range g.Workers {
			if w.Conns == nil {
				continue
			}
			o, b = o+float64(w.Conns.Open), b+float64(w.Conns.Active)
			open.text, active.text = phrase.Count(int64(o)), phrase.Count(int64(b))
			if done, over, known := m.rates.of(w.PID); known {
				r += float64(done.requests) / over.Seconds()
				requests.text = phrase.Count(int64(r + 0.5))
			}
		}
	}
	return []span{{mark, as}, {phrase.Printable(s.Name), as}, {phrase.Printable(string(s.State)), stateLook(s.State)},
		{fmt.Sprint(s.Generation), plain}, {workersText(s), plain}, open, active, requests, {phrase.Printable(m.doing(s)), busy}}
}

// doing is what is going on with a service.
func (m *Model) doing(s control.Service) string {
	for _, p := range m.orders {
		if p.service == s.Name || p.service == "" {
			return fmt.Sprintf("%s %s", p.what, since(m.now, p.since))
		}
	}
	if s.RetryAt != nil {
		return "starts again in " + phrase.Duration(max(0, s.RetryAt.Sub(m.now)).Truncate(time.Second))
	}
	return ""
}

// workersText is how many serve, and of how many.
func workersText(s control.Service) string {
	n := 0
	for _, g := range s.Generations {
		for _, w := range g.Workers {
			if w.State == control.Serving {
				n++
			}
		}
	}
	if s.Workers == 0 || n == s.Workers {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d of %d", n, s.Workers)
}
