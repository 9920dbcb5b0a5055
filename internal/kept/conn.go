//go:build unix

package kept

import (
	"fmt"
	"net"
	"os"

	"github.com/tablecloth-go/tablecloth/internal/link"
)

// Conn is either end of the conversation. Send and Recv may be called from
// different goroutines.
type Conn struct{ l *link.Conn }

// New makes a Conn of a link.
func New(l *link.Conn) *Conn { return &Conn{l} }

// Dial connects to the keeper that $TABLECLOTH_KEEPER names. nil, nil: this
// process isn't kept.
func Dial() (*Conn, error) {
	addr := os.Getenv(Env)
	if addr == "" {
		return nil, nil
	}
	uc, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: addr, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("kept: connect to the keeper at $%s: %w", Env, err)
	}
	return New(link.From(uc, false)), nil
}

// Send sends a message, with descriptors which stay the caller's.
func (c *Conn) Send(m Message, files ...int) error {
	data, err := Encode(m)
	if err != nil {
		return err
	}
	return c.l.Send(data, files...)
}

// Recv waits for the next message, and returns the descriptors that came with
// it: the caller's. io.EOF: the other side has ended. After any other error the
// conversation is over too.
func (c *Conn) Recv() (Message, []int, error) {
	raw, err := c.l.Recv()
	if err != nil {
		return nil, nil, err
	}
	m, err := Decode(raw.Data)
	if err != nil {
		raw.Close()
		return nil, nil, err
	}
	if _, ok := m.(*Unknown); ok {
		raw.Close()
	}
	return m, raw.Files, nil
}

// Link is the link below.
func (c *Conn) Link() *link.Conn { return c.l }

// Close ends the conversation.
func (c *Conn) Close() error { return c.l.Close() }
