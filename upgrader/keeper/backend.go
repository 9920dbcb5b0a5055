//go:build linux

package keeper

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proc"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// backend is what the control socket is a door to.
type backend struct{ a *actor }

var _ control.Backend = backend{}

func (b backend) Upgrade(ctx context.Context, r control.UpgradeRequest) control.Outcome {
	if r.ID == "" {
		r.ID = control.NewID()
	}
	if r.Trigger == "" {
		r.Trigger = string(byControl)
	}
	b.a.outcomes.Begin(r.ID)
	o := b.dispatch(ctx, r)
	b.a.heralded()
	b.a.outcomes.Finish(o)
	return o
}

// names are the services that a request means; none: all.
func (b backend) names(wanted ...string) ([]string, error) {
	var all, chosen []string
	b.a.ask(func() {
		for _, s := range b.a.services {
			if !s.leaving {
				all = append(all, s.name)
			}
		}
	})
	for _, name := range wanted {
		switch {
		case name == "" || slices.Contains(chosen, name):
		case !slices.Contains(all, name):
			return nil, unknownService(name, all)
		default:
			chosen = append(chosen, name)
		}
	}
	if len(chosen) == 0 {
		return all, nil
	}
	return chosen, nil
}

func unknownService(name string, all []string) error {
	return hinted(fmt.Errorf("no service is called %q", name), "there is "+joined(all))
}

func joined(names []string) string { return strings.Join(names, ", ") }

// upgrade asks for one of one service, and waits for its end.
func (b backend) upgrade(ctx context.Context, r control.UpgradeRequest) control.Outcome {
	return b.wait(ctx, r.Service, r.ID, r.Trigger, func(s *service, id int) { s.request(r, trigger(r.Trigger), id) })
}

// wait makes a request of a service, and waits until it is answered. When ctx is
// done it is cancelled.
func (b backend) wait(ctx context.Context, name, id, why string, request func(s *service, id int)) control.Outcome {
	gone := control.Outcome{ID: id, Service: name, Trigger: why, Result: control.Refused, Reason: "the keeper has ended", At: time.Now()}
	done := make(chan control.Outcome, 1)
	var s *service
	var number int
	if !b.a.ask(func() {
		if s = b.a.service(name); s == nil {
			gone.Reason = "the service has ended"
			done <- gone
			return
		}
		number = s.await(&waiter{id: id, trigger: why, done: func(o control.Outcome) { done <- o }})
		request(s, number)
	}) {
		return gone
	}
	select {
	case o := <-done:
		return o
	case <-ctx.Done():
		b.a.post(func() { s.feed(event{kind: evCancel, request: number}) })
	case <-b.a.done:
	}
	select {
	case o := <-done:
		return o
	case <-b.a.done:
		select {
		case o := <-done:
			return o
		default:
			return gone
		}
	}
}

func (b backend) Outcome(ctx context.Context, id string) (control.Outcome, bool) {
	return b.a.outcomes.Wait(ctx, id)
}

func (b backend) Stop(_ context.Context, r control.StopRequest) error {
	named := r.Service != "" || len(r.Services) > 0
	names, err := b.names(append(r.Services, r.Service)...)
	if err != nil {
		return told(err)
	}
	if !named {
		names = []string{""}
	}
	b.a.ask(func() {
		for _, name := range names {
			b.a.stop(name, r.Now)
		}
	})
	return nil
}

// Live: the actor answers.
func (b backend) Live() bool {
	return b.a.ask(func() {})
}

// Ready: every service has a worker that serves.
func (b backend) Ready() bool {
	ok := false
	b.a.ask(func() {
		ok = !b.a.stopping
		for _, s := range b.a.services {
			ok = ok && (s.leaving || s.serves())
		}
	})
	return ok
}

func (s *service) serves() bool {
	if s.state.phase != running && s.state.phase != paused {
		return false
	}
	for i := range s.state.policy.workers {
		w := s.state.acting(i)
		if w == nil {
			continue
		}
		if p := s.procs[w.proc]; p != nil && (p.status == nil || !p.status.Unready) {
			return true
		}
	}
	return false
}

// Status asks the workers and the actor for what they know, and /proc for the rest.
func (b backend) Status() control.Status {
	b.a.inquire()
	st := control.Status{Version: control.Version, Mode: "kept",
		Keeper: &control.Process{PID: os.Getpid(), Started: b.a.started, Binary: ownPath()}}
	if !b.a.ask(func() {
		for _, s := range b.a.services {
			st.Services = append(st.Services, s.describe())
		}
	}) {
		return control.Status{}
	}
	measure(st.Keeper)
	for i := range st.Services {
		for j := range st.Services[i].Generations {
			for k := range st.Services[i].Generations[j].Workers {
				measure(&st.Services[i].Generations[j].Workers[k].Process)
			}
		}
	}
	return st
}

// measure fills in what /proc tells of a process.
func measure(p *control.Process) {
	if p.PID == 0 {
		return
	}
	p.Memory, _ = proc.Memory(p.PID)
	if cpu, err := proc.CPU(p.PID); err == nil {
		p.CPU = cpu.Seconds()
	}
}

func ownPath() string {
	path, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return strings.TrimSuffix(path, " (deleted)")
}

func (s *service) describe() control.Service {
	d := control.Service{Name: s.conf.Name, Workers: s.state.policy.workers, State: s.what(), Generation: s.current, LastOutcome: s.outcome, LastCrash: s.crash,
		Crashes: len(s.state.deaths), Restarts: s.restarts, Upgrades: s.upgrades, Notes: append([]string(nil), s.notes...)}
	for _, k := range s.sockets {
		d.Listen = append(d.Listen, k.label+k.listen)
	}
	for _, k := range s.stored { // what the program has bound itself
		if k.listen != "" {
			d.Listen = append(d.Listen, k.listen)
		}
	}
	if d.State == control.GaveUp || s.state.waiting {
		at := s.retryAt
		d.RetryAt = &at
	}
	if s.rescued.Workers > 0 {
		r := s.rescued
		d.Rescued = &r
	}
	switch {
	case !s.conf.rescues():
		d.Notes = append(d.Notes, "rescue: off: as configured")
	case s.off != "":
		d.Notes = append(d.Notes, "rescue: off: "+s.off)
	}
	d.Conns = s.conns()
	if s.a.os.output != nil {
		d.Output = s.a.os.output(s.conf.Name)
	}
	if d.Output != nil && d.Output.DroppedLines > 0 {
		d.Notes = append(d.Notes, fmt.Sprintf("output: %d lines were dropped: they were not read", d.Output.DroppedLines))
	}
	for _, g := range s.state.generations {
		d.Generations = append(d.Generations, s.describeGeneration(g))
	}
	if p := s.programs[s.state.good]; p != nil && p.script {
		d.Notes = append(d.Notes, p.path+" is a script: a restart after a death runs what is there then, as only binaries can be pinned")
	}
	return d
}

// what a service is doing, as a whole.
func (s *service) what() control.State {
	switch s.state.phase {
	case paused:
		return control.GaveUp
	case stopping:
		return control.Stopping
	case ended:
		return control.Stopped
	}
	for i := range s.state.policy.workers {
		if s.state.acting(i) != nil {
			return control.Serving
		}
	}
	if len(s.state.generations) == 0 {
		return control.Down
	}
	return control.Starting
}

func (s *service) describeGeneration(g generation) control.Generation {
	d := control.Generation{Number: g.number, Confirmed: true}
	for _, w := range g.workers {
		p := s.procs[w.proc]
		if p == nil {
			continue
		}
		cw := control.Worker{Index: w.index, State: lifeState(w.life, s.state.phase), Since: p.since, Heard: p.heard, Rescued: p.adopted, Status: p.words,
			Process: control.Process{PID: p.pid(), Started: p.started, Build: p.build}}
		if p.program != nil {
			cw.Binary, cw.Changed = p.program.path, p.program.changed()
		}
		if p.status != nil {
			cw.Conns = p.status.Conns
			d.Holdouts = append(d.Holdouts, p.status.Holdouts...)
			if p.status.Text != "" {
				cw.Status = p.status.Text
			}
		}
		d.State = cw.State
		d.Confirmed = d.Confirmed && p.confirmed
		if p.readyBy != "" {
			d.ReadyBy = p.readyBy
		}
		if !p.deadline.IsZero() && (d.Deadline == nil || p.deadline.Before(*d.Deadline)) {
			at := p.deadline
			d.Deadline = &at
		}
		d.Workers = append(d.Workers, cw)
	}
	return d
}

func lifeState(l life, p phase) control.State {
	switch {
	case l == starting, l == ready:
		return control.Starting
	case l == serving:
		return control.Serving
	case p == stopping:
		return control.Stopping
	}
	return control.Draining
}

// changed reports whether what lies at the program's path is another file now.
func (p *program) changed() bool {
	if p.file == nil {
		return false
	}
	for path, was := range p.scripts {
		if rewritten(path, was) {
			return true
		}
	}
	if p.script {
		return rewritten(p.path, p.file)
	}
	is, err := os.Stat(p.path) // it can't be written to while it runs
	return err != nil || !os.SameFile(p.file, is)
}

func rewritten(path string, was os.FileInfo) bool {
	is, err := os.Stat(path)
	return err != nil || !os.SameFile(was, is) || !is.ModTime().Equal(was.ModTime()) || is.Size() != was.Size()
}
