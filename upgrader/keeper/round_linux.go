package keeper

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// rounds are upgrades of more than one service, and of a configuration that may
// have changed: one is made after the other.
type rounds struct {
	mu    sync.Mutex
	queue []*round // the first one is under way
}

// round is one of them. Who asks for the same before it has begun, joins it.
type round struct {
	request control.UpgradeRequest
	ctx     context.Context
	cancel  context.CancelFunc
	askers  int // who would miss it
	done    chan struct{}
	outcome control.Outcome
}

// dispatch makes an upgrade, by a round if need be.
func (b backend) dispatch(ctx context.Context, r control.UpgradeRequest) control.Outcome {
	if b.a.reread == nil {
		names, err := b.names(append(r.Services, r.Service)...)
		if err != nil {
			return refusal(r, err)
		}
		if len(names) == 1 {
			r.Service, r.Services = names[0], nil
			return b.upgrade(ctx, r)
		}
	}
	n := b.a.rounds.join(b.a, r)
	select {
	case <-n.done:
	case <-ctx.Done():
		b.a.rounds.leave(n)
		<-n.done
	}
	o := n.outcome
	o.ID, o.Trigger = r.ID, r.Trigger
	return o
}

func refusal(r control.UpgradeRequest, err error) control.Outcome {
	o := control.Outcome{ID: r.ID, Service: r.Service, Trigger: r.Trigger, At: time.Now()}
	o.Result, o.Reason, o.Hint = control.Refused, reason(err), hintOf(err)
	return o
}

// told is an error as those get it who have asked by the control socket.
func told(err error) error {
	if err == nil {
		return nil
	}
	return &control.Error{Message: reason(err), Hint: hintOf(err), Err: err}
}

// reason is an error's text for those who know whose it is.
func reason(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Err.Error()
	}
	return err.Error()
}

func hintOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Hint
	}
	return ""
}

// hangup is an upgrade of everything that nobody waits for.
func (a *actor) hangup() {
	if a.reread == nil && len(a.services) == 1 {
		a.services[0].request(control.UpgradeRequest{}, bySignal, 0)
		return
	}
	a.rounds.join(a, control.UpgradeRequest{Trigger: string(bySignal)})
}

// join finds, or makes, the round for a request.
func (q *rounds) join(a *actor, r control.UpgradeRequest) *round {
	id := r.ID
	r.ID = ""
	signal := id == ""
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, n := range q.queue {
		if i > 0 && n.ctx.Err() == nil && sameRequest(n.request, r) {
			n.askers++
			return n
		}
	}
	n := &round{request: r, askers: 1, done: make(chan struct{})}
	if signal {
		n.askers++ // who never leaves
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	q.queue = append(q.queue, n)
	if len(q.queue) == 1 {
		go q.run(a)
	}
	return n
}

// sameRequest reports whether one upgrade would do for both.
func sameRequest(a, b control.UpgradeRequest) bool {
	a.Trigger, b.Trigger = "", ""
	return reflect.DeepEqual(a, b)
}

func (q *rounds) leave(n *round) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if n.askers--; n.askers == 0 {
		n.cancel()
	}
}

func (q *rounds) run(a *actor) {
	for {
		q.mu.Lock()
		n := q.queue[0]
		q.mu.Unlock()
		n.outcome = a.makeRound(n.ctx, n.request)
		n.cancel()
		q.mu.Lock()
		q.queue = q.queue[1:]
		last := len(q.queue) == 0 // whoever joins from here on starts another run
		q.mu.Unlock()
		close(n.done)
		if last {
			return
		}
	}
}

// makeRound does what a request asks for.
func (a *actor) makeRound(ctx context.Context, r control.UpgradeRequest) control.Outcome {
	if ctx.Err() != nil {
		return refusal(r, errors.New("cancelled"))
	}
	p, err := a.plan(r)
	defer a.post(func() {
		a.held.wanted = nil
		a.letGo()
	})
	if err != nil {
		a.log.WithError(err).Warn("nothing is upgraded")
		a.events.Publish(control.Event{Kind: control.EventReread, Text: "refused: " + reason(err)})
		return refusal(r, err)
	}
	if p.changes != nil {
		a.log.Info("configuration: " + p.String())
		a.events.Publish(control.Event{Kind: control.EventReread, Text: p.String()})
	}
	outcomes := a.carryOut(ctx, p, r)
	return p.sum(r, outcomes)
}

// carryOut deals with each service, one after the other up to the first that
// fails, or with all at once. What is to go, goes when all others are there.
func (a *actor) carryOut(ctx context.Context, p *plan, r control.UpgradeRequest) []control.Outcome {
	outcomes := make([]control.Outcome, len(p.steps))
	done := 0
	if r.AllAtOnce {
		var all sync.WaitGroup
		for i := range p.steps {
			all.Go(func() { outcomes[i] = a.take(ctx, &p.steps[i], r) })
		}
		all.Wait()
		done = len(p.steps)
	}
	for done < len(p.steps) {
		o := a.take(ctx, &p.steps[done], r)
		outcomes[done] = o
		if done++; o.Result != control.Ready {
			break
		}
	}
	outcomes = outcomes[:done]
	failed := func(o control.Outcome) bool { return o.Result != control.Ready }
	if len(p.leaving) > 0 && !slices.ContainsFunc(outcomes, failed) {
		p.left = a.ask(func() {
			for _, s := range p.leaving {
				s.leave("not in the configuration any more")
			}
		})
	}
	a.ask(func() { a.arrange(p.order) })
	return outcomes
}

// take makes one step, and waits for its end.
func (a *actor) take(ctx context.Context, st *step, r control.UpgradeRequest) control.Outcome {
	b := backend{a}
	id := control.NewID()
	if st.kind == adds {
		added := false
		a.ask(func() {
			if added = !a.stopping; added {
				a.add(st)
			}
		})
		if !added {
			return refusal(control.UpgradeRequest{ID: id, Service: st.name, Trigger: r.Trigger}, errors.New("the keeper is being stopped"))
		}
		o := b.wait(ctx, st.name, id, r.Trigger, func(s *service, request int) { s.feed(event{kind: evStart, request: request}) })
		if o.Result != control.Ready {
			a.ask(func() {
				if s := a.service(st.name); s != nil && s.state.good == 0 {
					s.leave("it could not be started")
				}
			})
		}
		return o
	}
	return b.wait(ctx, st.name, id, r.Trigger, func(s *service, request int) {
		e := event{kind: evRequest, request: request, why: trigger(r.Trigger), args: r.Args, now: r.Now, lead: len(s.stored) > 0}
		switch {
		case st.kind == scales, st.kind == adjusts && st.design.conf.Workers != s.conf.Workers:
			e.condition, e.workers, e.args = toScale, st.design.conf.Workers, nil
		case st.kind == adjusts:
			e.condition, e.args = toAdjust, nil
		case r.Restart:
			e.condition = toRestart
		}
		if st.design != nil {
			p := st.design.conf.policy()
			s.lastDesign++
			e.policy, e.design = &p, s.lastDesign
			s.designs[e.design] = st.design
		}
		s.feed(e)
	})
}

// add makes a new service, in whose place another one of that name may still be
// ending.
func (a *actor) add(st *step) {
	if old := a.service(st.name); old != nil {
		old.leaving = true
	}
	a.services = append(a.services, newService(a, st.design))
}

// leave ends a service that is not to be any more.
func (s *service) leave(why string) {
	s.leaving = true
	s.tell(control.Event{Kind: control.EventStop, Text: why})
	s.feed(event{kind: evStop, gently: true})
	s.a.later = append(s.a.later, s.a.letGo)
}

// arrange puts the services in the order of the configuration.
func (a *actor) arrange(order []string) {
	at := func(s *service) int {
		if i := slices.Index(order, s.conf.Name); i >= 0 && !s.leaving {
			return i
		}
		return len(order)
	}
	slices.SortStableFunc(a.services, func(x, y *service) int { return at(x) - at(y) })
}
