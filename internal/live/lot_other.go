//go:build !linux

package live

import (
	"github.com/tablecloth-go/tablecloth/internal/gate"
	"github.com/tablecloth-go/tablecloth/internal/handover"
)

// lot parks nothing where there is no epoll: each connection gets its goroutine
// at once.
type lot struct{}

func newLot(*Table) *lot              { return &lot{} }
func (*lot) park(*handover.Item) bool { return false }
func (*lot) stop() []*handover.Item   { return nil }
func (*lot) kick()                    {}
func (*lot) start()                   {}
func (*lot) len() int                 { return 0 }

// mayBeMultipath: Go makes Multipath TCP sockets on Linux only.
func mayBeMultipath(*gate.Listener) bool { return false }

func isMultipath(socket) bool { return false }
