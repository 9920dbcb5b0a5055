package live

import (
	"os"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

// A kick that comes while the lot is between two waits is not put off to the next
// sweep: a drain would wait for that.
func TestKickBetweenTwoWaits(t *testing.T) {
	set, other, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	defer set.Close()
	l := newLot(nil)
	l.set = set
	l.kick()
	l.sleepUntil(set, time.Now().Add(time.Hour))
	woken := make(chan error, 1)
	go func() {
		_, err := set.Read(make([]byte, 1))
		woken <- err
	}()
	if err := proctest.Await(t, "the end of the wait", woken); !os.IsTimeout(err) {
		t.Fatal(err)
	}
}
