package measure

import (
	"time"

	"github.com/tablecloth-go/tablecloth/internal/strict"
)

// Results of one call of the program.
type Results struct {
	Command   string            `json:"command"`
	Commit    string            `json:"commit,omitempty"`
	Date      time.Time         `json:"date"`
	Machine   string            `json:"machine"`
	Load      []float64         `json:"load"` // averages over 1, 5 and 15 minutes at the start
	Seed      uint64            `json:"seed"`
	Blind     time.Duration     `json:"blind_ns"`
	Window    time.Duration     `json:"window_ns"`
	Groups    []strict.Group    `json:"groups"`
	Versions  map[string]string `json:"versions"`           // by system
	LeftOut   map[string]string `json:"left_out,omitempty"` // by system, why
	Events    []Event           `json:"events"`
	Steady    []Steady          `json:"steady,omitempty"`
	Together  bool              `json:"together,omitempty"`  // all of a round at the same time
	Saturated bool              `json:"saturated,omitempty"` // by clients that don't pause
}

// Class of requests that fail for different reasons.
type Class string

// All classes.
const (
	Fresh  Class = "fresh"  // the first and only one of its connection
	Reused Class = "reused" // GET on a kept-alive connection
	Posts  Class = "posts"  // POST on a kept-alive connection, which no client may repeat
)

// Event is what clients saw of one upgrade, crash or panic, from the trigger to
// the end of the window.
type Event struct {
	System string `json:"system"`
	Action string `json:"action"`
	Round  int    `json:"round"`
	Number int    `json:"number"` // in its round
	Error  string `json:"error,omitempty"`

	Requests int64                            `json:"requests"`
	Failed   map[Class]map[strict.Fault]int64 `json:"failed,omitempty"`
	Open     int64                            `json:"open"`           // kept-alive connections at the trigger
	Ends     map[strict.End]int64             `json:"ends,omitempty"` // of kept-alive connections
	Moved    int64                            `json:"moved"`
	Long     int64                            `json:"long,omitempty"`     // connections that are HTTP no more, at the trigger
	LongCut  int64                            `json:"long_cut,omitempty"` // of them, ended

	// From the trigger; Never if there was none within the window.
	FirstNew time.Duration `json:"first_new_ns"` // to the first answer of a new process
	LastOld  time.Duration `json:"last_old_ns"`  // to the last answer of an old one
	Next     time.Duration `json:"next_ns"`      // to the first answer of any process but the one that served
	Gap      time.Duration `json:"gap_ns"`       // the longest time without any answer

	Start  time.Duration  `json:"start_ns"`            // from exec to the first answer, when nothing else was going on
	Beside time.Duration  `json:"beside_ns,omitempty"` // the same of another one, started beside the load
	Before strict.Latency `json:"before"`              // as long before the trigger
	During strict.Latency `json:"during"`
	Answer string         `json:"answer,omitempty"` // to the request that panicked
	Line   []Point        `json:"line,omitempty"`
}

// Never is the value of a time that didn't come.
const Never = time.Duration(-1)

// Lost is the number of failed requests.
func (e *Event) Lost() int64 {
	n := int64(0)
	for c := range e.Failed {
		n += e.LostOf(c)
	}
	return n
}

// LostOf is the number of failed requests of a class.
func (e *Event) LostOf(c Class) int64 {
	n := int64(0)
	for _, v := range e.Failed[c] {
		n += v
	}
	return n
}

// Closed is the number of kept-alive connections which ended without an
// announcement.
func (e *Event) Closed() int64 {
	return e.Ends[strict.ClosedIdle] + e.Ends[strict.ResetIdle] + e.Ends[strict.Lost]
}

// Point of a timeline, a piece of Step.
type Point struct {
	At     int     `json:"at"` // ms from the trigger
	OK     int     `json:"ok"`
	Failed int     `json:"failed,omitempty"`
	Max    float64 `json:"max"` // latency of good answers, ms
}

// Step is the resolution of timelines.
const Step = 50 * time.Millisecond

// Steady is what a system costs when nothing happens.
type Steady struct {
	System  string         `json:"system"`
	Round   int            `json:"round"`
	Answers int64          `json:"answers"`
	Failed  int64          `json:"failed"`
	CPU     time.Duration  `json:"cpu_ns"` // of all its processes
	Memory  int64          `json:"memory"` // bytes, resident, all its processes
	Latency strict.Latency `json:"latency"`
}
