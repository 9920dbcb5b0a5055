package metrics

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tablecloth-go/tablecloth/internal/testenv"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// known is a keeper of which everything is known.
type known struct{ status control.Status }

func (k known) Status() control.Status { return k.status }

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func aKeeper() known {
	web := control.Service{Name: "web", State: control.Serving, Generation: 3, Workers: 2, Restarts: 4, Crashes: 1,
		LastOutcome: &control.Outcome{Result: control.Failed, At: noon},
		Generations: []control.Generation{
			{Number: 2, State: control.Draining, Workers: []control.Worker{{State: control.Draining, Process: control.Process{Memory: 100}}}},
			{Number: 3, State: control.Serving, Workers: []control.Worker{
				{State: control.Serving, Process: control.Process{Memory: 200, Changed: true}}, {State: control.Serving, Process: control.Process{Memory: 300}}}},
		},
		Conns:   &control.Conns{Open: 6, Idle: 3, Active: 2, Pinned: 1, Requests: 1000, Moved: 70, Adopted: 60, Panics: 5, Closed: map[string]int64{"idle": 8}},
		Rescued: &control.Rescued{Workers: 1, Idle: 9, S500: 2, Lost: 1},
		Output:  &control.Output{Lines: 50, Bytes: 5000, DroppedLines: 7, DroppedBytes: 700},
	}
	return known{control.Status{Mode: "kept", Services: []control.Service{web, {Name: "other", State: control.GaveUp}}}}
}

// aLife is what may have happened to it.
func aLife() *control.Events {
	e := control.NewEvents(0)
	at := func(second float64, ev control.Event) {
		ev.Service, ev.At = "web", noon.Add(time.Duration(second*float64(time.Second)))
		e.Publish(ev)
	}
	at(0, control.Event{Kind: control.EventStart, PID: 1, Text: "start"})
	at(0.3, control.Event{Kind: control.EventReady, PID: 1})
	at(10, control.Event{Kind: control.EventStart, PID: 2, Text: "whatever a deploy tool calls itself"})
	at(11, control.Event{Kind: control.EventStart, PID: 3, Text: "scale"})
	at(11, control.Event{Kind: control.EventStart, PID: 4, Text: "roll back"})
	at(12, control.Event{Kind: control.EventReady, PID: 2})
	at(12, control.Event{Kind: control.EventUpgraded, Outcome: &control.Outcome{Result: control.Ready, Took: 2 * time.Second}})
	at(12, control.Event{Kind: control.EventDrain, PID: 1})
	at(15, control.Event{Kind: control.EventDrain, PID: 1}) // told again: it still drains since then
	at(42, control.Event{Kind: control.EventKill, PID: 1, Text: "kill timeout"})
	at(42, control.Event{Kind: control.EventGone, PID: 1})
	at(50, control.Event{Kind: control.EventFailed, Outcome: &control.Outcome{Result: control.TimedOut, Took: time.Minute}})
	for _, c := range []control.Crash{
		{Caught: true, Error: "as the test wants it"}, {Error: "panic: x", Exit: "exit status 2"}, {Error: "fatal error: x", Exit: "exit status 2"},
		{Exit: "signal: killed"}, {Exit: "exit status 3"}, {Error: "watchdog", Exit: "signal: killed"}, {Exit: "fork/exec: no such file"},
	} {
		kind := control.EventDeath
		if c.Caught {
			kind = control.EventCrash
		}
		at(60, control.Event{Kind: kind, PID: 2, Crash: &c})
	}
	at(61, control.Event{Kind: control.EventGiveUp})
	return e
}

// scrape returns what a Prometheus is told.
func scrape(t *testing.T, s Source, e *control.Events) string {
	t.Helper()
	w := httptest.NewRecorder()
	Handler(t.Context(), s, e).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Fatalf("%d %s: %s", w.Code, w.Header().Get("Content-Type"), w.Body)
	}
	return w.Body.String()
}

func TestMetrics(t *testing.T) {
	text := scrape(t, aKeeper(), aLife())
	for _, want := range []string{
		`tablecloth_service_state{service="web",state="serving"} 1`,
		`tablecloth_service_state{service="web",state="gave_up"} 0`,
		`tablecloth_service_state{service="other",state="gave_up"} 1`,
		`tablecloth_generation{service="web"} 3`,
		`tablecloth_generations{service="web",state="draining"} 1`,
		`tablecloth_workers{service="web",state="serving"} 2`,
		`tablecloth_workers{service="web",state="starting"} 0`,
		`tablecloth_workers_wanted{service="web"} 2`,
		`tablecloth_binary_changed{service="web"} 1`,
		`tablecloth_memory_bytes{service="web"} 600`,
		`tablecloth_connections{service="web",state="idle"} 3`,
		`tablecloth_last_upgrade_successful{service="web"} 0`,
		`tablecloth_last_upgrade_timestamp_seconds{service="web"} 1.7953488e+09`,
		`tablecloth_crashes_in_window{service="web"} 1`,
		`tablecloth_restarts_total{service="web"} 4`,
		`tablecloth_requests_total{service="web"} 1000`,
		`tablecloth_panics_total{service="web"} 5`,
		`tablecloth_connections_moved_total{service="web"} 70`,
		`tablecloth_connections_adopted_total{service="web"} 60`,
		`tablecloth_connections_closed_total{reason="idle",service="web"} 8`,
		`tablecloth_connections_rescued_total{result="500",service="web"} 2`,
		`tablecloth_connections_rescued_total{result="lost",service="other"} 0`,
		`tablecloth_output_lines_total{service="web"} 50`,
		`tablecloth_output_dropped_lines_total{service="web"} 7`,
		`tablecloth_worker_starts_total{service="web",trigger="start"} 1`,
		`tablecloth_worker_starts_total{service="web",trigger="other"} 1`,
		`tablecloth_worker_starts_total{service="web",trigger="scale"} 1`,
		`tablecloth_worker_starts_total{service="web",trigger="roll_back"} 1`,
		`tablecloth_crashes_total{kind="caught",service="web"} 1`,
		`tablecloth_crashes_total{kind="panic",service="web"} 1`,
		`tablecloth_crashes_total{kind="fatal_error",service="web"} 1`,
		`tablecloth_crashes_total{kind="signal",service="web"} 1`,
		`tablecloth_crashes_total{kind="exit",service="web"} 1`,
		`tablecloth_crashes_total{kind="watchdog",service="web"} 1`,
		`tablecloth_crashes_total{kind="not_started",service="web"} 1`,
		`tablecloth_crashes_total{kind="panic",service="other"} 0`,
		`tablecloth_kills_total{reason="kill_timeout",service="web"} 1`,
		`tablecloth_upgrades_total{result="ready",service="web"} 1`,
		`tablecloth_upgrades_total{result="timed_out",service="web"} 1`,
		`tablecloth_upgrades_total{result="failed",service="web"} 0`,
		`tablecloth_give_ups_total{service="web"} 1`,
		`tablecloth_events_missed_total 0`,
		`tablecloth_upgrade_duration_seconds_sum{result="ready",service="web"} 2`,
		`tablecloth_worker_ready_seconds_sum{service="web"} 2.3`,
		`tablecloth_worker_ready_seconds_bucket{service="web",le="0.5"} 1`,
		`tablecloth_drain_duration_seconds_sum{service="web"} 30`,
		`tablecloth_drain_duration_seconds_count{service="web"} 1`,
	} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	for _, absent := range []string{`last_upgrade_successful{service="other"`, `connections{service="other"`, `output_lines_total{service="other"`, "deploy tool"} {
		if strings.Contains(text, absent) {
			t.Errorf("%s is told, though nobody knows it", absent)
		}
	}
}

// What happens between two scrapes is counted, once, however much it is; what was
// lost is counted as lost.
func TestEventsAreCountedOnce(t *testing.T) {
	e := control.NewEvents(8)
	c := newCollector(known{}, e)
	crash := control.Event{Kind: control.EventDeath, Service: "web", Crash: &control.Crash{Exit: "exit status 1"}}
	for range 3 {
		e.Publish(crash)
	}
	c.catchUp()
	c.catchUp()
	if n := total(t, c, "tablecloth_crashes_total"); n != 3 {
		t.Errorf("%v crashes of 3", n)
	}
	for range 12 {
		e.Publish(crash)
	}
	c.catchUp()
	if n, missed := total(t, c, "tablecloth_crashes_total"), total(t, c, "tablecloth_events_missed_total"); n != 3+8 || missed != 4 {
		t.Errorf("%v crashes, %v missed", n, missed)
	}
}

// With somebody who follows, none is missed however rare scrapes are.
func TestEventsAreFollowed(t *testing.T) {
	e := control.NewEvents(8)
	c := newCollector(known{}, e)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		c.follow(ctx)
		close(done)
	}()
	for i := range uint64(100) {
		e.Publish(control.Event{Kind: control.EventGiveUp, Service: "web"})
		for seen := uint64(0); seen <= i; {
			c.mu.Lock()
			seen = c.seq
			c.mu.Unlock()
		}
	}
	cancel()
	<-done
	if n := total(t, c, "tablecloth_give_ups_total"); n != 100 {
		t.Errorf("%v of 100", n)
	}
}

func total(t *testing.T, c prometheus.Collector, name string) (sum float64) {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(c)
	all, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

func promtool(t *testing.T, stdin io.Reader, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	testenv.Need(t, "promtool (Debian: prometheus)", err == nil)
	cmd := exec.Command(path, args...)
	cmd.Stdin = stdin
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), err
}

func TestPromtoolAcceptsTheMetrics(t *testing.T) {
	if out, err := promtool(t, strings.NewReader(scrape(t, aKeeper(), aLife())), "check", "metrics"); err != nil || out != "" {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := promtool(t, strings.NewReader("# TYPE requests counter\nrequests 1\n"), "check", "metrics"); err == nil {
		t.Errorf("it accepts anything: %s", out)
	}
}

func TestPromtoolPassesTheAlerts(t *testing.T) {
	dir := filepath.Join("..", "..", "..", "docs", "alerts")
	for _, args := range [][]string{{"check", "rules", "tablecloth.rules.yml"}, {"test", "rules", "tablecloth.rules_test.yml"}} {
		args[2] = filepath.Join(dir, args[2])
		if out, err := promtool(t, nil, args...); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
}

// names are those of all metrics, as they can be asked for.
func names(t *testing.T) map[string]bool {
	t.Helper()
	all := map[string]bool{"process_resident_memory_bytes": true}
	descs := make(chan *prometheus.Desc, 100)
	newCollector(known{}, control.NewEvents(0)).Describe(descs)
	close(descs)
	for d := range descs {
		name := regexp.MustCompile(`fqName: "([^"]+)"`).FindStringSubmatch(d.String())[1]
		all[name] = true
		if strings.HasSuffix(name, "_seconds") {
			for _, part := range []string{"_bucket", "_sum", "_count"} {
				all[name+part] = true
			}
		}
	}
	return all
}

var nameInQuery = regexp.MustCompile(`\b(?:tablecloth|process|go)_[a-z0-9_]+\b`)

// Dashboards, alerts and the page about metrics name only what there is.
func TestNamesInDocs(t *testing.T) {
	known := names(t)
	root := filepath.Join("..", "..", "..", "docs")
	files, _ := filepath.Glob(filepath.Join(root, "grafana", "*.json"))
	files = append(files, filepath.Join(root, "alerts", "tablecloth.rules.yml"), filepath.Join(root, "alerts", "tablecloth.rules_test.yml"), filepath.Join(root, "metrics.md"))
	if len(files) < 4 {
		t.Fatalf("only %v", files)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		found := nameInQuery.FindAllString(string(text), -1)
		if len(found) < 5 {
			t.Errorf("%s: only %v", f, found)
		}
		for _, name := range found {
			if !known[name] {
				t.Errorf("%s: there is no %s", f, name)
			}
		}
	}
}

// The page has every metric.
func TestEveryMetricIsDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	for name := range names(t) {
		if !slices.ContainsFunc([]string{"_bucket", "_sum", "_count"}, func(s string) bool { return strings.HasSuffix(name, s) }) &&
			!strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("%s isn't documented", name)
		}
	}
}

// A dashboard is JSON with queries of one data source, and panels that don't
// overlap.
func TestDashboards(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join("..", "..", "..", "docs", "grafana", "*.json"))
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var d struct {
			Title, UID string
			Panels     []struct {
				ID      int
				Type    string
				Title   string
				GridPos struct{ H, W, X, Y int }
				Targets []struct{ Expr string }
			}
		}
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		taken := map[[2]int]string{}
		ids := map[int]bool{}
		for _, p := range d.Panels {
			if ids[p.ID] {
				t.Errorf("%s: two panels have the number %d", f, p.ID)
			}
			ids[p.ID] = true
			if p.Type != "row" && (len(p.Targets) == 0 || p.Title == "") {
				t.Errorf("%s: panel %q asks for nothing", f, p.Title)
			}
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
						t.Fatalf("%s: %q lies over %q", f, p.Title, other)
					}
					taken[[2]int{x, y}] = p.Title
				}
			}
		}
		if d.Title == "" || d.UID == "" || len(d.Panels) < 10 {
			t.Errorf("%s: %q %q, %d panels", f, d.Title, d.UID, len(d.Panels))
		}
	}
}
