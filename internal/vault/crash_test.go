//go:build linux

package vault

import (
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
)

// siege lets clients loose on a service while the worker dies again and again.
type siege struct {
	rounds  int
	busy    int
	idle    int
	modes   []string
	env     []string
	process func(*exec.Cmd)
	rude    bool
	churn   int // clients with a connection for each request
	unknown bool
}

func (g siege) run(t testing.TB) (*tally, *service) {
	t.Helper()
	s := newService(t, func(c *exec.Cmd) {
		c.Env = append(c.Env, g.env...)
		if g.process != nil {
			g.process(c)
		}
	})
	if s.now.failure != "" {
		t.Fatal(s.now.failure)
	}
	return g.on(s), s
}

func (g siege) on(s *service) *tally {
	s.t.Helper()
	tl := newTally()
	stop := make(chan struct{})
	longest := time.Duration(testenv.Count(300, 1000)) * time.Millisecond
	var wg sync.WaitGroup
	for i := range g.busy {
		b := behavior{pipeline: i%4 == 0, rude: g.rude, unknown: g.unknown}
		if i%2 == 0 {
			b.think = 10 * time.Millisecond
		}
		wg.Go(func() { tl.client(s.ln.Addr().String(), b, stop) })
	}
	for range g.idle {
		wg.Go(func() { tl.client(s.ln.Addr().String(), behavior{simple: true, think: longest}, stop) })
	}
	for range g.churn {
		wg.Go(func() { tl.client(s.ln.Addr().String(), behavior{simple: true, churn: true}, stop) })
	}
	for i := range g.rounds {
		before := tl.asked()
		proctest.Pace(20*time.Millisecond + rand.N(60*time.Millisecond))
		proctest.Poll(s.t, "requests", func() bool { return tl.asked() > before+int64(g.busy+g.churn)/4 })
		s.crash(g.modes[i%len(g.modes)])
	}
	close(stop)
	wg.Wait()
	return tl
}

func itoa(s syscall.Signal) string { return strconv.Itoa(int(s)) }

func TestEveryRequestIsAnsweredOrVisiblyCut(t *testing.T) {
	g := siege{rounds: testenv.Count(8, 100), busy: 48, idle: testenv.Count(60, 300), modes: []string{"kill"}}
	tl, s := g.run(t)
	tl.verdict(t, s)
	if s.sum.Idle == 0 || s.sum.S500 == 0 {
		t.Errorf("nothing was rescued: %+v", s.sum)
	}
}

// The windows between two stores are some nanoseconds wide. Here the worker
// sleeps in them.
func TestKilledBetweenTwoStores(t *testing.T) {
	g := siege{rounds: testenv.Count(8, 100), busy: 48, idle: 20, modes: []string{"kill"}, env: []string{"VAULT_TEST_STALL=1"}}
	tl, s := g.run(t)
	tl.verdict(t, s)
}

// Everything at once: peers that close their side early or go away, pipelined
// requests that the worker can't tell apart, deaths between two stores.
func TestRandomConversations(t *testing.T) {
	g := siege{rounds: testenv.Count(8, 100), busy: 64, idle: 20, modes: []string{"kill"}, rude: true, unknown: true,
		env: []string{"VAULT_TEST_STALL=1", "VAULT_TEST_UNKNOWN=1"}}
	tl, s := g.run(t)
	tl.verdict(t, s)
}

// Connections come and go all the time, so at each death some wait in the
// backlog, some are being accepted, some being closed.
func TestChurn(t *testing.T) {
	g := siege{rounds: testenv.Count(8, 200), idle: 20, churn: testenv.Count(50, 400), modes: []string{"kill"}}
	tl, s := g.run(t)
	tl.verdict(t, s)
}

func TestWithoutVaultItFails(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *exec.Cmd) { c.Env = append(c.Env, "VAULT_TEST_OFF=1") })
	tl := siege{rounds: 3, busy: 24, idle: 20, modes: []string{"kill"}}.on(s)
	if len(tl.bad) == 0 || tl.bad["idle closed"]+tl.bad["reset"]+tl.bad["no answer"] == 0 {
		t.Errorf("the clients saw nothing of three crashes without a vault: %v", tl.n)
	}
}

var causes = map[string]string{
	"kill":                "signal: killed",
	"panic":               "exit status 2",
	"exit 3":              "exit status 3",
	"map":                 "exit status 2",
	"stack":               "exit status 2",
	"memory":              "exit status 2",
	itoa(syscall.SIGSEGV): "", // by the runtime or by the kernel, as it happens
	itoa(syscall.SIGABRT): "",
	itoa(syscall.SIGTERM): "signal: terminated",
}

func TestEveryCauseOfDeath(t *testing.T) {
	if testenv.Race {
		causes["memory"] = "exit status 66" // the detector's own memory ends first
	}
	modes := slices.Sorted(maps.Keys(causes))
	tl, s := siege{rounds: testenv.Count(1, 10) * len(modes), busy: 16, idle: 16, modes: modes}.run(t)
	tl.verdict(t, s)
}

func TestUnprivileged(t *testing.T) {
	testenv.Need(t, "root, to become another user", os.Getuid() == 0)
	g := siege{rounds: testenv.Count(3, 20), busy: 16, idle: 16, modes: []string{"kill"}, env: []string{"VAULT_TEST_NO_NEW_PRIVS=1"}, process: func(c *exec.Cmd) {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}}
	tl, s := g.run(t)
	tl.verdict(t, s)
}
