//go:build linux

package keeper

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/output"
	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
	"github.com/tablecloth-go/tablecloth/upgrader/sd"
)

// TestSocketsThatCantBeHad: refused with what to do, and nothing is started.
func TestSocketsThatCantBeHad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	live, err := net.Listen("unix", filepath.Join(dir, "live"))
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	os.WriteFile(filepath.Join(dir, "file"), nil, 0o644)
	for _, x := range []struct{ listen, says string }{
		{"unix:" + dir, "no socket"},
		{"unix:" + filepath.Join(dir, "file"), "no socket"},
		{"unix:" + filepath.Join(dir, "live"), "somebody listens"},
		{taken.Addr().String(), "address already in use"},
		{"nonsense", "no port"},
		{"unix:/x?colour=red", "unknown setting"},
		{"192.0.2.1:80", "no interface"},
	} {
		b := keep(t, Service{Command: []string{"/bin/sleep", "1000"}, Listen: []string{x.listen}})
		<-b.waited
		if b.cmd.ProcessState.ExitCode() != 125 || !strings.Contains(b.log(), x.says) {
			t.Errorf("%s: %v: %s", x.listen, b.cmd.ProcessState, b.log())
		}
	}
	if c, err := net.Dial("unix", filepath.Join(dir, "live")); err != nil {
		t.Errorf("the live server's socket is gone: %v", err)
	} else {
		c.Close()
	}
}

func TestUnixSockets(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sock")
	if err := syscall.Mknod(path, syscall.S_IFSOCK|0o600, 0); err != nil { // what a dead server leaves
		t.Fatal(err)
	}
	s := local(t)
	s.Listen = []string{"unix:" + path + "?mode=0640"}
	b := keep(t, s)
	b.await(control.EventReady, 0)
	fi, err := os.Lstat(path)
	if err != nil || fi.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", fi, err)
	}
	if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Ready {
		t.Fatalf("%+v", o)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	b.end()
	if _, err := os.Lstat(path); err == nil {
		t.Error("the path is left")
	}
}

// stands reports whether a socket's descriptor is its own still.
func stands(s *socket) bool {
	var st unix.Stat_t
	return unix.Fstat(s.fd, &st) == nil && st.Ino == s.inode
}

func bound(t *testing.T) *socket {
	t.Helper()
	a, err := parseAddress("web=127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := bind(a)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestASocketThatIsClosedBeforeItIsStored: what the service manager is given is the
// socket that was meant, though nobody wants it any more by then, and no other file
// of the same number.
func TestASocketThatIsClosedBeforeItIsStored(t *testing.T) {
	stored := make(chan uint64, 1)
	m := proctest.NewManager(t, func(got *sd.Received) {
		for _, fd := range got.TakeFiles() {
			var st unix.Stat_t
			unix.Fstat(fd, &st)
			unix.Close(fd)
			stored <- st.Ino
		}
	})
	_, addr, _ := strings.Cut(m.Environment(), "=")
	n, err := sd.NewNotifier(addr)
	if err != nil {
		t.Fatal(err)
	}
	s := bound(t)
	log := logrus.New()
	log.SetOutput(io.Discard)
	h := &herald{queue: make(chan notice, 1), notifier: n, log: log, done: make(chan struct{})}
	h.announce(notice{kind: "store", store: []*socket{s}})
	h.announce(notice{kind: "store", store: []*socket{s}}) // there is no room for this one
	s.close(true)
	go h.run()
	if got := proctest.Await(t, "the socket", stored); got != s.inode {
		t.Errorf("stored inode %d, not %d", got, s.inode)
	}
	h.end()
	if stands(s) {
		t.Error("it isn't closed in the end")
	}
}

// forker is a host that starts nothing but what the test lets it.
func forker(t *testing.T) *host {
	t.Helper()
	l, err := output.Open(output.Options{})
	if err != nil {
		t.Fatal(err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { null.Close() })
	return &host{leaders: map[int]bool{}, marks: map[string]bool{}, wishes: make(chan func()), null: null, logs: l}
}

// TestASocketThatIsClosedBeforeTheFork is open until then, and not for longer.
func TestASocketThatIsClosedBeforeTheFork(t *testing.T) {
	h, s := forker(t), bound(t)
	ended := make(chan end, 1)
	l := neverStarted()
	l.sockets, l.ended = []*socket{s}, func(e end) { ended <- e }
	h.start(l)
	fork := proctest.Await(t, "the fork", h.wishes)
	s.close(true)
	if !stands(s) {
		t.Error("the process would get another file")
	}
	fork()
	if e := proctest.Await(t, "its end", ended); e.failed == nil {
		t.Error(e)
	}
	if stands(s) {
		t.Error("it isn't closed in the end")
	}
}

// neverStarted is a process that can't be forked.
func neverStarted() *launch {
	return &launch{conf: &Service{Capture: "all"}, program: &program{path: "/bin/true", args: []string{"true"}}, env: []string{"A=\x00"}}
}

// TestNothingIsLeftOfAProcessThatNeverWas: its pipe are closed.
func TestNothingIsLeftOfAProcessThatNeverWas(t *testing.T) {
	h := forker(t)
	go h.forks()
	defer close(h.wishes)
	w := &offspring{}
	l := neverStarted()
	l.readyFD = 7
	if c, err := h.begin(w, l); err == nil {
		t.Fatalf("started: %+v", c)
	}
	if w.probed == nil {
		t.Fatal("it failed too early to show anything")
	}
	w.discard()
	if err := w.probed.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the readiness pipe: %v", err)
	}
}
