// Package show is `tablecloth demo`: a service under load from strict clients,
// what is done to it meanwhile, and the score.
package show

import (
	"context"
	"io"
	"os"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/strict"
)

// Config of Run.
type Config struct {
	// Args make this program call Serve, with the arguments behind them.
	Args     []string
	Duration time.Duration // of the load; acts that take longer prolong it
	Upgrades int
	Kept     bool // the service runs under a keeper, and dies in more ways
	Stay     bool // go on after the score until ctx is done
	JSON     bool // write nothing but the Score
	Seed     uint64
	Command  string // how the user starts tablecloth

	Out    io.Writer
	Live   bool // Out is a terminal
	Colour bool
}

// Score is what came of it.
type Score struct {
	// OK: each act went as it should, no request failed, no connection was lost,
	// and no request was answered with an error, or cut short, but when its process
	// was killed.
	OK          bool           `json:"ok"`
	Interrupted bool           `json:"interrupted"` // before the last act
	Acts        []*Row         `json:"acts"`
	Report      *strict.Report `json:"report"`
}

// Row is an act, and what the clients saw until the next one.
type Row struct {
	Act      string        `json:"act"`
	At       time.Duration `json:"at_ns"` // from the start of the load
	Came     string        `json:"came,omitempty"`
	Error    string        `json:"error,omitempty"`
	Took     time.Duration `json:"took_ns,omitempty"` // to the first answer of the next generation, from the start of its process or from the crash
	Requests int64         `json:"requests"`
	Errors   int64         `json:"errors"` // requests answered with 500 or 503
	Cut      int64         `json:"cut"`    // answers that were half sent when their process was killed, and end visibly
	Failed   int64         `json:"failed"` // requests not answered, or wrongly
	Lost     int64         `json:"lost"`   // connections that broke
	Closed   int64         `json:"closed"` // connections that the service closed in an orderly way

	kill   bool // errors are to be expected
	before *strict.Report
}

func (r *Row) ok() bool {
	return r.Error == "" && r.Failed == 0 && r.Lost == 0 && (r.kill || r.Errors == 0)
}

// show is one performance. One goroutine has the screen and the rows; the acts
// run beside it, one at a time.
type show struct {
	Config
	screen     *screen
	stage      *stage
	load       *strict.Running
	generation int // that has answered; the acts' own
	rows       []*Row
}

// Run gives a performance, and writes the score. It returns an error only if
// there was none.
func Run(ctx context.Context, c Config) (*Score, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &show{Config: c, screen: newScreen(c), generation: 1}
	args := c.Args
	if c.Kept {
		args = append(args[:len(args):len(args)], "--keep")
	}
	if s.stage, err = newStage(ctx, self, args); err != nil {
		return nil, err
	}
	defer s.stage.close()
	s.screen.line(opening(c.Kept))

	loading, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	s.load = strict.Load{Network: "tcp", Addr: s.stage.web, Groups: clients(c.Kept), Seed: c.Seed, Timeout: actTimeout}.Start(loading)
	s.begin("serve")
	finished := s.perform(ctx)
	if finished && c.Stay {
		s.screen.line(s.invitation())
		s.begin("what you did")
		s.pass(ctx, nil)
	}
	score := s.score(finished, stop)
	return score, s.screen.score(score)
}

// perform does one act after the other, at equal distances. It returns false if
// ctx was done before the end.
func (s *show) perform(ctx context.Context) bool {
	acts := program(s.Upgrades, s.Kept)
	gap := s.Duration / time.Duration(len(acts)+1)
	start := time.Now()
	for i, a := range acts {
		if !s.pass(ctx, at(start.Add(gap*time.Duration(i+1)))) {
			return false
		}
		row := s.begin(a.name)
		row.kill = a.kill
		end := s.act(ctx, a)
		if !s.pass(ctx, end.done) {
			return false
		}
		row.end(end)
		s.screen.act(row, s.load.Snapshot().Elapsed)
		if a.kill && !(s.pass(ctx, at(time.Now().Add(aftermath))) && s.pass(ctx, s.load.Settled())) {
			return false
		}
		if row.Error != "" {
			s.screen.line("the service's log:" + s.stage.lastWords())
		}
	}
	return s.pass(ctx, at(start.Add(s.Duration)))
}

// aftermath is how long what a kill does to requests that begin then counts as
// done by it: until they have ended, however long that takes.
const aftermath = 300 * time.Millisecond

// ending is how an act ended, once done is closed.
type ending struct {
	came string
	took time.Duration
	err  error
	done chan struct{}
}

func (s *show) act(ctx context.Context, a act) *ending {
	e := &ending{done: make(chan struct{})}
	go func() {
		defer close(e.done)
		ctx, cancel := context.WithTimeout(ctx, actTimeout)
		defer cancel()
		e.came, e.took, e.err = a.do(s, ctx)
	}()
	return e
}

// pass shows what is going on until something has happened. It returns false if
// ctx is done before that.
func (s *show) pass(ctx context.Context, until <-chan struct{}) bool {
	tick := time.NewTicker(s.screen.every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.screen.status(s.load.Snapshot())
		case <-until:
			return true
		case <-ctx.Done():
			return false
		}
	}
}

func at(t time.Time) <-chan struct{} {
	c := make(chan struct{})
	time.AfterFunc(time.Until(t), func() { close(c) })
	return c
}

// begin ends the last row, and begins the next.
func (s *show) begin(name string) *Row {
	now := s.load.Snapshot()
	s.conclude(now)
	s.load.Mark(name)
	row := &Row{Act: name, At: now.Elapsed, before: now}
	s.rows = append(s.rows, row)
	return row
}

// conclude fills in what the clients have seen since the last row's beginning.
func (s *show) conclude(now *strict.Report) {
	if len(s.rows) == 0 {
		return
	}
	row := s.rows[len(s.rows)-1]
	a, b := &row.before.Total, &now.Total
	row.Requests = b.Requests - a.Requests
	row.Errors = b.Faults[strict.Status] - a.Faults[strict.Status]
	row.Failed = failed(b) - failed(a)
	row.Lost = b.Broken() - a.Broken()
	row.Closed = closed(b) - closed(a)
	if row.kill {
		row.Cut = b.Faults[strict.Cut] - a.Faults[strict.Cut]
		row.Failed, row.Lost = row.Failed-row.Cut, row.Lost-row.Cut // each ends its connection
	}
}

// cut is how many answers were cut where that could not be helped.
func (s *Score) cut() (n int64) {
	for _, r := range s.Acts {
		n += r.Cut
	}
	return n
}

// failed leaves out errors that were properly told.
func failed(c *strict.Count) int64 { return c.Failed() - c.Faults[strict.Status] }

func closed(c *strict.Count) int64 { return c.Ends[strict.Announced] + c.Ends[strict.ClosedIdle] }

func (r *Row) end(e *ending) {
	r.Came, r.Took = e.came, e.took
	if e.err != nil {
		r.Error = e.err.Error()
	}
}

// score ends the load and adds up. Of an interrupted one it takes what is there.
func (s *show) score(finished bool, stop context.CancelFunc) *Score {
	report := s.load.Snapshot()
	if finished && !s.Stay {
		stop()
		report = s.load.Wait()
	}
	s.conclude(report)
	sc := &Score{OK: finished, Interrupted: !finished, Acts: s.rows, Report: report}
	for _, r := range s.rows {
		sc.OK = sc.OK && r.ok()
	}
	return sc
}
