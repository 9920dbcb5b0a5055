package keeper

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/pidfile"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// plan is what a round is to do.
type plan struct {
	steps   []step
	leaving []*service // when all steps are done
	left    bool       // they have been told
	order   []string   // of all services
	changes *control.Changes
}

// step is what is to be done with one service.
type step struct {
	kind   stepKind
	name   string
	design *design // nil: as it is
}

type stepKind uint8

const (
	replaces stepKind = iota
	adds
	scales
	adjusts
)

// plan reads the configuration again, compares it with what runs, and opens what
// it needs. An error: nothing has changed.
func (a *actor) plan(r control.UpgradeRequest) (*plan, error) {
	names := slices.DeleteFunc(append(slices.Clone(r.Services), r.Service), func(n string) bool { return n == "" })
	p := &plan{}
	if r.Args != nil && len(names) != 1 {
		return nil, hinted(errors.New("new arguments can't be for several services"), "name the one that they are for")
	}
	if a.reread == nil || r.Restart {
		all, err := backend{a}.names(names...)
		for _, n := range all {
			p.steps = append(p.steps, step{kind: replaces, name: n})
		}
		return p, err
	}
	services, err := a.reread()
	if err != nil {
		return nil, err
	}
	conf := &Config{Services: services}
	if err := conf.fill(); err != nil {
		return nil, err
	}
	err = &Error{Err: errors.New("the keeper is being stopped")}
	a.ask(func() {
		if !a.stopping {
			err = a.compare(p, conf, names, r.All)
		}
	})
	return p, err
}

// compare finds the steps from what runs to conf.
func (a *actor) compare(p *plan, conf *Config, names []string, all bool) error {
	p.changes = &control.Changes{}
	for i := range conf.Services {
		p.order = append(p.order, conf.Services[i].Name)
	}
	if err := a.known(p, names); err != nil {
		return err
	}
	named := func(name string) bool { return len(names) == 0 || slices.Contains(names, name) }
	var same []int
	for i := range conf.Services {
		c := &conf.Services[i]
		if !named(c.Name) {
			continue
		}
		k, differs := a.difference(c, all || len(names) > 0)
		if !differs {
			same = append(same, i)
			continue
		}
		p.steps = append(p.steps, k)
	}
	for _, s := range a.services {
		if !slices.Contains(p.order, s.conf.Name) && !s.leaving && named(s.conf.Name) {
			p.leaving = append(p.leaving, s)
		}
	}
	if len(p.steps) == 0 && len(p.leaving) == 0 { // whatever has changed can't be seen from here
		for _, i := range same {
			if s := a.service(conf.Services[i].Name); s.state.phase < stopping {
				p.steps = append(p.steps, step{kind: replaces, name: s.conf.Name})
			}
		}
		same = nil
	}
	for _, i := range same {
		p.changes.Unchanged = append(p.changes.Unchanged, conf.Services[i].Name)
	}
	return a.realize(p, conf)
}

func (a *actor) known(p *plan, names []string) error {
	for _, n := range names {
		if a.service(n) == nil && !slices.Contains(p.order, n) {
			return unknownService(n, p.order)
		}
	}
	return nil
}

// difference is what has to be done about a service of the configuration; false:
// nothing.
func (a *actor) difference(c *Service, asked bool) (step, bool) {
	s := a.service(c.Name)
	st := step{name: c.Name}
	switch {
	case s == nil:
		st.kind = adds
	case s.state.phase >= stopping:
		st.kind = adds
		return st, asked || !c.sameAs(s.conf)
	case !c.looksAs(s.conf), asked, s.outOfDate():
		st.kind = replaces
	case !c.sameAs(s.conf):
		st.kind = adjusts
	case c.Workers != s.conf.Workers:
		st.kind = scales
	default:
		return st, false
	}
	return st, true
}

// outOfDate reports whether another program, or environment, would be found now
// than that which runs.
func (s *service) outOfDate() bool {
	good := s.programs[s.state.good]
	if good == nil || good.file == nil {
		return s.state.good != 0
	}
	if good.changed() {
		return true
	}
	path, err := find(s.conf.Command[0], s.conf.Directory)
	if err != nil || path != good.path {
		return true
	}
	env, err := environment(s.conf)
	return err != nil || !slices.Equal(env, good.env)
}

// realize opens what the steps need, before anything else happens.
func (a *actor) realize(p *plan, conf *Config) error {
	taken := map[*socket]bool{}
	for i := range p.steps {
		st := &p.steps[i]
		c := &conf.Services[slices.Index(p.order, st.name)]
		s := a.service(st.name)
		if s != nil && st.kind != adds && c.sameAs(s.conf) && c.Workers == s.conf.Workers {
			continue
		}
		d := &design{conf: c}
		a.held.wanted = append(a.held.wanted, d)
		st.design = d
		if s != nil {
			d.sockets = append(d.sockets, s.always...)
		}
		for _, l := range c.Listen {
			k, err := a.socketFor(l, s, taken)
			if err != nil {
				return err
			}
			taken[k] = true
			d.sockets = append(d.sockets, k)
		}
		if s != nil { // in the order in which they are now
			slices.SortStableFunc(d.sockets, func(x, y *socket) int { return rank(s, x) - rank(s, y) })
		}
		var err error
		if d.pidfile, err = a.pidfileFor(c.WorkerPIDFile); err != nil {
			return err
		}
	}
	return nil
}

// rank keeps the sockets that nobody has asked for behind the others.
func rank(s *service, k *socket) int {
	if slices.Contains(s.always, k) {
		return 1
	}
	return 0
}

// socketFor finds the socket of an address among those held, or binds it. One of
// any port is found only by the service that has it.
func (a *actor) socketFor(listen string, s *service, taken map[*socket]bool) (*socket, error) {
	want, err := parseAddress(listen)
	if err != nil {
		return nil, &Error{Err: err}
	}
	_, port, _ := net.SplitHostPort(want.addr)
	for _, k := range a.held.sockets {
		own := s != nil && slices.Contains(s.sockets, k)
		if k.asked.network != want.network || k.asked.addr != want.addr || taken[k] || port == "0" && (!own || k.asked.name != want.name) {
			continue
		}
		if k.asked.mode != want.mode || k.asked.owner != want.owner {
			if err := want.own(k.path); err != nil {
				return nil, &Error{Err: fmt.Errorf("listen %s: %w", listen, err)}
			}
			k.asked.mode, k.asked.owner = want.mode, want.owner
		}
		if k.asked.name == want.name {
			return k, nil
		}
		if k, err = k.alias(want); err == nil {
			a.held.sockets = append(a.held.sockets, k)
		}
		return k, err
	}
	k, err := a.open(want)
	if err != nil {
		return nil, err
	}
	a.held.sockets = append(a.held.sockets, k)
	a.os.announce(notice{kind: "store", store: []*socket{k}})
	return k, nil
}

func (a *actor) pidfileFor(path string) (*pidfile.File, error) {
	for _, f := range a.held.pidfiles {
		if path != "" && f.Is(path) {
			return f, nil
		}
	}
	f, err := acquire(path)
	if f != nil {
		a.held.pidfiles = append(a.held.pidfiles, f)
	}
	return f, err
}

// sum makes one outcome of those of the steps.
func (p *plan) sum(r control.UpgradeRequest, all []control.Outcome) control.Outcome {
	o := control.Outcome{Result: control.Ready, Trigger: r.Trigger, At: time.Now()}
	for i, s := range all {
		if i == 0 || o.Result == control.Ready {
			o = s
		}
		if p.changes != nil && s.Result == control.Ready {
			p.steps[i].note(p.changes)
		}
	}
	if len(all) > 1 {
		o.Services = all
	}
	if p.changes != nil && p.left {
		for _, s := range p.leaving {
			p.changes.Removed = append(p.changes.Removed, s.name)
		}
	}
	o.Changes = p.changes
	return o
}

func (st *step) note(c *control.Changes) {
	switch st.kind {
	case adds:
		c.Added = append(c.Added, st.name)
	case scales:
		c.Scaled = append(c.Scaled, st.name)
	case adjusts:
		c.Adjusted = append(c.Adjusted, st.name)
	default:
		c.Replaced = append(c.Replaced, st.name)
	}
}

// String tells what is about to be done.
func (p *plan) String() string {
	var will control.Changes
	for i := range p.steps {
		p.steps[i].note(&will)
	}
	for _, s := range p.leaving {
		will.Removed = append(will.Removed, s.name)
	}
	var parts []string
	for _, x := range []struct {
		what  string
		names []string
	}{{"starting", will.Added}, {"replacing", will.Replaced}, {"scaling", will.Scaled}, {"adjusting", will.Adjusted}, {"removing", will.Removed}, {"not touching", p.changes.Unchanged}} {
		if len(x.names) > 0 {
			parts = append(parts, x.what+" "+joined(x.names))
		}
	}
	return strings.Join(parts, "; ")
}
