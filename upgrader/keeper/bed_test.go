//go:build linux

package keeper

import (
	"bytes"
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

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// soak is what TABLECLOTH_SOAK=1 makes of a count.
func soak(short, long int) int {
	if os.Getenv("TABLECLOTH_SOAK") != "" {
		return long
	}
	return short
}

// bed is a keeper in a process of its own.
type bed struct {
	t      *testing.T
	cmd    *exec.Cmd
	dir    string
	tag    string // in the environment of all its processes
	conf   Config
	client *control.Client
	waited chan struct{}
	state  *os.ProcessState
	addr   string
	passed []*os.File // from descriptor 3 on, as by a service manager
}

func self(t testing.TB) string {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// program is this test binary in a role.
func role(t testing.TB, args ...string) []string { return append([]string{self(t)}, args...) }

// keep starts a keeper of one service, and waits until its control socket answers.
func keep(t *testing.T, s Service, change ...func(*bed)) *bed {
	t.Helper()
	b := &bed{t: t, dir: t.TempDir(), tag: "TEST_TAG=" + rand.Text(), waited: make(chan struct{})}
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
	log, err := os.OpenFile(filepath.Join(b.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		b.t.Fatal(err)
	}
	defer log.Close()
	b.cmd = exec.Command(self(b.t), "as-keeper", string(text))
	if b.passed != nil { // LISTEN_PID is a shell's that becomes the keeper
		b.cmd = exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, self(b.t), "as-keeper", string(text))
		b.cmd.ExtraFiles = b.passed
	}
	b.cmd.Env = append(append(os.Environ(), b.tag, "GORACE=atexit_sleep_ms=0"), env...)
	b.cmd.Stdout, b.cmd.Stderr = log, log
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.waited = make(chan struct{})
	cmd, waited := b.cmd, b.waited
	go func() {
		cmd.Wait()
		b.state = cmd.ProcessState
		close(waited)
	}()
	for {
		c, err := control.Dial(b.conf.Control)
		if err == nil {
			b.client = c
			return
		}
		select {
		case <-b.waited: // some tests want that
			return
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// end stops the keeper, and requires that nothing of it is left.
func (b *bed) end() {
	if b.cmd == nil {
		return
	}
	b.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-b.waited:
	case <-time.After(20 * time.Second):
		b.t.Error("the keeper doesn't end")
		b.cmd.Process.Kill()
		<-b.waited
	}
	b.cmd = nil
	deadline := time.Now().Add(5 * time.Second)
	for left := b.processes(); len(left) > 0; left = b.processes() {
		if time.Now().After(deadline) {
			b.t.Errorf("processes are left: %v", left)
			for _, pid := range left {
				syscall.Kill(pid, syscall.SIGKILL)
			}
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if b.t.Failed() {
		b.t.Logf("log:\n%s", tailOf(b.log(), 6000))
	}
}

func tailOf(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

func (b *bed) log() string {
	data, _ := os.ReadFile(filepath.Join(b.dir, "log"))
	return string(data)
}

// processes are all that descend from this bed's keepers.
func (b *bed) processes() []int {
	var all []int
	for _, pid := range everyone() {
		env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if bytes.Contains(env, []byte(b.tag)) {
			all = append(all, pid)
		}
	}
	return all
}

func (b *bed) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	b.t.Cleanup(cancel)
	return ctx
}

func (b *bed) status() control.Service {
	b.t.Helper()
	st, err := b.client.Status(b.ctx())
	if err != nil {
		b.t.Fatal(err)
	}
	return st.Services[0]
}

// await waits for an event of that kind after number seq, and returns it.
func (b *bed) await(kind string, seq uint64) control.Event {
	b.t.Helper()
	for e, err := range b.client.Follow(b.ctx(), seq) {
		if err != nil {
			b.t.Fatalf("waiting for %q: %v", kind, err)
		}
		if e.Kind == kind {
			return e
		}
	}
	b.t.Fatalf("no event %q", kind)
	return control.Event{}
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
	o, err := b.client.Upgrade(b.ctx(), r)
	if err != nil {
		b.t.Fatal(err)
	}
	return o
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
func awaitAnswer(t *testing.T, addr string, was string) string {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		if body, err := ask(addr); err == nil {
			if pid, _, _ := strings.Cut(body, " "); strings.TrimSpace(pid) != was {
				return strings.TrimSpace(pid)
			}
		}
	}
	t.Fatalf("nobody else than %s answers", was)
	return ""
}

// copyOf makes a program of its own that a test can replace.
func copyOf(t *testing.T, to string) {
	t.Helper()
	data, err := os.ReadFile(self(t))
	if err != nil {
		t.Fatal(err)
	}
	install(t, to, data)
}

// install puts a program into place as one should: beside it, then renamed.
func install(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
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
