package server

import (
	"github.com/tablecloth-go/tablecloth/internal/live"
	"github.com/tablecloth-go/tablecloth/internal/vault"
)

// ledger writes down, in the table of a worker's vault, how far each connection
// of one server is.
type ledger struct {
	table  *vault.Table
	server uint32 // its number in the table
}

// Accepted implements live.Ledger.
func (l ledger) Accepted(fd int) live.Account { return l.table.FollowAccepted(fd, l.server) }

// Open implements live.Ledger.
func (l ledger) Open(fd int, prefix []byte) live.Account { return l.table.Follow(fd, l.server, prefix) }

// Claim implements live.Ledger.
func (l ledger) Claim(fd int, prefix []byte) live.Account {
	return l.table.FollowClaimed(fd, l.server, prefix)
}
