package rawio

import "testing"

func TestTheWatchFollowsTraffic(t *testing.T) {
	w := newWatch()
	if w.kept() {
		t.Fatal("on before there was any traffic")
	}
	traffic := func() {
		t.Helper()
		for n := 0; !w.kept(); n++ { // on a machine that stands still the period is over before there were enough
			if n > 100_000 {
				t.Fatal("traffic doesn't begin it")
			}
			w.saw()
		}
	}
	for range 2 {
		traffic()
		for range 10 * patience {
			if w.tick(); !w.kept() {
				t.Fatal("it ends in the midst of traffic")
			}
		}
		for range patience + 1 { // the first one finds that it was used
			w.tick()
		}
		if w.kept() {
			t.Fatal("it doesn't end with the traffic")
		}
	}
}

func TestLittleTrafficHasNoWatch(t *testing.T) {
	w := newWatch()
	for range 1000 {
		w.begun.Store(-int64(2 * period)) // the last call was long ago
		w.saw()
		if w.kept() {
			t.Fatal("a call now and then has begun it")
		}
	}
}
