package output

import (
	"bytes"
	"unicode/utf8"
)

const (
	longestLine = 64 << 10 // what is longer goes on in pieces
	flowBatch   = 32 << 10
	flowRead    = 32 << 10
)

// flow passes on one stream of one worker: as it comes if its form is nil, else
// line by line.
type flow struct {
	author
	form  form
	to    *outlet
	meter *meter

	part      []byte // of a line whose end has not come yet
	continues bool   // the beginning of that line has gone out
	midline   bool   // as it comes: what went out last had no end
	skipping  bool   // the beginning of this line was dropped
	lost      dropped
	batch     []byte
	batched   dropped // what is in it, as the worker wrote it
}

// dropped counts what could not be passed on.
type dropped struct{ lines, bytes int }

func (d *dropped) add(lines, n int) {
	d.lines += lines
	d.bytes += n
}

func (f *flow) write(b []byte) {
	f.meter.lines.Add(int64(bytes.Count(b, newline)))
	f.meter.bytes.Add(int64(len(b)))
	full := len(b) == flowRead
	if b = f.skip(b); len(b) == 0 {
		return
	}
	switch {
	case f.to.stalls():
		f.lose(f.part)
		f.part = f.part[:0]
		f.lose(b)
	case f.form == nil:
		f.pass(b, full)
	default:
		f.cut(b)
		f.flush()
	}
}

// skip drops the rest of a line that has been dropped.
func (f *flow) skip(b []byte) []byte {
	if !f.skipping {
		return b
	}
	n := bytes.IndexByte(b, '\n') + 1
	if n == 0 {
		f.drop(0, len(b))
		return nil
	}
	f.skipping = false
	f.drop(1, n)
	return b[n:]
}

func (f *flow) lose(b []byte) {
	if len(b) == 0 {
		return
	}
	f.drop(bytes.Count(b, newline), len(b))
	f.skipping = b[len(b)-1] != '\n'
	f.continues = false
}

func (f *flow) drop(lines, n int) {
	f.lost.add(lines, n)
	f.meter.drop(lines, n)
}

// pass is for output that nothing is done to. Where there is more of it than was
// read at once, a line that was read in part waits for its rest: others write to
// the same place.
func (f *flow) pass(b []byte, full bool) {
	text := b
	if len(f.part) > 0 {
		f.batch = append(append(f.batch[:0], f.part...), b...)
		text, f.part = f.batch, f.part[:0]
	}
	if n := bytes.LastIndexByte(text, '\n') + 1; n > 0 && full {
		f.part = append(f.part, text[n:]...)
		text = text[:n]
	}
	f.batch = f.batch[:0]
	if !f.tellLoss() || !f.to.put(f.meter, text) {
		f.lose(text)
		f.lose(f.part)
		f.part = f.part[:0]
		return
	}
	f.midline = text[len(text)-1] != '\n'
}

// tellLoss says in the output itself that something is missing there; false: there
// is no room even for that.
func (f *flow) tellLoss() bool {
	if f.lost == (dropped{}) {
		return true
	}
	var text []byte
	if f.midline {
		text = append(text, '\n')
	}
	text = f.notice(text)
	if !f.to.put(f.meter, text) {
		return false
	}
	f.lost, f.midline = dropped{}, false
	return true
}

func (f *flow) notice(b []byte) []byte {
	if f.form == nil {
		return plain{}.missing(b, &f.author, f.lost)
	}
	return f.form.missing(b, &f.author, f.lost)
}

// cut makes lines of b.
func (f *flow) cut(b []byte) {
	for len(b) > 0 {
		n := bytes.IndexByte(b, '\n')
		ended := n >= 0
		if !ended {
			n = len(b)
		}
		if room := longestLine - len(f.part); n > room {
			f.part = append(f.part, b[:room]...)
			b = b[room:]
			whole := wholeRunes(f.part)
			f.emit(f.part[:whole], false)
			f.part = append(f.part[:0], f.part[whole:]...)
			continue
		}
		switch {
		case !ended:
			f.part = append(f.part, b...)
			return
		case len(f.part) == 0:
			f.emit(b[:n], true)
		default:
			f.part = append(f.part, b[:n]...)
			f.emit(f.part, true)
			f.part = f.part[:0]
		}
		b = b[n+1:]
	}
}

// wholeRunes is where b can be cut without cutting a character.
func wholeRunes(b []byte) int {
	for n := len(b) - 1; n >= max(0, len(b)-utf8.UTFMax); n-- {
		if utf8.RuneStart(b[n]) {
			if utf8.FullRune(b[n:]) {
				break
			}
			return n
		}
	}
	return len(b)
}

func (f *flow) emit(line []byte, ended bool) {
	f.batch = f.form.line(f.batch, &f.author, piece{line, f.continues, !ended})
	f.continues = !ended
	f.batched.bytes += len(line)
	if ended {
		f.batched.add(1, 1)
	}
	if len(f.batch) >= flowBatch {
		f.flush()
	}
}

func (f *flow) flush() {
	if len(f.batch) == 0 {
		return
	}
	if !f.tellLoss() || !f.to.put(f.meter, f.batch) {
		f.drop(f.batched.lines, f.batched.bytes)
	}
	f.batch, f.batched = f.batch[:0], dropped{}
}

// pending reports whether a line has no end yet which somebody may wait for.
func (f *flow) pending() bool { return len(f.part) > 0 }

// hush passes on such a line as far as it has come.
func (f *flow) hush() {
	switch {
	case len(f.part) == 0:
	case f.form == nil:
		f.pass(nil, false)
	default:
		f.emit(f.part, false)
		f.part = f.part[:0]
		f.flush()
	}
}

// end is for what has no end because the worker has none of its own any more.
func (f *flow) end() {
	switch {
	case len(f.part) == 0:
	case f.form == nil:
		f.pass(nil, false)
	default:
		f.emit(f.part, true)
		f.batched = dropped{0, len(f.part)} // there was no newline
		f.flush()
	}
	f.tellLoss()
}
