package handover

import (
	"errors"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

// TestDeathWhileABatchIsSent: a connection comes back when nothing of it is going to
// be sent any more, though the link is still open at its other end.
func TestDeathWhileABatchIsSent(t *testing.T) {
	ours, theirs := linkPair(t)
	defer theirs.Close()
	dead := make(chan struct{})
	s := NewSender(ours, SenderConfig{Dead: dead, Log: quiet, HelloWait: proctest.Patience(t)})
	h := hello{lowest: lowestVersion, highest: highestVersion, room: 10, servers: []string{"web"}}
	if err := theirs.Send(h.append(nil)); err != nil {
		t.Fatal(err)
	}
	if err := s.Takes(proctest.Context(t), "web"); err != nil {
		t.Fatal(err)
	}
	if !s.Reserve() {
		t.Fatal("no room")
	}
	// More than the link holds: the sender waits in the middle of the batch.
	it := &Item{Server: "web", FD: -1, Prefix: make([]byte, MaxPrefix)}
	back := make(chan error, 1)
	s.Put(it, func(it *Item, err error) {
		it.Server, it.Prefix = "", nil // as its owner does
		back <- err
	})
	first, err := theirs.Recv()
	if err != nil || kind(first.Data[0]) != kindPrefix {
		t.Fatal(first, err)
	}
	close(dead)
	if err := proctest.Await(t, "the connection", back); !errors.Is(err, ErrDead) {
		t.Error(err)
	}
	ended := make(chan struct{})
	go func() { s.ended.Wait(); close(ended) }()
	proctest.Await(t, "the sender's end", ended)
	s.Close(t.Context())
}
