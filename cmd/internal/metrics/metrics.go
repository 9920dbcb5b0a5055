// Package metrics tells Prometheus what a keeper knows.
//
// What Status counts is told as it is at a scrape. What only events tell (crashes
// by kind, how long things took) is counted here, from the keeper's start on.
package metrics

import (
	"context"
	"net/http"
	"runtime/debug"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// Source is what is asked at each scrape: a control.Backend.
type Source interface {
	Status() control.Status
}

// Handler answers scrapes until ctx is done. Its events must be the source's, and
// begin with its life: what was before is not counted.
func Handler(ctx context.Context, s Source, e *control.Events) http.Handler {
	c := newCollector(s, e)
	go c.follow(ctx)
	r := prometheus.NewRegistry()
	r.MustRegister(c, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{})
}

// collector is all metrics of a keeper.
type collector struct {
	source Source
	events *control.Events

	mu    sync.Mutex
	seq   uint64 // of the last event that was counted
	tally *tally
}

func newCollector(s Source, e *control.Events) *collector {
	return &collector{source: s, events: e, tally: newTally()}
}

// follow counts events before they are forgotten, whether anybody scrapes or not.
func (c *collector) follow(ctx context.Context) {
	for r := c.events.Follow(0); r.Next(ctx) != nil; {
		c.mu.Lock()
		c.catchUp()
		c.mu.Unlock()
	}
}

func (c *collector) catchUp() {
	for _, e := range c.events.Since(c.seq) {
		c.tally.count(e)
		c.seq = e.Seq
	}
}

// Describe names everything that there can be.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range gauges {
		to <- d.desc
	}
	for _, d := range counters {
		to <- d.desc
	}
	to <- info
	for _, v := range c.tally.all() {
		v.Describe(to)
	}
}

// Collect is one scrape.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	st := c.source.Status()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.catchUp()
	to <- prometheus.MustNewConstMetric(info, prometheus.GaugeValue, 1, version(), st.Mode)
	for i := range st.Services {
		s := &st.Services[i]
		c.tally.know(s.Name)
		tell(to, gauges, prometheus.GaugeValue, s)
		tell(to, counters, prometheus.CounterValue, s)
	}
	for _, v := range c.tally.all() {
		v.Collect(to)
	}
}

var info = prometheus.NewDesc("tablecloth_build_info", "1, with the version of tablecloth, and how it runs.", []string{"version", "mode"}, nil)

// version is the module's, or the revision that it was built from.
func version() string {
	b, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range b.Settings {
		if s.Key == "vcs.revision" && (b.Main.Version == "" || b.Main.Version == "(devel)") {
			return s.Value
		}
	}
	return b.Main.Version
}
