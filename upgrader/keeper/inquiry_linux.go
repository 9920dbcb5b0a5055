package keeper

import (
	"time"

	"github.com/tablecloth-go/tablecloth/internal/kept"
)

// inquiryTimeout bounds the wait for what workers tell of themselves.
const inquiryTimeout = 200 * time.Millisecond

// inquire has the workers tell of themselves, and returns when all have that can.
// Who hangs is waited for once.
func (a *actor) inquire() {
	var answers []<-chan struct{}
	a.ask(func() {
		a.each(func(p *process) {
			if c := p.inquire(); c != nil {
				answers = append(answers, c)
			}
		})
	})
	late := time.NewTimer(inquiryTimeout)
	defer late.Stop()
	for _, c := range answers {
		select {
		case <-c:
		case <-late.C:
			return
		}
	}
}

// inquire asks a worker how it is. What it returns is closed when its status is
// there; nil: it isn't to be waited for.
func (p *process) inquire() <-chan struct{} {
	if !p.answers || p.line == nil {
		return nil
	}
	if p.inquiry == nil {
		p.inquiry, p.asked = make(chan struct{}), time.Now()
		p.inquiries++
		p.line.Send(&kept.Inquiry{Number: p.inquiries})
	}
	if time.Since(p.asked) >= inquiryTimeout {
		return nil
	}
	return p.inquiry
}

// answered ends an inquiry, if there is one.
func (p *process) answered() {
	if p.inquiry != nil {
		close(p.inquiry)
		p.inquiry = nil
	}
}
