package vault

import "testing"

func TestClassify(t *testing.T) {
	line := Line{State: HTTP1, BRX: 100, BTX: 50, Kind: Known}
	with := func(change func(*Line)) Line {
		l := line
		change(&l)
		return l
	}
	running := with(func(l *Line) { l.Running, l.ReqEnd = true, 130 })
	answered := with(func(l *Line) { l.Running, l.ReqEnd, l.End, l.Kind = true, 130, 80, Known|Head })
	for _, c := range []struct {
		name string
		l    Line
		c    Counters
		want Judgment
	}{
		{"idle", line, Counters{Consumed: 100, Written: 50}, Judgment{Verdict: Idle}},
		{"idle, next request has come", line, Counters{Consumed: 100, Written: 50, Unread: 9}, Judgment{Verdict: Idle}},
		{"idle, next request has come, then FIN", line, Counters{Consumed: 100, Written: 50, Unread: 9, PeerClosed: true}, Judgment{Verdict: Idle}},
		{"idle, peer gone", line, Counters{Consumed: 100, Written: 50, PeerClosed: true}, Judgment{Verdict: Drop}},
		{"head read in part", line, Counters{Consumed: 101, Written: 50}, Judgment{Answer503, Known, 0}},
		{"handler runs", running, Counters{Consumed: 130, Written: 50}, Judgment{Answer500, Known, 0}},
		{"handler runs, half-closed peer waits", running, Counters{Consumed: 130, Written: 50, PeerClosed: true}, Judgment{Answer500, Known, 0}},
		{"a part is written", running, Counters{Consumed: 130, Written: 51}, Judgment{Verdict: Cut}},
		{"a part of a known length is written", answered, Counters{Consumed: 130, Written: 79}, Judgment{Verdict: Cut}},
		{"end known, nothing written", answered, Counters{Consumed: 130, Written: 50}, Judgment{Answer500, Known | Head, 0}},
		{"all written", answered, Counters{Consumed: 130, Written: 80}, Judgment{Verdict: Done}},
		{"all written, peer gone", answered, Counters{Consumed: 130, Written: 80, PeerClosed: true}, Judgment{Verdict: Drop}},
		{"all written, next one read in part", answered, Counters{Consumed: 131, Written: 80}, Judgment{Verdict: Answer503}},
		{"all written, body arrived but unread", answered, Counters{Consumed: 120, Written: 80, Unread: 10}, Judgment{Done, 0, 10}},
		{"all written, body unread, peer gone", answered, Counters{Consumed: 120, Written: 80, Unread: 10, PeerClosed: true}, Judgment{Drop, 0, 10}},
		{"all written, body still to come", answered, Counters{Consumed: 120, Written: 80, Unread: 9}, Judgment{Verdict: Ended}},
		{"all written, request's end not known", with(func(l *Line) { l.End = 80 }), Counters{Consumed: 130, Written: 80}, Judgment{Verdict: Ended}},
		{"last response written", with(func(l *Line) { l.End, l.ReqEnd, l.Last = 80, 130, true }), Counters{Consumed: 130, Written: 80}, Judgment{Verdict: Ended}},
		{"last response written in part", with(func(l *Line) { l.End, l.ReqEnd, l.Last = 80, 130, true }), Counters{Consumed: 130, Written: 70}, Judgment{Verdict: Cut}},
		{"interim to be written", with(func(l *Line) { l.Running, l.Alt = true, 75 }), Counters{Consumed: 130, Written: 50}, Judgment{Answer500, Known, 0}},
		{"interim written", with(func(l *Line) { l.Running, l.Alt = true, 75 }), Counters{Consumed: 130, Written: 75}, Judgment{Answer500, Known, 0}},
		{"interim written in part", with(func(l *Line) { l.Running, l.Alt = true, 75 }), Counters{Consumed: 130, Written: 60}, Judgment{Verdict: Cut}},
		{"stale interim", with(func(l *Line) { l.Running, l.Alt = true, 20 }), Counters{Consumed: 130, Written: 60}, Judgment{Verdict: Cut}},
		{"boundary unknown", with(func(l *Line) { l.BRX = unknown }), Counters{Consumed: 130, Written: 50}, Judgment{Answer503, Known, 0}},
		{"boundary unknown, handler runs", with(func(l *Line) { l.BRX, l.Running = unknown, true }), Counters{Consumed: 130, Written: 50}, Judgment{Answer500, Known, 0}},
		{"line ends read, not noted", with(func(l *Line) { l.First = [4]byte{'\r', '\n'} }), Counters{Consumed: 102, Written: 50}, Judgment{Verdict: Idle}},
		{"line ends read, not noted, peer gone", with(func(l *Line) { l.First = [4]byte{'\n'} }), Counters{Consumed: 101, Written: 50, PeerClosed: true}, Judgment{Verdict: Drop}},
		{"line end and a head read, not noted", with(func(l *Line) { l.First = [4]byte{'\n', 'G'} }), Counters{Consumed: 102, Written: 50}, Judgment{Answer503, Known, 0}},
		{"too much read, not noted", with(func(l *Line) { l.First = [4]byte{'\n', '\n', '\n', '\n'} }), Counters{Consumed: 105, Written: 50}, Judgment{Answer503, Known, 0}},
		{"handler runs, line end read behind", with(func(l *Line) { l.Running, l.ReqEnd, l.First = true, 130, [4]byte{'\r'} }), Counters{Consumed: 131, Written: 50}, Judgment{Answer500, Known, 0}},
		{"all written, line end read behind, not noted", with(func(l *Line) { l.Running, l.ReqEnd, l.End, l.First = true, 130, 80, [4]byte{'\r'} }), Counters{Consumed: 131, Written: 80}, Judgment{Verdict: Done}},
		{"all written, next request's first byte not noted", with(func(l *Line) { l.Running, l.ReqEnd, l.End, l.First = true, 130, 80, [4]byte{'G'} }), Counters{Consumed: 131, Written: 80}, Judgment{Verdict: Answer503}},
		{"counts contradict", line, Counters{Consumed: 99, Written: 50}, Judgment{Verdict: Close}},
		{"pinned", Line{State: Pinned}, Counters{}, Judgment{Verdict: Close}},
		{"of a later release", Line{State: 99}, Counters{}, Judgment{Verdict: Close}},
		{"claimed", with(func(l *Line) { l.State = Claimed }), Counters{Consumed: 100, Written: 50}, Judgment{Verdict: Leave}},
		{"sent", with(func(l *Line) { l.State = Sent }), Counters{Consumed: 100, Written: 50}, Judgment{Verdict: Leave}},
		{"dead", running, Counters{Consumed: 130, Written: 50, Dead: true}, Judgment{Verdict: Drop}},
		{"our FIN is out", running, Counters{Consumed: 130, Written: 51, ShutDown: true}, Judgment{Verdict: Ended}},
		{"unmarked", Line{}, Counters{Unread: 7}, Judgment{Verdict: Idle}},
		{"unmarked, peer gone", Line{}, Counters{PeerClosed: true}, Judgment{Verdict: Drop}},
		{"being closed", Line{}, Counters{Consumed: 10, Written: 20}, Judgment{Verdict: Ended}},
	} {
		if got := Classify(c.l, c.c); got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

// A worker can die between any two stores of a method. What each method does
// is played here store by store, in the order in which it is written.
func TestDeathBetweenStores(t *testing.T) {
	const consumed, written = 130, 80
	before := func(end uint64) Line {
		return Line{State: HTTP1, BRX: 100, BTX: 50, Running: true, Kind: Known | Head, End: end, ReqEnd: consumed}
	}
	boundary := func(rx uint64) []func(*Line) {
		return []func(*Line){
			func(*Line) {},
			func(l *Line) { l.BRX = rx },
			func(l *Line) { l.Running, l.Last, l.Kind = false, false, 0 },
			func(l *Line) { l.BTX = written },
			func(l *Line) { l.End = 0 },
			func(l *Line) { l.ReqEnd = 0 },
		}
	}
	for _, c := range []struct {
		name    string
		line    Line
		rx      uint64 // of the boundary
		more    uint64 // consumed of the next request
		allowed []Verdict
	}{
		{"end known", before(written), consumed, 0, []Verdict{Done, Idle}},
		{"end known, pipelined", before(written), consumed, 9, []Verdict{Answer503}},
		{"end known, boundary unknown", before(written), unknown, 9, []Verdict{Answer503}},
		{"end unknown", before(0), consumed, 0, []Verdict{Cut, Idle}},
		{"end unknown, pipelined", before(0), consumed, 9, []Verdict{Cut, Answer503}},
		{"end unknown, boundary unknown", before(0), unknown, 9, []Verdict{Cut, Answer503}},
	} {
		l := c.line
		for i, store := range boundary(c.rx) {
			store(&l)
			got := Classify(l, Counters{Consumed: consumed + c.more, Written: written})
			ok := false
			for _, v := range c.allowed {
				ok = ok || got.Verdict == v
			}
			if !ok || got.Kind != 0 {
				t.Errorf("%s: after %d stores: %+v", c.name, i, got)
			}
		}
	}
}

func TestNilTable(t *testing.T) {
	for _, tab := range []*Table{nil, {}} {
		tab.Accepted(5, 0)
		tab.Begun(5, Known)
		tab.Active(5, 1, Known)
		tab.RequestEnd(5, 1)
		tab.Interim(5, 1)
		tab.Response(5, 1)
		tab.Last(5, 1)
		tab.Boundary(5, 1, 1)
		tab.Unknown(5, 1)
		tab.Pin(5)
		tab.Sent(-1, 1)
		tab.Claimed(1<<40, 0, 1, 1, 1)
		tab.Owned(1 << 40)
		tab.Close(5)
	}
}
