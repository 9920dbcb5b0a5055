package sd

import (
	"encoding/json"
	"os"
	"reflect"
	"strconv"
	"testing"
	"time"
)

func TestTake(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "@x")
	t.Setenv("WATCHDOG_USEC", "20000000")
	t.Setenv("WATCHDOG_PID", "1")
	t.Setenv("LISTEN_PID", "1")
	t.Setenv("LISTEN_FDS", "1")
	t.Setenv("LISTEN_FDNAMES", "")
	e := Take()
	empty := ""
	want := Environment{
		NotifySocket: "@x", WatchdogUSec: "20000000", WatchdogPID: "1",
		ListenPID: "1", ListenFDs: "1", ListenFDNames: &empty,
	}
	if !reflect.DeepEqual(e, want) {
		t.Errorf("took %+v, want %+v", e, want)
	}
	if again := Take(); again != (Environment{}) {
		t.Errorf("took a second time: %+v", again)
	}
}

// A successor has another PID than the one that WATCHDOG_PID names, and must
// ping all the same; it has no sockets from the manager.
func TestEnvironmentForSuccessor(t *testing.T) {
	names := "a"
	e := Environment{NotifySocket: "@x", WatchdogUSec: "20000000", WatchdogPID: "1", ListenPID: "1", ListenFDs: "1", ListenFDNames: &names}
	if d, err := e.Watchdog(); d != 0 || err != nil {
		t.Errorf("of another process: %v, %v", d, err)
	}
	data, err := json.Marshal(e.ForSuccessor())
	if err != nil {
		t.Fatal(err)
	}
	var s Environment
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	if want := (Environment{NotifySocket: "@x", WatchdogUSec: "20000000"}); s != want {
		t.Errorf("%+v, want %+v", s, want)
	}
	if d, err := s.Watchdog(); d != 20*time.Second || err != nil {
		t.Errorf("of the successor: %v, %v", d, err)
	}
}

func TestWatchdog(t *testing.T) {
	self := strconv.Itoa(os.Getpid())
	for _, c := range []struct {
		usec, pid string
		want      time.Duration
		fails     bool
	}{
		{"", "", 0, false},
		{"", "nonsense", 0, false},
		{"3000000", "", 3 * time.Second, false},
		{"3000000", self, 3 * time.Second, false},
		{"3000000", "1", 0, false},
		{"3000000", "nonsense", 0, true},
		{"18446744073709551615", "", time.Duration(1<<63-1) / time.Microsecond * time.Microsecond, false},
		{"0", "", 0, true},
		{"-1", "", 0, true},
		{"3s", "", 0, true},
	} {
		d, err := Environment{WatchdogUSec: c.usec, WatchdogPID: c.pid}.Watchdog()
		if d != c.want || (err != nil) != c.fails {
			t.Errorf("WATCHDOG_USEC=%s WATCHDOG_PID=%s: %v, %v", c.usec, c.pid, d, err)
		}
	}
}
