package systemd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

// TestUnits has the life of each kind of unit, under clients who never try again.
func TestUnits(t *testing.T) {
	forKinds(t, nil, func(t *testing.T, u *unit) {
		u.verify()
		u.startWhenReady()
		load, report := u.clients()
		u.upgrades(load.Answered, count(2, 20))
		u.upgradeDuringDrain(u.failedUpgrade())
		if err := report().Err(); err != nil {
			t.Error(err)
		}
		u.stopDuringDrain()
	})
}

// verify checks what tablecloth unit has printed, and what it was changed to.
func (u *unit) verify() {
	u.t.Helper()
	if out := said(u.t, "systemd-analyze", "verify", unitsHere+"/"+u.name+".service"); out != "" {
		u.t.Errorf("systemd-analyze verify: %s", out)
	}
	out, err := command(binDir+"/tablecloth", "doctor", u.name)
	if asPrinted := u.service == ""; (err == nil) != asPrinted {
		u.t.Errorf("tablecloth doctor: %v %s", err, out)
	}
}

// startWhenReady: systemctl start returns when the service serves.
func (u *unit) startWhenReady() {
	u.t.Helper()
	const delay = 200 * time.Millisecond
	u.write(fileDelay, delay.String())
	begin := time.Now()
	u.start()
	if took := time.Since(begin); took < delay && u.show("Type") != "simple" {
		u.t.Errorf("systemctl start returned after %v, before the service was ready", took)
	}
	u.remove(fileDelay)
	u.mustServe(1)
}

// mustServe checks what systemd and clients see of that generation.
func (u *unit) mustServe(generation int) (pid int) {
	u.t.Helper()
	pid, g := u.who()
	if u.kept { // the keeper doesn't wait until its old workers have stopped accepting
		proctest.Poll(u.t, fmt.Sprint("generation ", generation), func() bool {
			pid, g = u.who()
			return g >= generation
		})
	}
	if g != generation {
		u.t.Fatalf("generation %d serves, not %d", g, generation)
	}
	isMain := func(main string) bool { return u.kept || main == fmt.Sprint(pid) }
	if main := u.show("MainPID"); u.follows && !isMain(main) {
		u.t.Errorf("generation %d is served by %d, systemd takes %s for the main process", generation, pid, main)
	}
	u.await("MainPID", isMain)
	u.await("ActiveState", func(s string) bool {
		if s != "active" && s != "reloading" {
			u.t.Fatalf("the unit is %s", s)
		}
		return s == "active"
	})
	if n := u.show("NRestarts"); n != "0" {
		u.t.Errorf("systemd has restarted the service %s times", n)
	}
	if u.show("NotifyAccess") != "none" {
		u.await("StatusText", func(s string) bool { return strings.Contains(s, fmt.Sprint("generation ", generation)) })
	}
	return pid
}

// upgrades by systemctl reload and by SIGHUP: the main PID is right, no connect
// is refused, and nothing counts as a start.
func (u *unit) upgrades(answered func(int) <-chan struct{}, n int) {
	u.t.Helper()
	main, serving := u.mainPID(), u.mustServe(1)
	for generation := 2; generation <= 1+n; generation++ {
		if generation%2 == 0 {
			u.systemctl("reload", u.name)
		} else {
			u.kill(u.mainPID(), syscall.SIGHUP)
			proctest.Await(u.t, fmt.Sprint("an answer of generation ", generation), answered(generation))
		}
		pid := u.mustServe(generation)
		if pid == serving {
			u.t.Fatalf("process %d serves two generations", pid)
		}
		if u.kept && u.mainPID() != main {
			u.t.Fatal("the keeper has another PID")
		}
		serving = pid
	}
}

// failedUpgrade: reload says so where the kind of unit can tell, and nothing
// else has changed. It returns the generation of the next upgrade, which succeeds.
func (u *unit) failedUpgrade() (next int) {
	u.t.Helper()
	serving, generation := u.who()
	u.write(fileFail, "exit")
	out, err := command("systemctl", "reload", u.name)
	if (err != nil) != u.reload {
		u.t.Errorf("systemctl reload says %v %s", err, out)
	}
	if !u.reload { // it has not waited for the outcome
		u.await("StatusText", func(s string) bool { return strings.Contains(s, "failed") })
	}
	u.remove(fileFail)
	if pid, _ := u.who(); pid != serving {
		u.t.Errorf("process %d serves, not %d", pid, serving)
	}
	if state := u.show("ActiveState"); state != "active" {
		u.t.Errorf("the unit is %s", state)
	}
	if pid := u.mainPID(); !u.kept && pid != serving {
		u.t.Errorf("the main process is %d, not %d", pid, serving)
	}
	if u.show("NotifyAccess") != "none" {
		u.await("StatusText", func(s string) bool { return strings.Contains(s, "failed") })
	}
	u.systemctl("reload", u.name)
	pid, g := u.who()
	if u.kept { // the keeper doesn't wait until its old workers have stopped accepting
		proctest.Poll(u.t, "the next generation", func() bool {
			pid, g = u.who()
			return pid != serving
		})
	}
	if pid == serving {
		u.t.Errorf("generation %d after %d: the next upgrade changed nothing", g, generation)
	}
	return g
}

// upgradeDuringDrain: what is under way is answered by the generation that has
// begun it, whatever comes after.
func (u *unit) upgradeDuringDrain(generation int) {
	u.t.Helper()
	first, _ := u.who()
	long := u.begin(time.Second / 2)
	u.systemctl("reload", u.name)
	u.systemctl("reload", u.name)
	if body, err := long.rest(); err != nil || body != "complete" || long.pid != first {
		u.t.Errorf("a request that took longer than an upgrade, of %d to %d: %q, %v", first, long.pid, body, err)
	}
	if u.reload {
		u.mustServe(generation + 2)
	}
}

// begin asks for an answer that is under way for so long.
func (u *unit) begin(d time.Duration) answer {
	u.t.Helper()
	a, err := ask(u.addr, "/begun?for="+d.String())
	if err != nil {
		u.t.Fatal(err)
	}
	return a
}

// stopDuringDrain: it restarts nothing, and leaves nothing.
func (u *unit) stopDuringDrain() {
	u.t.Helper()
	long := u.begin(time.Hour)
	u.systemctl("reload", u.name)
	u.releaseOnStop()
	u.stop()
	if body, err := long.rest(); err != nil || body != "complete" {
		u.t.Errorf("a request under way at the stop: %q, %v", body, err)
	}
}

// releaseOnStop lets end what is under way as soon as the unit is being stopped.
func (u *unit) releaseOnStop() {
	var watch sync.WaitGroup
	watch.Go(func() {
		proctest.Settles(patience, func() error {
			if state, err := command("systemctl", "show", "-P", "ActiveState", u.name); err != nil || state == "active" || state == "reloading" {
				return fmt.Errorf("%s, %v", state, err)
			}
			return nil
		})
		os.WriteFile(filepath.Join(u.dir, fileRelease), []byte("now"), 0o644)
	})
	u.t.Cleanup(watch.Wait)
}

// stop ends the service, and checks that it has ended well.
func (u *unit) stop() { u.t.Helper(); u.endsAs("inactive", "success") }

// endsAs stops the service, which must end within its own timeout.
func (u *unit) endsAs(state, result string) {
	u.t.Helper()
	begin := time.Now()
	u.systemctl("stop", u.name+".service")
	if took := time.Since(begin); took > stopTimeout+8*time.Second { // systemd's own timeout is longer
		u.t.Errorf("the stop took %v", took)
	}
	for property, want := range map[string]string{"ActiveState": state, "Result": result, "NRestarts": "0"} {
		if v := u.show(property); v != want {
			u.t.Errorf("after the stop %s is %q, not %q", property, v, want)
		}
	}
	if tasks := u.show("TasksCurrent"); tasks != "[not set]" && tasks != "0" {
		u.t.Errorf("after the stop there are %s processes", tasks)
	}
	if out, err := command("sh", "-c", "ls "+"/run/tablecloth/"+u.name); err == nil {
		u.t.Errorf("after the stop there are files: %s", out)
	}
}

// TestStopAfterUpgrade: systemd doesn't wait for the end of a main process which
// was not its child when it became the main one. What is under way is answered
// nevertheless, because ExecStop= waits.
func TestStopAfterUpgrade(t *testing.T) {
	inBed(t)
	for _, without := range []bool{false, true} {
		// Not in parallel: systemd looks at whose child the process is once more
		// when it is reloaded.
		t.Run(fmt.Sprintf("without ExecStop=%v", without), func(t *testing.T) {
			lines := ""
			if without {
				lines = "ExecStop=\n"
			}
			u := kinds[0].load(t, lines)
			u.start()
			old := u.mainPID()
			u.systemctl("reload", u.name)
			awaitEnd(t, old)
			long := u.begin(stopTimeout * 3 / 4)
			if !without {
				u.releaseOnStop()
			}
			u.systemctl("stop", u.name)
			body, err := long.rest()
			if complete := err == nil && body == "complete"; complete == without {
				t.Errorf("a request under way: %q, %v", body, err)
			}
		})
	}
}

func awaitEnd(t *testing.T, pid int) {
	t.Helper()
	proctest.Poll(t, fmt.Sprintf("the end of process %d", pid), func() bool { return syscall.Kill(pid, 0) != nil })
}
