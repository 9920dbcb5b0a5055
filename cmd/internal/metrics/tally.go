package metrics

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// tally counts events.
type tally struct {
	starts, crashes, kills, upgrades, giveUps *prometheus.CounterVec
	missed                                    prometheus.Counter
	ready, upgrade, drain                     *prometheus.HistogramVec

	known   map[string]bool   // services
	started map[int]time.Time // by PID: not ready yet
	drained map[int]time.Time // by PID: not gone yet
}

var (
	triggers   = []string{"start", "SIGHUP", "control", "api", "death", "crash", "leave", "scale", "roll_back", "other"}
	crashKinds = []string{"caught", "panic", "fatal_error", "exit", "signal", "watchdog", "not_started"}
	killKinds  = []string{"kill_timeout", "watchdog"}
	results    = []string{"ready", "failed", "timed_out"}
)

// spans are from what a small program takes to start to what a long download
// takes to end, in seconds.
var spans = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300}

func newTally() *tally {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tablecloth_" + name, Help: help}, append([]string{"service"}, labels...))
	}
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "tablecloth_" + name, Help: help, Buckets: spans}, append([]string{"service"}, labels...))
	}
	return &tally{
		starts:   counter("worker_starts_total", "Processes that were started, by what asked for it.", "trigger"),
		crashes:  counter("crashes_total", "Deaths and caught crashes of workers that nobody had asked to end.", "kind"),
		kills:    counter("kills_total", "Workers that were killed because they did not end, or were not heard of, in time.", "reason"),
		upgrades: counter("upgrades_total", "Upgrades, by how they ended.", "result"),
		giveUps:  counter("give_ups_total", "Times that nothing was started any more after too many deaths."),
		missed: prometheus.NewCounter(prometheus.CounterOpts{Name: "tablecloth_events_missed_total",
			Help: "Events that came too fast to be counted: what is counted by events is too low."}),
		ready:   histogram("worker_ready_seconds", "Time from the start of a process until it acted for its service."),
		upgrade: histogram("upgrade_duration_seconds", "Time from the beginning of an upgrade to its outcome.", "result"),
		drain:   histogram("drain_duration_seconds", "Time from when a worker was told to end until it had."),
		known:   map[string]bool{}, started: map[int]time.Time{}, drained: map[int]time.Time{},
	}
}

func (t *tally) all() []prometheus.Collector {
	return []prometheus.Collector{t.starts, t.crashes, t.kills, t.upgrades, t.giveUps, t.missed, t.ready, t.upgrade, t.drain}
}

// know lets a service's counters begin with 0: rates don't see a first event
// otherwise.
func (t *tally) know(service string) {
	if t.known[service] {
		return
	}
	t.known[service] = true
	each := func(v *prometheus.CounterVec, values []string) {
		for _, s := range values {
			v.WithLabelValues(service, s)
		}
	}
	each(t.starts, triggers)
	each(t.crashes, crashKinds)
	each(t.kills, killKinds)
	each(t.upgrades, results)
	t.giveUps.WithLabelValues(service)
	t.ready.WithLabelValues(service)
	t.drain.WithLabelValues(service)
	t.upgrade.WithLabelValues(service, "ready")
}

func (t *tally) count(e control.Event) {
	switch e.Kind {
	case control.EventStart:
		t.starts.WithLabelValues(e.Service, oneOf(triggers, text(e.Text))).Inc()
		t.started[e.PID] = e.At
		delete(t.drained, e.PID)
	case control.EventReady:
		since(t.started, e, t.ready.WithLabelValues(e.Service))
	case control.EventUpgraded, control.EventFailed:
		t.decided(e)
	case control.EventDrain:
		if _, again := t.drained[e.PID]; !again {
			t.drained[e.PID] = e.At
		}
		delete(t.started, e.PID)
	case control.EventKill:
		t.kills.WithLabelValues(e.Service, text(e.Text)).Inc()
	case control.EventGone:
		since(t.drained, e, t.drain.WithLabelValues(e.Service))
		delete(t.started, e.PID)
	case control.EventDeath:
		t.crashes.WithLabelValues(e.Service, kindOf(e.Crash)).Inc()
		delete(t.started, e.PID)
		delete(t.drained, e.PID)
	case control.EventCrash:
		t.crashes.WithLabelValues(e.Service, kindOf(e.Crash)).Inc()
	case control.EventGiveUp:
		t.giveUps.WithLabelValues(e.Service).Inc()
	case control.EventGap:
		t.missed.Add(float64(e.Counts["missed"]))
	}
}

// since observes how long it was since an event of the same process.
func since(when map[int]time.Time, e control.Event, h prometheus.Observer) {
	at, ok := when[e.PID]
	if !ok {
		return
	}
	h.Observe(max(e.At.Sub(at).Seconds(), 0))
	delete(when, e.PID)
}

func (t *tally) decided(e control.Event) {
	if e.Outcome == nil {
		return
	}
	result := text(string(e.Outcome.Result))
	t.upgrades.WithLabelValues(e.Service, result).Inc()
	t.upgrade.WithLabelValues(e.Service, result).Observe(e.Outcome.Took.Seconds())
}

// kindOf a crash, of which there are few.
func kindOf(c *control.Crash) string {
	switch {
	case c == nil:
		return "exit"
	case c.Caught:
		return "caught"
	case c.Error == "watchdog":
		return "watchdog"
	case strings.HasPrefix(c.Error, "panic: "):
		return "panic"
	case strings.HasPrefix(c.Error, "fatal error: "):
		return "fatal_error"
	case strings.HasPrefix(c.Exit, "signal: "):
		return "signal"
	case strings.HasPrefix(c.Exit, "exit status "):
		return "exit"
	}
	return "not_started"
}

// oneOf keeps what somebody may choose freely from becoming a label each.
func oneOf(known []string, s string) string {
	for _, k := range known {
		if s == k {
			return s
		}
	}
	return "other"
}

// text is words as a label has them.
func text(s string) string { return strings.ReplaceAll(s, " ", "_") }
