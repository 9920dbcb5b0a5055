//go:build unix

package link

import (
	"encoding/binary"
	"fmt"
	"io"
	"syscall"
)

// frame appends data with its length in front.
func frame(b, data []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

// payload returns a copy of the message whose first n bytes are in c.buf,
// reading the rest of it from a stream.
func (c *Conn) payload(n, flags int) ([]byte, error) {
	if n == 0 {
		return nil, io.EOF
	}
	if !c.framed {
		if flags&syscall.MSG_TRUNC != 0 || n > MaxData {
			return nil, fmt.Errorf("message of over %d bytes", MaxData)
		}
		return append([]byte(nil), c.buf[:n]...), nil
	}
	if _, err := io.ReadFull(c.c, c.buf[n:4]); err != nil {
		return nil, unexpected(err)
	}
	size := binary.BigEndian.Uint32(c.buf)
	if size == 0 || size > MaxData {
		return nil, fmt.Errorf("message says that it has %d bytes: must be 1 to %d", size, MaxData)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(c.c, data); err != nil {
		return nil, unexpected(err)
	}
	return data, nil
}

// unexpected makes an EOF within a message tell itself from one between two.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
