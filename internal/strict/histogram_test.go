package strict

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestQuantilesAreNearlyExact(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var h Histogram
	var all []time.Duration
	for range 20000 {
		d := time.Duration(1+r.Int64N(1<<r.IntN(36))) * time.Nanosecond
		h.Add(d)
		all = append(all, d)
	}
	slices.Sort(all)
	for _, q := range []float64{0, .1, .5, .9, .99, .999, 1} {
		want := all[min(int(q*float64(len(all))), len(all)-1)]
		got := h.Quantile(q)
		if got < want-time.Microsecond || got > want+want/16+time.Microsecond {
			t.Errorf("quantile %v: %v, want %v and at most 1/16 more", q, got, want)
		}
	}
}

func TestHistogramHoldsAnything(t *testing.T) {
	var h Histogram
	if h.Quantile(.5) != 0 {
		t.Error("an empty histogram has a median")
	}
	for _, d := range []time.Duration{-time.Second, 0, 1 << 62} {
		h.Add(d)
	}
	if h.Quantile(0) != 0 || h.Quantile(1) != 1<<62 {
		t.Errorf("from %v to %v", h.Quantile(0), h.Quantile(1))
	}
}

func TestTheSameSeedSendsTheSame(t *testing.T) {
	send := func(seed uint64) (all []string) {
		l := Load{Seed: seed}
		r := &Running{load: l}
		for i, k := range Kinds() {
			c := r.newClient(Group{Kind: k}.filled(), uint64(i))
			for range 5 {
				if next := kinds[k].next; next != nil {
					for _, p := range next(c).pieces {
						all = append(all, string(p.data))
					}
				}
			}
		}
		return all
	}
	if !slices.Equal(send(1), send(1)) {
		t.Error("two runs with one seed differ")
	}
	if slices.Equal(send(1), send(2)) {
		t.Error("two seeds send the same")
	}
}
