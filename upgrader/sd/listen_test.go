//go:build linux

package sd

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/testenv"
)

// activate runs a role as a manager does: two sockets from descriptor 3 on, the
// first of them blocking, the second not; LISTEN_PID is set by what runs before.
func activate(t *testing.T, pid string, env ...string) report {
	t.Helper()
	cmd := self(t, "listen")
	cmd.Args = []string{"sh", "-c", `LISTEN_PID=` + pid + ` exec "$0"`, cmd.Path}
	cmd.Path = "/bin/sh"
	cmd.Env = append(cmd.Env, env...)
	cmd.ExtraFiles = []*os.File{rawSocket(t, 0), rawSocket(t, unix.SOCK_NONBLOCK)}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	return r
}

func rawSocket(t *testing.T, flags int) *os.File {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "socket")
	t.Cleanup(func() { f.Close() })
	return f
}

func TestSocketsFromAManager(t *testing.T) {
	env, err := ListenEnv([]string{"web", ""})
	if err != nil {
		t.Fatal(err)
	}
	r := activate(t, "$$", append(env, "NOTIFY_SOCKET=/x", "WATCHDOG_USEC=1", "WATCHDOG_PID=1", "LISTEN_PIDFDID=1")...)
	want := report{
		Names:     []string{"web", ""},
		FDs:       []int{3, 4},
		CloseExec: []bool{true, true},
		Nonblock:  []bool{false, true},
	}
	if !reflect.DeepEqual(r, want) {
		t.Errorf("got %+v, want %+v", r, want)
	}
}

func TestSocketsOfAnotherProcess(t *testing.T) {
	r := activate(t, "1", "LISTEN_FDS=2", "LISTEN_FDNAMES=a:b")
	if r.Error != "" || len(r.FDs) != 0 || r.Left != nil || reflect.DeepEqual(r.CloseExec, []bool{true, true}) {
		t.Errorf("sockets meant for another process were touched: %+v", r)
	}
}

func TestSocketsThatMakeNoSense(t *testing.T) {
	for _, c := range []struct {
		pid  string
		env  []string
		says string
	}{
		{"$$", []string{"LISTEN_FDS=two"}, `LISTEN_FDS="two"`},
		{"$$", []string{"LISTEN_FDS=-1"}, `LISTEN_FDS="-1"`},
		{"$$", []string{"LISTEN_FDS=999999999999"}, "not a number of descriptors"},
		{"$$", []string{"LISTEN_FDS=900000"}, "bad file descriptor"},
		{"me", []string{"LISTEN_FDS=2"}, `LISTEN_PID="me"`},
		{"-3", []string{"LISTEN_FDS=2"}, `LISTEN_PID="-3"`},
		{"$$", []string{"LISTEN_FDS=2", "LISTEN_FDNAMES=one"}, "1 names for 2 descriptors"},
		{"$$", []string{"LISTEN_FDS=2", "LISTEN_FDNAMES=one:two:three"}, "3 names for 2 descriptors"},
	} {
		r := activate(t, c.pid, c.env...)
		if !strings.Contains(r.Error, c.says) || len(r.FDs) != 0 || r.Left != nil {
			t.Errorf("LISTEN_PID=%s %v: %+v, want an error with %q", c.pid, c.env, r, c.says)
		}
	}
}

func TestNoSockets(t *testing.T) {
	for _, e := range []Environment{{}, {ListenPID: "x"}, {ListenFDs: "x"}, {ListenPID: strconv.Itoa(os.Getpid()), ListenFDs: "0"}} {
		if s, err := e.Sockets(); err != nil || len(s) != 0 {
			t.Errorf("%+v: %v, %v", e, s, err)
		}
	}
}

func TestSocketFile(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dup, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer dup.Close()
	fd, err := unix.Dup(int(dup.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	f := Socket{FD: fd, Name: "web"}.File()
	defer f.Close()
	again, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if again.Addr().String() != l.Addr().String() || f.Name() != "web" {
		t.Errorf("%v %q, want %v", again.Addr(), f.Name(), l.Addr())
	}
}

func TestListenEnvRefusesNames(t *testing.T) {
	for _, name := range []string{"a:b", "ü", "a\nb", strings.Repeat("x", MaxName+1)} {
		if env, err := ListenEnv([]string{"ok", name}); err == nil {
			t.Errorf("%q: %q", name, env)
		}
	}
}

// systemd's own library must take our variables, and we its manager's.
func TestInteropListen(t *testing.T) {
	t.Run("libsystemd reads ours", func(t *testing.T) {
		python, err := exec.LookPath("python3")
		testenv.Need(t, "python3", err == nil)
		// Itself: a shim in its place may fork before it runs it.
		if itself, err := exec.Command(python, "-c", "import sys; print(sys.executable)").Output(); err == nil {
			python = strings.TrimSpace(string(itself))
		}
		testenv.Need(t, "libsystemd.so.0 and python3's ctypes",
			exec.Command(python, "-c", "import ctypes; ctypes.CDLL('libsystemd.so.0')").Run() == nil)
		env, err := ListenEnv([]string{NameOf("tcp,:80"), "web"})
		if err != nil {
			t.Fatal(err)
		}
		const script = `
import ctypes
names = ctypes.POINTER(ctypes.c_char_p)()
n = ctypes.CDLL('libsystemd.so.0').sd_listen_fds_with_names(0, ctypes.byref(names))
print(n, *[names[i].decode() for i in range(max(n, 0))])`
		cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" -c "$1"`, python, script)
		cmd.Env = append(os.Environ(), env...)
		cmd.Stderr = os.Stderr
		cmd.ExtraFiles = []*os.File{rawSocket(t, 0), rawSocket(t, 0)}
		out, err := cmd.Output()
		if err != nil || string(out) != "2 tcp,%3A80 web\n" {
			t.Errorf("%q, %v", out, err)
		}
	})
	t.Run("systemd-socket-activate's", func(t *testing.T) {
		activate, err := exec.LookPath("systemd-socket-activate")
		testenv.Need(t, "systemd-socket-activate", err == nil)
		cmd := self(t, "listen")
		path := t.TempDir() + "/s"
		cmd.Args = []string{activate, "--setenv=SD_TEST_ROLE", "--listen=" + path, "--fdname=web", cmd.Path}
		cmd.Path = activate
		cmd.Stderr = nil
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Wait()
		defer cmd.Process.Kill()
		if _, err := stderr.Read(make([]byte, 256)); err != nil { // "Listening on …"
			t.Fatal(err)
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var r report
		if err := json.NewDecoder(stdout).Decode(&r); err != nil {
			t.Fatal(err)
		}
		if r.Error != "" || !reflect.DeepEqual(r.Names, []string{"web"}) || !r.CloseExec[0] {
			t.Errorf("%+v", r)
		}
	})
}

func FuzzListenEnv(f *testing.F) {
	f.Add("1", "1", "web", true)
	f.Add("1", "2", "a:b", true)
	f.Add("1", "0", "", true)
	f.Add("2", "-1", ":::", true)
	f.Add("x", "99999999999999999999", "", false)
	f.Add("+1", "0x10", "a", false)
	f.Fuzz(func(t *testing.T, pid, fds, names string, named bool) {
		e := Environment{ListenPID: pid, ListenFDs: fds}
		if named {
			e.ListenFDNames = &names
		}
		n, err := e.listenCount(1)
		if err != nil || n == 0 {
			return
		}
		if n < 0 || n > maxListenFDs {
			t.Fatalf("%d descriptors", n)
		}
		got, err := e.listenNames(n)
		if err != nil {
			return
		}
		if len(got) != n {
			t.Fatalf("%d names for %d descriptors", len(got), n)
		}
		if env, err := ListenEnv(got); named && err == nil && env[1] != "LISTEN_FDNAMES="+names {
			t.Errorf("%q became %q", names, env)
		}
	})
}
