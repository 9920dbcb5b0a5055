//go:build linux

package keeper

import (
	"fmt"
	"syscall"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/kept"
)

// process is one worker process.
type process struct {
	proc, index, generation int
	why                     trigger
	program                 *program
	conf                    *Service  // by which it was started
	sockets                 []*socket // of those that it was given, the service's own
	child                   child
	started                 time.Time
	since                   time.Time // of its state
	heard                   time.Time // of itself; zero: never
	readyBy                 string
	confirmed               bool
	words                   string // STATUS=
	status                  *kept.Status
	build                   string
	line                    line
	hungUp                  time.Time // when it closed its line
	helloed                 bool
	answers                 bool             // inquiries
	inquiries               int              // how many there were
	inquiry                 chan struct{}    // nil: none is open; closed when it is answered
	asked                   time.Time        // the inquiry
	signals                 []syscall.Signal // for when it has been started
	probing                 chan struct{}    // closed when nothing has to be found out any more
	staged                  []*socket
	removed                 []string
	deadline                time.Time
	drained                 *kept.Drain
	replaced                bool // it was told to drain while the service goes on
	crashed                 *kept.Crash
	watchdog                *time.Timer
	killed                  string // why
	estate                  *estate
	adopted                 int64 // connections of dead workers
	einhorn                 bool  // it speaks einhorn's protocol
}

func (p *process) pid() int {
	if p.child == nil {
		return 0
	}
	return p.child.PID()
}

// signal reaches a process that is still being started as soon as it has been.
func (p *process) signal(sig syscall.Signal) {
	if p.child == nil {
		p.signals = append(p.signals, sig)
		return
	}
	p.child.Signal(sig)
}

// settled ends the probing.
func (p *process) settled() {
	if p.probing != nil {
		close(p.probing)
		p.probing = nil
	}
}

// marker tells the descendants of one process from all others.
func (s *service) marker(p *process) string {
	return fmt.Sprintf("%s.%s.%d.%d", s.a.id, s.name, s.serial, p.proc)
}
