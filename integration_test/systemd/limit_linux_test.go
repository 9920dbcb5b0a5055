package systemd

import (
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

// TestUpgradesAreNoStarts: of two starts that a unit may have only those count that
// are systemd's own.
func TestUpgradesAreNoStarts(t *testing.T) {
	forKinds(t, few("notify-store", "kept"), func(t *testing.T, u *unit) {
		u.dropIn("70-limit", "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=2\n")
		u.systemctl("daemon-reload")
		u.start()
		serves, _ := u.who()
		for range count(3, 20) {
			u.systemctl("reload", u.name)
			serves = u.awaitOther(serves)
		}
		u.kill(u.mainPID(), syscall.SIGKILL)
		u.awaitOther(serves)
		u.await("ActiveState", func(s string) bool { return s == "active" })
		// The control: the third start is one too many.
		u.kill(u.mainPID(), syscall.SIGKILL)
		proctest.Poll(t, "the end of starts", func() bool {
			return slices.ContainsFunc(u.journal(), func(e entry) bool { return strings.Contains(e.text(), "repeated too quickly") })
		})
		u.await("ActiveState", func(s string) bool { return s == "failed" })
	})
}
