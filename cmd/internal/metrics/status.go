package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// family is a metric that is read off a status. Its label service comes first,
// and what more it has is a value's.
type family struct {
	desc *prometheus.Desc
	read func(s *control.Service) []value
}

type value struct {
	n     float64
	label string // "": the family has none but service
}

func newFamily(name, help, label string, read func(*control.Service) []value) family {
	labels := []string{"service"}
	if label != "" {
		labels = append(labels, label)
	}
	return family{prometheus.NewDesc("tablecloth_"+name, help, labels, nil), read}
}

func tell(to chan<- prometheus.Metric, all []family, kind prometheus.ValueType, s *control.Service) {
	for _, f := range all {
		for _, v := range f.read(s) {
			labels := []string{s.Name}
			if v.label != "" {
				labels = append(labels, v.label)
			}
			to <- prometheus.MustNewConstMetric(f.desc, kind, v.n, labels...)
		}
	}
}

func one[N int | int64](read func(*control.Service) N) func(*control.Service) []value {
	return func(s *control.Service) []value { return []value{{n: float64(read(s))}} }
}

func ofConns(read func(*control.Conns) []value) func(*control.Service) []value {
	return func(s *control.Service) []value {
		if s.Conns == nil {
			return nil
		}
		return read(s.Conns)
	}
}

func oneOfConns(read func(*control.Conns) int64) func(*control.Service) []value {
	return ofConns(func(c *control.Conns) []value { return []value{{n: float64(read(c))}} })
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

var serviceStates = []control.State{control.Starting, control.Serving, control.Stopping, control.GaveUp, control.Down, control.Stopped}
var processStates = []control.State{control.Starting, control.Serving, control.Draining, control.Stopping}

var gauges = []family{
	newFamily("service_state", "1 for what the service is doing as a whole, 0 for all else.", "state", func(s *control.Service) (vs []value) {
		for _, state := range serviceStates {
			vs = append(vs, value{truth(s.State == state), text(string(state))})
		}
		return vs
	}),
	newFamily("generation", "Number of the generation that acts for the service.", "", one(func(s *control.Service) int { return s.Generation })),
	newFamily("generations", "Generations that have processes, by what they are doing.", "state", func(s *control.Service) (vs []value) {
		n := map[control.State]int{}
		for _, g := range s.Generations {
			n[g.State]++
		}
		return byState(n)
	}),
	newFamily("workers", "Processes, by what they are doing.", "state", func(s *control.Service) (vs []value) {
		n := map[control.State]int{}
		each(s, func(w *control.Worker) { n[w.State]++ })
		return byState(n)
	}),
	newFamily("workers_wanted", "Processes that are to serve.", "", one(func(s *control.Service) int { return s.Workers })),
	newFamily("binary_changed", "1 if another file than the one that serves lies at the program's path: an upgrade would change something.", "", func(s *control.Service) []value {
		changed := false
		each(s, func(w *control.Worker) { changed = changed || w.Changed && w.State == control.Serving })
		return []value{{n: truth(changed)}}
	}),
	newFamily("memory_bytes", "Memory of all processes of the service; what they share counts in parts.", "", one(func(s *control.Service) (sum int64) {
		each(s, func(w *control.Worker) { sum += w.Memory })
		return sum
	})),
	newFamily("connections", "Connections that are open, by what they are doing; pinned ones can't move. Of workers with the library.", "state", ofConns(func(c *control.Conns) []value {
		return []value{{float64(c.Idle), "idle"}, {float64(c.Active), "active"}, {float64(c.Pinned), "pinned"}}
	})),
	newFamily("last_upgrade_successful", "1 if the last upgrade succeeded, 0 if it failed. There is none before the first one.", "", func(s *control.Service) []value {
		if s.LastOutcome == nil {
			return nil
		}
		return []value{{n: truth(s.LastOutcome.Result == control.Ready)}}
	}),
	newFamily("last_upgrade_timestamp_seconds", "When the last upgrade ended, well or not.", "", func(s *control.Service) []value {
		if s.LastOutcome == nil {
			return nil
		}
		return []value{{n: float64(s.LastOutcome.At.UnixMilli()) / 1000}}
	}),
	newFamily("crashes_in_window", "Deaths that count towards giving up.", "", one(func(s *control.Service) int { return s.Crashes })),
}

var counters = []family{
	newFamily("restarts_total", "Workers that were started again after a death or a caught crash.", "", one(func(s *control.Service) int { return s.Restarts })),
	newFamily("requests_total", "Requests that workers with the library have been asked.", "", oneOfConns(func(c *control.Conns) int64 { return c.Requests })),
	newFamily("panics_total", "Panics of handlers, answered with a 500.", "", oneOfConns(func(c *control.Conns) int64 { return c.Panics })),
	newFamily("connections_moved_total", "Connections that were handed over to the next generation.", "", oneOfConns(func(c *control.Conns) int64 { return c.Moved })),
	newFamily("connections_adopted_total", "Connections that were taken over: moved or rescued ones.", "", oneOfConns(func(c *control.Conns) int64 { return c.Adopted })),
	newFamily("connections_closed_total", "Connections that a worker closed because it drained, by the reason.", "reason", ofConns(func(c *control.Conns) (vs []value) {
		for reason, n := range c.Closed {
			vs = append(vs, value{float64(n), text(reason)})
		}
		return vs
	})),
	newFamily("connections_rescued_total", "Connections of workers that died, by what became of them.", "result", func(s *control.Service) []value {
		r := s.Rescued
		if r == nil {
			r = &control.Rescued{}
		}
		return []value{{float64(r.Idle), "idle"}, {float64(r.S500), "500"}, {float64(r.S503), "503"}, {float64(r.Cut), "cut"},
			{float64(r.Ended), "ended"}, {float64(r.Closed), "closed"}, {float64(r.Lost), "lost"}}
	}),
	newFamily("output_lines_total", "Lines of workers' output that came through the keeper.", "", ofOutput(func(o *control.Output) int64 { return o.Lines })),
	newFamily("output_bytes_total", "Bytes of workers' output that came through the keeper.", "", ofOutput(func(o *control.Output) int64 { return o.Bytes })),
	newFamily("output_dropped_lines_total", "Lines of it that were dropped: nobody read them, or they could not be written.", "", ofOutput(func(o *control.Output) int64 { return o.DroppedLines })),
	newFamily("output_dropped_bytes_total", "Bytes of it that were dropped.", "", ofOutput(func(o *control.Output) int64 { return o.DroppedBytes })),
}

func ofOutput(read func(*control.Output) int64) func(*control.Service) []value {
	return func(s *control.Service) []value {
		if s.Output == nil {
			return nil
		}
		return []value{{n: float64(read(s.Output))}}
	}
}

func each(s *control.Service, f func(w *control.Worker)) {
	for i := range s.Generations {
		for j := range s.Generations[i].Workers {
			f(&s.Generations[i].Workers[j])
		}
	}
}

func byState(n map[control.State]int) (vs []value) {
	for _, state := range processStates {
		vs = append(vs, value{float64(n[state]), text(string(state))})
	}
	return vs
}
