package systemd

import (
	"testing"
	"time"
)

// A service that takes longer than systemd allows, and says that it is at it, is
// started and upgraded all the same; one that says nothing in time is not.
func TestTimeoutIsExtended(t *testing.T) {
	inBed(t)
	const takes = 7 * time.Second
	begin := func(t *testing.T, allowed string) (*unit, error) {
		t.Parallel()
		u := kinds[0].load(t, "TimeoutStartSec="+allowed+"\nRestart=no\n")
		u.write(fileDelay, takes.String())
		_, err := command("systemctl", "start", u.name)
		return u, err
	}
	t.Run("in time", func(t *testing.T) {
		u, err := begin(t, "6")
		if err != nil {
			t.Fatal(err)
		}
		first := u.mustServe(1)
		u.systemctl("reload", u.name)
		u.awaitOther(first)
	})
	t.Run("too late", func(t *testing.T) {
		u, err := begin(t, "1")
		if result := u.show("Result"); err == nil || result != "timeout" {
			t.Errorf("the start: %v, Result=%s", err, result)
		}
	})
}
