package show

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/strict"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// An act does something to the service while the clients are at it, and tells in
// a few words what came of it. took is how long it was to the first answer of the
// generation which that led to, from the start of its process (an upgrade waits
// until the last one is over) or from the crash; 0: none was to come.
type act struct {
	name string
	do   func(*show, context.Context) (came string, took time.Duration, err error)
	kill bool // requests die with their process, and may be answered with 500 or 503
}

// actTimeout bounds an act, and an answer. The machine may be busy with other
// things: what is lost, and what isn't, is seen without a clock.
const actTimeout = 30 * time.Second

// program is the order of the acts: n upgrades, after half of them a broken
// binary, and the crashes before the last one. So each kind of trouble is followed
// by an upgrade that has to work.
func program(n int, kept bool) []act {
	crashes := []act{{"async panic", (*show).crash, false}}
	if kept {
		crashes = append(crashes, act{"kill -9", (*show).kill, true}, act{"fatal error", (*show).fatal, true})
	}
	var acts []act
	for i := range max(1, n) {
		if i == n/2 {
			acts = append(acts, act{"broken binary refused", (*show).offerBroken, false})
		}
		if i == max(0, n-1) {
			acts = append(acts, crashes...)
		}
		if i < n {
			acts = append(acts, act{"upgrade", (*show).upgrade, false})
		}
	}
	return acts
}

func (s *show) upgrade(ctx context.Context) (string, time.Duration, error) {
	out, err := s.stage.control.Upgrade(ctx, control.UpgradeRequest{})
	if err != nil {
		return "", 0, err
	}
	if out.Result != control.Ready {
		return "", 0, fmt.Errorf("%s: %s", out.Result, out.Reason)
	}
	took, err := s.answered(ctx, out.Generation, out.At.Add(-out.Took))
	return fmt.Sprintf("generation %d serves", out.Generation), took, err
}

// answered waits for the first answer of a generation, or of a newer one, and
// tells how long after since it came.
func (s *show) answered(ctx context.Context, generation int, since time.Time) (time.Duration, error) {
	select {
	case <-s.load.Answered(generation):
		r := s.load.Snapshot()
		s.generation = slices.Max(slices.Collect(maps.Keys(r.Generations)))
		return max(0, r.Start.Add(r.Generations[s.generation].First).Sub(since)), nil
	case <-s.stage.gone:
		return 0, errors.New("the service has ended")
	case <-ctx.Done():
		return 0, fmt.Errorf("no answer of generation %d: %w", generation, ctx.Err())
	}
}

func (s *show) offerBroken(ctx context.Context) (string, time.Duration, error) {
	if err := s.stage.deploy("broken"); err != nil {
		return "", 0, err
	}
	out, err := s.stage.control.Upgrade(ctx, control.UpgradeRequest{})
	if err := errors.Join(err, s.stage.deploy("release")); err != nil {
		return "", 0, err
	}
	if out.Result != control.Failed {
		return "", 0, fmt.Errorf("the service says %q, and should have refused it", out.Result)
	}
	return lastPart(out.Reason), 0, nil
}

// lastPart is what a chain of wrapped errors ends with.
func lastPart(reason string) string {
	parts := strings.Split(reason, ": ")
	return parts[len(parts)-1]
}

// crash is caught by the process itself, which is replaced.
func (s *show) crash(ctx context.Context) (string, time.Duration, error) {
	return s.dieOf(ctx, "/asyncerror")
}

// fatal can't be caught by the process.
func (s *show) fatal(ctx context.Context) (string, time.Duration, error) {
	return s.dieOf(ctx, "/fatal")
}

// dieOf makes a request that is too much for the process which gets it.
func (s *show) dieOf(ctx context.Context, path string) (string, time.Duration, error) {
	since := time.Now()
	status, err := ask(ctx, s.stage.web, path)
	if err != nil {
		err = fmt.Errorf("its request got no answer: %w", err)
	} else if !strings.HasPrefix(status, "500") {
		err = fmt.Errorf("its request got %s", status)
	}
	took, noSuccessor := s.answered(ctx, s.generation+1, since)
	return "its request got a 500", took, errors.Join(err, noSuccessor)
}

func (s *show) kill(ctx context.Context) (string, time.Duration, error) {
	pid := s.load.Snapshot().Generations[s.generation].PID
	if pid <= 0 { // 0 would be our own process group
		return "", 0, errors.New("nobody has answered yet")
	}
	since := time.Now()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return "", 0, err
	}
	took, err := s.answered(ctx, s.generation+1, since)
	return fmt.Sprintf("generation %d serves", s.generation), took, err
}

// ask makes one request on a connection of its own, and returns the status.
func ask(ctx context.Context, addr, path string) (string, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })()
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, addr); err != nil {
		return "", err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "", err
	}
	return resp.Status, resp.Body.Close()
}

// idleness is the longest pause of a client.
const idleness = 1200 * time.Millisecond

// clients is who watches, and how many of them: about 150 connections at a time.
// Where processes are killed nobody pipelines: what is sent behind a request that
// dies is not answered (RFC 9112, 9.3.2), whoever does the rescuing.
func clients(kept bool) []strict.Group {
	all := []strict.Group{
		{Kind: strict.Get, N: 12},
		{Kind: strict.Post, N: 12},
		{Kind: strict.Split, N: 8, Size: 16 << 10},
		{Kind: strict.Pipelined, N: 4},
		{Kind: strict.Slow, N: 12},
		{Kind: strict.Expect, N: 4},
		{Kind: strict.Unread, N: 4},
		{Kind: strict.CRLF, N: 4},
		{Kind: strict.HalfHead, N: 4},
		{Kind: strict.Long, N: 4, Delay: time.Second},
		{Kind: strict.Idle, N: 80, Pause: idleness / 2},
		{Kind: strict.Connect, Rate: 100},
	}
	if kept {
		all = slices.DeleteFunc(all, func(g strict.Group) bool { return g.Kind == strict.Pipelined })
	}
	return all
}
