package handover

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

var errGarbled = errors.New("garbled message")

// decoder takes a message apart. After the first thing that is missing
// everything is zero, and done tells so.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) bytes(n int) []byte {
	if d.bad || n < 0 || n > len(d.b) {
		d.bad = true
		return nil
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) u8() byte {
	if p := d.bytes(1); p != nil {
		return p[0]
	}
	return 0
}

func (d *decoder) u16() int {
	if p := d.bytes(2); p != nil {
		return int(binary.BigEndian.Uint16(p))
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if p := d.bytes(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if p := d.bytes(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

func (d *decoder) str() string { return string(d.bytes(d.u16())) }

// done is nil if the message was complete, and nothing is left of it.
func (d *decoder) done(what string) error {
	if d.bad || len(d.b) > 0 {
		return fmt.Errorf("%s: %w", what, errGarbled)
	}
	return nil
}

func decodeHello(b []byte) (hello, error) {
	d := decoder{b: b}
	if kind(d.u8()) != kindHello || string(d.bytes(len(magic))) != magic {
		return hello{}, fmt.Errorf("hello: %w", errGarbled)
	}
	h := hello{lowest: int(d.u8()), highest: int(d.u8()), room: int(d.u32())}
	for n := d.u16(); n > 0 && !d.bad; n-- {
		h.servers = append(h.servers, d.str())
	}
	d.b = nil // a later version may say more
	return h, d.done("hello")
}

// decodeAnswer takes what follows the kind.
func decodeAnswer(b []byte) (answer, error) {
	d := decoder{b: b}
	a := answer{seq: d.u32(), room: int(d.u32()), all: code(d.u8())}
	for n := d.u8(); n > 0 && !d.bad; n-- {
		a.refused = append(a.refused, refusal{int(d.u8()), code(d.u8())})
	}
	return a, d.done("answer")
}

// incoming is what a receiver knows between two messages.
type incoming struct {
	next  uint32 // sequence number of the next batch
	loose []byte // prefixes that came ahead of their batch
}

// prefix takes what follows kind and version.
func (in *incoming) prefix(b []byte) error {
	d := decoder{b: b}
	switch d.u8() {
	case 1:
		in.loose = nil
	case 0:
	default:
		d.bad = true
	}
	if d.bad || len(d.b) == 0 || len(in.loose)+len(d.b) > maxLoose {
		return fmt.Errorf("prefix: %w", errGarbled)
	}
	in.loose = append(in.loose, d.b...)
	return nil
}

// batch takes what follows kind and version, and the descriptors, one per item,
// which stay the caller's if it fails.
func (in *incoming) batch(b []byte, fds []int) ([]*Item, error) {
	d := decoder{b: b}
	seq, n := d.u32(), int(d.u8())
	if d.bad || seq != in.next || n == 0 || n != len(fds) {
		return nil, fmt.Errorf("batch %d (expected %d) of %d connections with %d descriptors: %w",
			seq, in.next, n, len(fds), errGarbled)
	}
	now := time.Now()
	items := make([]*Item, 0, n)
	for _, fd := range fds {
		it := in.item(&d, now)
		it.FD = fd
		items = append(items, it)
	}
	if err := d.done("batch"); err != nil {
		return nil, err
	}
	if len(in.loose) > 0 {
		return nil, fmt.Errorf("batch: prefix of no connection: %w", errGarbled)
	}
	in.loose = nil
	in.next++
	return items, nil
}

func (in *incoming) item(d *decoder, now time.Time) *Item {
	it := &Item{Server: d.str()}
	flags := d.u8()
	since, headSince, size := d.u64(), d.u64(), int(d.u32())
	if flags&^knownFlags != 0 || since > math.MaxInt64 || headSince > math.MaxInt64 {
		d.bad = true
		return it
	}
	it.Served = flags&flagServed != 0
	it.Since = now.Add(-time.Duration(since))
	if flags&flagHead != 0 {
		it.HeadSince = now.Add(-time.Duration(headSince))
	}
	if flags&flagLoose == 0 {
		it.Prefix = append([]byte(nil), d.bytes(size)...)
		return it
	}
	if size == 0 || size > len(in.loose) {
		d.bad = true
		return it
	}
	it.Prefix = in.loose[:size:size]
	in.loose = in.loose[size:]
	return it
}
