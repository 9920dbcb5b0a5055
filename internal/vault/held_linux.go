package vault

import (
	"context"
	"errors"
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
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	held := make(map[uint64]State)
	// A worker that begins to serve a connection which it had parked gives it
	// another number, once: one look may find it under neither.
	for range 2 {
		if err := v.look(ctx, held); err != nil {
			return nil, fmt.Errorf("vault: %w", err)
		}
	}
	return held, nil
}

func (v *Vault) look(ctx context.Context, held map[uint64]State) error {
	lines, err := v.view.Lines()
	if err != nil {
		return err
	}
	fds := make([]int32, len(lines))
	for i, l := range lines {
		fds[i] = int32(l.FD)
	}
	var failed error
	err = v.client.fetch(ctx, fds, func(i, fd int) {
		if c, err := cookie(fd); err == nil {
			held[c] = lines[i].State
		}
		unix.Close(fd)
	}, func(_ int, err error) {
		if !errors.Is(err, unix.EBADF) { // closed meanwhile
			failed = err
		}
	})
	return errors.Join(err, failed)
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
