package systemd

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

// few kinds by default, all of them in a soak.
func few(names ...string) func(kind) bool {
	return func(k kind) bool { return slices.Contains(names, k.name) || count(0, 1) == 1 }
}

// TestRestart: nobody is refused where systemd holds the sockets meanwhile.
func TestRestart(t *testing.T) {
	forKinds(t, few("notify-store", "kept"), func(t *testing.T, u *unit) {
		u.start()
		_, report := u.clients(connecting)
		for range count(2, 20) {
			before, _ := u.who()
			u.systemctl("restart", u.name)
			u.awaitOther(before)
		}
		r := report()
		if u.store {
			u.mustRefuseNobody(r)
		}
		u.stop()
	})
}

// TestStopCutsWhatTakesForEver within the service's own timeout, and not by
// systemd's.
func TestStopCutsWhatTakesForEver(t *testing.T) {
	forKinds(t, few("notify-store", "kept"), func(t *testing.T, u *unit) {
		u.start()
		long := u.begin(time.Hour)
		u.stop()
		if body, err := long.rest(); err == nil {
			t.Errorf("the answer ended as if it were complete: %q", body)
		}
	})
}

// TestReloadedManager: neither a reload nor a new systemd changes anything. No
// other test runs meanwhile, as systemctl may lose its connection.
func TestReloadedManager(t *testing.T) {
	inTurn(t, few("notify-store", "kept"), func(t *testing.T, u *unit) {
		u.start()
		load, report := u.clients()
		generation := 1
		for _, verb := range []string{"daemon-reload", "daemon-reexec"} {
			u.systemctl(verb)
			u.systemctl("reload", u.name)
			generation++
			proctest.Await(t, "the next generation", load.Answered(generation))
			u.mustServe(generation)
		}
		if err := report().Err(); err != nil {
			t.Error(err)
		}
		u.stop()
	})
}

// TestSocketUnitRestart takes the service along, and leaves it right.
func TestSocketUnitRestart(t *testing.T) {
	forKinds(t, func(k kind) bool { return strings.HasSuffix(k.name, "socket-unit") }, func(t *testing.T, u *unit) {
		u.systemctl("start", u.name+".socket")
		first := u.awaitOther(0) // the connect starts it
		u.systemctl("restart", u.name+".socket", u.name+".service")
		u.awaitOther(first)
		if s := u.show("ActiveState"); s != "active" {
			t.Errorf("the service is %s", s)
		}
		said(t, "systemctl", "stop", u.name+".socket", u.name+".service")
		if r := u.show("Result"); r != "success" {
			t.Errorf("Result=%s", r)
		}
		// systemd closes what it has stored in the background, after it has said stopped.
		proctest.Poll(t, "the end of the socket", u.refused)
	})
}

// TestJournal: each line is there, and carries the PID of its generation.
func TestJournal(t *testing.T) {
	forKinds(t, few("notify-store", "kept"), func(t *testing.T, u *unit) {
		u.write(fileLines, "1ms")
		u.start()
		generations := 1 + count(3, 20)
		pids := map[int]int{}
		pids[1], _ = u.who()
		for g := 2; g <= generations; g++ {
			u.systemctl("reload", u.name)
			pids[g] = u.awaitOther(pids[g-1])
		}
		u.stop()
		next, ended := map[int]int{}, map[int]bool{}
		for _, e := range u.journal() {
			var n, g int
			var what string
			if _, err := fmt.Sscanf(e.text(), "%s %d of generation %d", &what, &n, &g); err != nil {
				continue
			}
			if e.PID != fmt.Sprint(pids[g]) {
				t.Fatalf("%q is said to come from %s, not %d", e.text(), e.PID, pids[g])
			}
			switch {
			case what == "line" && n == next[g]+1:
				next[g]++
			case what == "end" && n == next[g]:
				ended[g] = true
			default:
				t.Fatalf("after line %d of generation %d: %q", next[g], g, e.text())
			}
		}
		for g := 1; g <= generations; g++ {
			if !ended[g] {
				t.Errorf("generation %d's last line is lost; line %d is there", g, next[g])
			}
		}
	})
}

// TestNothingIsLeft is the last one: no process has outlived its unit.
func TestNothingIsLeft(t *testing.T) {
	inBed(t)
	out, _ := exec.Command("pgrep", "-a", "-x", "self|tablecloth").CombinedOutput()
	if lines := strings.Split(strings.TrimSpace(string(out)), "\n"); len(lines) != 1 { // this process
		t.Errorf("processes are left:\n%s", out)
	}
}
