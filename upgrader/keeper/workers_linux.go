package keeper

import (
	"context"
	"fmt"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/kept"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

var (
	_ control.Scaler      = backend{}
	_ control.Broadcaster = backend{}
)

// maxWorkers is more than anybody wants, who doesn't mistype.
const maxWorkers = 1024

// Scale asks for another number of workers.
func (b backend) Scale(ctx context.Context, r control.ScaleRequest) control.Outcome {
	if r.ID == "" {
		r.ID = control.NewID()
	}
	b.a.outcomes.Begin(r.ID)
	o := control.Outcome{ID: r.ID, Service: r.Service, Trigger: string(byScale), Result: control.Refused, At: time.Now()}
	name, err := b.only(r.Service)
	switch {
	case err != nil:
		o.Reason, o.Hint = reason(err), hintOf(err)
	case r.Workers < 1 || r.Workers > maxWorkers:
		o.Reason = fmt.Sprintf("%d workers: 1 to %d", r.Workers, maxWorkers)
	default:
		o = b.wait(ctx, name, r.ID, string(byScale), func(s *service, id int) {
			s.feed(event{kind: evRequest, condition: toScale, why: byScale, workers: r.Workers, request: id, lead: len(s.stored) > 0})
		})
	}
	b.a.heralded()
	b.a.outcomes.Finish(o)
	return o
}

// only is the service that is meant where one must be.
func (b backend) only(name string) (string, error) {
	names, err := b.names(name)
	if err == nil && len(names) > 1 {
		err = hinted(fmt.Errorf("there are %d services", len(names)), "name one of them: "+joined(names))
	}
	if err != nil {
		return "", err
	}
	return names[0], nil
}

// Broadcast sends a message to all workers of a service.
func (b backend) Broadcast(_ context.Context, m control.Broadcast) (control.BroadcastAnswer, error) {
	name, err := b.only(m.Service)
	if err == nil && len(m.Message) > control.MaxBroadcast {
		err = fmt.Errorf("a message of %d bytes: at most %d", len(m.Message), control.MaxBroadcast)
	}
	var answer control.BroadcastAnswer
	if err == nil {
		b.a.ask(func() {
			if s := b.a.service(name); s != nil {
				answer = s.broadcast(nil, m.Message)
			}
		})
	}
	return answer, told(err)
}

// broadcast passes a message on to all workers that serve but its sender; nil: it
// comes from outside.
func (s *service) broadcast(from *process, message []byte) (answer control.BroadcastAnswer) {
	m := &kept.Broadcast{From: -1, Message: message}
	if from != nil {
		m.From = from.index
	}
	if len(message) > control.MaxBroadcast {
		return answer
	}
	for _, p := range s.procs {
		_, w := s.state.find(p.proc)
		switch {
		case p == from || w == nil || w.life != serving:
		case p.line == nil || !p.line.Roomy():
			answer.Deaf++
		default:
			p.line.Send(m)
			answer.Workers++
		}
	}
	return answer
}
