//go:build unix

package live

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/handover"
)

const canMove = true

// fdOf returns the descriptor of s, which stays s's.
func fdOf(s syscall.Conn) (int, error) {
	raw, err := s.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	err = raw.Control(func(n uintptr) { fd = int(n) })
	return fd, err
}

// waiting reports whether bytes can be read from s.
func waiting(s syscall.Conn) bool {
	raw, err := s.SyscallConn()
	if err != nil {
		return false
	}
	some := false
	raw.Control(func(fd uintptr) { some = look(int(fd)) == talks })
	return some
}

// A sight is what can be seen of a connection without reading from it.
type sight int

const (
	silent sight = iota
	talks        // there are bytes
	gone         // the client has closed, or the connection is broken
)

func look(fd int) sight {
	var b [1]byte
	for {
		n, _, err := unix.Recvfrom(fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return silent
		case err == nil && n > 0:
			return talks
		default:
			return gone
		}
	}
}

// dress makes a net.Conn of an item. If it lacks nothing but a descriptor for that
// (errNoDescriptor) the item stays as it is.
func (t *Table) dress(it *handover.Item) (net.Conn, Account, error) {
	if l, ok := it.Owner.(leaving); ok { // came back: it is still what it was
		l.c.sock.SetDeadline(time.Time{})
		return l.c.sock, l.c.account, nil
	}
	was := readOptions(it.FD)
	o := own(it)
	nc, err := net.FileConn(o.f) // a duplicate
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
		it.Owner = o
		return nil, nil, fmt.Errorf("%w: %w", errNoDescriptor, err)
	}
	defer o.Close() // and not the item: its number may be another's a moment later
	if err != nil {
		return nil, nil, err
	}
	var account Account
	if fd, err := fdOf(nc.(syscall.Conn)); err == nil {
		was.restore(fd)
		if t.ledger != nil {
			account = t.ledger.Open(fd, it.Prefix)
		}
	}
	return nc, account, nil
}

// opened owns a descriptor that an attempt has been made to dress.
type opened struct {
	f       *os.File
	account Account // nil: none
}

func own(it *handover.Item) *opened {
	if o, ok := it.Owner.(*opened); ok {
		return o
	}
	o := &opened{f: os.NewFile(uintptr(it.FD), "connection")}
	if a, ok := it.Owner.(*accounted); ok {
		o.account = a.Account
	}
	return o
}

func (o *opened) itsAccount() Account { return o.account }

func (o *opened) Close() error {
	if o.account != nil {
		o.account.Close()
	}
	return o.f.Close()
}

// accounted owns a bare descriptor that has an account.
type accounted struct {
	fd int
	Account
}

func (a *accounted) itsAccount() Account { return a.Account }

func (a *accounted) Close() error {
	a.Account.Close()
	return unix.Close(a.fd)
}
