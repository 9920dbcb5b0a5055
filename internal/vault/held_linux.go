package vault

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Held tells which connections a living worker has in its table, and in which
// state, by their cookies (SO_COOKIE), at the latest after timeout. It must not be
// called beside Rescue or End.
//
// While it looks, a connection which the worker closes stays open: for less than a
// millisecond, on a machine that isn't busy.
func (v *Vault) Held(timeout time.Duration) (map[uint64]State, error) {
	v.client.conn.SetDeadline(time.Now().Add(timeout))
	lines, err := v.view.Lines()
	if err != nil {
		return nil, err
	}
	held := make(map[uint64]State, len(lines))
	for at := 0; at < len(lines); at += maxFetch {
		part := lines[at:min(at+maxFetch, len(lines))]
		fds := make([]int32, len(part))
		for i, l := range part {
			fds[i] = int32(l.FD)
		}
		err := v.client.fetch(fds, func(i, fd int) {
			if c, err := cookie(fd); err == nil {
				held[c] = part[i].State
			}
			unix.Close(fd)
		}, func(int, error) {})
		if err != nil {
			return nil, fmt.Errorf("vault: %w", err)
		}
	}
	return held, nil
}

// Farewell is a connection to be ended, after an answer if there is one.
type Farewell struct {
	FD     int
	Answer []byte
}

// Finish ends connections so that what was sent on them arrives, in the
// background. It closes the channel when all are closed: as Rescued.Settled.
func Finish(all []Farewell) <-chan struct{} {
	endings := make([]*ending, len(all))
	for i, f := range all {
		endings[i] = &ending{fd: f.FD, left: f.Answer}
	}
	return settle(endings)
}

// Untouched reports whether nothing was read from or written to a connection
// since it was rescued.
func (c *Conn) Untouched() bool {
	now, err := Inspect(c.FD)
	return err == nil && !now.Dead && !now.ShutDown && now.Consumed == c.RX && now.Written == c.TX
}
