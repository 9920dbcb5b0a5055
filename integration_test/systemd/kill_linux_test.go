package systemd

import (
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/strict"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
)

// connecting clients: each request has a connection of its own.
var connecting = strict.Group{Kind: strict.Connect, Rate: 200}

// TestKill: whatever happens to the main process, no connect is refused where
// systemd holds the sockets, and the next answer comes soon.
func TestKill(t *testing.T) {
	bare := bareStart(t)
	inTurn(t, func(k kind) bool { return k.store }, func(t *testing.T, u *unit) {
		u.start()
		_, report := u.clients(connecting)
		var gaps []time.Duration
		for range count(2, 50) {
			before, _ := u.who()
			begin := time.Now()
			u.kill(u.mainPID(), syscall.SIGKILL)
			u.awaitOther(before)
			gaps = append(gaps, time.Since(begin))
			u.await("ActiveState", func(s string) bool { return s == "active" })
		}
		u.mustRefuseNobody(report())
		slices.Sort(gaps)
		median := gaps[len(gaps)/2]
		testenv.Result(t, "kill -9 to the next answer: median %v of %d, %.1f bare starts (%v)", median, len(gaps), float64(median)/float64(bare), bare)
	})
}

// TestKillWithoutStore is the negative control of TestKill.
func TestKillWithoutStore(t *testing.T) {
	inBed(t)
	u := kinds[0].load(t, "")
	u.start()
	load, report := u.clients(strict.Group{Kind: strict.Connect, Rate: 500}) // it isn't down for long
	refused := func() int64 { return load.Snapshot().Total.Faults[strict.Refused] }
	for kills := 0; kills < 10 && refused() == 0; kills++ {
		before, _ := u.who()
		u.kill(u.mainPID(), syscall.SIGKILL)
		u.awaitOther(before)
		u.await("ActiveState", func(s string) bool { return s == "active" })
	}
	if n := report().Total.Faults[strict.Refused]; n == 0 {
		t.Error("nobody was refused, though nobody held the socket")
	}
}

// TestKillWorker: the keeper needs no store for that.
func TestKillWorker(t *testing.T) {
	forKinds(t, func(k kind) bool { return k.kept && few("kept", "kept-hardened")(k) }, func(t *testing.T, u *unit) {
		u.start()
		keeper := u.mainPID()
		_, report := u.clients(connecting)
		for range count(2, 4) { // more, and the keeper waits a while
			worker, _ := u.who()
			u.kill(worker, syscall.SIGKILL)
			u.awaitOther(worker)
		}
		u.mustRefuseNobody(report())
		if u.mainPID() != keeper || u.show("NRestarts") != "0" {
			t.Error("systemd has restarted the keeper")
		}
	})
}

// TestRescue: a request that dies with its worker is answered, inside a hardened
// unit as well.
func TestRescue(t *testing.T) {
	forKinds(t, func(k kind) bool { return k.name == "kept" || k.name == "kept-hardened" }, func(t *testing.T, u *unit) {
		u.start()
		worker, _ := u.who()
		handled, answered := u.hang()
		proctest.Await(t, "the handler", handled)
		u.kill(worker, syscall.SIGKILL)
		u.awaitOther(worker)
		if code := proctest.Await(t, "an answer in place of its worker's", answered); code != http.StatusInternalServerError {
			t.Errorf("a request whose worker died got %d", code)
		}
	})
}

// hang makes a request whose handler says that it has it, and no more. The status
// of its answer is 0 if there is none.
func (u *unit) hang() (handled <-chan struct{}, answered <-chan int) {
	begun, status := make(chan struct{}), make(chan int, 1)
	ctx := httptrace.WithClientTrace(u.t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(int, textproto.MIMEHeader) error { close(begun); return nil },
	})
	go func() {
		req, err := http.NewRequestWithContext(ctx, "GET", "http://"+u.addr+"/hang", nil)
		var r *http.Response
		if err == nil {
			r, err = fresh.Do(req)
		}
		if err != nil {
			u.t.Errorf("a request whose worker died: %v", err)
			status <- 0
			return
		}
		r.Body.Close()
		status <- r.StatusCode
	}()
	return begun, status
}

func (u *unit) mustRefuseNobody(r *strict.Report) {
	u.t.Helper()
	if n := r.Total.Faults[strict.Refused] + r.Total.Faults[strict.Timeout]; n > 0 {
		u.t.Errorf("%d of %d connects were refused: %v", n, r.Total.Requests, r.Err())
	}
}

// awaitOther waits for an answer of another process.
func (u *unit) awaitOther(than int) (pid int) {
	u.t.Helper()
	proctest.Check(u.t, func() error {
		a, err := ask(u.addr, "/pid")
		if err == nil {
			_, err = a.rest()
		}
		if err == nil && a.pid == than {
			err = fmt.Errorf("nobody but %d has answered", than)
		}
		pid = a.pid
		return err
	})
	return pid
}

// bareStart is the time from exec to the first answer, without any manager.
func bareStart(t *testing.T) time.Duration {
	inBed(t)
	const addr = "127.0.0.1:9999"
	var took []time.Duration
	for range 5 {
		cmd := exec.Command(binDir + "/self")
		cmd.Env = append(os.Environ(), envRole+"="+roleService, envAddr+"="+addr)
		begin := time.Now()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		u := &unit{t: t, addr: addr}
		u.awaitOther(0)
		took = append(took, time.Since(begin))
		cmd.Process.Kill()
		cmd.Wait()
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// TestNewMainIsKilled while the old one still drains: that one serves again, and
// systemd knows, unless it listens to nobody but the dead one.
func TestNewMainIsKilled(t *testing.T) {
	suits := func(k kind) bool { return !k.kept && k.follows }
	forKinds(t, suits, func(t *testing.T, u *unit) {
		deaf := strings.HasPrefix(u.name, "notify-main")
		if deaf { // to signs of life as well
			u.dropIn("70-watchdog", "WatchdogSec=0\n")
			u.systemctl("daemon-reload")
		}
		u.start()
		_, report := u.clients(connecting)
		old := u.mainPID()
		long := u.begin(killTimeout)
		u.systemctl("reload", u.name)
		successor := u.awaitOther(old)
		u.kill(successor, syscall.SIGKILL)
		if pid := u.awaitOther(successor); pid != old {
			t.Errorf("process %d serves, not the old %d", pid, old)
		}
		if !deaf {
			u.await("MainPID", func(s string) bool { return s != "" && u.mainPID() == old })
		}
		u.write(fileRelease, "now")
		if body, err := long.rest(); err != nil || body != "complete" {
			t.Errorf("a request under way in the old one: %q, %v", body, err)
		}
		if !deaf { // it would find out that its main process is gone, and start another one
			u.systemctl("reload", u.name)
			u.awaitOther(old)
		}
		u.mustRefuseNobody(report())
		if n := u.show("NRestarts"); n != "0" {
			t.Errorf("systemd has restarted the service %s times", n)
		}
	})
}

// TestWatchdog: a main process that hangs is replaced; and upgrades don't stop
// the signs of life.
func TestWatchdog(t *testing.T) {
	const watchdog = 3 * time.Second // a machine may stand still for a while
	suits := func(k kind) bool {
		return k.name != "pidfile" && k.name != "kept-forking" && few("notify-store", "notify-main", "notify-reload", "kept")(k)
	}
	forKinds(t, suits, func(t *testing.T, u *unit) {
		u.dropIn("70-watchdog", "WatchdogSignal=KILL\nWatchdogSec="+watchdog.String()+"\n")
		u.systemctl("daemon-reload")
		u.start()
		for range count(2, 20) {
			before, _ := u.who()
			u.systemctl("reload", u.name)
			u.awaitOther(before)
			proctest.Quiet(watchdog)
		}
		if n := u.show("NRestarts"); n != "0" {
			t.Fatalf("systemd has restarted a living service %s times", n)
		}
		serving, _ := u.who()
		u.kill(u.mainPID(), syscall.SIGSTOP)
		u.await("NRestarts", func(n string) bool { return n == "1" })
		u.awaitOther(serving)
		u.await("ActiveState", func(s string) bool { return s == "active" })
	})
}
