package server

import (
	"github.com/tablecloth-go/tablecloth/internal/live"
	"github.com/tablecloth-go/tablecloth/internal/vault"
)

func ledgerOf(t *vault.Table, server int) live.Ledger { return ledger{t, uint32(server)} }
