package vault

// Chunks finds the end of a chunked body (RFC 9112, 7.1) in pieces of it. The
// zero value is at the body's beginning. Searching for "0\r\n\r\n" wouldn't do:
// a chunk's data may end like that. In a body that isn't well-formed no end is
// found.
type Chunks struct {
	at    chunkPart // what the next byte belongs to
	size  uint64
	empty bool // the trailer line has nothing so far but perhaps a CR
}

type chunkPart int

const (
	chunkFirst chunkPart = iota // digit of the size
	chunkSize
	chunkExtension
	chunkData
	chunkCR // after the data
	chunkLF
	chunkTrailer
	chunkBroken
)

// Scan takes the next piece of a message. If the body ends in it, Scan returns
// how many bytes of it belong to the body, and must not be called again.
func (c *Chunks) Scan(p []byte) (n int, found bool) {
	for i := 0; i < len(p); {
		if c.at == chunkData {
			skip := min(c.size, uint64(len(p)-i))
			c.size -= skip
			i += int(skip)
			if c.size == 0 {
				c.at = chunkCR
			}
			continue
		}
		if c.step(p[i]) {
			return i + 1, true
		}
		i++
	}
	return 0, false
}

// step takes one byte of framing, and tells whether it was the body's last.
func (c *Chunks) step(b byte) bool {
	switch c.at {
	case chunkFirst, chunkSize:
		c.sizeByte(b)
	case chunkExtension:
		if b == '\n' {
			c.sizeLine()
		}
	case chunkCR:
		c.expect(b, '\r', chunkLF)
	case chunkLF:
		c.expect(b, '\n', chunkFirst)
	case chunkTrailer:
		if b == '\n' && c.empty {
			return true
		}
		c.empty = b == '\n' || c.empty && b == '\r'
	}
	return false
}

func (c *Chunks) expect(b, want byte, next chunkPart) {
	c.at = next
	if b != want {
		c.at = chunkBroken
	}
}

func (c *Chunks) sizeByte(b byte) {
	digit, isDigit := hex(b)
	switch {
	case isDigit && c.size < 1<<56:
		c.at, c.size = chunkSize, c.size<<4|digit
	case isDigit || c.at == chunkFirst:
		c.at = chunkBroken
	case b == '\n':
		c.sizeLine()
	case b == '\r' || b == ';' || b == ' ' || b == '\t':
		c.at = chunkExtension
	default:
		c.at = chunkBroken
	}
}

func hex(b byte) (uint64, bool) {
	switch {
	case b >= '0' && b <= '9':
		return uint64(b - '0'), true
	case b >= 'a' && b <= 'f':
		return uint64(b-'a') + 10, true
	case b >= 'A' && b <= 'F':
		return uint64(b-'A') + 10, true
	}
	return 0, false
}

func (c *Chunks) sizeLine() {
	if c.size == 0 {
		c.at, c.empty = chunkTrailer, true
		return
	}
	c.at = chunkData
}
