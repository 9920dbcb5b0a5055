//go:build linux

package keeper

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

func soak(few, full int) int { return testenv.Count(few, full) }

// bed is a keeper in a process of its own.
type bed struct {
	t      *testing.T
	cmd    *exec.Cmd
	dir    string
	tag    string // in the environment of all its processes
	conf   Config
	client *control.Client
	waited <-chan struct{} // closed: cmd.ProcessState is there
	output proctest.Log
	addr   string
	before func(*exec.Cmd) // last changes to the keeper's command; may be nil
	passed []*os.File      // from descriptor 3 on, as by a service manager
}

func self(t testing.TB) string { t.Helper(); return proctest.Self(t) }

// role is this test binary in a role.
func role(t testing.TB, args ...string) []string { return append([]string{self(t)}, args...) }

// keep starts a keeper of one service, and waits until its control socket answers.
func keep(t *testing.T, s Service, change ...func(*bed)) *bed {
	t.Helper()
	b := &bed{t: t, dir: t.TempDir(), tag: "TEST_TAG=" + rand.Text()}
	if s.Name == "" {
		s.Name = "test"
	}
	b.conf = Config{Services: []Service{s}, Control: filepath.Join(b.dir, "control")}
	for _, f := range change {
		f(b)
	}
	t.Cleanup(b.end)
	b.start()
	return b
}

func (b *bed) start(env ...string) {
	b.t.Helper()
	text, err := json.Marshal(b.conf)
	if err != nil {
		b.t.Fatal(err)
	}
	b.cmd = exec.Command(self(b.t), "as-keeper", string(text))
	if b.passed != nil { // LISTEN_PID is a shell's that becomes the keeper
		b.cmd = exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, self(b.t), "as-keeper", string(text))
		b.cmd.ExtraFiles = b.passed
	}
	b.cmd.Env = append(append(os.Environ(), b.tag, "GORACE=atexit_sleep_ms=0"), env...)
	if b.before != nil {
		b.before(b.cmd)
	}
	b.run()
}

// run starts the command, and returns when its control socket answers, or it has
// ended: some tests want that.
func (b *bed) run() {
	b.t.Helper()
	b.output.Start(b.t, b.cmd)
	b.waited = proctest.Waited(b.cmd)
	b.client = proctest.DialWhenThere(b.conf.Control, b.waited)
}

// end stops the keeper, and requires that nothing of it is left.
func (b *bed) end() {
	if b.cmd == nil {
		return
	}
	proctest.End(b.t, b.cmd, b.waited, b.tag)
	b.cmd = nil
	if b.output.Raced() {
		b.t.Error("a data race")
	}
	b.output.Report(b.t)
}

func (b *bed) log() string { return b.output.Text() }

// logged waits until a text is in the log n times.
func (b *bed) logged(text string, n int) {
	b.t.Helper()
	b.output.Has(b.t, text, n)
}

// processes are all that descend from this bed's keepers.
func (b *bed) processes() []int { return proctest.Tagged(b.tag) }

func (b *bed) ctx() context.Context { return proctest.Context(b.t) }

func (b *bed) status() control.Service {
	b.t.Helper()
	return proctest.Status(b.t, b.client)
}

// await waits for an event of that kind after number seq, and returns it.
func (b *bed) await(kind string, seq uint64) control.Event {
	b.t.Helper()
	return proctest.Event(b.t, b.client, kind, seq)
}

// serving waits until the first generation serves, and returns the address.
func (b *bed) serving() string {
	b.t.Helper()
	b.await(control.EventReady, 0)
	if s := b.status(); len(s.Listen) > 0 {
		_, b.addr, _ = strings.Cut(s.Listen[0], ":")
	}
	return b.addr
}

func (b *bed) upgrade(r control.UpgradeRequest) control.Outcome {
	b.t.Helper()
	return proctest.Upgrade(b.t, b.client, r)
}

// worker is the PID of the serving one.
func (b *bed) worker() int {
	b.t.Helper()
	s := b.status()
	for _, g := range s.Generations {
		if g.State == control.Serving {
			return g.Workers[0].PID
		}
	}
	b.t.Fatalf("nobody serves: %+v", s)
	return 0
}

// ask makes one request on a connection of its own.
func ask(addr string) (string, error) {
	tr := &http.Transport{DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	c := &http.Client{Transport: tr, Timeout: 20 * time.Second}
	r, err := c.Get("http://" + addr + "/")
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	return string(body), err
}

// load asks on and on, each time on a new connection.
type load struct {
	refused, broken, answers atomic.Int64
	stop                     chan struct{}
	wg                       sync.WaitGroup
	mu                       sync.Mutex
	seen                     map[string]bool // first words of answers: PIDs
	faults                   map[string]int
}

func startLoad(addr string, clients int) *load {
	l := &load{stop: make(chan struct{}), seen: map[string]bool{}, faults: map[string]int{}}
	for range clients {
		l.wg.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				default:
					l.one(addr)
				}
			}
		})
	}
	return l
}

func (l *load) one(addr string) {
	body, err := ask(addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil:
		l.answers.Add(1)
		pid, _, _ := strings.Cut(body, " ")
		l.seen[strings.TrimSpace(pid)] = true
	case errors.Is(err, syscall.ECONNREFUSED):
		l.refused.Add(1)
		l.faults[err.Error()]++
	default:
		l.broken.Add(1)
		l.faults[err.Error()[max(0, len(err.Error())-40):]]++
	}
}

func (l *load) end() {
	close(l.stop)
	l.wg.Wait()
}

func (l *load) String() string {
	return fmt.Sprintf("%d answers of %d processes, %d refused, %d broken %v", l.answers.Load(), len(l.seen), l.refused.Load(), l.broken.Load(), l.faults)
}

// awaitAnswer waits until somebody else than was answers.
func awaitAnswer(t *testing.T, addr string, was string) (pid string) {
	t.Helper()
	proctest.Poll(t, "an answer of somebody else than "+was, func() bool {
		body, err := ask(addr)
		pid, _, _ = strings.Cut(body, " ")
		pid = strings.TrimSpace(pid)
		return err == nil && pid != was
	})
	return pid
}

// copyOf makes a program of its own that a test can replace.
func copyOf(t *testing.T, to string) {
	t.Helper()
	proctest.Copy(t, to, self(t))
}

// install puts a program into place.
func install(t *testing.T, path string, data []byte) {
	t.Helper()
	proctest.Install(t, path, data, 0o755)
}

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func closed(addr string) bool {
	c, err := net.Dial("tcp", addr)
	if err == nil {
		c.Close()
	}
	return err != nil
}
