package live

import "encoding/binary"

// record follows the boundaries of TLS records (RFC 8446, 5.1) below a tls.Conn,
// to know whether a part of one has been read, of which net/http knows nothing.
type record struct {
	tls    bool // else nothing is known of what passes
	header [5]byte
	have   int  // bytes of header
	left   int  // bytes of the record's body still to come
	data   bool // something came since the last response
}

const applicationData = 23

func (r *record) count(b []byte) {
	if !r.tls {
		r.data = true
		return
	}
	for len(b) > 0 {
		if r.have < len(r.header) {
			n := copy(r.header[r.have:], b)
			r.have += n
			b = b[n:]
			if r.have < len(r.header) {
				return
			}
			r.left = int(binary.BigEndian.Uint16(r.header[3:]))
		}
		n := min(r.left, len(b))
		r.left -= n
		b = b[n:]
		if r.left == 0 {
			r.have = 0
			r.data = r.data || r.header[0] == applicationData
		}
	}
}

// idle is called when a response is complete.
func (r *record) idle() { r.data = false }

// whole reports whether nothing of a next request was read. On a fresh
// connection application data proves nothing: TLS 1.3 shakes hands with it.
func (r *record) whole(p phase) bool {
	return r.have == 0 && (p == fresh || !r.data)
}
