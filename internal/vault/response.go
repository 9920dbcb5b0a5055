package vault

import "bytes"

// maxHead is how much of a response's head is kept when it is written in
// pieces. The end of one that is longer stays unknown.
const maxHead = 64 << 10

// Response finds the end of a response in what a server writes. The zero value
// is for a request of which nothing is known, and finds none.
type Response struct {
	kind  Kind
	phase phase
	head  []byte // of a head that didn't come in one piece
	body  Chunks
	last  bool // Connection: close
}

type phase int

const (
	inHead phase = iota
	inChunks
	over // found, or not to be found
)

// Mark is what a write brings to light.
type Mark struct {
	// End counts from the first byte of the write, and can lie far behind
	// its last one. 0: nothing was learned.
	End uint64
	// Interim: it is the end of a 1xx response, which another one follows.
	Interim bool
	// Last: the server says that it closes the connection afterwards.
	Last bool
}

// Begin starts over for the response to a request of kind k.
func (r *Response) Begin(k Kind) {
	*r = Response{kind: k, head: r.head[:0]}
}

// Write looks at p, which is about to be written. A Mark with an End comes once
// for a response, and once for each 1xx response before it which is written by
// itself.
func (r *Response) Write(p []byte) Mark {
	switch r.phase {
	case inHead:
		return r.inHead(p)
	case inChunks:
		return r.inChunks(p, 0)
	}
	return Mark{}
}

// inHead reads heads until one isn't that of an interim response.
func (r *Response) inHead(p []byte) Mark {
	before := uint64(len(r.head)) // written earlier
	all := p
	if before > 0 {
		r.head = append(r.head, p...)
		all = r.head
	}
	var interim uint64
	for {
		var h header
		if !h.parse(all[interim:]) {
			return r.keepHead(all, interim, before)
		}
		status, ok := status(h.first)
		if !ok || status == 101 || r.kind&Known == 0 {
			r.phase = over
			return Mark{}
		}
		if status >= 200 {
			return r.final(&h, status, all[interim+h.size:], interim+h.size-before)
		}
		interim += h.size
	}
}

// keepHead puts aside what isn't a complete head yet; interim bytes before it
// were 1xx responses.
func (r *Response) keepHead(all []byte, interim, before uint64) Mark {
	rest := all[interim:]
	if len(rest) > maxHead {
		r.phase, r.head = over, nil
		return Mark{}
	}
	r.head = append(r.head[:0], rest...)
	if interim == 0 || len(rest) > 0 {
		return Mark{}
	}
	return Mark{End: interim - before, Interim: true}
}

// final judges by the head of the response proper. body is what follows it in
// this write, at bytes after the write's first.
func (r *Response) final(h *header, status int, body []byte, at uint64) Mark {
	r.phase = over
	r.last = h.close || r.kind&HTTP10 != 0 && !h.keep
	m := Mark{End: at, Last: r.last}
	switch {
	case r.kind&Head != 0 || status == 204 || status == 304:
		return m
	case h.odd || h.chunked && !bytes.HasPrefix(h.first, []byte("HTTP/1.1 ")): // HTTP/1.0 has no chunks
		return Mark{}
	case h.chunked:
		r.phase = inChunks
		return r.inChunks(body, at)
	case h.hasLength:
		m.End += h.length
		return m
	}
	return Mark{} // it ends with the connection
}

func (r *Response) inChunks(p []byte, at uint64) Mark {
	n, found := r.body.Scan(p)
	if !found {
		return Mark{}
	}
	r.phase = over
	return Mark{End: at + uint64(n), Last: r.last}
}

// status parses "HTTP/1.1 200 OK".
func status(line []byte) (int, bool) {
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.")) || line[8] != ' ' {
		return 0, false
	}
	n := 0
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, n >= 100
}
