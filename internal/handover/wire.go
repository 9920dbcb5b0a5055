package handover

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Versions of the protocol that this package speaks. A hello keeps its form for
// ever, apart from what may follow at its end.
const (
	lowestVersion  = 1
	highestVersion = 1
)

const (
	maxMessage = 64 << 10 // link.MaxData
	maxFiles   = 253      // link.MaxFiles
	// MaxPrefix is the longest prefix that an item may have, in bytes.
	MaxPrefix = 8 << 20
	maxName   = 1 << 10
	// maxLoose bounds what a receiver collects of prefixes before their batch.
	maxLoose = MaxPrefix
)

const magic = "tchandov"

type kind byte

const (
	kindHello  kind = 'h'
	kindPrefix kind = 'p'
	kindBatch  kind = 'b'
	kindAnswer kind = 'a'
	kindAbort  kind = 'x'
	kindEnd    kind = 'e'
)

type hello struct {
	lowest, highest int // versions
	room            int
	servers         []string
}

// version that a sender speaks with who said h.
func (h hello) version() (int, error) {
	v := min(highestVersion, h.highest)
	if v < lowestVersion || v < h.lowest {
		return 0, fmt.Errorf("%w: %d to %d", ErrVersion, h.lowest, h.highest)
	}
	return v, nil
}

// refusal of one item of a batch.
type refusal struct {
	index int
	code  code
}

// code is why an item was refused.
type code byte

const (
	codeNoRoom   code = 1
	codeNoServer code = 2
	codeRefused  code = 3
)

func codeOf(err error) code {
	switch {
	case errors.Is(err, ErrNoRoom):
		return codeNoRoom
	case errors.Is(err, ErrNoServer):
		return codeNoServer
	}
	return codeRefused
}

func (c code) err() error {
	switch c {
	case codeNoRoom:
		return ErrNoRoom
	case codeNoServer:
		return ErrNoServer
	}
	return ErrRefused
}

// answer to a batch. all refuses every item, for the code.
type answer struct {
	seq     uint32
	room    int
	all     code
	refused []refusal
}

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

func (h hello) append(b []byte) []byte {
	b = append(b, byte(kindHello))
	b = append(b, magic...)
	b = append(b, byte(h.lowest), byte(h.highest))
	b = binary.BigEndian.AppendUint32(b, clamp(h.room))
	b = binary.BigEndian.AppendUint16(b, uint16(len(h.servers)))
	for _, s := range h.servers {
		b = appendString(b, s)
	}
	return b
}

func (a answer) append(b []byte) []byte {
	b = append(b, byte(kindAnswer))
	b = binary.BigEndian.AppendUint32(b, a.seq)
	b = binary.BigEndian.AppendUint32(b, clamp(a.room))
	b = append(b, byte(a.all), byte(len(a.refused)))
	for _, r := range a.refused {
		b = append(b, byte(r.index), byte(r.code))
	}
	return b
}

func clamp(n int) uint32 { return uint32(min(max(n, 0), 1<<30)) }

const (
	flagServed  = 1 << iota // a request was answered on it
	flagHead                // the time for its head runs
	flagLoose               // its prefix came in messages before the batch
	knownFlags  = flagServed | flagHead | flagLoose
	itemSize    = 2 + 1 + 8 + 8 + 4 // an item without name and prefix
	batchHeader = 1 + 1 + 4 + 1
)

// batch is a number of items that travel in one message.
type batch struct {
	seq   uint32
	items []*Item
	loose [][]byte // prefixes too long for the message
}

// fill takes as many items from queue as fit in one message.
func (b *batch) fill(queue []*Item, atMost int) (rest []*Item) {
	size := batchHeader
	for len(queue) > 0 && len(b.items) < atMost {
		it := queue[0]
		n := itemSize + len(it.Server) + len(it.Prefix)
		if b.isLoose(it) {
			n -= len(it.Prefix)
		}
		if size+n > maxMessage || !b.roomForLoose(it) {
			break
		}
		if b.isLoose(it) {
			b.loose = append(b.loose, it.Prefix)
		}
		size += n
		b.items = append(b.items, it)
		queue = queue[1:]
	}
	return queue
}

// looseFrom is the length from which a prefix travels ahead of its batch.
const looseFrom = 16 << 10

func (*batch) isLoose(it *Item) bool { return len(it.Prefix) >= looseFrom }

func (b *batch) roomForLoose(it *Item) bool {
	if !b.isLoose(it) {
		return true
	}
	sum := len(it.Prefix)
	for _, p := range b.loose {
		sum += len(p)
	}
	return sum <= maxLoose
}

func (b *batch) append(buf []byte, version int) []byte {
	now := time.Now()
	buf = append(buf, byte(kindBatch), byte(version))
	buf = binary.BigEndian.AppendUint32(buf, b.seq)
	buf = append(buf, byte(len(b.items)))
	for _, it := range b.items {
		buf = b.appendItem(buf, it, now)
	}
	return buf
}

func (b *batch) appendItem(buf []byte, it *Item, now time.Time) []byte {
	var flags byte
	if it.Served {
		flags |= flagServed
	}
	if !it.HeadSince.IsZero() {
		flags |= flagHead
	}
	if b.isLoose(it) {
		flags |= flagLoose
	}
	buf = appendString(buf, it.Server)
	buf = append(buf, flags)
	buf = binary.BigEndian.AppendUint64(buf, age(now, it.Since))
	buf = binary.BigEndian.AppendUint64(buf, age(now, it.HeadSince))
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(it.Prefix)))
	if flags&flagLoose == 0 {
		buf = append(buf, it.Prefix...)
	}
	return buf
}

// age is how long ago t was, in nanoseconds: two processes need not agree on
// what time it is.
func age(now, t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(max(0, now.Sub(t)))
}

// prefixMessages cuts the loose prefixes into messages.
func (b *batch) prefixMessages(version int) [][]byte {
	var all [][]byte
	for _, p := range b.loose {
		for len(p) > 0 {
			n := min(len(p), maxMessage-prefixHeader)
			m := []byte{byte(kindPrefix), byte(version), 0}
			if len(all) == 0 {
				m[2] = 1
			}
			all = append(all, append(m, p[:n]...))
			p = p[n:]
		}
	}
	return all
}

// prefixHeader is the length of kind, version, and whether this is the first of
// its batch: a batch that the kernel refused comes again, with its prefixes.
const prefixHeader = 3

func appendEnd(b []byte, version int, sent uint32) []byte {
	b = append(b, byte(kindEnd), byte(version))
	return binary.BigEndian.AppendUint32(b, sent)
}

func appendAbort(b []byte, why string) []byte {
	b = append(b, byte(kindAbort))
	return appendString(b, why[:min(len(why), 4096)])
}
