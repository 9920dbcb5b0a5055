//go:build linux

package rescue

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/strict"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
	"github.com/tablecloth-go/tablecloth/upgrader/keeper"
)

func soak(few, full int) int { return testenv.Count(few, full) }

// bed is a keeper in a process of its own.
type bed struct {
	t       testing.TB
	dir     string
	tag     string // in the environment of all its processes
	conf    keeper.Config
	program string
	set     setting
	cmd     *exec.Cmd
	waited  <-chan struct{} // closed: cmd.ProcessState is there
	output  proctest.Log
	client  *control.Client
	network string
	addr    string
	races   bool            // as the test wants it
	before  func(*exec.Cmd) // last changes to the keeper's command
}

func self(t testing.TB) string { t.Helper(); return proctest.Self(t) }

func newBed(t testing.TB) *bed {
	t.Helper()
	b := &bed{t: t, dir: proctest.Dir(t), tag: "TEST_TAG=" + rand.Text(), program: self(t), set: setting{Web: []string{"127.0.0.1:0"}}}
	b.conf = keeper.Config{Control: filepath.Join(b.dir, "control"), Services: []keeper.Service{{
		Name: "test", Listen: []string{"web=127.0.0.1:0"}, MaxDeaths: -1, KillTimeout: 20 * time.Second,
		RescueTimeout: 20 * time.Second, // a machine that is busy with other tests may need more than the default
	}}}
	t.Cleanup(b.end)
	return b
}

func (b *bed) service() *keeper.Service { return &b.conf.Services[0] }

// start runs the keeper, and waits until its first generation serves.
func (b *bed) start() {
	b.t.Helper()
	set, err := json.Marshal(b.set)
	if err != nil {
		b.t.Fatal(err)
	}
	b.service().Command = []string{b.program, "as-worker", string(set)}
	conf, err := json.Marshal(b.conf)
	if err != nil {
		b.t.Fatal(err)
	}
	b.cmd = exec.Command(b.program, "as-keeper", string(conf))
	b.cmd.Env = append(os.Environ(), b.tag, "GORACE=atexit_sleep_ms=0")
	if b.before != nil {
		b.before(b.cmd)
	}
	b.output.Start(b.t, b.cmd)
	b.waited = proctest.Waited(b.cmd)
	if b.client = proctest.DialWhenThere(b.conf.Control, b.waited); b.client == nil {
		b.t.Fatalf("the keeper has ended: %v", b.cmd.ProcessState)
	}
	b.await(control.EventReady, 0)
	b.findAddr()
}

// findAddr learns the web's address from the worker's log.
func (b *bed) findAddr() {
	b.t.Helper()
	for _, l := range b.status().Listen {
		if _, spec, named := strings.Cut(l, "="); named {
			l = spec
		}
		var ok bool
		if b.network, b.addr, ok = strings.Cut(l, ":"); ok {
			return
		}
	}
	b.t.Fatalf("no address in %+v", b.status())
}

// end stops the keeper, and requires that nothing of it is left.
func (b *bed) end() {
	if b.cmd == nil || b.cmd.Process == nil {
		return
	}
	proctest.End(b.t, b.cmd, b.waited, b.tag)
	b.cmd = nil
	if b.output.Raced() && !b.races {
		b.t.Error("a data race")
	}
	b.output.Report(b.t)
}

// processes are all that descend from this bed's keeper.
func (b *bed) processes() []int { return proctest.Tagged(b.tag) }

// named are those of them with that name, "tc-vault" being a vault's.
func (b *bed) named(name string) (all []int) {
	for _, pid := range b.processes() {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if strings.TrimSpace(string(comm)) == name {
			all = append(all, pid)
		}
	}
	return all
}

func (b *bed) ctx() context.Context { return proctest.Context(b.t) }

func (b *bed) status() control.Service {
	b.t.Helper()
	return proctest.Status(b.t, b.client)
}

// await waits for an event of that kind after number seq.
func (b *bed) await(kind string, seq uint64) control.Event {
	b.t.Helper()
	return proctest.Event(b.t, b.client, kind, seq)
}

// serving is the PID of the worker that serves; 0: there is none.
func (b *bed) serving() int {
	b.t.Helper()
	for _, g := range b.status().Generations {
		for _, w := range g.Workers {
			if w.State == control.Serving {
				return w.PID
			}
		}
	}
	return 0
}

// worker waits for one that isn't was.
func (b *bed) worker(was int) (pid int) {
	b.t.Helper()
	proctest.Poll(b.t, "a worker that serves", func() bool {
		pid = b.serving()
		return pid != 0 && pid != was
	})
	return pid
}

// kill ends the worker that serves, and waits for the next one.
func (b *bed) kill() int {
	b.t.Helper()
	pid := b.worker(0)
	proctest.Kill(pid, syscall.SIGKILL)
	return b.worker(pid)
}

// ripen waits in the long run until n workers serve, each of them for a second: of
// those that die younger, one after the other, the keeper waits longer to start the
// next than clients wait for an answer.
func (b *bed) ripen(n int) {
	b.t.Helper()
	proctest.Poll(b.t, "workers that have lived for a while", func() bool {
		ripe := 0
		for _, g := range b.status().Generations {
			for _, w := range g.Workers {
				if w.State == control.Serving && time.Since(w.Started) > time.Duration(soak(0, 1100))*time.Millisecond {
					ripe++
				}
			}
		}
		return ripe >= n
	})
}

// load starts clients, and waits until each has its connection.
func (b *bed) load(groups ...strict.Group) *loading {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	b.t.Cleanup(cancel)
	l := &loading{t: b.t, cancel: cancel}
	for _, g := range groups {
		l.clients += g.N
	}
	l.Running = strict.Load{Network: b.network, Addr: b.addr, Groups: groups, Timeout: 20 * time.Second, Seed: 1,
		OnFailure: func(f strict.Failure) {
			if f.Fault != strict.Status && f.Fault != strict.Cut && f.Fault != strict.Dropped && len(l.failures) < 20 {
				l.failures = append(l.failures, fmt.Sprintf("%s %v", time.Now().Format("15:04:05.000"), f))
			}
		}}.Start(ctx)
	l.up()
	return l
}

type loading struct {
	t testing.TB
	*strict.Running
	cancel   func()
	clients  int      // of those which keep their connections
	failures []string // those which should not be
}

// up waits until all clients have their connections.
func (l *loading) up() {
	l.t.Helper()
	proctest.Poll(l.t, "a connection of each client", func() bool { return l.Snapshot().Open >= int64(l.clients) })
}

// more waits for so many more answers.
func (l *loading) more(n int64) {
	l.t.Helper()
	before := l.Snapshot().Total.OK
	proctest.Poll(l.t, "more answers", func() bool { return l.Snapshot().Total.OK >= before+n })
}

func (l *loading) end() *strict.Report {
	l.cancel()
	return l.Wait()
}

// verdict is what clients of dying processes must not have seen: every request
// ends in its answer, a 500, a 503, or visibly cut; no connection is closed while
// idle, or reset.
func verdict(r *strict.Report) error {
	var wrong []string
	for k, c := range r.Kinds {
		for f, n := range c.Faults {
			switch {
			case f == strict.Status, f == strict.Cut, f == strict.Dropped:
			case k == strict.Pipelined && f == strict.NoAnswer: // behind one that died
			default:
				wrong = append(wrong, fmt.Sprintf("%d requests of %s: %s", n, k, f))
			}
		}
		for _, e := range []strict.End{strict.ClosedIdle, strict.ResetIdle} {
			if n := c.Ends[e]; n > 0 {
				wrong = append(wrong, fmt.Sprintf("%d connections of %s: %s", n, k, e))
			}
		}
	}
	for code, n := range r.Total.Codes {
		if code != http.StatusInternalServerError && code != http.StatusServiceUnavailable {
			wrong = append(wrong, fmt.Sprintf("%d answers with %d", n, code))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return errors.New(strings.Join(wrong, ", "))
}

// ask makes one request on a connection of its own, and returns the answer with
// its body read.
func (b *bed) ask(method, path string) (*http.Response, string, error) {
	c, err := b.dial()
	if err != nil {
		return nil, "", err
	}
	defer c.Close()
	fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n", method, path)
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	_, err = body.ReadFrom(resp.Body)
	return resp, body.String(), err
}
