package control

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestDialTellsWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale")
	ln, err := Listen(stale, ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	for _, path := range []string{stale, filepath.Join(dir, "missing")} {
		_, err := Dial(path)
		var e *Error
		if !errors.Is(err, ErrNotRunning) || !errors.As(err, &e) || e.Hint == "" || !strings.Contains(err.Error(), path) {
			t.Errorf("%v", err)
		}
	}
}

func TestASocketOfSomethingElse(t *testing.T) {
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "other"))
	if err != nil {
		t.Fatal(err)
	}
	other := &http.Server{Handler: http.NotFoundHandler()}
	go other.Serve(ln)
	defer other.Close()
	c, err := Dial(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(soon(t)); !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), "not a control socket") {
		t.Error(err)
	}
	_, err = c.Upgrade(soon(t), UpgradeRequest{})
	if !errors.Is(err, ErrVersion) {
		t.Error(err)
	}
}

func TestStatusAndStop(t *testing.T) {
	var stop StopRequest
	b := &fakeBackend{
		status: Status{Mode: "alone", Services: []Service{{Name: "web", State: Serving, Generation: 3}}},
		stop: func(_ context.Context, r StopRequest) error {
			stop = r
			return nil
		},
	}
	c := serve(t, &Server{Backend: b})
	st, err := c.Status(soon(t))
	if err != nil || st.Version != Version || st.Services[0].Name != "web" {
		t.Errorf("%+v, %v", st, err)
	}
	if err := c.Stop(soon(t), StopRequest{Service: "web", Now: true}); err != nil || !stop.Now || stop.Service != "web" {
		t.Errorf("%+v, %v", stop, err)
	}
	b.stop = func(context.Context, StopRequest) error { return &Error{Message: "no", Hint: "try later"} }
	var e *Error
	if err := c.Stop(soon(t), StopRequest{}); !errors.As(err, &e) || e.Hint != "try later" {
		t.Error(err)
	}
}

func TestAServiceThatEndsBeforeItCanAnswerAStop(t *testing.T) {
	s := &Server{}
	s.Backend = &fakeBackend{stop: func(context.Context, StopRequest) error {
		s.Close()
		return nil
	}}
	if err := serve(t, s).Stop(soon(t), StopRequest{}); err != nil {
		t.Error(err)
	}
}

func TestAFailureIsAnOutcome(t *testing.T) {
	code := 7
	c := serve(t, &Server{Backend: &fakeBackend{upgrade: func(_ context.Context, r UpgradeRequest) Outcome {
		return Outcome{ID: r.ID, Result: Failed, Reason: "died", ExitCode: &code, Output: []string{"no database"}}
	}}})
	out, err := c.Upgrade(soon(t), UpgradeRequest{})
	if err != nil || out.Result != Failed || *out.ExitCode != 7 || len(out.Output) != 1 {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestAMovedUpgradeIsWaitedFor(t *testing.T) {
	b := &fakeBackend{unknown: make(chan string, 1)}
	moved := make(chan string, 1)
	b.upgrade = func(_ context.Context, r UpgradeRequest) Outcome {
		moved <- r.ID
		return Outcome{ID: r.ID, Result: Moved}
	}
	c := serve(t, &Server{Backend: b})
	go func() {
		id := <-moved
		<-b.unknown // the next generation has been asked before it has heard of it
		b.outcomes.Begin(id)
		b.outcomes.Finish(Outcome{ID: id, Result: Ready, Generation: 4})
	}()
	out, err := c.Upgrade(soon(t), UpgradeRequest{})
	if err != nil || out.Result != Ready || out.Generation != 4 {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestAnUpgradeThatNobodyKnowsOf(t *testing.T) {
	c := serve(t, &Server{Backend: &fakeBackend{}})
	for _, id := range []string{"gone", "", "../status"} {
		if _, err := c.Outcome(soon(t), id); !errors.Is(err, ErrUnknown) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

// socket makes a control socket that no process but the test holds, so that it
// outlives each generation.
func socket(t *testing.T) (path string, file *os.File) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "control")
	ln, err := Listen(path, ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f, err := ln.File()
	ln.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return path, f
}

// askAndKill asks a process for an upgrade, and kills it before it can answer.
func askAndKill(t *testing.T, path string, f *os.File) (id string, answer <-chan upgradeAnswer) {
	t.Helper()
	g := startGeneration(t, f, "asked", "")
	c, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	ch := make(chan upgradeAnswer, 1)
	go func() {
		out, err := c.Upgrade(t.Context(), UpgradeRequest{})
		ch <- upgradeAnswer{out, err}
	}()
	id = g.hears(t, "asked")
	g.kill()
	return id, ch
}

type upgradeAnswer struct {
	Outcome
	err error
}

func TestATriggerWhoseProcessIsKilledGetsItsOutcome(t *testing.T) {
	path, f := socket(t)
	id, answer := askAndKill(t, path, f)
	g := startGeneration(t, f, "successor", id)
	if a := receive(t, answer); a.err != nil || a.Result != Ready || a.PID != g.cmd.Process.Pid {
		t.Errorf("%+v", a)
	}
}

// Negative control of the test above: a successor that was told of nothing.
func TestATriggerThatDiesWithItsProcessIsUnknown(t *testing.T) {
	path, f := socket(t)
	_, answer := askAndKill(t, path, f)
	startGeneration(t, f, "ignorant", "")
	if a := receive(t, answer); !errors.Is(a.err, ErrUnknown) {
		t.Errorf("%+v", a)
	}
}

func TestATriggerBearsWithASocketThatIsGoneForAWhile(t *testing.T) {
	path, f := socket(t)
	id, answer := askAndKill(t, path, f)
	f.Close() // now a connect is refused
	if _, err := Dial(path); !errors.Is(err, ErrNotRunning) {
		t.Fatal(err)
	}
	ln, err := Listen(path, ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b := &fakeBackend{}
	b.outcomes.Finish(Outcome{ID: id, Result: Failed})
	serveOn(t, &Server{Backend: b}, ln)
	if a := receive(t, answer); a.err != nil || a.Result != Failed {
		t.Errorf("%+v", a)
	}
}

func TestFollowGoesOnOverGenerations(t *testing.T) {
	path, f := socket(t)
	g := startGeneration(t, f, "asked", "")
	c, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	stream := follow(t, c)
	for want := uint64(1); want <= 3; want++ {
		if ev := receive(t, stream); ev.Seq != want {
			t.Fatalf("%d, want %d", ev.Seq, want)
		}
	}
	g.kill()
	startGeneration(t, f, "successor", "") // it knows nothing of the events before: another origin
	if ev := receive(t, stream); ev.Kind != EventGap {
		t.Errorf("no gap: %+v", ev)
	}
	if ev := receive(t, stream); ev.Seq != 1 {
		t.Errorf("%+v", ev)
	}
}

func TestFollowResumesWhereItWas(t *testing.T) {
	path, f := socket(t)
	stop := make([]func(), 2)
	events := [2]*Events{NewEvents(0), NewEvents(0)}
	begin := func(i int) {
		raw, err := net.FileListener(f)
		if err != nil {
			t.Fatal(err)
		}
		s := &Server{Backend: &fakeBackend{}, Events: events[i]}
		go s.Serve(raw)
		stop[i] = func() { s.Shutdown(soon(t)) }
		t.Cleanup(func() { s.Close() })
	}
	begin(0)
	publish(events[0], 2)
	c, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	stream := follow(t, c)
	receive(t, stream)
	receive(t, stream)
	travel(t, events[0], events[1])
	publish(events[1], 2)
	stop[0]()
	begin(1)
	for want := uint64(3); want <= 4; want++ {
		if ev := receive(t, stream); ev.Seq != want || ev.Kind == EventGap {
			t.Fatalf("%+v, want %d", ev, want)
		}
	}
}

func TestEventsEnd(t *testing.T) {
	s := &Server{Backend: &fakeBackend{}, Events: NewEvents(2)}
	c := serve(t, s)
	publish(s.Events, 5)
	var got []Event
	for ev, err := range c.Events(soon(t), 1) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, ev)
	}
	if seqs(got) != "gap3 4 5" {
		t.Error(seqs(got))
	}
	for range c.Events(soon(t), 0) {
		break // leaving early must not be taken for an error
	}
}

func TestAnswersThatAreCutOrNonsense(t *testing.T) {
	for name, raw := range map[string]string{
		"nothing":      "",
		"cut header":   "HTTP/1.1 200 OK\r\nTable",
		"cut body":     "HTTP/1.1 200 OK\r\n" + versionHeader + ": 1\r\nContent-Length: 100\r\n\r\n{",
		"no JSON":      "HTTP/1.1 200 OK\r\n" + versionHeader + ": 1\r\nContent-Length: 2\r\n\r\nno",
		"newer":        "HTTP/1.1 200 OK\r\n" + versionHeader + ": 9\r\nContent-Length: 2\r\n\r\n{}",
		"odd status":   "HTTP/1.1 500 Oops\r\n" + versionHeader + ": 1\r\nContent-Length: 2\r\n\r\n{}",
		"odd version":  "HTTP/1.1 200 OK\r\n" + versionHeader + ": x\r\nContent-Length: 2\r\n\r\n{}",
		"no HTTP":      "SSH-2.0-OpenSSH_9.2\r\n",
		"odd encoding": "HTTP/1.1 200 OK\r\nTransfer-Encoding: odd\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := answering(t, raw)
			if st, err := c.Status(soon(t)); err == nil {
				t.Errorf("%+v", st)
			}
			for _, err := range c.Events(soon(t), 0) {
				if err == nil {
					t.Error("an event")
				}
			}
		})
	}
}

// Whoever was asked dies before it can answer: the next one is asked.
func TestStatusIsThatOfTheSuccessor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := Listen(path, ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	asked := make(chan error, 1)
	c, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for range 2 { // of Dial, of Status
			dead, err := ln.Accept()
			if err != nil {
				asked <- err
				return
			}
			dead.Close()
		}
		s := &Server{Backend: &fakeBackend{status: Status{Mode: "alone"}}}
		t.Cleanup(func() { s.Close() })
		asked <- nil
		s.Serve(ln)
	}()
	if st, err := c.Status(soon(t)); err != nil || st.Mode != "alone" {
		t.Errorf("%+v, %v", st, err)
	}
	if err := <-asked; err != nil {
		t.Error(err)
	}
}

// ending has nothing to tell once, as a generation that is over when it is asked.
type ending struct {
	fakeBackend
	told atomic.Bool
}

func (e *ending) Status() Status {
	if e.told.Swap(true) {
		return e.fakeBackend.Status()
	}
	return Status{}
}

func TestStatusOfNobody(t *testing.T) {
	e := &ending{fakeBackend: fakeBackend{status: Status{Mode: "kept"}}}
	if st, err := serve(t, &Server{Backend: e}).Status(soon(t)); err != nil || st.Mode != "kept" {
		t.Errorf("%+v, %v", st, err)
	}
}

// answering is a Client whose service gives one answer to everything.
func answering(t *testing.T, raw string) *Client {
	t.Helper()
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(patience))
			c.Read(make([]byte, 4096))
			io.WriteString(c, raw)
			c.Close()
		}
	}()
	c, err := Dial(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return c
}
