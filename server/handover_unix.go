//go:build unix

package server

import (
	"context"

	"github.com/tablecloth-go/tablecloth/internal/handover"
	"github.com/tablecloth-go/tablecloth/internal/link"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// receiveFrom takes over what comes through one link, until it is at its end.
func (s *Server) receiveFrom(ctx context.Context, l *link.Conn) {
	targets := make(map[string]handover.Target)
	for i, r := range s.runners {
		if t := r.target(); t != nil {
			targets[s.names[i]] = t
		}
	}
	// Also with no targets: the sender waits for the greeting.
	got, err := handover.Receive(ctx, l, handover.ReceiverConfig{Targets: targets, Log: s.log})
	if err != nil {
		s.log.Warnf("took over %s, then: %v", plural(got.Adopted, "connection"), err)
	} else if got.Adopted > 0 {
		s.log.Infof("took over %s", plural(got.Adopted, "connection"))
	}
}

// sender gives connections to the successor; nil: there is no way.
func (s *Server) sender(l *link.Conn, dead <-chan struct{}) *handover.Sender {
	if l == nil {
		return nil
	}
	return handover.NewSender(l, handover.SenderConfig{Dead: dead, Log: s.log})
}

// sent ends the handover.
func (s *Server) sent(ctx context.Context, to *handover.Sender) {
	if to == nil {
		return
	}
	n, err := to.Close(ctx)
	if err != nil {
		s.log.Warnf("handed over %s, then: %v", plural(n, "connection"), err)
	} else {
		s.log.Infof("handed over %s", plural(n, "connection"))
	}
	counts := map[string]int{"moved": n}
	if refused := to.Refused(); refused > 0 {
		counts["refused"] = refused
	}
	s.gen.Event(control.Event{Kind: control.EventHandover, Counts: counts})
}
