//go:build linux

package upgrader

import (
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/kept"
	"github.com/tablecloth-go/tablecloth/internal/link"
	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

// A worker without a descriptor left can't take a link to another one. It has a
// keeper all the same.
func TestNoRoomForALink(t *testing.T) {
	ours, theirs, err := link.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	far, err := fromFile(theirs)
	if err != nil {
		t.Fatal(err)
	}
	keeper := kept.New(far)
	defer keeper.Close()
	if err := keeper.Send(&kept.Peer{Role: kept.Predecessor}, 0); err != nil {
		t.Fatal(err)
	}
	if err := keeper.Send(&kept.Go{}); err != nil {
		t.Fatal(err)
	}
	k := &underKeeper{u: Plain(), conn: kept.New(ours), goes: make(chan struct{}), lost: make(chan struct{})}
	defer k.u.Close()
	proctest.NoDescriptorLeft(t)
	go k.listen()
	select {
	case <-k.goes:
	case <-k.lost:
		t.Fatal("the worker has given up its keeper")
	case <-proctest.Context(t).Done():
		t.Fatal("nothing was heard")
	}
}
