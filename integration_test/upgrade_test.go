//go:build linux

package integration

import (
	"fmt"
	"os"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/proc"
	"github.com/tablecloth-go/tablecloth/internal/strict"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
)

// Upgrades under load: no connect is refused, no request fails, those that take
// 2 s are finished, and the hundredth process is as slim as the second.
func TestUpgradesUnderLoad(t *testing.T) {
	run(t, everyMode, func(t *testing.T, b *bed) {
		b.demo()
		addr := b.tcp()
		l := startLoad(t, "tcp", addr, strict.Group{Kind: strict.Connect, Rate: 100},
			strict.Group{Kind: strict.Get, N: 4}, strict.Group{Kind: strict.Post, N: 4},
			strict.Group{Kind: strict.Long, N: 3})
		n := testenv.Count(3, 50)
		var second footprint
		for g := 2; g <= n+1; g++ {
			old := b.pidInFile()
			b.hup()
			pid := b.ready()
			l.sees(g)
			if status := b.ended(old); status != 0 {
				t.Errorf("generation %d ended with %v", g-1, status)
			}
			b.noZombies()
			if g == 2 {
				second = footprintOf(pid)
			}
		}
		r := l.stop()
		wantUnbroken(t, r, n+1)
		b.slim(second)
		testenv.Result(t, "%d upgrades, %d requests, %d failed, %d connections, %d of them kept over an upgrade, %d broken",
			n, r.Total.Requests, r.Total.Failed(), r.Total.Connects, r.Total.Moved, r.Total.Broken())
	})
}

// footprint is what must not grow from generation to generation.
type footprint struct{ environment, arguments, sockets int }

func footprintOf(pid int) footprint {
	return footprint{size(pid, "environ"), size(pid, "cmdline"), 0}
}

func size(pid int, name string) int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
	return len(b)
}

// slim fails unless the last generation is as slim as the second was, and has no
// more descriptors than the next one will have, when nothing is going on.
func (b *bed) slim(second footprint) {
	b.t.Helper()
	last := b.pidInFile()
	if now := footprintOf(last); now != second {
		b.t.Errorf("environment and arguments were %v, and are %v", second, now)
	}
	b.mustUpgrade()
	b.ended(last)
	next := b.pidInFile()
	// Those of the last one can't be counted any more: it has ended. What grows,
	// grows with each generation.
	before := b.quiet(next)
	for range 2 {
		old := b.pidInFile()
		b.mustUpgrade()
		b.ended(old)
	}
	if after := b.quiet(b.pidInFile()); after > before {
		b.t.Errorf("descriptors: %d, two generations later %d", before, after)
	}
}

// quiet returns the number of descriptors when it doesn't fall any more.
func (b *bed) quiet(pid int) int {
	b.t.Helper()
	least, same := descriptors(pid), 0
	b.poll("a steady number of descriptors", func() bool {
		n := descriptors(pid)
		if n < least {
			least, same = n, 0
		}
		same++
		return same > 20
	})
	return least
}

// noZombies waits until each generation has waited for its children that have
// ended.
func (b *bed) noZombies() {
	b.t.Helper()
	for _, parent := range b.processes() {
		children, _ := proc.Children(parent)
		for _, pid := range children {
			b.poll(fmt.Sprintf("%d to wait for its child %d", parent, pid), func() bool { return !proc.Zombie(pid) })
		}
	}
}
