package live

import (
	"errors"
	"net"
	"syscall"

	"github.com/tablecloth-go/tablecloth/internal/handover"
)

const canMove = false

func fdOf(syscall.Conn) (int, error) { return -1, errors.ErrUnsupported }

func waiting(syscall.Conn) bool { return false }

func (t *Table) dress(it *handover.Item) (net.Conn, Account, error) {
	if l, ok := it.Owner.(leaving); ok {
		return l.c.sock, l.c.account, nil
	}
	return nil, nil, errors.ErrUnsupported
}

type accounted struct {
	fd int
	Account
}

func (a *accounted) itsAccount() Account { return a.Account }

func (a *accounted) Close() error { a.Account.Close(); return nil }
