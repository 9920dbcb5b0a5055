package keeper

import (
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proc"
)

const (
	// rebindFor is how long a keeper waits for the workers of one that was killed:
	// they let go of the sockets at once, or when they have ended. Then they are
	// killed, as their own keeper would have done.
	rebindFor = DefaultKillTimeout
	// rebindUnseen is how long it waits where nobody can be found who has the
	// address: that may be a process which is just ending. The kernel's table of
	// sockets can lack one while others come and go, and a machine that is busy may
	// leave time for one look in so long: so there are rebindLooks, too.
	rebindUnseen = time.Second
	rebindLooks  = 10
)

// bind waits while orphaned workers of a keeper that was killed have the address.
func (k *keeper) bind(a address) (*socket, error) {
	start, told, killed := time.Now(), false, false
	unseen, looks := start, 0 // since when nobody has been found, and how often it was looked since
	for {
		s, err := bind(a)
		if err == nil || !errors.Is(err, syscall.EADDRINUSE) {
			return s, err
		}
		looked := time.Now()
		pids := holders(a)
		if looks++; looks == 1 || len(pids) > 0 {
			unseen, looks = time.Now(), 1
		}
		nobody := looks >= rebindLooks && looked.Sub(unseen) >= rebindUnseen
		waited := time.Since(start)
		switch {
		case len(pids) == 0 && (told || !nobody) && waited < rebindFor+rebindUnseen:
		case !orphans(pids) || waited > rebindFor+rebindUnseen:
			return nil, err
		case waited > rebindFor && !killed:
			killed = true
			k.killOrphans(a, pids)
		case !told:
			told = true
			for _, pid := range pids { // first of all: what it has written goes with it
				k.logs.Orphan(pid)
			}
			k.conf.Log.WithField("pid", pids[0]).Warnf("%s is held by a worker of a keeper that has been killed: waiting for its end", a.key())
		}
		select {
		case sig := <-k.signals:
			if sig == syscall.SIGTERM || sig == syscall.SIGINT {
				return nil, err
			}
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// killOrphans ends workers that have had their time to drain.
func (k *keeper) killOrphans(a address, pids []int) {
	for _, pid := range pids {
		h, err := proc.Open(pid)
		if err != nil {
			continue
		}
		if has := holders(a); slices.Contains(has, pid) && orphans([]int{pid}) { // still the same one
			k.conf.Log.WithField("pid", pid).Warn("it has not ended in time: killed")
			h.Kill(syscall.SIGKILL)
		}
		h.Close()
	}
}
