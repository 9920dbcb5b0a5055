package systemd

import (
	"slices"
	"strconv"
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
		proctest.Poll(t, "a start by systemd", func() bool {
			main, _ := strconv.Atoi(u.show("MainPID")) // asked first: what is started meanwhile isn't killed
			if u.show("NRestarts") != "0" {
				return true
			}
			if main > 0 { // again, as the generation before may have taken over
				syscall.Kill(main, syscall.SIGKILL)
			}
			return false
		})
		u.awaitOther(serves)
		u.await("ActiveState", func(s string) bool { return s == "active" })
		// The control: the third start is one too many.
		proctest.Poll(t, "the end of starts", func() bool {
			u.dies()
			return slices.ContainsFunc(u.journal(), func(e entry) bool { return strings.Contains(e.text(), "repeated too quickly") })
		})
		u.await("ActiveState", func(s string) bool { return s == "failed" })
	})
}
