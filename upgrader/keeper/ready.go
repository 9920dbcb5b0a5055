//go:build linux

package keeper

import (
	"fmt"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/kept"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// found is a sign from outside that p is ready; its own word is worth more, if
// there will be one.
func (s *service) found(p *process, by string, confirmed bool) {
	if p.helloed && p.conf.readyMode() == "auto" {
		return
	}
	s.ready(p, by, confirmed)
}

// ready counts once: by whatever was first.
func (s *service) ready(p *process, by string, confirmed bool) {
	if s.procs[p.proc] != p {
		return
	}
	if p.readyBy != "" {
		s.belated(p, by)
		return
	}
	p.readyBy, p.confirmed = by, confirmed
	p.settled()
	if !confirmed && p.child != nil {
		if hint := s.a.os.advise(p.child, p.sockets); hint != "" {
			s.note(hint)
		}
	}
	s.feed(event{kind: evReady, proc: p.proc})
}

// belated is a process's own word after it had been taken for ready: then its
// successors will have one too.
func (s *service) belated(p *process, by string) {
	if !ownWord(by) {
		return
	}
	p.readyBy, p.confirmed = by, true
	if p.generation == s.current {
		s.spoke = true
	}
}

// ownWord reports whether a process itself has said that it is ready.
func ownWord(by string) bool { return by == "notify" || by == "library" || by == "einhorn" }

// note keeps a text for status, once.
func (s *service) note(text string) {
	for _, n := range s.notes {
		if n == text {
			return
		}
	}
	s.notes = append(s.notes, text)
	s.a.log.WithField("service", s.conf.Name).Warn(text)
}

// commit makes processes act for the service. Where they replace others one by
// one, their generation is the current one only with the last of them.
func (s *service) commit(t action) {
	for _, proc := range t.procs {
		s.serve(s.procs[proc], t.partial)
	}
	if t.partial {
		return
	}
	s.current, s.spoke = t.generation, true
	for _, p := range s.procs {
		if p.generation == t.generation && p.readyBy != "" {
			s.spoke = s.spoke && ownWord(p.readyBy)
			s.applyStore(p)
		}
	}
	if len(t.procs) == 0 {
		s.tell(control.Event{Kind: control.EventReady, Generation: t.generation, PID: s.acting(control.Outcome{}).PID, Text: "all workers"})
	}
	s.a.later = append(s.a.later, s.a.ready)
}

// serve lets one process act.
func (s *service) serve(p *process, partial bool) {
	p.since = time.Now()
	if p.line != nil {
		if p.conf.Handover != Off {
			s.introduce(p)
		}
		p.line.Send(&kept.Go{})
	}
	text := "ready by " + p.readyBy
	if !p.confirmed {
		text += ", not confirmed"
	}
	kind := control.EventReady
	if partial {
		kind = control.EventRoll
	}
	s.tell(control.Event{Kind: kind, Generation: p.generation, PID: p.pid(), Text: text})
	s.a.os.announce(notice{kind: "serving", pidfile: s.pidfile, worker: p.pid(),
		text: fmt.Sprintf("%s: generation %d serves (pid %d)", s.conf.Name, p.generation, p.pid())})
}
