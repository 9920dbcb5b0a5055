// Package measure loads a system, does something to it, and tells what its
// clients saw.
package measure

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/tablecloth-go/tablecloth/bench/internal/system"
	"github.com/tablecloth-go/tablecloth/internal/strict"

	"golang.org/x/sys/unix"
)

// Plan of a run.
type Plan struct {
	Action string
	Events int           // in one run
	Warm   time.Duration // before the first event
	Window time.Duration // before each event, and after it
	Groups []strict.Group
	Blind  time.Duration
	Seed   uint64
}

// Mix is what every system is loaded with: 270 kept-alive connections, new ones at
// a rate, and some that are HTTP no more, where the system serves such.
func Mix() []strict.Group {
	return []strict.Group{
		{Kind: strict.Idle, N: 180, Pause: time.Second},
		{Kind: strict.Get, N: 40, Pause: 200 * time.Millisecond},
		{Kind: strict.Post, N: 30, Pause: 200 * time.Millisecond},
		{Kind: strict.Slow, N: 20, Pause: 200 * time.Millisecond, Delay: 400 * time.Millisecond},
		{Kind: strict.Connect, Rate: 50},
		{Kind: strict.Upgraded, N: 10, Pause: 200 * time.Millisecond},
	}
}

// groups of a plan that a system serves. What costs nothing but bytes to and fro
// would make a request look cheaper than it is.
func (p *Plan) groups(s *system.System) []strict.Group {
	return slices.DeleteFunc(slices.Clone(p.Groups), func(g strict.Group) bool {
		return g.Kind == strict.Upgraded && (s.NoUpgrade || p.Action == "steady")
	})
}

// Mostly idle connections, n of them.
func Mostly(n int) []strict.Group {
	return []strict.Group{
		{Kind: strict.Idle, N: n, Pause: 2 * time.Second},
		{Kind: strict.Get, N: 5, Pause: 20 * time.Millisecond},
	}
}

// Restless clients ask again as soon as they are answered.
func Restless() []strict.Group {
	return []strict.Group{
		{Kind: strict.Get, N: 24, Pause: 1},
		{Kind: strict.Post, N: 8, Pause: 1},
	}
}

// run is one system under load.
type run struct {
	Plan
	inst  *system.Instance
	tape  *tape
	load  *strict.Running
	start time.Time     // of the load
	bare  time.Duration // from exec to the first answer
	end   context.CancelFunc
}

// begin starts the system and loads it.
func begin(ctx context.Context, b *system.Bed, s *system.System, p Plan) (*run, error) {
	addr, err := strict.FreeAddr()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	inst, err := s.Launch(b, addr)
	if err != nil {
		return nil, err
	}
	if err := await(ctx, addr); err != nil {
		log, _ := os.ReadFile(inst.Log())
		return nil, errors.Join(fmt.Errorf("%s: %w\n%s", s.Name, err, log), inst.Stop())
	}
	r := &run{Plan: p, inst: inst, tape: &tape{}, bare: time.Since(began)}
	loadCtx, cancel := context.WithCancel(ctx)
	r.end = cancel
	r.load = strict.Load{
		Network: "tcp", Addr: addr, Groups: p.groups(s), Seed: p.Seed, Blind: p.Blind, Timeout: 5 * time.Second,
		OnAnswer: r.tape.answer, OnFailure: r.tape.failure,
	}.Start(loadCtx)
	r.start = r.load.Snapshot().Start
	inst.Watch(r.tape.serving, r.load.Answered)
	return r, sleep(ctx, p.Warm)
}

// finish ends the load, then the system.
func (r *run) finish() error {
	r.end()
	r.load.Wait()
	return r.inst.Stop()
}

// Measure runs s once.
func Measure(ctx context.Context, b *system.Bed, s *system.System, p Plan) (events []Event, err error) {
	r, err := begin(ctx, b, s, p)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.finish()) }()
	for n := range p.Events {
		e, err := r.event(ctx)
		if err != nil {
			return events, err
		}
		e.System, e.Action, e.Number = s.Name, p.Action, n
		events = append(events, e)
	}
	return events, nil
}

// event triggers one and watches until the end of the window.
func (r *run) event(ctx context.Context) (Event, error) {
	if err := sleep(ctx, r.Window); err != nil {
		return Event{}, err
	}
	e := Event{Start: r.bare}
	base, served := r.inst.Generation(), r.tape.serving()
	before := r.load.Snapshot()
	trigger := time.Since(r.start)
	r.load.Mark(r.Action)
	asking, enough := context.WithTimeout(ctx, r.Window)
	seen := make(chan newcomers, 1)
	go func() { seen <- newcomer(asking, r.inst.Addr, base, served) }()
	if err := r.act(ctx, &e, served); err != nil {
		e.Error = err.Error()
	}
	if r.Action == "beside" {
		enough() // as after an upgrade: who has been met isn't asked for any more
	}
	watched := r.Window + r.inst.Tail
	err := sleep(ctx, watched-(time.Since(r.start)-trigger))
	enough()
	met := <-seen
	if err != nil {
		return e, err
	}
	after := r.load.Snapshot()
	e.count(before, after)
	r.tape.fill(&e, trigger, r.Window, watched, base, served)
	e.FirstNew, e.Next = earlier(e.FirstNew, met.generation), earlier(e.Next, met.process)
	e.Line = r.tape.line(trigger, r.Window/2, r.Window)
	return e, nil
}

func (r *run) act(ctx context.Context, e *Event, served int) error {
	switch r.Action {
	case "upgrade", "idle":
		return r.inst.Upgrade()
	case "beside":
		return r.startAnother(ctx, e)
	case "crash":
		pids := r.inst.Processes()
		if served <= 0 {
			return errors.New("nobody answers")
		}
		if err := unix.Kill(served, unix.SIGKILL); err != nil {
			return err
		}
		return r.supervise(pids)
	case "panic":
		pids := r.inst.Processes()
		answer := make(chan string, 1)
		go func() { answer <- request(r.inst.Addr, "/panic", r.Window) }()
		err := r.supervise(pids)
		e.Answer = <-answer
		return err
	}
	return fmt.Errorf("no action %q", r.Action)
}

// startAnother starts the system once more, at an address of its own, which
// nobody loads: what any start does to those who are served meanwhile, and how long
// it takes there. It ends with the run.
func (r *run) startAnother(ctx context.Context, e *Event) error {
	addr, err := strict.FreeAddr()
	if err != nil {
		return err
	}
	began := time.Now()
	if _, err := r.inst.Launch(r.inst.Bed, addr); err != nil {
		return err
	}
	if err := await(ctx, addr); err != nil {
		return err
	}
	e.Beside = time.Since(began)
	return nil
}

// supervise starts the system again if nothing of it lives.
func (r *run) supervise(pids []int) error {
	if r.inst.Supervised || !system.AwaitDeath(pids, r.Window) || len(r.inst.Processes()) > 0 {
		return nil
	}
	time.Sleep(r.inst.Delay)
	return r.inst.Start()
}

// count what the load saw between two snapshots.
func (e *Event) count(before, after *strict.Report) {
	e.Requests = after.Total.Requests - before.Total.Requests
	e.Ends = map[strict.End]int64{}
	for k, c := range after.Kinds {
		was := cmp.Or(before.Kinds[k], &strict.Count{})
		switch k {
		case strict.Connect:
			continue
		case strict.Upgraded:
			e.Long, e.LongCut = open(was), ended(c)-ended(was)
			continue
		}
		e.Open += open(was)
		e.Moved += c.Moved - was.Moved
		for end, n := range c.Ends {
			if d := n - was.Ends[end]; d > 0 {
				e.Ends[end] += d
			}
		}
	}
}

// open connections.
func open(c *strict.Count) int64 { return c.Connects - ended(c) }

func ended(c *strict.Count) (n int64) {
	for _, of := range c.Ends {
		n += of
	}
	return n
}

// MeasureSteady runs s for the plan's window, and does nothing to it.
func MeasureSteady(ctx context.Context, b *system.Bed, s *system.System, p Plan) (st Steady, err error) {
	r, err := begin(ctx, b, s, p)
	if err != nil {
		return st, err
	}
	defer func() { err = errors.Join(err, r.finish()) }()
	from, before := time.Since(r.start), r.load.Snapshot()
	cpu, _ := r.inst.Usage()
	if err := sleep(ctx, p.Window); err != nil {
		return st, err
	}
	after := r.load.Snapshot()
	st = Steady{System: s.Name, Latency: r.tape.cut(from, time.Since(r.start)).latency()}
	st.CPU, st.Memory = r.inst.Usage()
	st.CPU -= cpu
	st.Answers = after.Total.OK - before.Total.OK
	st.Failed = after.Total.Failed() - before.Total.Failed()
	return st, nil
}

// await blocks until addr answers.
func await(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		answer := request(addr, "/", time.Second)
		if answer == "200" {
			return nil
		}
		if sleep(ctx, time.Millisecond) != nil {
			return fmt.Errorf("no answer, but %s", answer)
		}
	}
}

// newcomers are when a new connection first met a new generation, and a process
// that isn't the one that served before.
type newcomers struct{ generation, process time.Duration }

// newcomer connects every millisecond, besides the load, and asks who answers, until
// it has met both or ctx ends: how soon a client of the load happens to come doesn't
// matter then.
func newcomer(ctx context.Context, addr string, base, served int) newcomers {
	n, began := newcomers{Never, Never}, time.Now()
	for ctx.Err() == nil && (n.generation == Never || n.process == Never) {
		if h, answer := ask(ctx, addr, "/", time.Second); answer == "200" {
			at := time.Since(began)
			if g, _ := strconv.Atoi(h.Get(strict.HeaderGeneration)); g > base && n.generation == Never {
				n.generation = at
			}
			if pid, _ := strconv.Atoi(h.Get(strict.HeaderPID)); pid > 0 && pid != served && n.process == Never {
				n.process = at
			}
		}
		sleep(ctx, time.Millisecond)
	}
	return n
}

// earlier of two times, of which either may be Never.
func earlier(a, b time.Duration) time.Duration {
	if a == Never || b != Never && b < a {
		return b
	}
	return a
}

// request makes one, and tells the status of the answer, or what came instead.
func request(addr, path string, timeout time.Duration) string {
	_, answer := ask(context.Background(), addr, path, timeout)
	return answer
}

func ask(ctx context.Context, addr, path string, timeout time.Duration) (h http.Header, answer string) {
	d := net.Dialer{Timeout: timeout}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, "no connection"
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(timeout))
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, addr)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return nil, "no answer"
	}
	resp.Body.Close()
	return resp.Header, fmt.Sprint(resp.StatusCode)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(max(0, d))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
