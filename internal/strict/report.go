package strict

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Count is what became of requests and connections.
type Count struct {
	Requests int64           `json:"requests"` // begun: with their first byte, or with the connect for them
	OK       int64           `json:"ok"`
	Faults   map[Fault]int64 `json:"faults,omitempty"` // of the others
	Codes    map[int]int64   `json:"codes,omitempty"`  // of Status

	Connects int64         `json:"connects"` // that succeeded
	Ends     map[End]int64 `json:"ends,omitempty"`
	Moved    int64         `json:"moved"` // times that a connection's next answer came from another generation
}

// Failed is the number of requests which had no right answer.
func (c *Count) Failed() int64 {
	n := int64(0)
	for _, v := range c.Faults {
		n += v
	}
	return n
}

// Broken is the number of connections which ended in a way that no HTTP client
// has to expect.
func (c *Count) Broken() int64 { return c.Ends[Lost] + c.Ends[ResetIdle] }

// Seen is when a generation answered, counted from the start of the load.
type Seen struct {
	First   time.Duration `json:"first_ns"`
	Last    time.Duration `json:"last_ns"`
	Answers int64         `json:"answers"`
	PID     int           `json:"pid"` // of the last answer; 0: it didn't tell
}

// Answer is one good answer.
type Answer struct {
	At         time.Duration // from the start of the load
	Took       time.Duration // see Report.Latency
	Kind       Kind
	Generation int
	PID        int // 0: it didn't tell
}

// Failure is one failed request.
type Failure struct {
	At     time.Duration `json:"at_ns"` // from the start of the load
	ID     string        `json:"id"`    // of the request
	Kind   Kind          `json:"kind"`
	Fault  Fault         `json:"fault"`
	Detail string        `json:"detail,omitempty"`
}

// Bucket is a piece of the timeline, which is left out where nothing happened.
type Bucket struct {
	At         time.Duration `json:"at_ns"` // its beginning, from the start of the load
	OK         int64         `json:"ok"`
	Failed     int64         `json:"failed,omitempty"`
	Connects   int64         `json:"connects,omitempty"`
	Closed     int64         `json:"closed,omitempty"` // connections, by the server
	Generation int           `json:"generation"`       // the newest that answered
	P99        time.Duration `json:"p99_ns"`
	Max        time.Duration `json:"max_ns"`
	Marks      []string      `json:"marks,omitempty"`
}

// MaxFailures is how many failures a Report tells in detail.
const MaxFailures = 50

// Report is what the clients saw.
type Report struct {
	Start       time.Time       `json:"start"`
	Elapsed     time.Duration   `json:"elapsed_ns"`
	Total       Count           `json:"total"`
	Kinds       map[Kind]*Count `json:"kinds"`
	Open        int64           `json:"open"`      // connections
	InFlight    int64           `json:"in_flight"` // requests
	Generations map[int]Seen    `json:"generations"`
	PIDs        map[int]int64   `json:"pids"`    // answers by process
	Latency     Latency         `json:"latency"` // of good answers, from the end of a request to the end of its answer, less what the handler was asked to take
	Timeline    []Bucket        `json:"timeline"`
	Failures    []Failure       `json:"failures,omitempty"` // the first MaxFailures
}

// Err tells what went wrong, or nil if no request failed and no connection broke.
func (r *Report) Err() error {
	c := &r.Total
	if c.Failed() == 0 && c.Broken() == 0 {
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d requests failed %v, %d of %d connections broke %v", c.Failed(), c.Requests, c.Faults, c.Broken(), c.Connects, c.Ends)
	for i, f := range r.Failures {
		if i == 10 {
			b.WriteString("\n…")
			break
		}
		fmt.Fprintf(&b, "\n%v", f)
	}
	return errors.New(b.String())
}

func (f Failure) String() string {
	return fmt.Sprintf("%.3f s %s: %s: %s", f.At.Seconds(), f.ID, f.Fault, f.Detail)
}
