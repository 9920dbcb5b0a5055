package vault

import (
	"bytes"
	"strconv"
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
	if bytes.HasPrefix(line, []byte("HEAD ")) {
		k |= Head
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
func ParseRequest(b []byte) Request {
	head := trimLineEnds(b)
	h, ok := parseHead(head)
	if !ok {
		return Request{Kind: RequestKind(head)}
	}
	r := Request{
		Kind: kindOf(h.first),
		Head: uint64(len(b)-len(head)) + h.size,
		Post: bytes.HasPrefix(h.first, []byte("POST ")),
	}
	if h.upgrade || h.odd || bytes.HasPrefix(head, []byte("CONNECT ")) {
		return r
	}
	r.Chunked = h.chunked && !h.hasLength && r.Kind&HTTP10 == 0
	if !h.chunked {
		r.End = r.Head + h.length
	}
	return r
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

// parseHead reads a head as net/textproto does: lines end with LF, a CR before
// it is dropped. ok is false while the empty line is missing.
func parseHead(b []byte) (h header, ok bool) {
	for at := 0; ; {
		n := bytes.IndexByte(b[at:], '\n')
		if n < 0 {
			return h, false
		}
		line := b[at : at+n]
		at += n + 1
		if n > 0 && line[n-1] == '\r' {
			line = line[:n-1]
		}
		switch {
		case len(line) == 0:
			h.size = uint64(at)
			return h, true
		case h.first == nil:
			h.first = line
		default:
			h.field(line)
		}
	}
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
		h.setLength(bytes.Trim(value, " \t"))
	case is(name, "transfer-encoding"):
		h.odd = h.odd || h.chunked || !is(bytes.Trim(value, " \t"), "chunked")
		h.chunked = true
	case is(name, "upgrade"):
		h.upgrade = true
	case is(name, "connection"):
		h.connection(value)
	}
}

func (h *header) connection(value []byte) {
	for token := range bytes.SplitSeq(value, []byte(",")) {
		token = bytes.Trim(token, " \t")
		h.close = h.close || is(token, "close")
		h.keep = h.keep || is(token, "keep-alive")
	}
}

func blank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' }

func (h *header) setLength(value []byte) {
	// 18 digits can't overflow, nor can a sum with what was counted before.
	n, err := strconv.ParseUint(string(value), 10, 64)
	if err != nil || len(value) > 18 || value[0] == '+' || (h.hasLength && n != h.length) {
		h.odd = true
		return
	}
	h.hasLength, h.length = true, n
}

// is compares without regard to ASCII case; lower is in lower case.
func is(b []byte, lower string) bool {
	return len(b) == len(lower) && bytes.EqualFold(b, []byte(lower))
}
