package output

import (
	"bytes"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	outletBytes   = 1 << 20  // of workers, waiting for a reader
	outletReserve = 64 << 10 // beside that, for the keeper's own log
	outletWrite   = 64 << 10 // at once
	// patience is how long a worker's output waits for room. A reader that is only
	// slow gets everything; one that takes nothing costs the workers this once.
	patience = 250 * time.Millisecond
	// lastWrites bounds the wait for a reader at the end.
	lastWrites = time.Second
)

// meter counts the output of one service. Lines are counted by their ends.
type meter struct {
	lines, bytes               atomic.Int64
	droppedLines, droppedBytes atomic.Int64
}

func (m *meter) drop(lines, n int) {
	m.droppedLines.Add(int64(lines))
	m.droppedBytes.Add(int64(n))
}

// outlet is where output goes: a file, and a bounded queue of what waits for it.
// Its reader may stop reading, and neither workers nor the keeper may hang then.
// So what finds no room in time is dropped.
type outlet struct {
	news chan struct{} // there is something to write
	quit chan struct{}
	wait time.Duration // for room

	mu      sync.Mutex
	file    *os.File
	next    *os.File      // in place of file from the next line on
	ring    []byte        // nil until it is needed
	head    int           // of what waits, in ring
	size    int           // of what waits
	shares  []share       // whose it is, in order
	room    chan struct{} // closed when there is some, and replaced
	stalled bool          // nobody waits until half of it is free again
	wrote   uint64        // writes that have ended
	midline bool          // what was written last had no end
}

const shareCost = 16 // bytes, so that many short ones count as what they are

// share is a run of bytes that are one service's.
type share struct {
	of *meter
	n  int
}

func newOutlet(f *os.File) *outlet {
	o := &outlet{file: f, news: make(chan struct{}, 1), quit: make(chan struct{}), wait: patience, room: make(chan struct{})}
	go o.work()
	return o
}

// put queues text, all of it or nothing. It waits for room up to patience.
func (o *outlet) put(m *meter, text []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.fits(len(text), outletBytes) && !o.stalled {
		o.await(len(text))
	}
	if !o.fits(len(text), outletBytes) {
		o.stalled = true
		return false
	}
	o.push(m, text)
	return true
}

// putOwn is put for the keeper's own log: it never waits, and has some room of its
// own.
func (o *outlet) putOwn(m *meter, text []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.fits(len(text), outletBytes+outletReserve) {
		return false
	}
	o.push(m, text)
	return true
}

func (o *outlet) fits(n, limit int) bool {
	return o.size+n+len(o.shares)*shareCost <= limit
}

// stalls reports whether put would refuse at once.
func (o *outlet) stalls() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.stalled
}

// await lets go of the lock while it waits.
func (o *outlet) await(n int) {
	enough := time.NewTimer(o.wait)
	defer enough.Stop()
	for !o.fits(n, outletBytes) && !o.stalled {
		room := o.room
		o.mu.Unlock()
		late := false
		select {
		case <-room:
		case <-enough.C:
			late = true
		}
		o.mu.Lock()
		if late {
			return
		}
	}
}

func (o *outlet) push(m *meter, text []byte) {
	if o.ring == nil {
		o.ring = make([]byte, outletBytes+outletReserve)
	}
	tail := (o.head + o.size) % len(o.ring)
	n := copy(o.ring[tail:], text)
	copy(o.ring, text[n:])
	o.size += len(text)
	if last := len(o.shares) - 1; last >= 0 && o.shares[last].of == m {
		o.shares[last].n += len(text)
	} else {
		o.shares = append(o.shares, share{m, len(text)})
	}
	select {
	case o.news <- struct{}{}:
	default:
	}
}

// work is the one who writes, and may hang in it.
func (o *outlet) work() {
	for {
		select {
		case <-o.news:
		case <-o.quit:
			return
		}
		for o.write() {
		}
	}
}

// write passes on a part of what waits; false: nothing does.
func (o *outlet) write() bool {
	o.mu.Lock()
	end := min(o.head+o.size, len(o.ring), o.head+outletWrite)
	text := o.ring[o.head:end] // nobody else touches it while it is counted in size
	switch n := bytes.IndexByte(text, '\n') + 1; {
	case o.next == nil:
	case o.midline && n > 0: // the old file gets the end of the line
		text = text[:n]
	case !o.midline || len(text) == 0:
		o.file.Close()
		o.file, o.next = o.next, nil
	}
	f := o.file
	o.mu.Unlock()
	if len(text) == 0 {
		return false
	}
	n, err := writeAll(f, text)
	o.mu.Lock()
	defer o.mu.Unlock()
	if err == nil {
		n = len(text)
	}
	o.take(text[:n], false)
	o.take(text[n:], true)
	o.wrote++
	o.midline = text[len(text)-1] != '\n'
	o.head = (o.head + len(text)) % len(o.ring)
	o.size -= len(text)
	if o.size <= outletBytes/2 {
		o.stalled = false
	}
	close(o.room)
	o.room = make(chan struct{})
	return true
}

// writeAll blocks also where a worker, with which the file is shared, has made it
// one that doesn't.
func writeAll(f *os.File, text []byte) (n int, err error) {
	for {
		k, err := f.Write(text[n:])
		n += k
		if !errors.Is(err, unix.EAGAIN) {
			return n, err
		}
		c, err := f.SyscallConn()
		if err != nil {
			return n, err
		}
		c.Control(func(fd uintptr) { unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 1000) })
	}
}

// take lets those whose text it was know if it is lost.
func (o *outlet) take(text []byte, lost bool) {
	for len(text) > 0 {
		s := &o.shares[0]
		n := min(s.n, len(text))
		if lost {
			s.of.drop(bytes.Count(text[:n], newline), n)
		}
		text = text[n:]
		if s.n -= n; s.n == 0 {
			o.shares = o.shares[1:]
		}
	}
}

var newline = []byte{'\n'}

// replace makes f the file.
func (o *outlet) replace(f *os.File) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.next != nil {
		o.next.Close()
	}
	o.next = f
	select {
	case o.news <- struct{}{}:
	default:
	}
}

// close returns when all has been written, or the reader has taken nothing for a
// while.
func (o *outlet) close() {
	defer close(o.quit)
	for {
		o.mu.Lock()
		left, wrote, room := o.size, o.wrote, o.room
		o.mu.Unlock()
		if left == 0 {
			return
		}
		select {
		case <-room:
		case <-time.After(lastWrites):
			o.mu.Lock()
			stuck := o.wrote == wrote
			o.mu.Unlock()
			if stuck {
				return
			}
		}
	}
}
