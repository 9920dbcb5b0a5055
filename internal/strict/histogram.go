package strict

import (
	"math/bits"
	"time"
)

// Histogram counts durations in buckets which are at most 1/16 of their value
// wide. The zero value is empty.
type Histogram struct {
	counts [600]int64 // of microseconds
	n      int64
	max    time.Duration
}

// bucketOf: below 16 each microsecond has a bucket, above that each power of two
// has 16.
func bucketOf(us uint64) int {
	if us < 16 {
		return int(us)
	}
	shift := bits.Len64(us) - 5
	return min((shift+1)*16+int(us>>shift)-16, len(Histogram{}.counts)-1)
}

// upper is the largest number of microseconds in a bucket.
func upper(bucket int) uint64 {
	if bucket < 16 {
		return uint64(bucket)
	}
	shift := bucket/16 - 1
	return uint64(bucket%16+16+1)<<shift - 1
}

// Add counts d; a negative one as zero.
func (h *Histogram) Add(d time.Duration) {
	d = max(d, 0)
	h.counts[bucketOf(uint64(d.Microseconds()))]++
	h.n++
	h.max = max(h.max, d)
}

// Quantile returns a value which the part q (0 to 1) of all durations doesn't
// exceed. 0 if there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	left := int64(q * float64(h.n))
	for i, n := range h.counts {
		left -= n
		if left < 0 {
			return min(time.Duration(upper(i))*time.Microsecond, h.max)
		}
	}
	return h.max
}

// Latency is a summary of a Histogram.
type Latency struct {
	N    int64         `json:"n"`
	P50  time.Duration `json:"p50_ns"`
	P99  time.Duration `json:"p99_ns"`
	P999 time.Duration `json:"p999_ns"`
	Max  time.Duration `json:"max_ns"`
}

// Latency summarises.
func (h *Histogram) Latency() Latency {
	return Latency{N: h.n, P50: h.Quantile(.5), P99: h.Quantile(.99), P999: h.Quantile(.999), Max: h.max}
}
