package control

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/testenv"
)

const nobody = 65534

// asUser runs f as another user: on a thread of its own, which ends with it.
func asUser(t *testing.T, gid int, groups []uint32, f func()) {
	t.Helper()
	testenv.Need(t, "root, to try as another user", os.Geteuid() == 0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread is not used again
		var p unsafe.Pointer
		if len(groups) > 0 {
			p = unsafe.Pointer(&groups[0])
		}
		for _, c := range [][4]uintptr{
			{unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(p)},
			{unix.SYS_SETRESGID, ^uintptr(0), uintptr(gid), ^uintptr(0)},
			{unix.SYS_SETRESUID, ^uintptr(0), nobody, ^uintptr(0)},
		} {
			if _, _, errno := unix.RawSyscall(c[0], c[1], c[2], c[3]); errno != 0 {
				t.Errorf("become another user: %v", errno)
				return
			}
		}
		f()
	}()
	<-done
}

// openDirectories lets other users reach what is in a test's directory.
func openDirectories(t *testing.T, dir string) {
	t.Helper()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// ask makes a raw request on this thread, and returns the status.
func askRaw(t *testing.T, path string) int {
	c, err := dialUnix(path, patience)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Error(err)
		return 0
	}
	return resp.StatusCode
}

func TestAnotherUserIsDenied(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control")
	openDirectories(t, filepath.Dir(path))
	ln := listen(t, path)
	serveOn(t, &Server{Backend: &fakeBackend{}}, ln)
	asUser(t, nobody, nil, func() {
		if _, err := Dial(path); !errors.Is(err, ErrDenied) {
			t.Errorf("by its mode: %v", err)
		}
	})
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	asUser(t, nobody, nil, func() {
		if status := askRaw(t, path); status != http.StatusForbidden {
			t.Errorf("by its credentials: %d", status)
		}
	})
	if status := askRaw(t, path); status != http.StatusOK { // negative control
		t.Errorf("root: %d", status)
	}
}

func TestAnAbstractSocketChecksCredentials(t *testing.T) {
	path := "@tablecloth-test-" + NewID()
	ln := listen(t, path)
	serveOn(t, &Server{Backend: &fakeBackend{}}, ln)
	asUser(t, nobody, nil, func() {
		if status := askRaw(t, path); status != http.StatusForbidden {
			t.Errorf("another user: %d", status)
		}
	})
	if _, err := Listen(path, ListenOptions{}); !errors.Is(err, ErrInUse) {
		t.Errorf("a second one: %v", err)
	}
	c, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(soon(t)); err != nil {
		t.Error(err)
	}
}

func TestMembersOfTheGroupMayTalk(t *testing.T) {
	const group = 4711
	path := filepath.Join(t.TempDir(), "control")
	openDirectories(t, filepath.Dir(path))
	testenv.Need(t, "root, to give a socket to any group", os.Geteuid() == 0)
	ln, err := Listen(path, ListenOptions{Group: strconv.Itoa(group)})
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, &Server{Backend: &fakeBackend{}}, ln)
	if info, _ := os.Lstat(path); info.Mode().Perm() != 0o660 {
		t.Error(info.Mode())
	}
	many := make([]uint32, 100) // more than the first guess has room for
	for i := range many {
		many[i] = uint32(5000 + i)
	}
	many[99] = group
	for name, c := range map[string]struct {
		gid    int
		groups []uint32
	}{"primary": {group, nil}, "supplementary": {nobody, []uint32{1, group}}, "one of many": {nobody, many}} {
		asUser(t, c.gid, c.groups, func() {
			if status := askRaw(t, path); status != http.StatusOK {
				t.Errorf("%s: %d", name, status)
			}
		})
	}
	asUser(t, nobody, []uint32{1}, func() { // negative control
		if _, err := Dial(path); !errors.Is(err, ErrDenied) {
			t.Errorf("no member: %v", err)
		}
	})
}

func TestDialWaitsForAFullBacklog(t *testing.T) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	path := filepath.Join(t.TempDir(), "control")
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	for {
		c, err := dialUnix(path, patience)
		if backlogFull(err) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if _, err := Listen(path, ListenOptions{}); !errors.Is(err, ErrInUse) {
		t.Errorf("taken for stale: %v", err)
	}
	c := &Client{path: path}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.connect(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	go func() {
		if nfd, _, err := unix.Accept(fd); err == nil {
			unix.Close(nfd)
		}
	}()
	conn, err := c.connect(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}
