//go:build linux

package keeper

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// reread is a configuration in a file, or why there is none.
func reread(path string) func() ([]Service, error) {
	return func() ([]Service, error) {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		var all []Service
		if err := json.Unmarshal(data, &all); err != nil {
			return nil, &Error{Err: err, Hint: "write it anew"}
		}
		return all, nil
	}
}

// configure is what a keeper reads from then on.
func (b *bed) configure(all ...Service) {
	b.t.Helper()
	data, err := json.Marshal(all)
	if err != nil {
		b.t.Fatal(err)
	}
	b.write(data)
}

func (b *bed) write(data []byte) {
	b.t.Helper()
	if err := os.WriteFile(b.file()+".new", data, 0o644); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Rename(b.file()+".new", b.file()); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) file() string { return filepath.Join(b.dir, "services") }

// keepAll starts a keeper of services that it reads from a file.
func keepAll(t *testing.T, all ...Service) *bed {
	t.Helper()
	return keepAllBut(t, nil, all...)
}

// keepAllBut does so after a change.
func keepAllBut(t *testing.T, change func(*bed), all ...Service) *bed {
	t.Helper()
	b := &bed{t: t, dir: t.TempDir(), tag: "TEST_TAG=" + rand.Text()}
	b.conf = Config{Services: all, Control: filepath.Join(b.dir, "control")}
	b.configure(all...)
	if change != nil {
		change(b)
	}
	t.Cleanup(b.end)
	b.start("TEST_REREAD=" + b.file())
	for _, s := range all {
		b.settles(s.Name, max(s.Workers, 1))
	}
	return b
}

func (s Service) named(name string) Service {
	s.Name = name
	return s
}

// on is where a service listens: its first socket.
func (b *bed) on(name string) string {
	b.t.Helper()
	s := b.of(name)
	if len(s.Listen) == 0 {
		b.t.Fatalf("%s doesn't listen: %+v", name, s)
	}
	_, addr, _ := strings.Cut(s.Listen[0], ":")
	return addr
}

// TestTheConfigurationIsReadAgain: of four services one is added, one gets another
// port, one goes, and one is not touched.
func TestTheConfigurationIsReadAgain(t *testing.T) {
	t.Parallel()
	same, other, gone := webs(t, 2).named("same"), webs(t, 2).named("other"), webs(t, 1).named("gone")
	b := keepAll(t, same, other, gone)
	pids, oldAddr, goneAddr := serves(b.of("same")), b.on("other"), b.on("gone")
	end := b.strictly(b.on("same"))
	other.Listen = []string{"second=127.0.0.1:0"}
	b.configure(same, other, webs(t, 3).named("added"))
	o := b.upgrade(control.UpgradeRequest{})
	c := o.Changes
	if o.Result != control.Ready || c == nil || fmt.Sprint(c.Added, c.Replaced, c.Removed, c.Unchanged) != "[added] [other] [gone] [same]" {
		t.Fatalf("%+v, %+v", o, c)
	}
	if len(o.Services) != 2 {
		t.Errorf("outcomes of %+v", o.Services)
	}
	b.settles("added", 3)
	if _, err := ask(b.on("added")); err != nil {
		t.Error(err)
	}
	if b.on("other") == oldAddr {
		t.Errorf("it still is on %s", oldAddr)
	}
	if _, err := ask(b.on("other")); err != nil {
		t.Error(err)
	}
	proctest.Poll(t, "the end of the addresses that are gone", func() bool { return closed(oldAddr) && closed(goneAddr) })
	proctest.Poll(t, "the end of the service that is gone", func() bool { return b.of("gone").Name == "" })
	if now := serves(b.of("same")); fmt.Sprint(now) != fmt.Sprint(pids) {
		t.Errorf("the processes of the service that is the same were %v, and are %v", pids, now)
	}
	unbroken(t, end())
}

// TestABadConfigurationChangesNothing: whoever asks is told why.
func TestABadConfigurationChangesNothing(t *testing.T) {
	t.Parallel()
	one, two := webs(t, 1).named("one"), webs(t, 1).named("two")
	b := keepAll(t, one, two)
	before := fmt.Sprint(serves(b.of("one")), serves(b.of("two")), b.on("one"), b.on("two"))
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	refused := func(what, why string) {
		t.Helper()
		last := b.lastSeq()
		o := b.upgrade(control.UpgradeRequest{})
		if o.Result != control.Refused || !strings.Contains(o.Reason, why) {
			t.Errorf("%s: %+v", what, o)
		}
		if e := b.await(control.EventReread, last); !strings.Contains(e.Text, why) {
			t.Errorf("%s: event %+v", what, e)
		}
		if after := fmt.Sprint(serves(b.of("one")), serves(b.of("two")), b.on("one"), b.on("two")); after != before {
			t.Errorf("%s: was %s, is %s", what, before, after)
		}
	}
	b.write([]byte("{"))
	refused("not a list", "JSON")
	os.Remove(b.file())
	refused("no file", "no such file")
	b.configure()
	refused("no services", "no service")
	bad := two
	bad.Restart = "perhaps"
	b.configure(one, bad)
	refused("a policy that isn't one", "perhaps")
	moved, third := two, webs(t, 1).named("third")
	moved.Listen = []string{"moved=127.0.0.1:0"}
	third.Listen = []string{taken.Addr().String()}
	b.configure(one, moved, third)
	refused("an address that is taken", "address already in use")
	b.logged("nothing is upgraded", 5)
}

// TestAFailureEndsTheRound: what has been replaced before stays, what comes after
// isn't touched, and a service that can't be started isn't there.
func TestAFailureEndsTheRound(t *testing.T) {
	t.Parallel()
	one, two, three := webs(t, 1).named("one"), webs(t, 1).named("two"), webs(t, 1).named("three")
	b := keepAll(t, one, two, three)
	was := func(name string) int { return serves(b.of(name))[0] }
	first, second, third := was("one"), was("two"), was("three")
	for _, s := range []*Service{&one, &two, &three} {
		s.Environment = []string{"TEST_VERSION=2"}
	}
	two.Environment = append(two.Environment, "TEST_FAILS=0")
	b.configure(one, two, three)
	o := b.upgrade(control.UpgradeRequest{})
	if o.Result != control.Failed || o.Service != "two" || len(o.Services) != 2 || fmt.Sprint(o.Changes.Replaced) != "[one]" {
		t.Fatalf("%+v", o)
	}
	b.settles("one", 1)
	if was("one") == first || was("two") != second || was("three") != third {
		t.Error("not one service was replaced, but others")
	}
	if o = b.upgrade(control.UpgradeRequest{AllAtOnce: true}); o.Result != control.Failed || len(o.Services) != 2 || fmt.Sprint(o.Changes.Replaced, o.Changes.Unchanged) != "[three] [one]" {
		t.Errorf("%+v", o)
	}
	fails := webs(t, 1).named("fails")
	fails.Environment = []string{"TEST_FAILS=0"}
	two.Environment = nil
	b.configure(one, two, three, fails)
	if o = b.upgrade(control.UpgradeRequest{}); o.Result != control.Failed || o.Service != "fails" || o.ExitCode == nil || *o.ExitCode != 7 {
		t.Errorf("%+v", o)
	}
	proctest.Poll(t, "the end of the service that could not be started", func() bool { return b.of("fails").Name == "" })
	b.configure(one, two, three)
	if o = b.upgrade(control.UpgradeRequest{}); o.Result != control.Ready || len(o.Services) != 3 {
		t.Errorf("where nothing has changed all are replaced: %+v", o)
	}
}

// TestServicesByName: what is named is replaced, changed or not, and nothing else.
func TestServicesByName(t *testing.T) {
	t.Parallel()
	one, two := webs(t, 1).named("one"), webs(t, 1).named("two")
	b := keepAll(t, one, two)
	second := serves(b.of("two"))[0]
	two.Environment = []string{"TEST_VERSION=2"}
	b.configure(one, two)
	o := b.upgrade(control.UpgradeRequest{Service: "one"})
	if o.Result != control.Ready || o.Service != "one" || fmt.Sprint(o.Changes.Replaced) != "[one]" || o.Generation != 2 {
		t.Errorf("%+v", o)
	}
	if now := serves(b.of("two")); now[0] != second {
		t.Error("another one was replaced too")
	}
	if o := b.upgrade(control.UpgradeRequest{Services: []string{"one", "nobody"}}); o.Result != control.Refused || !strings.Contains(o.Hint, "one, two") {
		t.Errorf("%+v", o)
	}
	if err := b.client.Stop(b.ctx(), control.StopRequest{Services: []string{"two"}}); err != nil {
		t.Fatal(err)
	}
	proctest.Poll(t, "its end", func() bool { return len(b.of("two").Generations) == 0 })
	if state := b.of("two").State; state != control.Stopped {
		t.Errorf("a service that was stopped is %q", state)
	}
	var e *control.Error
	if err := b.client.Stop(b.ctx(), control.StopRequest{Service: "nobody"}); !errors.As(err, &e) || e.Message != `no service is called "nobody"` || !strings.Contains(e.Hint, "one, two") {
		t.Errorf("%v", err)
	}
	if o := b.upgrade(control.UpgradeRequest{Service: "two"}); o.Result != control.Ready {
		t.Errorf("a service that was stopped is started by an upgrade of it: %+v", o)
	}
	b.settles("two", 1)
}

// TestTheNumberOfWorkersInTheConfiguration: scaled, without a new process for
// those who stay; and what the command has set stays until the file says
// something else.
func TestTheNumberOfWorkersInTheConfiguration(t *testing.T) {
	t.Parallel()
	s := webs(t, 2).named("web")
	b := keepAll(t, s)
	before := serves(b.of("web"))
	s.Workers = 4
	b.configure(s)
	if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Ready || o.Workers != 4 || fmt.Sprint(o.Changes.Scaled) != "[web]" {
		t.Fatalf("%+v", o)
	}
	if after := serves(b.settles("web", 4)); fmt.Sprint(after[:2]) != fmt.Sprint(before) {
		t.Errorf("they were %v, and are %v", before, after)
	}
	b.scale(3)
	if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Ready || o.Workers != 3 {
		t.Errorf("%+v", o)
	}
	b.settles("web", 3)
}

// TestASocketGoesFromOneServiceToAnother: its port is never closed.
func TestASocketGoesFromOneServiceToAnother(t *testing.T) {
	t.Parallel()
	addr := proctest.FreeAddr(t)
	old := webs(t, 1).named("old")
	old.Listen = []string{addr}
	b := keepAll(t, old, webs(t, 1).named("other"))
	l := startLoad(addr, 2)
	next := webs(t, 2).named("new")
	next.Listen = []string{"www=" + addr}
	b.configure(webs(t, 1).named("other"), next)
	if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Ready {
		t.Fatalf("%+v", o)
	}
	proctest.Poll(t, "the end of the old service", func() bool { return b.of("old").Name == "" })
	b.settles("new", 2)
	if _, err := ask(addr); err != nil {
		t.Error(err)
	}
	l.end()
	if l.refused.Load() > 0 || l.broken.Load() > 0 || l.answers.Load() == 0 {
		t.Error(l)
	}
}

const keepingNode = `
const http = require('http')
const s = http.createServer((q, r) => r.end(process.pid + ' '))
s.keepAliveTimeout = 600e3
s.listen({fd: 3})
process.on('SIGTERM', () => { s.close(); s.closeIdleConnections() })
`

// TestAnUpgradeToAnotherNumberOfWorkers: all at once or one by one, up or down, and
// nobody notices.
func TestAnUpgradeToAnotherNumberOfWorkers(t *testing.T) {
	t.Parallel()
	s := webs(t, 4).named("web")
	b := keepAll(t, s)
	end := b.strictly(b.on("web"))
	for i, n := range []int{2, 5, 3, 4} {
		s.Workers, s.Rolling, s.Environment = n, i >= 2, []string{fmt.Sprintf("TEST_VERSION=%d", i)}
		b.configure(s)
		if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Ready || o.Workers != n || fmt.Sprint(o.Changes.Replaced) != "[web]" {
			t.Fatalf("to %d workers: %+v", n, o)
		}
		b.settles("web", n)
	}
	unbroken(t, end())
}

// TestServicesOneAfterTheOther: an upgrade of all, of a configuration that doesn't
// change, ends with the first that fails.
func TestServicesOneAfterTheOther(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "env")
	os.WriteFile(file, nil, 0o644)
	one, two := webs(t, 1).named("one"), webs(t, 1).named("two")
	one.EnvFile = file
	b := keep(t, one, func(b *bed) { b.conf.Services = []Service{one, two} })
	b.settles("one", 1)
	b.settles("two", 1)
	o := b.upgrade(control.UpgradeRequest{})
	if o.Result != control.Ready || len(o.Services) != 2 || o.Services[0].Service != "one" || o.Services[1].Generation != 2 || o.Changes != nil {
		t.Errorf("%+v", o)
	}
	b.settles("two", 1)
	last := b.lastSeq()
	b.cmd.Process.Signal(syscall.SIGHUP)
	for _, name := range []string{"one", "two"} {
		e := b.await(control.EventUpgraded, last)
		if last = e.Seq; e.Service != name || e.Outcome.Trigger != "SIGHUP" {
			t.Errorf("%+v", e)
		}
	}
	os.WriteFile(file, []byte("TEST_FAILS=0\n"), 0o644)
	if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Failed || o.Service != "one" || len(o.Services) != 0 {
		t.Errorf("%+v", o)
	}
	if o := b.upgrade(control.UpgradeRequest{AllAtOnce: true}); o.Result != control.Failed || o.Service != "one" || len(o.Services) != 2 || o.Services[1].Result != control.Ready {
		t.Errorf("%+v", o)
	}
	if o := b.upgrade(control.UpgradeRequest{Args: []string{"x"}}); o.Result != control.Refused || o.Hint == "" {
		t.Errorf("%+v", o)
	}
}

// TestAnotherPIDFile names the worker as soon as it is the one; the one before
// is gone.
func TestAnotherPIDFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	web := webs(t, 1).named("web")
	web.WorkerPIDFile = filepath.Join(dir, "one")
	b := keepAll(t, web)
	web.WorkerPIDFile = filepath.Join(dir, "two")
	b.configure(web)
	o := b.upgrade(control.UpgradeRequest{})
	if o.Result != control.Ready {
		t.Fatalf("%+v", o)
	}
	want := fmt.Sprint(o.PID)
	proctest.Poll(t, "the new PID file", func() bool {
		pid, _ := os.ReadFile(filepath.Join(dir, "two"))
		_, err := os.Stat(filepath.Join(dir, "one"))
		return strings.TrimSpace(string(pid)) == want && os.IsNotExist(err)
	})
}
