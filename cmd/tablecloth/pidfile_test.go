//go:build unix

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

func init() {
	roles["replaces itself"] = replacesItself
	roles["hears and does nothing"] = func() { waitFor(syscall.SIGHUP) }
	roles["ignores"] = func() { signal.Ignore(syscall.SIGHUP); waitFor() }
	roles["dies of it"] = func() { diesOf() }
}

// announce writes the PID file that the test has named, and says so.
func announce() {
	path := os.Args[1]
	os.WriteFile(path+".new", []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600)
	os.Rename(path+".new", path)
	fmt.Println(os.Getpid())
}

// waitFor only says what it hears until stdin, which all generations share, is
// closed.
func waitFor(sigs ...os.Signal) {
	if len(sigs) > 0 {
		ch := make(chan os.Signal, 1)
		signal.Notify(ch, sigs...)
		go func() { fmt.Println(<-ch) }()
	}
	announce()
	os.Stdin.Read(make([]byte, 1))
}

func diesOf() {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	announce()
	<-hup
}

func replacesItself() {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	announce()
	go func() {
		<-hup
		cmd := exec.Command(os.Args[0], os.Args[1:]...)
		cmd.Env = append(os.Environ(), roleVariable+"=replaces itself")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		if err := cmd.Start(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		go cmd.Wait()
	}()
	os.Stdin.Read(make([]byte, 1))
}

// startRole starts a service with a PID file. It, and whoever follows it, ends
// with the test.
func startRole(t *testing.T, role string) (pidfile string, pids *bufio.Scanner) {
	t.Helper()
	pidfile = filepath.Join(t.TempDir(), "service.pid")
	cmd := as(t, role, pidfile)
	stdin, _ := cmd.StdinPipe()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	pids = bufio.NewScanner(r)
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
		for pids.Scan() { // EOF: all generations have ended
		}
		r.Close()
	})
	if !pids.Scan() {
		t.Fatal("the service does not start")
	}
	return pidfile, pids
}

func TestUpgradeByPIDFile(t *testing.T) {
	path, pids := startRole(t, "replaces itself")
	first := pids.Text()
	r := tablecloth(t, "upgrade", "--pidfile", path)
	if !pids.Scan() || pids.Text() == first {
		t.Fatalf("no successor: %+v", r)
	}
	r.expect(t, exitDone, "the next generation is ready: pid "+pids.Text()+", after ", "")
	r = tablecloth(t, "upgrade", "--pidfile", path, "--json")
	var out control.Outcome
	if err := json.Unmarshal([]byte(r.stdout), &out); err != nil || !pids.Scan() || strconv.Itoa(out.PID) != pids.Text() {
		t.Errorf("%v: %+v, %s", err, r, pids.Text())
	}
}

func TestAServiceThatHearsSIGHUPAndDoesNothing(t *testing.T) {
	path, _ := startRole(t, "hears and does nothing")
	tablecloth(t, "upgrade", "--pidfile", path, "--timeout", "200ms").
		expect(t, exitUnknown, "", "a successor was not seen within --timeout 200ms\n")
}

func TestAServiceThatSIGHUPCannotUpgradeIsLeftAlone(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells which signals a process handles")
	}
	path, _ := startRole(t, "ignores")
	tablecloth(t, "upgrade", "--pidfile", path).expect(t, exitRefused, "", "ignores SIGHUP\n")

	path = filepath.Join(t.TempDir(), "sleep.pid")
	sleep := exec.Command("sleep", "1000")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer sleep.Wait()
	defer sleep.Process.Kill()
	writePID(t, path, sleep.Process.Pid)
	tablecloth(t, "upgrade", "--pidfile", path).expect(t, exitRefused, "", "does not handle SIGHUP, which would end it\n")
	if err := sleep.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("it has ended: %v", err)
	}
}

func TestAServiceThatDiesOfSIGHUP(t *testing.T) {
	path, _ := startRole(t, "dies of it")
	tablecloth(t, "upgrade", "--pidfile", path).expect(t, exitNotRunning, "", "has ended, and no successor is named by")
}

func TestCtrlCWhileWatchingAPIDFile(t *testing.T) {
	path, says := startRole(t, "hears and does nothing")
	c := startTablecloth(t, "upgrade", "--pidfile", path)
	if !says.Scan() || says.Text() != "hangup" {
		t.Fatal(says.Text())
	}
	c.cmd.Process.Signal(os.Interrupt)
	c.wait(t).expect(t, exitUnknown, "", "interrupted: ")
}

func TestPIDFilesThatNameNobody(t *testing.T) {
	dir := t.TempDir()
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	stale, garbage := filepath.Join(dir, "stale"), filepath.Join(dir, "garbage")
	writePID(t, stale, dead.Process.Pid)
	if err := os.WriteFile(garbage, []byte("-1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, c := range map[string]struct {
		status int
		says   string
	}{
		filepath.Join(dir, "missing"): {exitNotRunning, "there is no PID file"},
		stale:                         {exitNotRunning, "is stale"},
		garbage:                       {exitUsage, "garbage"},
		dir:                           {exitUsage, "--pidfile takes a file"},
	} {
		tablecloth(t, "upgrade", "--pidfile", path).expect(t, c.status, "", c.says)
	}
}

// A PID that has been given to another process is told by the lock that nobody
// holds.
func TestAPIDFileWhoseLockNobodyHolds(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the lock is looked at on Linux only")
	}
	path, _ := startRole(t, "hears and does nothing")
	lock, err := os.Create(path + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	tablecloth(t, "upgrade", "--pidfile", path).expect(t, exitNotRunning, "", "is stale")
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil { // negative control
		t.Fatal(err)
	}
	tablecloth(t, "upgrade", "--pidfile", path, "--timeout", "100ms").expect(t, exitUnknown, "", "was not seen")
}

func writePID(t *testing.T, path string, pid int) {
	t.Helper()
	if err := os.WriteFile(path, []byte(fmt.Sprintln(pid)), 0o600); err != nil {
		t.Fatal(err)
	}
}
