//go:build linux

package chain

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// ways are those by which a program is started.
var ways = map[string]func(*Spec) (*Child, error){"loader": (*Spec).load}

func init() {
	if direct {
		ways["direct"] = (*Spec).start
	}
}

// eachWay runs a test for each of them.
func eachWay(t *testing.T, f func(t *testing.T, start func(*Spec) (*Child, error))) {
	for name, start := range ways {
		t.Run(name, func(t *testing.T) { f(t, start) })
	}
}

// run starts a program, and returns what it has written and how it ended.
func run(t *testing.T, start func(*Spec) (*Child, error), s Spec) (string, syscall.WaitStatus, error) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if s.Files == nil {
		s.Files = []int{0, int(w.Fd()), 2}
	}
	c, err := start(&s)
	w.Close()
	if err != nil {
		return "", 0, err
	}
	defer syscall.Close(c.Pidfd)
	failed := c.Wait()
	var out bytes.Buffer
	io.Copy(&out, r)
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(c.PID, &status, 0, nil); err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(out.String(), fmt.Sprint(c.PID), "PID"), status, failed
}

func spec(script string) Spec {
	return Spec{Path: "/bin/sh", Pinned: -1, Args: []string{"sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin", "A=1"},
		UID: -1, GID: -1, Umask: -1}
}

func TestWhatTheProgramFinds(t *testing.T) { eachWay(t, whatTheProgramFinds) }

func whatTheProgramFinds(t *testing.T, start func(*Spec) (*Child, error)) {
	for _, x := range []struct {
		what   string
		change func(*Spec)
		script string
		out    string
	}{
		{"its PID", func(s *Spec) { s.ListenPID = true }, "echo $LISTEN_PID $$", "PID PID\n"},
		{"no more than its environment", func(*Spec) {}, "env | grep -v -e ^_= -e ^PWD= -e ^SHLVL= -e ^PATH=", "A=1\n"},
		{"its directory", func(s *Spec) { s.Dir = "/usr" }, "pwd", "/usr\n"},
		{"its umask", func(s *Spec) { s.Umask = 0o77 }, "umask", "0077\n"},
		{"its limits", func(s *Spec) { s.Limits = []Limit{{syscall.RLIMIT_NOFILE, 55, 77, "nofile=55:77"}} }, "ulimit -Sn; ulimit -Hn", "55\n77\n"},
		{"a session of its own", func(*Spec) {}, "cut -d' ' -f5,6 /proc/$$/stat", "PID PID\n"},
		{"empty arguments", func(s *Spec) { s.Args = []string{"sh", "-c", "echo $#", "", "", ""} }, "", "2\n"},
	} {
		s := spec(x.script)
		x.change(&s)
		out, status, err := run(t, start, s)
		if out != x.out || status != 0 || err != nil {
			t.Errorf("%s: %q, %v, %v", x.what, out, status, err)
		}
	}
}

func TestAnotherUser(t *testing.T) { eachWay(t, anotherUser) }

func anotherUser(t *testing.T, start func(*Spec) (*Child, error)) {
	if os.Getuid() != 0 {
		t.Skip("only root can become another user")
	}
	s := spec("id -u; id -g; id -G")
	s.UID, s.GID, s.Groups = 12345, 23456, []int{23456, 34567}
	if out, _, err := run(t, start, s); out != "12345\n23456\n23456 34567\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
}

func TestWhyItCouldNotBeStarted(t *testing.T) { eachWay(t, whyItCouldNotBeStarted) }

func whyItCouldNotBeStarted(t *testing.T, start func(*Spec) (*Child, error)) {
	for _, x := range []struct {
		change func(*Spec)
		errno  syscall.Errno
		step   string
		exit   int
	}{
		{func(s *Spec) { s.Path = "/no/such" }, syscall.ENOENT, "exec /no/such", 127},
		{func(s *Spec) { s.Path = "/etc" }, syscall.EACCES, "exec /etc", 126},
		{func(s *Spec) { s.Dir = "/no/such" }, syscall.ENOENT, "change to directory /no/such", 127},
		{func(s *Spec) { s.Limits = []Limit{{syscall.RLIMIT_NOFILE, 78, 77, "nofile=78:77"}} }, syscall.EINVAL, "limit nofile=78:77", 126},
	} {
		s := spec("true")
		x.change(&s)
		_, status, err := run(t, start, s)
		var e *Error
		if !errors.As(err, &e) || e.Err != x.errno || e.Step != x.step || status.ExitStatus() != x.exit {
			t.Errorf("%s: %v, %v", x.step, err, status)
		}
	}
}

// TestThePinnedFile is run where another one lies at its path, and the path is
// used where it still leads there.
func TestThePinnedFile(t *testing.T) { eachWay(t, thePinnedFile) }

func thePinnedFile(t *testing.T, start func(*Spec) (*Child, error)) {
	fd, err := syscall.Open("/bin/echo", 0x200000|syscall.O_CLOEXEC, 0) // O_PATH
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	s := spec("")
	s.Pinned, s.Path, s.Args = fd, "/bin/false", []string{"echo", "pinned"}
	if out, status, err := run(t, start, s); out != "pinned\n" || status != 0 || err != nil {
		t.Errorf("%q, %v, %v", out, status, err)
	}
	cat, err := syscall.Open("/bin/cat", 0x200000|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(cat)
	s.Pinned, s.Path, s.Args = cat, "/bin/cat", []string{"cat", "/proc/self/comm"}
	if out, _, err := run(t, start, s); out != "cat\n" || err != nil {
		t.Errorf("its name is %q, %v", out, err)
	}
}

// TestTheParentsDeath: it ends with the thread that started it.
func TestTheParentsDeath(t *testing.T) { eachWay(t, theParentsDeath) }

func theParentsDeath(t *testing.T, start func(*Spec) (*Child, error)) {
	started := make(chan *Child)
	var begin func()
	begin = func() {
		runtime.LockOSThread()               // and never unlocked: the thread ends with the goroutine
		if syscall.Gettid() == os.Getpid() { // but for the first one, which never ends
			go begin()
			select {}
		}
		s := spec("exec sleep 1000")
		s.Files, s.DeathSig = []int{0, 1, 2}, syscall.SIGTERM
		c, err := start(&s)
		if err != nil {
			t.Error(err)
		} else if err := c.Wait(); err != nil {
			t.Error(err)
		}
		started <- c
	}
	go begin()
	c := <-started
	if c == nil {
		return
	}
	defer syscall.Close(c.Pidfd)
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(c.PID, &status, 0, nil); err != nil || status.Signal() != syscall.SIGTERM {
		t.Errorf("%v, %v", status, err)
	}
}
