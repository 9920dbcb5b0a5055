package sd

import (
	"fmt"
	"os"
	"strconv"
	"time"
)

// Environment is what a service manager says to a service through environment
// variables, as it was said: unparsed. The zero value means that there is no
// manager.
//
// It can be marshalled, for a successor that is told by message: see
// ForSuccessor.
type Environment struct {
	NotifySocket string `json:"notify_socket,omitempty"` // NOTIFY_SOCKET
	WatchdogUSec string `json:"watchdog_usec,omitempty"` // WATCHDOG_USEC
	WatchdogPID  string `json:"watchdog_pid,omitempty"`  // WATCHDOG_PID
	ListenPID    string `json:"listen_pid,omitempty"`    // LISTEN_PID
	ListenFDs    string `json:"listen_fds,omitempty"`    // LISTEN_FDS
	// ListenFDNames is LISTEN_FDNAMES; nil: not set, which is not the same as
	// one empty name.
	ListenFDNames *string `json:"listen_fdnames,omitempty"`
}

// Take returns the manager's part of this process's environment, and removes it
// there, so that children don't take the manager's words for theirs. A second
// call finds nothing.
func Take() Environment {
	e := takeListen()
	e.NotifySocket = take("NOTIFY_SOCKET")
	e.WatchdogUSec = take("WATCHDOG_USEC")
	e.WatchdogPID = take("WATCHDOG_PID")
	return e
}

func takeListen() Environment {
	e := Environment{ListenPID: take("LISTEN_PID"), ListenFDs: take("LISTEN_FDS")}
	if names, ok := os.LookupEnv("LISTEN_FDNAMES"); ok {
		e.ListenFDNames = &names
		os.Unsetenv("LISTEN_FDNAMES")
	}
	// Says in newer systemd what LISTEN_PID says; left behind, it would make a
	// child refuse sockets that are meant for it.
	os.Unsetenv("LISTEN_PIDFDID")
	return e
}

func take(key string) string {
	v := os.Getenv(key)
	os.Unsetenv(key)
	return v
}

// ForSuccessor returns what the next process of the same service needs to know:
// without the sockets, which reach it in another way, and without WATCHDOG_PID,
// which names its predecessor.
func (e Environment) ForSuccessor() Environment {
	return Environment{NotifySocket: e.NotifySocket, WatchdogUSec: e.WatchdogUSec}
}

// Notifier returns the way to the manager; nil if there is none.
func (e Environment) Notifier() (*Notifier, error) { return NewNotifier(e.NotifySocket) }

// Watchdog returns the time within which the manager wants to hear
// Notifier.Watchdog again and again, half of it being a good interval; 0: it
// doesn't want to, or it means another process (sd_watchdog_enabled(3)).
func (e Environment) Watchdog() (time.Duration, error) {
	if e.WatchdogUSec == "" {
		return 0, nil
	}
	usec, err := strconv.ParseUint(e.WatchdogUSec, 10, 64)
	if err != nil || usec == 0 {
		return 0, fmt.Errorf("sd: WATCHDOG_USEC=%q: not a number of microseconds", e.WatchdogUSec)
	}
	if e.WatchdogPID != "" {
		pid, err := parsePID(e.WatchdogPID)
		if err != nil {
			return 0, fmt.Errorf("sd: WATCHDOG_PID=%q: %w", e.WatchdogPID, err)
		}
		if pid != os.Getpid() {
			return 0, nil
		}
	}
	const most = uint64(1<<63-1) / uint64(time.Microsecond)
	return time.Duration(min(usec, most)) * time.Microsecond, nil
}

func parsePID(s string) (int, error) {
	pid, err := strconv.ParseInt(s, 10, 32)
	if err != nil || pid <= 0 {
		return 0, fmt.Errorf("not a PID")
	}
	return int(pid), nil
}
