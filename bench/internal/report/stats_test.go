package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/bench/internal/measure"
	"github.com/tablecloth-go/tablecloth/internal/strict"
)

func TestMedianAndSpread(t *testing.T) {
	for _, c := range []struct {
		s    sample
		want string
	}{
		{nil, "–"},
		{sample{0}, "0"},
		{sample{3, 3}, "3"},
		{sample{3, 1, 2}, "2 (1–3)"},
		{sample{10, 1, 2, 40}, "6 (1–40)"},
		{sample{1.125}, "1.12"},
		{sample{2.75, 100.4}, "52 (2.8–100)"},
	} {
		if got := c.s.String(); got != c.want {
			t.Errorf("%v: %q, want %q", []float64(c.s), got, c.want)
		}
	}
}

func event(system, action string, refused int64, first time.Duration) measure.Event {
	return measure.Event{
		System: system, Action: action, Open: 270, FirstNew: first, LastOld: measure.Never, Next: first,
		Failed: map[measure.Class]map[strict.Fault]int64{measure.Posts: {strict.Refused: refused}},
		Line:   []measure.Point{{At: -50, OK: 30, Max: 1}, {At: 0, Failed: 3}, {At: 50, OK: 10, Max: 12}},
	}
}

func twoSystems() All {
	r := measure.Results{Command: "bench test", Load: []float64{9, 1, 1}, Versions: map[string]string{"tableflip": "v1.2.3", "tablecloth": "go"}}
	for _, action := range []string{"upgrade", "crash"} {
		r.Events = append(r.Events, event("tableflip", action, 7, 10*time.Millisecond), event("tablecloth", action, 0, 30*time.Millisecond))
	}
	r.LeftOut = map[string]string{"nginx": "not installed"}
	return All{Runs: []measure.Results{r}}
}

func TestOthersThatAreBetterAreNamed(t *testing.T) {
	lines := strings.Join(twoSystems().betterThanOurs(), "\n")
	if !strings.Contains(lines, "cloudflare/tableflip (10)") {
		t.Errorf("its first new answer came sooner: %s", lines)
	}
	if strings.Contains(lines, "Failed requests") {
		t.Errorf("nobody lost less: %s", lines)
	}
}

func TestAFailedUpgradeIsSaid(t *testing.T) {
	a := twoSystems()
	a.Runs[0].Events[0].FirstNew = measure.Never
	if s := a.upgrades("upgrade", false); !strings.Contains(s, "1 of 1 upgrades failed") {
		t.Error(s)
	}
}

func TestPageAndPlots(t *testing.T) {
	dir := t.TempDir()
	if err := twoSystems().Write(dir); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(dir, "bench.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| cloudflare/tableflip | 7 | 0 | 7 |", "v1.2.3", "not installed", "busy with other work"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page says nothing of %q", want)
		}
	}
	for _, name := range []string{"lost-upgrade", "lost-crash", "timeline-upgrade", "timeline-crash"} {
		svg, err := os.ReadFile(filepath.Join(dir, "bench", name+".svg"))
		if err != nil || !strings.Contains(string(svg), "cloudflare/tableflip") {
			t.Errorf("%s: %v, or the system's name isn't in it", name, err)
		}
	}
}

func TestCostsAreComparedWithinRounds(t *testing.T) {
	steady := func(system string, round int, cpu time.Duration) measure.Steady {
		return measure.Steady{System: system, Round: round, Answers: 10, CPU: cpu}
	}
	a := All{Runs: []measure.Results{
		{Steady: []measure.Steady{steady("kept", 0, 30), steady("killed-0", 0, 10), steady("killed-0", 1, 100), steady("kept", 1, 100)}},
		{Steady: []measure.Steady{steady("killed-0", 0, 50), steady("kept", 0, 100)}},
		{Together: true, Steady: []measure.Steady{steady("killed-0", 0, 10), steady("kept", 0, 70)}},
		{Together: true, Saturated: true, Steady: []measure.Steady{steady("killed-0", 0, 10), steady("kept", 0, 90)}},
	}}
	if got := a.cpuRatio("kept", "killed-0", byTurns); len(got) != 3 || got.String() != "2 (1–3)" {
		t.Errorf("by turns: %v", []float64(got))
	}
	if got := a.cpuRatio("kept", "killed-0", together); len(got) != 1 || got.String() != "7" {
		t.Errorf("together: %v", []float64(got))
	}
	if got := a.cpuRatio("kept", "killed-0", saturated); len(got) != 1 || got.String() != "9" {
		t.Errorf("saturated: %v", []float64(got))
	}
	if got := a.cost("kept"); len(got) != 1 || got[0] != 7 {
		t.Errorf("what was measured together is to be told: %v", []float64(got))
	}
}

func TestUpgradesAreComparedWithStartsOfTheirRound(t *testing.T) {
	one := func(action string, round int, first, beside time.Duration) measure.Event {
		return measure.Event{System: "kept", Action: action, Round: round, FirstNew: first, Beside: beside}
	}
	a := All{Runs: []measure.Results{
		{Events: []measure.Event{one("upgrade", 0, 30, 0), one("beside", 0, -1, 10), one("beside", 1, -1, 100), one("upgrade", 1, 100, 0),
			one("upgrade", 2, measure.Never, 0), one("beside", 2, -1, 1), one("idle", 1, 700, 0)}},
		{Events: []measure.Event{one("upgrade", 0, 100, 0), one("beside", 0, -1, 50)}},
		{Blind: 1, Events: []measure.Event{one("upgrade", 0, 900, 0)}},
	}}
	if got := a.besides("kept", "upgrade", false, againstBeside); len(got) != 3 || got.String() != "2 (1–3)" {
		t.Errorf("%v", []float64(got))
	}
}

func TestInterval(t *testing.T) {
	// Ranks by tables of the sign test.
	for n, rank := range map[int]int{5: 0, 6: 1, 8: 1, 9: 2, 10: 2, 20: 6, 30: 10, 100: 40} {
		var s sample
		for i := range n {
			s = append(s, float64(n-i))
		}
		low, high, ok := s.interval()
		if ok != (rank > 0) || ok && (low != float64(rank) || high != float64(n+1-rank)) {
			t.Errorf("of %d: %v to %v, %v; want from rank %d", n, low, high, ok, rank)
		}
	}
	if got := (sample{1, 2, 3, 4, 5, 6}).estimate(); got != "3.500 [1.000, 6.000]" {
		t.Error(got)
	}
}
