package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// terminal opens a pseudo terminal (pty(7)).
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	testenv.Need(t, "pseudo terminals", err == nil)
	t.Cleanup(func() { master.Close() })
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	testenv.Need(t, "pseudo terminals", err == nil)
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// seen collects what is shown on a terminal, and closes the channel that belongs
// to want when that has come.
func seen(master *os.File, want string) (shown chan string, came chan struct{}) {
	shown, came = make(chan string, 1), make(chan struct{})
	go func() {
		var all bytes.Buffer
		b := make([]byte, 4096)
		for {
			n, err := master.Read(b)
			before := strings.Contains(all.String(), want)
			all.Write(b[:n])
			if !before && strings.Contains(all.String(), want) {
				close(came)
			}
			if err != nil { // EIO: the other side is closed
				shown <- all.String()
				return
			}
		}
	}()
	return shown, came
}

func TestProgressIsShownOnATerminal(t *testing.T) {
	master, slave := terminal(t)
	finish := make(chan struct{})
	f := startService(t, &fakeService{upgrade: func(_ context.Context, r control.UpgradeRequest) control.Outcome {
		<-finish
		return control.Outcome{ID: r.ID, Result: control.Ready, Generation: 2, Confirmed: true}
	}})
	cmd := as(t, "tablecloth", "upgrade", "--control", f.path)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, slave
	cmd.Env = append(cmd.Env, "TERM=xterm")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	shown, came := seen(master, "upgrading … ")
	proctest.Await(t, "what is to be shown", came)
	close(finish)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if all := proctest.Await(t, "the end of the terminal", shown); !strings.HasSuffix(all, "\r\x1b[K") {
		t.Errorf("the line is not cleared: %q", all)
	}
	if !strings.HasPrefix(out.String(), "generation 2 is ready") {
		t.Errorf("stdout has more than data: %q", &out)
	}
}

func TestColoursAreForTerminalsThatWantThem(t *testing.T) {
	f := startService(t, &fakeService{status: busyStatus})
	for env, want := range map[string]bool{"NO_COLOR=": true, "NO_COLOR=1": false, "TERM=dumb": false} {
		master, slave := terminal(t)
		cmd := as(t, "tablecloth", "status", "--control", f.path)
		cmd.Stdout = slave
		cmd.Env = append(cmd.Env, "TERM=xterm", "NO_COLOR=", env)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		slave.Close()
		shown, _ := seen(master, "web")
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		if all := proctest.Await(t, "the end of the terminal", shown); strings.Contains(all, "\x1b[32mserving") != want {
			t.Errorf("%s: %q", env, all)
		}
	}
}

// TestStatusOnATerminal: as wide as it is.
func TestStatusOnATerminal(t *testing.T) {
	f := startService(t, &fakeService{status: fleet})
	for _, columns := range []uint16{80, 60} {
		master, slave := terminal(t)
		if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
			t.Fatal(err)
		}
		cmd := as(t, "tablecloth", "status", "web", "--control", f.path)
		cmd.Stdout = slave
		cmd.Env = append(cmd.Env, "TERM=xterm", "NO_COLOR=1")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		slave.Close()
		shown, _ := seen(master, "web")
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		all := strings.ReplaceAll(proctest.Await(t, "the end of the terminal", shown), "\r", "")
		checkWidth(t, all, int(columns))
		if n := strings.Count(all, "\n"); n > 24 && columns == 80 || strings.Contains(all, "MOVED") != (columns == 80) {
			t.Errorf("%d columns, %d lines:\n%s", columns, n, all)
		}
	}
}

// TestWatchPaintsOverWhatIsThere: on a terminal, within its height.
func TestWatchPaintsOverWhatIsThere(t *testing.T) {
	f := startService(t, &fakeService{status: fleet})
	master, slave := terminal(t)
	if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 10, Col: 80}); err != nil {
		t.Fatal(err)
	}
	cmd := as(t, "tablecloth", "status", "--watch", "--interval", "100ms", "--control", f.path)
	cmd.Stdout = slave
	cmd.Env = append(cmd.Env, "TERM=xterm", "NO_COLOR=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	shown, came := seen(master, "\x1b[J\x1b[H") // the end of one, and the beginning of the next
	proctest.Await(t, "what is to be shown", came)
	cmd.Process.Signal(os.Interrupt)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	first, _, _ := strings.Cut(proctest.Await(t, "the end of the terminal", shown), "\x1b[J")
	if !strings.HasPrefix(first, "\x1b[H") || strings.Count(first, "\n") != 9 || !strings.Contains(first, "more lines") {
		t.Errorf("%q", first)
	}
}
