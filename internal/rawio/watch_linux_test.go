package rawio

import "testing"

func TestTheWatchFollowsTraffic(t *testing.T) {
	w := newWatch()
	call := func() {
		w.count()
		if !w.kept() {
			w.tell()
		}
	}
	calls := func(n int) {
		for range n {
			call()
		}
	}
	for range 2 {
		for n := 0; !w.kept(); n++ { // where the machine stands still a window is over before there were enough
			if n > 1000*enough {
				t.Fatal("traffic doesn't begin it")
			}
			call()
		}
		for range 10 * patience {
			calls(rest)
			if w.tick(); !w.kept() {
				t.Fatal("it ends in the midst of traffic")
			}
		}
		for range 2 * patience {
			calls(1)
			w.tick()
		}
		if w.kept() {
			t.Fatal("it doesn't end with the traffic")
		}
	}
}

func TestLittleTrafficHasNoWatch(t *testing.T) {
	w := newWatch()
	for range 10 * enough {
		w.begun.Add(-int64(window)) // so much time has passed
		for range enough / 2 {
			w.count()
			w.tell()
		}
		if w.kept() {
			t.Fatal("half as many calls as are enough have begun it")
		}
	}
}
