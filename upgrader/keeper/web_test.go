//go:build linux

package keeper

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/strict"
	"github.com/tablecloth-go/tablecloth/server"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// web is a service of this library, as strict clients expect it, on the first
// socket that it is given, or on one of its own. The worker that
// TEST_FAILS names ends at once.
func web([]string) {
	if os.Getenv("TEST_FAILS") == os.Getenv("TABLECLOTH_WORKER") {
		fmt.Fprintln(os.Stderr, "as the test wants it")
		os.Exit(7)
	}
	addr := "127.0.0.1:0"
	if os.Getenv("LISTEN_FDS") != "" {
		addr = strings.TrimPrefix(boundTo(3), "tcp:")
	}
	log := logrus.New()
	log.SetLevel(logrus.WarnLevel)
	var app http.Handler
	hs := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { app.ServeHTTP(w, r) })}
	s, err := server.New(server.Options{Log: log}, server.HTTP("web", hs, addr))
	if err != nil {
		panic(err)
	}
	app = strict.Handler(s.Upgrader().Generation())
	up := s.Upgrader()
	go func() {
		for b := range up.Broadcasts() {
			fmt.Fprintf(os.Stderr, "worker %d was told %q by %d\n", up.Worker(), b.Message, b.From)
			if b.From < 0 {
				up.Broadcast(fmt.Appendf(nil, "%s, says %d", b.Message, up.Worker()))
			}
		}
	}()
	if err := s.Run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func webs(t *testing.T, workers int) Service {
	return Service{Command: role(t, "web"), Listen: []string{"127.0.0.1:0"}, Workers: workers, MaxDeaths: -1}
}

// strictly starts strict clients of the kinds whose connections move; without
// groups, a few of each.
func (b *bed) strictly(addr string, groups ...strict.Group) (end func() *strict.Report) {
	if len(groups) == 0 {
		groups = []strict.Group{
			{Kind: strict.Get, N: 4}, {Kind: strict.Post, N: 4}, {Kind: strict.Split, N: 2}, {Kind: strict.Slow, N: 2},
			{Kind: strict.Idle, N: 4}, {Kind: strict.Connect, Rate: 50},
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := strict.Load{Network: "tcp", Addr: addr, Timeout: proctest.Patience(b.t), Groups: groups}.Start(ctx)
	end = func() *strict.Report {
		cancel()
		return r.Wait()
	}
	b.t.Cleanup(func() { end() })
	return end
}

// unbroken fails the test if a client could have noticed anything.
func unbroken(t *testing.T, r *strict.Report) {
	t.Helper()
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	for end, n := range r.Total.Ends {
		if end != strict.Ours {
			t.Errorf("%d connections ended: %s", n, end)
		}
	}
	if r.Total.OK == 0 {
		t.Error("no answers")
	}
}

// of is the status of one service.
func (b *bed) of(name string) control.Service {
	b.t.Helper()
	st, err := b.client.Status(b.ctx())
	if err != nil {
		b.t.Fatal(err)
	}
	for _, s := range st.Services {
		if s.Name == name {
			return s
		}
	}
	return control.Service{}
}

// serves are the PIDs of the workers that serve, by index.
func serves(s control.Service) []int {
	var all []control.Worker
	for _, g := range s.Generations {
		for _, w := range g.Workers {
			if w.State == control.Serving {
				all = append(all, w)
			}
		}
	}
	slices.SortFunc(all, func(a, b control.Worker) int { return a.Index - b.Index })
	var pids []int
	for _, w := range all {
		pids = append(pids, w.PID)
	}
	return pids
}

// settles waits until n workers of a service serve, and nobody else is there.
func (b *bed) settles(name string, n int) control.Service {
	b.t.Helper()
	var s control.Service
	proctest.Check(b.t, func() error {
		s = b.of(name)
		all := 0
		for _, g := range s.Generations {
			all += len(g.Workers)
		}
		if len(serves(s)) != n || all != n {
			return fmt.Errorf("%d of %d processes serve, not %d: %+v", len(serves(s)), all, n, s)
		}
		return nil
	})
	return s
}
