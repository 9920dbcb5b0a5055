//go:build !linux

package rawio

// Conn is net's own here.
type Conn struct{}

// Read is s.Read.
func (*Conn) Read(s Socket, p []byte) (int, error) { return s.Read(p) }

// ReadScattered is s.Read: what needs first is Linux's.
func (*Conn) ReadScattered(s Socket, _, p []byte) (int, error) { return s.Read(p) }

// Write is s.Write.
func (*Conn) Write(s Socket, p []byte) (int, error) { return s.Write(p) }
