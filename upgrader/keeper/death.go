//go:build linux

package keeper

import (
	"encoding/json"
	"time"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// died is the end of a process, seen by whoever waits for it.
func (s *service) died(p *process, e end) {
	if s.procs[p.proc] != p {
		return
	}
	defer s.inherit(p, e.left)
	delete(s.procs, p.proc)
	s.a.born() // or not
	s.bury(p)
	p.answered() // no more
	p.settled()
	if p.watchdog != nil {
		p.watchdog.Stop()
	}
	if p.line != nil {
		p.line.Close()
		p.line = nil
	}
	for _, st := range p.staged {
		st.close(false)
	}
	g, w := s.state.find(p.proc)
	if w == nil {
		return
	}
	change, unexpected := s.state.changes(g), w.life == serving || !w.committed && !w.unwanted && w.life != draining
	if _, known := s.failures[p.generation]; !known && !w.committed && !w.unwanted && w.life != draining {
		s.failures[p.generation] = failure{end: e, pid: p.pid(), hint: s.hint(e)}
	}
	switch {
	case s.state.phase == stopping, w.life == draining, w.life == doomed:
		s.tell(control.Event{Kind: control.EventGone, Generation: p.generation, PID: p.pid(), Text: e.String()})
	case unexpected && (!change || s.state.change.why == byStart):
		s.obituary(p, e, false)
	}
	s.concludes(p, e)
	reason := ""
	if w.life <= ready {
		reason = "it ended before it was ready"
		if e.failed != nil {
			reason = e.failed.Error()
		}
	}
	absent := e.failed != nil && execStatus(e.failed) != 125
	s.feed(event{kind: evDied, proc: p.proc, clean: e.clean(), absent: absent, reason: reason})
}

// concludes makes e what the service ended with, so far. How a replaced process
// ended says nothing of the service. A worker of this library that was killed at
// the end of a stop's time had left to the keeper what it couldn't finish.
func (s *service) concludes(p *process, e end) {
	switch {
	case p.replaced:
	case p.helloed && p.killed != "" && p.drained != nil:
		s.lastEnd = end{}
	default:
		s.lastEnd = e
	}
}

// obituary keeps, and tells, how a process died or that it caught a crash.
func (s *service) obituary(p *process, e end, caught bool) {
	c := &control.Crash{At: time.Now(), Generation: p.generation, PID: p.pid(), Uptime: time.Since(p.started), Caught: caught}
	kind := control.EventDeath
	if caught {
		kind = control.EventCrash
		c.Error, c.Stack = p.crashed.Error, p.crashed.Stack
		if p.child != nil {
			c.Output = last(p.child.Output(), outcomeLines)
		}
	} else {
		c.Exit, c.Output = e.String(), last(e.output, outcomeLines)
		c.Error, c.Stack = panicText(e.output)
		if p.killed != "" {
			c.Error = p.killed
		}
	}
	text := c.Exit
	if e.failed != nil && c.PID == 0 {
		text = "could not be started: " + text
	}
	s.crash = c
	s.tell(control.Event{Kind: kind, Generation: p.generation, PID: c.PID, Text: text, Crash: c})
	if len(s.conf.OnCrash) > 0 {
		text, _ := json.Marshal(struct {
			Service string `json:"service"`
			*control.Crash
		}{s.conf.Name, c})
		s.a.os.report(s.conf, text)
	}
}

// tell publishes and logs an event.
func (s *service) tell(e control.Event) {
	e.Service = s.conf.Name
	s.a.events.Publish(e)
	log := s.a.log.WithField("service", e.Service)
	if e.Generation != 0 {
		log = log.WithField("generation", e.Generation)
	}
	if e.PID != 0 {
		log = log.WithField("pid", e.PID)
	}
	text := e.Kind
	if e.Text != "" {
		text += ": " + e.Text
	}
	switch e.Kind {
	case control.EventDeath, control.EventCrash, control.EventKill, control.EventFailed, control.EventGiveUp:
		log.Warn(text)
	default:
		log.Info(text)
	}
}

func last(lines []string, n int) []string {
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return lines
}
