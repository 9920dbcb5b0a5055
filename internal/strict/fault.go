package strict

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// Fault is why a request failed: exactly one per failed request.
type Fault string

const (
	Refused  Fault = "refused"   // nobody accepts: ECONNREFUSED; unix: also ENOENT, or EAGAIN of a full backlog
	Reset    Fault = "reset"     // RST before the first byte of the answer
	NoAnswer Fault = "no answer" // the connection ended before the first byte of the answer
	Cut      Fault = "cut"       // the connection ended within the answer
	CutReset Fault = "cut reset" // RST within the answer
	Timeout  Fault = "timeout"   // no connection, or no complete answer, within Load.Timeout
	Status   Fault = "5xx"       // a complete answer with such a status, see Count.Codes
	Wrong    Fault = "wrong"     // an answer, but not to this request: id, body, status, headers, or no HTTP at all
	Dropped  Fault = "dropped"   // pipelined behind a request whose answer announced the connection's end
	Local    Fault = "local"     // this machine ran out of something: ports, descriptors
)

// End is why a connection ended: exactly one per connection.
type End string

const (
	Ours       End = "ours"        // the client closed it: it had asked for that, or the load is over
	Announced  End = "announced"   // an answer said Connection: close, and nothing was lost by it
	ClosedIdle End = "closed idle" // by the server, between two requests, unannounced
	ResetIdle  End = "reset idle"  // RST between two requests
	Lost       End = "lost"        // together with a request, see the faults
)

// failure is a Fault with what the client knows of it.
type failure struct {
	Fault
	code   int // of Status
	detail string
}

func (f *failure) Error() string { return fmt.Sprintf("%s: %s", f.Fault, f.detail) }

// kept reports whether the connection may be used after the failure: only a
// complete answer leaves it in a known state.
func (f *failure) kept() bool { return f.Fault == Status }

func wrong(format string, args ...any) *failure {
	return &failure{Fault: Wrong, detail: fmt.Sprintf(format, args...)}
}

// connectFailure tells why there is no connection.
func connectFailure(err error) *failure {
	f := &failure{Fault: Refused, detail: err.Error()}
	switch {
	case isLocal(err):
		f.Fault = Local
	case errors.Is(err, syscall.ECONNRESET):
		f.Fault = Reset
	case timedOut(err):
		f.Fault = Timeout
	}
	return f
}

// readFailure tells what a read error means; begun says that part of the answer
// had come.
func readFailure(err error, begun bool) *failure {
	f := &failure{detail: err.Error()}
	switch {
	case timedOut(err):
		f.Fault = Timeout
		if begun {
			f.detail = "within the answer"
		}
	case errors.Is(err, syscall.ECONNRESET):
		f.Fault = Reset
		if begun {
			f.Fault = CutReset
		}
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.EPIPE):
		f.Fault = NoAnswer
		if begun {
			f.Fault = Cut
		}
	case errors.As(err, new(*net.OpError)):
		f.Fault = Local
	default:
		f.Fault = Wrong
	}
	return f
}

func timedOut(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout() && !errors.Is(err, syscall.EAGAIN)
}

func isLocal(err error) bool {
	for _, e := range []error{syscall.EADDRNOTAVAIL, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
