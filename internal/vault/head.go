package vault

import (
	"bytes"
)

// RequestKind tells what the first bytes of a request say. It is Known as soon
// as the request line is complete; leading empty lines are passed over.
func RequestKind(head []byte) Kind {
	line, _, complete := bytes.Cut(trimLineEnds(head), []byte("\n"))
	if !complete {
		return 0
	}
	return kindOf(line)
}

func kindOf(line []byte) Kind {
	k := Known
	n := len(line)
	if n < len("GET / HTTP/1.1") {
		return k // net/http refuses it
	}
	if string(line[:5]) == "HEAD " { // without a call, unlike bytes.HasPrefix
		k |= Head
	}
	if string(line[n-8:]) == "HTTP/1.1" {
		return k
	}
	if bytes.HasSuffix(bytes.TrimRight(line, "\r "), []byte(" HTTP/1.0")) {
		k |= HTTP10
	}
	return k
}

// Request is what a request's head says.
type Request struct {
	Kind Kind
	// Head is the size of the head in bytes, with empty lines before it and
	// the one at its end; 0 while that one is missing.
	Head uint64
	// End counts from the first byte of the head to the last one of the
	// body. 0: not known, for the body is chunked, or the connection may
	// change its protocol, or anything at all looks odd.
	End uint64
	// Chunked: a [Chunks] finds the end of the body.
	Chunked bool
	// Post is the method POST.
	Post bool
}

// ParseRequest reads the head of a request; more may follow it.
func ParseRequest(b []byte) (r Request) {
	r.parse(b)
	return r
}

// parse is ParseRequest, in place: it runs deep in a connection's first read, where
// a larger stack would have to be moved with all that is on it.
func (r *Request) parse(b []byte) {
	*r = Request{}
	head := trimLineEnds(b)
	var h header
	if !h.parse(head) {
		r.Kind = RequestKind(head)
		return
	}
	r.Kind = kindOf(h.first)
	r.Head = uint64(len(b)-len(head)) + h.size
	n := len(h.first)
	if n < len("GET / HTTP/1.1") {
		return
	}
	r.Post = string(h.first[:5]) == "POST "
	if string(h.first[n-9:n-1]) != " HTTP/1." || string(h.first[:8]) == "CONNECT " || h.upgrade || h.odd {
		return
	}
	r.Chunked = h.chunked && !h.hasLength && r.Kind&HTTP10 == 0
	if !h.chunked {
		r.End = r.Head + h.length
	}
}

// header is what matters of a message's head.
type header struct {
	first     []byte // the request or status line
	size      uint64 // of the head in bytes, with the empty line
	length    uint64 // Content-Length
	hasLength bool
	chunked   bool
	close     bool // Connection: close
	keep      bool // Connection: keep-alive
	upgrade   bool
	odd       bool // where implementations differ: trust no length
}

// parse reads a head as net/textproto does: lines end with LF, a CR before it is
// dropped. It returns false while the empty line is missing.
func (h *header) parse(b []byte) bool {
	for at := 0; ; {
		n := bytes.IndexByte(b[at:], '\n')
		if n < 0 {
			return false
		}
		line := b[at : at+n]
		at += n + 1
		if n > 0 && line[n-1] == '\r' {
			line = line[:n-1]
		}
		switch {
		case len(line) == 0:
			h.size = uint64(at)
			return true
		case h.first == nil:
			h.first = line
		case matters(line[0]):
			h.field(line)
		}
	}
}

// matters reports whether a line of a head that begins like this can change what a
// header says, or make it odd: most can't, and needn't be looked at. What is wrong
// otherwise with a line, net/http refuses.
func matters(first byte) bool {
	switch first | 0x20 {
	case 'c', 't', 'u': // Content-Length, Connection, Transfer-Encoding, Upgrade
		return true
	}
	return first <= ' '
}

// hasEmptyLine reports whether a line of b is empty, the first one aside: where parse
// finds the end.
func hasEmptyLine(b []byte) bool {
	return bytes.Contains(b, []byte("\n\n")) || bytes.Contains(b, []byte("\n\r\n"))
}

func (h *header) field(line []byte) {
	n := bytes.IndexByte(line, ':')
	if n <= 0 || blank(line[0]) || blank(line[n-1]) {
		h.odd = true // a folded line too
		return
	}
	name, value := line[:n], line[n+1:]
	switch {
	case is(name, "content-length"):
		h.setLength(trimBlanks(value))
	case is(name, "transfer-encoding"):
		h.odd = h.odd || h.chunked || !is(trimBlanks(value), "chunked")
		h.chunked = true
	case is(name, "upgrade"):
		h.upgrade = true
	case is(name, "connection"):
		h.connection(value)
	}
}

func (h *header) connection(value []byte) {
	for token := range bytes.SplitSeq(value, []byte(",")) {
		token = trimBlanks(token)
		h.close = h.close || is(token, "close")
		h.keep = h.keep || is(token, "keep-alive")
	}
}

// trimBlanks is bytes.Trim for spaces and tabs, without its set.
func trimBlanks(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

func blank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' }

func (h *header) setLength(value []byte) {
	// 18 digits can't overflow, nor can a sum with what was counted before.
	if len(value) == 0 || len(value) > 18 {
		h.odd = true
		return
	}
	n := uint64(0)
	for _, c := range value {
		if c < '0' || c > '9' {
			h.odd = true
			return
		}
		n = n*10 + uint64(c-'0')
	}
	h.odd = h.odd || h.hasLength && n != h.length
	h.hasLength, h.length = true, n
}

// is compares without regard to ASCII case; lower is in lower case.
func is(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
