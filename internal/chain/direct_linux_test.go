//go:build linux && (amd64 || arm64)

package chain

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/rawclone/rawtest"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
)

func TestMain(m *testing.M) {
	if script := os.Getenv("CHAIN_TEST_SCRIPT"); script != "" {
		startForTest(script)
		return
	}
	os.Exit(m.Run())
}

// startForTest is for what a process can only be given from outside.
func startForTest(script string) {
	runtime.LockOSThread()
	signal.Notify(make(chan os.Signal, 1), syscall.SIGUSR1)
	s := spec(script)
	s.Files = []int{0, 1, 2}
	c, err := ways[os.Getenv("CHAIN_TEST_WAY")](&s)
	if err == nil {
		err = c.Wait()
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	syscall.Wait4(c.PID, nil, 0, nil)
}

// TestBothWaysLookTheSame from within the program, down to its signals, limits
// and descriptors, also where the starting process is an unusual one.
func TestBothWaysLookTheSame(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const script = `grep -e ^SigBlk -e ^SigIgn -e ^SigCgt -e ^ShdPnd -e ^Uid -e ^Gid -e ^Groups -e ^Cap -e ^NoNew -e ^Seccomp: /proc/self/status
		cat /proc/self/limits; umask; ls /proc/self/fd; cut -d' ' -f18- /proc/self/stat | cut -d' ' -f1,2; cat /proc/self/oom_score_adj`
	for _, before := range []string{"", "trap '' HUP PIPE; ", "ulimit -Sn 100; ", "ulimit -Sn 100; ulimit -Hn 200; ", "exec 7</dev/null; ", "exec 0<&-; ",
		"umask 077; "} {
		seen := map[string]string{}
		for way := range ways {
			cmd := exec.Command("/bin/sh", "-c", before+`exec "$0"`, exe)
			cmd.Env = append(os.Environ(), "CHAIN_TEST_SCRIPT="+script, "CHAIN_TEST_WAY="+way, "GORACE=atexit_sleep_ms=0")
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "Max open files") {
				t.Fatalf("%q %s: %v\n%s", before, way, err, out)
			}
			seen[way] = string(out)
		}
		if seen["direct"] != seen["loader"] {
			t.Errorf("%q: direct:\n%s\nloader:\n%s", before, seen["direct"], seen["loader"])
		}
		if strings.HasPrefix(before, "ulimit") && !regexp.MustCompile(`Max open files +100 `).MatchString(seen["direct"]) {
			t.Errorf("%q:\n%s", before, seen["direct"])
		}
	}
}

// TestDescriptorsInAnyOrder: each comes to its place, whichever place it had, and
// nothing else comes along or stays behind.
func TestDescriptorsInAnyOrder(t *testing.T) {
	eachWay(t, func(t *testing.T, start func(*Spec) (*Child, error)) {
		dir := t.TempDir()
		var files []int
		for i := range 6 {
			name := filepath.Join(dir, fmt.Sprint(i))
			if err := os.WriteFile(name, []byte{byte('0' + i)}, 0o600); err != nil {
				t.Fatal(err)
			}
			fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			files = append(files, fd)
		}
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		before := descriptors(t)
		s := spec("cat <&3; cat <&4; cat <&5; cat <&6; cat <&9; for n in 3 4 5 6 7 8 9; do [ ! -e /proc/$$/fd/$n ] || echo -n $n; done")
		s.Files = []int{0, int(w.Fd()), 2, files[5], files[4], files[3], files[0], -1, -1, files[1]}
		_, status, err := run(t, start, s)
		w.Close()
		var got [64]byte
		n, _ := r.Read(got[:])
		if string(got[:n]) != "54301"+"34569" || status != 0 || err != nil {
			t.Errorf("%q, %v, %v", got[:n], status, err)
		}
		if after := descriptors(t); after != before-1 { // w
			t.Errorf("%d descriptors before, %d after", before, after)
		}
	})
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestManyAtOnce: while the collector runs, stacks grow and signals come.
func TestManyAtOnce(t *testing.T) {
	stop := make(chan struct{})
	var noise, starts sync.WaitGroup
	noise.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
				syscall.Kill(os.Getpid(), syscall.SIGURG)
			}
		}
	})
	for i := range 4 {
		starts.Go(func() {
			for range testenv.Count(10, 500) {
				s := spec("exit 7")
				s.ListenPID, s.Files = i%2 == 0, []int{0, 1, 2}
				c, err := Start(s)
				if err != nil {
					t.Error(err)
					return
				}
				if err := c.Wait(); err != nil {
					t.Error(err)
				}
				var status syscall.WaitStatus
				for err = syscall.EINTR; err == syscall.EINTR; {
					_, err = syscall.Wait4(c.PID, &status, 0, nil)
				}
				syscall.Close(c.Pidfd)
				if err != nil || status.ExitStatus() != 7 {
					t.Errorf("%v, %v", status, err)
				}
			}
		})
	}
	starts.Wait()
	close(stop)
	noise.Wait()
}

// TestCompiledCode is about the functions that run between clone(2) and execve(2):
// no stack check, no write barrier, no call of the runtime, nothing for the race
// detector.
func TestCompiledCode(t *testing.T) {
	rawtest.Compiled(t, []string{"launch", "become", "carryOut", "execute", "introduce", "write", "resetSignals", "fail"})
}
