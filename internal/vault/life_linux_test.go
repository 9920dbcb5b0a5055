package vault

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
)

func TestCleanExitLeavesNoVault(t *testing.T) {
	s := newService(t, nil)
	pid := s.now.vaultPID
	s.die("exit 0")
	s.now.vault.End()
	if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("vault %d: %v", pid, err)
	}
	s.now.vault.End() // harmless
}

func TestStartedOnce(t *testing.T) {
	s := newService(t, nil)
	if got := s.tell(toWorker{Do: "again"}); got.Error != ErrStarted.Error() {
		t.Errorf("%q", got.Error)
	}
}

func TestRescueLeavesNoDescriptor(t *testing.T) {
	s := newService(t, nil)
	c := dial(t, s)
	r := bufio.NewReader(c)
	get(t, c, r, "1?size=0")
	s.crash("kill")
	before := descriptors(t)
	for range 3 {
		s.crash("kill")
	}
	get(t, c, r, "1?size=0")
	if after := descriptors(t); strings.Count(after, "\n") != strings.Count(before, "\n") {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// procStatus returns a field of /proc/PID/status.
func procStatus(t *testing.T, pid int, field string) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

func TestVaultProcess(t *testing.T) {
	s := newService(t, nil)
	pid := s.now.vaultPID
	// It answered the self-test, so it is past its preparations.
	if name := procStatus(t, pid, "Name"); name != "tc-vault" {
		t.Errorf("name %q", name)
	}
	if parent := procStatus(t, pid, "PPid"); parent != strconv.Itoa(os.Getpid()) {
		t.Errorf("parent %s instead of the keeper", parent)
	}
	if n := procStatus(t, pid, "Threads"); n != "1" {
		t.Errorf("%s threads", n)
	}
	if sid, err := unix.Getsid(pid); sid != pid {
		t.Errorf("session %d, %v", sid, err)
	}
	const allButKillAndStop = ^uint64(1<<(unix.SIGKILL-1) | 1<<(unix.SIGSTOP-1))
	if mask, err := strconv.ParseUint(procStatus(t, pid, "SigBlk"), 16, 64); mask != allButKillAndStop {
		t.Errorf("blocked signals %x, %v", mask, err)
	}
	if mask := procStatus(t, s.now.cmd.Process.Pid, "SigBlk"); strings.Trim(mask, "0") != "" {
		t.Errorf("the worker's signals are blocked: %s", mask)
	}
}

func TestVaultHasNoPrivileges(t *testing.T) {
	testenv.Need(t, "root, to become another user", os.Getuid() == 0)
	s := newService(t, func(c *exec.Cmd) {
		c.Env = append(c.Env, "VAULT_TEST_NO_NEW_PRIVS=1")
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	})
	for field, want := range map[string]string{"NoNewPrivs": "1", "CapEff": "0000000000000000", "CapPrm": "0000000000000000"} {
		if got := procStatus(t, s.now.vaultPID, field); got != want {
			t.Errorf("%s %s", field, got)
		}
	}
}

func TestKillOfTheProcessGroupSparesTheVault(t *testing.T) {
	s := newService(t, func(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} })
	c := dial(t, s)
	r := bufio.NewReader(c)
	get(t, c, r, "1?size=0")
	must(t, unix.Kill(-s.now.cmd.Process.Pid, unix.SIGTERM))
	s.now.cmd.Wait()
	s.now.link.Close()
	s.next(s.rescue())
	get(t, c, r, "1?size=0")
}

func TestVaultKilledAlone(t *testing.T) {
	s := newService(t, nil)
	c := dial(t, s)
	r := bufio.NewReader(c)
	get(t, c, r, "1?size=0")
	must(t, unix.Kill(s.now.vaultPID, unix.SIGKILL))
	<-s.now.vault.Dead()
	if resp := get(t, c, r, "1?size=0"); resp.StatusCode != http.StatusOK {
		t.Error("the worker doesn't serve any more")
	}
	s.die("kill")
	begun := time.Now()
	res := s.now.vault.Rescue(context.Background(), Options{Timeout: time.Minute})
	if res.Err == nil || res.Counts.Lost != 1 || len(res.Idle) != 0 {
		t.Errorf("%+v", res)
	}
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("it took %v to find out", took)
	}
	<-res.Settled
}

// A vault that doesn't answer costs the timeout, no more, and then it dies.
func TestStoppedVault(t *testing.T) {
	s := newService(t, nil)
	c := dial(t, s)
	get(t, c, bufio.NewReader(c), "1?size=0")
	must(t, unix.Kill(s.now.vaultPID, unix.SIGSTOP))
	s.die("kill")
	res := s.now.vault.Rescue(context.Background(), Options{Timeout: 50 * time.Millisecond})
	if !errors.Is(res.Err, context.DeadlineExceeded) || res.Counts.Lost != 1 {
		t.Errorf("%+v", res)
	}
	if err := unix.Kill(s.now.vaultPID, 0); !errors.Is(err, unix.ESRCH) {
		t.Error("the vault lives")
	}
}

// A keeper with too few descriptors saves what it can, and keeps some to go on.
func TestKeeperWithoutRoom(t *testing.T) {
	s := newService(t, nil)
	const n = 300
	for range n {
		c := dial(t, s)
		get(t, c, bufio.NewReader(c), "1?size=0")
	}
	s.die("kill")
	var old unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	low := old
	low.Cur = uint64(len(entries) + 100)
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &low))
	res := s.now.vault.Rescue(context.Background(), Options{Timeout: time.Minute})
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old))
	if !errors.Is(res.Err, unix.EMFILE) || len(res.Idle) == 0 || len(res.Idle)+res.Counts.Lost != n {
		t.Errorf("%d idle, %+v, %v", len(res.Idle), res.Counts, res.Err)
	}
	for _, c := range res.Idle {
		if c.FD >= int(low.Cur-low.Cur/8) {
			t.Errorf("descriptor %d", c.FD)
		}
		unix.Close(c.FD)
	}
	s.next(nil)
}

func TestWhatTheDeadHeldIsReleased(t *testing.T) {
	s := newService(t, nil)
	path := filepath.Join(t.TempDir(), "lock")
	s.tell(toWorker{Do: "lock", Mode: path})
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	s.die("kill")
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EAGAIN) {
		t.Fatalf("the vault doesn't hold the worker's lock: %v", err)
	}
	s.rescue()
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Errorf("after the rescue: %v", err)
	}
	s.next(nil)
}

// A connection that the worker closes is closed: the vault keeps nothing open.
func TestCloseIsClose(t *testing.T) {
	s := newService(t, nil)
	c := dial(t, s)
	r := bufio.NewReader(c)
	resp := get(t, c, r, "1?size=0&mode=close")
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 || !resp.Close {
		t.Errorf("%q, %v", rest, err)
	}
}

// The worker is stopped, so that nothing but the vault itself can notice that
// its keeper is gone.
// TestScanEndsWithTheLastDescriptor: the table of descriptors may be as large as
// the limit allows, and nobody has the time to go through all of it.
func TestScanEndsWithTheLastDescriptor(t *testing.T) {
	s := newService(t, nil)
	s.tell(toWorker{Do: "spread"})
	s.die("kill")
	v := s.now.vault
	open := v.open()
	testenv.Need(t, "Linux 6.2, which tells how many descriptors a process has", open > 0)
	for _, end := range []int{v.descriptors(), 1 << 30} {
		var found []int
		must(t, v.client.scan(proctest.Context(t), end, open, func(fd int) { found = append(found, fd) }))
		for i := range spreadSockets {
			if want := spreadFrom + i*spreadStep; !slices.Contains(found, want) {
				t.Fatalf("below %d, of %d open: descriptor %d is not among the %d found", end, open, want, len(found))
			}
		}
		if len(found) != spreadSockets {
			t.Errorf("below %d: %d sockets, not %d", end, len(found), spreadSockets)
		}
	}
	// Without that number, or with too high a one, all is gone through.
	for _, open := range []int{0, open + 1} {
		n := 0
		must(t, v.client.scan(proctest.Context(t), v.descriptors(), open, func(int) { n++ }))
		if n != spreadSockets {
			t.Errorf("with %d: %d sockets, not %d", open, n, spreadSockets)
		}
	}
}

func TestVaultEndsWithItsKeeper(t *testing.T) {
	keeper := exec.Command("/proc/self/exe")
	keeper.Env = append(os.Environ(), roleVariable+"=keeper")
	keeper.Stderr = os.Stderr
	in, err := keeper.StdinPipe()
	must(t, err)
	defer in.Close()
	out, err := keeper.StdoutPipe()
	must(t, err)
	must(t, keeper.Start())
	var worker, vault int
	if _, err := fmt.Fscan(out, &worker, &vault); err != nil || vault == 0 {
		t.Fatal(worker, vault, err)
	}
	workerFD, err := unix.PidfdOpen(worker, 0)
	must(t, err)
	defer unix.Close(workerFD)
	vaultFD, err := unix.PidfdOpen(vault, 0)
	must(t, err)
	defer unix.Close(vaultFD)
	must(t, unix.PidfdSendSignal(workerFD, unix.SIGSTOP, nil, 0))
	must(t, keeper.Process.Kill())
	keeper.Wait()
	defer unix.PidfdSendSignal(workerFD, unix.SIGKILL, nil, 0)
	waitEnd(t, vaultFD)
}

func waitEnd(t *testing.T, pidfd int) {
	t.Helper()
	poll := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(poll, 60000)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if n != 1 || err != nil {
			t.Errorf("the vault lives on: %v", err)
			unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
		}
		return
	}
}

// The worker dies before it has sent its vault to the keeper. The vault has the
// keeper's end of its own socket among its descriptors.
func TestVaultThatNobodyAdopts(t *testing.T) {
	l, err := listen()
	must(t, err)
	defer l.Close()
	k, err := startWorker(l, os.Stderr, func(c *exec.Cmd) { c.Env = append(c.Env, "VAULT_TEST_EARLY=1") })
	must(t, err)
	defer k.link.Close()
	defer Reap(k.vaultPID)
	pidfd, err := unix.PidfdOpen(k.vaultPID, 0)
	must(t, err)
	defer unix.Close(pidfd)
	must(t, k.cmd.Wait())
	waitEnd(t, pidfd)
}

func TestPID1HasNoVault(t *testing.T) {
	testenv.Need(t, "root, to make a PID namespace", os.Getuid() == 0)
	s := newService(t, func(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID} })
	if s.now.vault != nil || !strings.Contains(s.now.failure, "PID 1") {
		t.Errorf("%q", s.now.failure)
	}
	c := dial(t, s)
	get(t, c, bufio.NewReader(c), "1?size=0")
}

func TestAdoptRefuses(t *testing.T) {
	file := func() *os.File {
		f, err := os.CreateTemp(t.TempDir(), "")
		must(t, err)
		return f
	}
	for _, pid := range []int{os.Getpid(), 1, 0, -1} {
		sock, mem := file(), file()
		if v, err := Adopt(pid, sock, mem); err == nil {
			t.Errorf("adopted %d: %v", pid, v)
		}
		if sock.Close() == nil || mem.Close() == nil {
			t.Error("the files are still open")
		}
	}
	child := exec.Command("sleep", "600")
	must(t, child.Start())
	if _, err := Adopt(child.Process.Pid, file(), file()); err == nil {
		t.Error("adopted without a table")
	}
	if err := unix.Kill(child.Process.Pid, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("what wasn't adopted lives on: %v", err)
	}
	child.Wait()
}
