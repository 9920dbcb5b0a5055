package vault

import (
	"time"
)

// Counters is what the kernel knows of a TCP socket that nobody uses any more.
type Counters struct {
	Consumed uint64 // read by the process
	Written  uint64 // written by the process, whether it has arrived or not
	Unread   uint64 // arrived, not consumed
	Unsent   uint64 // written, not acknowledged by the peer

	Quiet time.Duration // since a byte was last sent or received

	PeerClosed bool // the peer has sent its FIN
	ShutDown   bool // we have sent ours, or are about to
	Dead       bool // reset, or closed on both sides
}

// Verdict is what to do with a rescued connection.
type Verdict int

const (
	// Idle: between two requests. The next worker goes on with it.
	Idle Verdict = iota
	// Done: the same, but the worker died before it had taken note that the
	// response was complete.
	Done
	// Answer500: the request died with its handler.
	Answer500
	// Answer503: no handler had the request yet: it may be sent again.
	Answer503
	// Cut: a part of the response was written: end the connection so that
	// the peer gets that part, and sees that there is no more.
	Cut
	// Ended: no request is open, but the connection can't go on: it was about
	// to be closed, or the last request's end is not known, or its body is
	// still on its way, unread by a handler that answered early.
	Ended
	// Close: not ours to judge (TLS, HTTP/2, hijacked, not TCP).
	Close
	// Drop: the peer is gone and waits for nothing.
	Drop
	// Leave: it was on its way to or from another process. Close our descriptor, and
	// don't shut anything down.
	Leave
)

var verdicts = [...]string{"idle", "done", "500", "503", "cut", "ended", "close", "drop", "leave"}

func (v Verdict) String() string { return verdicts[v] }

// Judgment is a verdict with what is needed to carry it out.
type Judgment struct {
	Verdict Verdict
	Kind    Kind   // of the request to be answered
	Skip    uint64 // Done: so many unread bytes still belong to the request that was answered
}

// Classify decides from what the worker said and what the kernel counted.
func Classify(l Line, c Counters) Judgment {
	switch {
	case l.State == Sent, l.State == Claimed:
		return Judgment{Verdict: Leave}
	case l.State == Pinned || l.State > Claimed:
		return Judgment{Verdict: Close}
	case c.Dead:
		return Judgment{Verdict: Drop}
	case c.ShutDown:
		return Judgment{Verdict: Ended}
	case l.State == Free:
		return unmarked(c)
	case c.Written == l.BTX && (c.Consumed == l.BRX || !l.Running && l.onlyLineEnds(l.BRX, c.Consumed)):
		return between(c, Idle)
	case l.End != 0 && c.Written == l.End:
		return answered(l, c)
	}
	return open(l, c)
}

// taken reports whether somebody else has used a connection that was sent or claimed.
func (l *Line) taken(c Counters) bool {
	return c.Written != l.BTX || l.ReqEnd != 0 && c.Consumed != l.ReqEnd-1
}

// unmarked judges a connection that the worker had accepted and not yet
// marked, or marked as closed and not yet closed. What tells them apart is
// that nothing is read or written before the mark.
func unmarked(c Counters) Judgment {
	if c.Consumed == 0 && c.Written == 0 {
		return between(c, Idle)
	}
	return Judgment{Verdict: Ended}
}

func between(c Counters, v Verdict) Judgment {
	if c.PeerClosed && c.Unread == 0 {
		v = Drop
	}
	return Judgment{Verdict: v}
}

// onlyLineEnds reports whether the worker had read nothing but those behind a
// boundary, and died before it took note: they are no part of a request.
func (l *Line) onlyLineEnds(boundary, consumed uint64) bool {
	n := consumed - boundary
	return 0 < n && n <= maxFirst && len(trimLineEnds(l.First[:n])) == 0
}

// answered judges a connection whose response is complete.
func answered(l Line, c Counters) Judgment {
	switch {
	case l.Last || l.ReqEnd == 0:
		return Judgment{Verdict: Ended}
	case l.onlyLineEnds(l.ReqEnd, c.Consumed):
		return between(c, Done)
	case c.Consumed > l.ReqEnd:
		// Of the next request, which no handler got. The line's Kind is
		// that of the answered one.
		return Judgment{Verdict: Answer503}
	case l.ReqEnd-c.Consumed > c.Unread:
		return Judgment{Verdict: Ended}
	}
	skip := l.ReqEnd - c.Consumed
	c.Unread -= skip
	j := between(c, Done)
	j.Skip = skip
	return j
}

// open judges a connection with a request that has no complete response.
func open(l Line, c Counters) Judgment {
	switch {
	case c.Consumed < l.BRX && l.BRX != unknown:
		return Judgment{Verdict: Close} // the counts contradict each other
	case c.Written != l.BTX && (l.Alt <= l.BTX || c.Written != l.Alt):
		return Judgment{Verdict: Cut}
	case l.Running:
		return Judgment{Verdict: Answer500, Kind: l.Kind}
	}
	return Judgment{Verdict: Answer503, Kind: l.Kind}
}
