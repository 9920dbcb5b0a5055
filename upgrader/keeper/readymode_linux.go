package keeper

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// parseReady reads Service.Ready: its mode, and the descriptor of fd= or the
// nanoseconds of delay=.
func parseReady(s string) (mode string, n int64, err error) {
	mode, value, has := strings.Cut(s, "=")
	switch {
	case !has && (mode == "auto" || mode == "notify" || mode == "listen"):
		return mode, 0, nil
	case has && mode == "fd":
		if n, err = strconv.ParseInt(value, 10, 16); err == nil && n >= 3 {
			return mode, n, nil
		}
	case has && mode == "delay":
		if d, err := time.ParseDuration(value); err == nil && d >= 0 {
			return mode, int64(d), nil
		}
	}
	return "", 0, &Error{Err: fmt.Errorf("ready %q: auto, notify, listen, fd=N (from 3) or delay=DURATION", s)}
}

func (c *Service) readyMode() string {
	mode, _, _ := parseReady(c.Ready)
	return mode
}

func (c *Service) readyFD() int {
	if mode, n, _ := parseReady(c.Ready); mode == "fd" {
		return int(n)
	}
	return 0
}

// aliveFor is how long a process must live to be taken for ready.
func (c *Service) aliveFor() time.Duration {
	if mode, n, _ := parseReady(c.Ready); mode == "delay" {
		return time.Duration(n)
	}
	return DefaultAliveFor
}
