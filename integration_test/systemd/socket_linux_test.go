package systemd

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

// TestCrashLoopBehindASocket: a service that dies again and again takes its socket
// along, unless that has no limit. doctor tells which have one.
func TestCrashLoopBehindASocket(t *testing.T) {
	forKinds(t, func(k kind) bool { return k.name == "socket-unit" }, func(t *testing.T, u *unit) {
		socket := u.name + ".socket"
		result := func() string { return said(t, "systemctl", "show", "-P", "Result", socket) }

		// Few, as a busy machine may be too slow for the default.
		u.socketLimit("TriggerLimitIntervalSec=1h\nTriggerLimitBurst=2\n")
		out, err := command(binDir+"/tablecloth", "doctor", u.name+".service")
		if err == nil || !strings.Contains(out, "TriggerLimit: more than 2 starts within 1h0m0s") ||
			!strings.Contains(out, "systemctl edit "+socket+" takes these lines.") {
			t.Errorf("tablecloth doctor: %v %s", err, out)
		}
		u.systemctl("start", socket)
		_, report := u.clients(connecting)
		proctest.Poll(t, "the failure of the socket", func() bool { u.dies(); return result() != "success" })
		report() // whom that has met depends on how soon the service binds for itself

		// As doctor says.
		u.socketLimit("TriggerLimitIntervalSec=0\n")
		if out, err := command(binDir+"/tablecloth", "doctor", u.name+".service"); err != nil {
			t.Errorf("tablecloth doctor: %v %s", err, out)
		}
		said(t, "systemctl", "stop", socket, u.name)
		command("systemctl", "reset-failed", socket, u.name)
		u.systemctl("start", socket)
		_, report = u.clients(connecting)
		u.await("NRestarts", func(s string) bool {
			u.dies()
			n, _ := strconv.Atoi(s)
			return n >= 10
		})
		if r := result(); r != "success" {
			t.Errorf("the socket's Result is %s", r)
		}
		u.awaitOther(0)
		u.mustRefuseNobody(report())
		said(t, "systemctl", "stop", socket, u.name)
	})
}

// socketLimit writes a drop-in of the socket's.
func (u *unit) socketLimit(lines string) {
	u.t.Helper()
	dir := filepath.Join(unitsHere, u.name+".socket.d")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		u.t.Fatal(err)
	}
	proctest.Install(u.t, filepath.Join(dir, "limit.conf"), []byte("[Socket]\n"+lines), 0o644)
	u.systemctl("daemon-reload")
}

// dies kills the main process, if it serves.
func (u *unit) dies() {
	u.t.Helper()
	if u.show("ActiveState") == "active" {
		command("systemctl", "kill", "--kill-whom=main", "--signal=KILL", u.name) // it may just have ended
	}
}
