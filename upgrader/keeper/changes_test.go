//go:build linux

package keeper

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
	"github.com/tablecloth-go/tablecloth/upgrader/sd"
)

// TestWhatProcessesDontSeeIsAdjusted: nobody is replaced for it, and it counts from
// then on.
func TestWhatProcessesDontSeeIsAdjusted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := webs(t, 2).named("web")
	b := keepAll(t, s)
	end := b.strictly(b.on("web"))
	before := fmt.Sprint(serves(b.of("web")))
	b.scaleTo("web", 3)
	b.settles("web", 3)
	s.KillTimeout, s.ReadyTimeout, s.MaxDraining = time.Hour, 2*time.Hour, 7
	s.Restart, s.WorkerPIDFile = RestartNever, filepath.Join(dir, "pid")
	s.OnCrash = []string{"/bin/sh", "-c", "cat > " + dir + "/report.tmp; mv " + dir + "/report.tmp " + dir + "/report"}
	b.configure(s)
	last := b.lastSeq()
	o := b.upgrade(control.UpgradeRequest{})
	if o.Result != control.Ready || o.Workers != 3 || fmt.Sprintf("%+v", *o.Changes) != "{Added:[] Replaced:[] Scaled:[] Adjusted:[web] Removed:[] Unchanged:[]}" {
		t.Fatalf("%+v, %+v", o, o.Changes)
	}
	if e := b.await(control.EventReread, last); e.Text != "adjusting web" {
		t.Errorf("%+v", e)
	}
	now := serves(b.settles("web", 3))
	if fmt.Sprint(now[:2]) != before {
		t.Errorf("they were %s, and are %v", before, now)
	}
	unbroken(t, end())
	if pid := strings.TrimSpace(proctest.Read(t, s.WorkerPIDFile)); pid != fmt.Sprint(o.PID) {
		t.Errorf("PID file of %s, not %d", pid, o.PID)
	}
	proctest.Kill(now[2], syscall.SIGKILL)
	proctest.Read(t, filepath.Join(dir, "report"))
	b.settles("web", 2) // it isn't restarted: that is what has changed
	s.Workers, s.Restart = 1, RestartAlways
	b.configure(s)
	if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Ready || o.Workers != 1 || fmt.Sprint(o.Changes.Adjusted, o.Changes.Replaced) != "[web] []" {
		t.Errorf("with another number of workers: %+v, %+v", o, o.Changes)
	}
	b.settles("web", 1)
	s.KillTimeout, s.Environment = time.Minute, []string{"TEST_VERSION=2"}
	b.configure(s)
	if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Ready || fmt.Sprint(o.Changes.Adjusted, o.Changes.Replaced) != "[] [web]" {
		t.Errorf("with another environment: %+v, %+v", o, o.Changes)
	}
}

// stubborn goes on serving when it is told to end.
func stubborn(t *testing.T, addr string) Service {
	s := local(t, "deaf").named("stubborn")
	s.Listen, s.KillTimeout, s.StopTimeout = []string{addr}, time.Hour, 100*time.Millisecond
	return s
}

// TestAServiceThatIsPutBackWhileItDrains has its socket again, and its port is never
// closed: not before the last of its processes that had it has ended.
func TestAServiceThatIsPutBackWhileItDrains(t *testing.T) {
	t.Parallel()
	other, s := webs(t, 1).named("other"), stubborn(t, proctest.FreeAddr(t))
	b := keepAll(t, other, s)
	addr, first := b.on("stubborn"), serves(b.of("stubborn"))[0]
	l := startLoad(addr, 2)
	b.configure(other)
	if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Ready || fmt.Sprint(o.Changes.Removed) != "[stubborn]" {
		t.Fatalf("%+v", o)
	}
	b.configure(other, s)
	o := b.upgrade(control.UpgradeRequest{})
	if o.Result != control.Ready || fmt.Sprint(o.Changes.Added) != "[stubborn]" {
		t.Fatalf("put back: %+v", o)
	}
	proctest.Kill(first, syscall.SIGKILL)
	awaitAnswer(t, addr, fmt.Sprint(first))
	l.end()
	if l.refused.Load() > 0 || l.answers.Load() == 0 {
		t.Error(l)
	}
	b.configure(other)
	if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Ready {
		t.Fatalf("%+v", o)
	}
	if closed(addr) {
		t.Error("the port is closed though its process lives")
	}
	proctest.Kill(o.PID, syscall.SIGKILL)
	proctest.Poll(t, "the end of the port", func() bool { return closed(addr) })
}

// TestAStopWhileAServiceDrains doesn't take longer than a stop may, though the
// service that was removed has more time.
func TestAStopWhileAServiceDrains(t *testing.T) {
	t.Parallel()
	other, s := webs(t, 1).named("other"), stubborn(t, "127.0.0.1:0")
	b := keepAll(t, other, s)
	b.configure(other)
	if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Ready {
		t.Fatalf("%+v", o)
	}
	b.end() // which waits for less than an hour
}

// TestTheStoreAfterAnAddressHasChanged has the new socket in it, and the old one no
// more, though they have the same name: a service manager removes all of a name.
func TestTheStoreAfterAnAddressHasChanged(t *testing.T) {
	t.Parallel()
	store := make(chan []string, 100) // what is in it after each change
	var inside []string
	m := proctest.NewManager(t, func(got *sd.Received) {
		name, _ := got.Get("FDNAME")
		switch {
		case name != "web":
			return
		case got.Has("FDSTOREREMOVE"):
			inside = nil
		case got.Has("FDSTORE"):
			for _, fd := range got.TakeFiles() {
				inside = append(inside, boundTo(fd))
				unix.Close(fd)
			}
		}
		store <- inside
	})
	s := local(t).named("one")
	s.Listen = []string{"web=" + proctest.FreeAddr(t)}
	b := keepAllBut(t, func(b *bed) { b.before = func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, m.Environment()) } }, s)
	s.Listen = []string{"web=" + proctest.FreeAddr(t)}
	b.configure(s)
	if o := b.upgrade(control.UpgradeRequest{}); o.Result != control.Ready {
		t.Fatalf("%+v", o)
	}
	want := fmt.Sprint([]string{"tcp:" + b.on("one")})
	for now := ""; now != want; {
		now = fmt.Sprint(proctest.Await(t, "the store to have "+want+" in it, not "+now, store))
	}
}
