package live

import (
	"bytes"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/handover"
)

// bufferSize is that of net/http's bufio.Reader.
const bufferSize = 4096

// maxNewlines is how many bytes of line ends net/http forgives after a POST.
const maxNewlines = 4

// peeked is how many bytes of the next request net/http waits for before it
// regards a connection as active: at most one less can be in its buffer.
const peeked = 4

// head follows where the next request begins. Only the goroutine that reads
// uses it.
type head struct {
	atBoundary bool // nothing was read since the last response, or ever
	known      bool // bytes are all that was read of the next request
	skipped    bool // its head's end was read, and bytes has not got the rest
	tail       [peeked - 1]byte
	newlines   int    // how many line ends before the first request are still forgiven
	read       int64  // bytes delivered, or stripped
	since      int64  // when the first of bytes came, 0: none did
	prefix     []byte // came with an adopted connection, not delivered yet
	bytes      []byte
	small      [64]byte
}

// begin is called at the first Read after a response, with the length of the
// buffer that net/http offers.
func (h *head) begin(c *conn, free int) {
	h.atBoundary, h.skipped = false, false
	h.bytes = h.small[:0]
	h.since = 0
	buffered := 0
	h.known = true
	if c.phase() == idle {
		c.mu.Lock()
		inPeek := c.sets == 1 // the second comes when it has seen enough
		c.mu.Unlock()
		buffered = bufferSize - free
		h.known = inPeek && 0 <= buffered && buffered < peeked
	}
	if h.known && buffered > 0 {
		h.bytes = append(h.bytes, h.tail[len(h.tail)-buffered:]...)
		h.since = now()
	}
	switch {
	case c.account == nil:
	case h.known:
		c.account.Boundary(h.read-int64(buffered), c.written.Load())
	default:
		c.account.Unknown(c.written.Load())
	}
}

// count follows the last bytes delivered.
func (h *head) count(c *conn, b []byte) {
	h.read += int64(len(b))
	if c.account != nil {
		c.account.Read(b)
	}
	if len(b) >= len(h.tail) {
		copy(h.tail[:], b[len(b)-len(h.tail):])
		return
	}
	copy(h.tail[:], h.tail[len(b):])
	copy(h.tail[len(h.tail)-len(b):], b)
}

// deliver gives net/http what came before the bytes in the socket.
func (h *head) deliver(c *conn, p []byte) int {
	n := copy(p, h.prefix)
	h.prefix = h.prefix[n:]
	if len(h.prefix) == 0 {
		h.prefix = nil
	}
	h.count(c, p[:n])
	return n
}

// keep remembers b as part of the next request's head. A head that comes in one
// piece is not copied.
func (h *head) keep(c *conn, b []byte) {
	if !h.known || h.skipped {
		return
	}
	whole := len(h.bytes) == 0 && hasHeadEnd(b)
	if !whole {
		if h.since == 0 {
			h.since = now()
		}
		h.bytes = append(h.bytes, b...)
		b = h.bytes
	}
	h.skipped = whole
	if c.phase() == fresh && bytes.HasPrefix(b, preface) {
		c.pin(http2)
	}
}

// preface is what a client of HTTP/2 says first (RFC 9113, 3.4).
var preface = []byte("PRI * HTTP/2.0")

// hasHeadEnd reports whether b has a request's head, or more.
func hasHeadEnd(b []byte) bool {
	if len(b) > 0 && b[0] > ' ' && bytes.HasSuffix(b, []byte("\n\r\n")) {
		return true // most requests come alone, and have no body
	}
	return headEnd(b) > 0
}

// headEnd returns the length of the request's head that b begins with; 0: there
// is no end of one.
func headEnd(b []byte) int {
	start := 0
	for start < len(b) && (b[start] == '\r' || b[start] == '\n') {
		start++
	}
	if i := bytes.Index(b[start:], []byte("\n\r\n")); i >= 0 {
		return start + i + 3
	}
	if i := bytes.Index(b[start:], []byte("\n\n")); i >= 0 {
		return start + i + 2
	}
	return 0
}

// taken: net/http has read a whole head.
func (h *head) taken(c *conn) {
	if c.account != nil {
		if h.atBoundary { // it lay in net/http's buffer, behind another request
			c.account.Unknown(c.written.Load())
		}
		c.account.Active()
	}
	h.atBoundary = false
	h.bytes = nil
	h.known = false
}

// strip takes line ends off the first bytes that an adopted connection gets:
// old clients send one after a POST's body (RFC 9112, 2.2), which net/http
// forgives only on a connection on which it has seen that POST.
func (h *head) strip(b []byte) int {
	if h.newlines == 0 {
		return len(b)
	}
	i := 0
	for i < len(b) && i < h.newlines && (b[i] == '\r' || b[i] == '\n') {
		i++
	}
	h.newlines -= i
	if i < len(b) {
		h.newlines = 0
	}
	return copy(b, b[i:])
}

// adopt puts a prefix before what is in the socket.
func (h *head) adopt(c *conn, prefix []byte) {
	h.newlines = maxNewlines
	h.prefix = append([]byte(nil), prefix...)
	n := h.strip(h.prefix)
	h.prefix = h.prefix[:n]
	h.count(c, prefix[:len(prefix)-n])
}

// item makes c's connection ready to travel.
func (c *conn) item() *handover.Item {
	fd, _ := fdOf(c.sock)
	return &handover.Item{
		Server:    c.table.name,
		FD:        fd,
		Owner:     leaving{c},
		Prefix:    append([]byte(nil), c.head.bytes...),
		Since:     at(c.since.Load()),
		HeadSince: c.headSince(),
		Served:    c.served || c.requests.Load() > 0,
	}
}

// headSince is when the time for the next request's head began to run: with the
// connection if it has no request behind it, else with the head's first byte.
func (c *conn) headSince() time.Time {
	if c.phase() == fresh && !c.headBegan.IsZero() {
		return c.headBegan
	}
	if c.head.since == 0 {
		return time.Time{}
	}
	return at(c.head.since)
}

// leaving owns the socket of a connection that was given away.
type leaving struct{ c *conn }

func (l leaving) itsAccount() Account { return l.c.account }

func (l leaving) Close() error {
	if l.c.account != nil {
		l.c.account.Close()
	}
	return l.c.sock.Close()
}
