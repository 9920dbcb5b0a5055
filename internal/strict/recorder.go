package strict

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// recorder is what all clients write to.
type recorder struct {
	start time.Time
	width time.Duration
	tell  func(Failure) // may be nil
	hear  func(Answer)  // may be nil

	mu      sync.Mutex
	r       Report
	all     Histogram
	current *Histogram // of bucket
	bucket  Bucket
	newest  int // generation that has answered
	waiting map[int]chan struct{}

	underway map[*request]struct{}
	watches  []*watch
}

// watch is on requests that were under way when it began.
type watch struct {
	left map[*request]struct{}
	done chan struct{}
}

func newRecorder(l Load) *recorder {
	now := time.Now()
	return &recorder{
		start:   now,
		width:   l.Bucket,
		tell:    l.OnFailure,
		hear:    l.OnAnswer,
		current: new(Histogram),
		waiting: map[int]chan struct{}{},

		underway: map[*request]struct{}{},
		r: Report{
			Start:       now,
			Kinds:       map[Kind]*Count{},
			Generations: map[int]Seen{},
			PIDs:        map[int]int64{},
		},
	}
}

// count applies f to the total and to the kind's count.
func (rec *recorder) count(k Kind, f func(*Count)) {
	f(&rec.r.Total)
	c := rec.r.Kinds[k]
	if c == nil {
		c = new(Count)
		rec.r.Kinds[k] = c
	}
	f(c)
}

// tick makes bucket the one of now.
func (rec *recorder) tick() time.Duration {
	since := time.Since(rec.start)
	if at := since.Truncate(rec.width); at != rec.bucket.At {
		rec.flush()
		rec.bucket, *rec.current = Bucket{At: at}, Histogram{}
	}
	return since
}

func (rec *recorder) flush() {
	if b, ok := rec.closed(); ok {
		rec.r.Timeline = append(rec.r.Timeline, b)
	}
}

func (rec *recorder) closed() (Bucket, bool) {
	b := rec.bucket
	b.P99, b.Max = rec.current.Quantile(.99), rec.current.max
	return b, b.OK+b.Failed+b.Connects+b.Closed > 0 || len(b.Marks) > 0
}

func (rec *recorder) connected(k Kind) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.tick()
	rec.bucket.Connects++
	rec.r.Open++
	rec.count(k, func(c *Count) { c.Connects++ })
}

func (rec *recorder) ended(k Kind, e End) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.tick()
	if e != Ours {
		rec.bucket.Closed++
	}
	rec.r.Open--
	rec.count(k, func(c *Count) { c.Ends = bump(c.Ends, e) })
}

func (rec *recorder) began(k Kind, requests ...*request) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for _, q := range requests {
		rec.underway[q] = struct{}{}
	}
	n := int64(len(requests))
	rec.r.InFlight += n
	rec.count(k, func(c *Count) { c.Requests += n })
}

// over: a request has ended, well or not.
func (rec *recorder) over(q *request) {
	rec.r.InFlight--
	delete(rec.underway, q)
	rec.watches = slices.DeleteFunc(rec.watches, func(w *watch) bool {
		delete(w.left, q)
		if len(w.left) > 0 {
			return false
		}
		close(w.done)
		return true
	})
}

func (rec *recorder) settled() <-chan struct{} {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	w := &watch{maps.Clone(rec.underway), make(chan struct{})}
	if len(w.left) == 0 {
		close(w.done)
	} else {
		rec.watches = append(rec.watches, w)
	}
	return w.done
}

func (rec *recorder) answered(k Kind, q *request, a *answer, moved bool, took time.Duration) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	since := rec.tick()
	rec.over(q)
	rec.bucket.OK++
	rec.bucket.Generation = max(rec.bucket.Generation, a.generation)
	rec.all.Add(took)
	rec.current.Add(took)
	rec.seen(a, since)
	if rec.hear != nil {
		rec.hear(Answer{since, took, k, a.generation, a.pid})
	}
	rec.count(k, func(c *Count) {
		c.OK++
		if moved {
			c.Moved++
		}
	})
}

func (rec *recorder) seen(a *answer, since time.Duration) {
	s, ok := rec.r.Generations[a.generation]
	if !ok {
		s.First = since
		rec.wake(a.generation)
	}
	s.Last, s.PID = since, a.pid
	s.Answers++
	rec.r.Generations[a.generation] = s
	if a.pid != 0 {
		rec.r.PIDs[a.pid]++
	}
}

// wake tells those who wait for this generation, or an older one.
func (rec *recorder) wake(generation int) {
	rec.newest = max(rec.newest, generation)
	for g, c := range rec.waiting {
		if g <= rec.newest {
			close(c)
			delete(rec.waiting, g)
		}
	}
}

func (rec *recorder) await(generation int) <-chan struct{} {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	c := rec.waiting[generation]
	if c == nil {
		c = make(chan struct{})
		rec.waiting[generation] = c
		rec.wake(0)
	}
	return c
}

func (rec *recorder) failed(k Kind, q *request, f *failure) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	since := rec.tick()
	rec.over(q)
	rec.bucket.Failed++
	told := Failure{since, q.id, k, f.Fault, f.detail}
	if len(rec.r.Failures) < MaxFailures {
		rec.r.Failures = append(rec.r.Failures, told)
	}
	if rec.tell != nil {
		rec.tell(told)
	}
	rec.count(k, func(c *Count) {
		c.Faults = bump(c.Faults, f.Fault)
		if f.code != 0 {
			c.Codes = bump(c.Codes, f.code)
		}
	})
}

func (rec *recorder) mark(text string) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.tick()
	rec.bucket.Marks = append(rec.bucket.Marks, text)
}

// finish fixes the length of the load.
func (rec *recorder) finish() {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.r.Elapsed = time.Since(rec.start)
}

// report returns a copy.
func (rec *recorder) report() *Report {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	r := rec.r
	if r.Elapsed == 0 {
		r.Elapsed = time.Since(rec.start)
	}
	r.Latency = rec.all.Latency()
	r.Total = r.Total.clone()
	r.Kinds = make(map[Kind]*Count, len(rec.r.Kinds))
	for k, c := range rec.r.Kinds {
		c := c.clone()
		r.Kinds[k] = &c
	}
	r.Generations, r.PIDs = maps.Clone(r.Generations), maps.Clone(r.PIDs)
	r.Failures = append([]Failure(nil), r.Failures...)
	r.Timeline = append([]Bucket(nil), r.Timeline...)
	if b, ok := rec.closed(); ok {
		b.Marks = append([]string(nil), b.Marks...)
		r.Timeline = append(r.Timeline, b)
	}
	return &r
}

func (c *Count) clone() Count {
	d := *c
	d.Faults, d.Codes, d.Ends = maps.Clone(c.Faults), maps.Clone(c.Codes), maps.Clone(c.Ends)
	return d
}

func bump[K comparable](m map[K]int64, k K) map[K]int64 {
	if m == nil {
		m = map[K]int64{}
	}
	m[k]++
	return m
}
