package handover

import (
	"errors"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/link"
	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

// TestDeathWhileABatchIsSent: a connection comes back when nothing of it is going to
// be sent any more, though the link is still open at its other end.
func TestDeathWhileABatchIsSent(t *testing.T) {
	dead := make(chan struct{})
	s, theirs := sendTo(t, dead)
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

// TestCloseWhileTheReceiverDies: what is in flight when the receiver dies comes back,
// even if the sender is closed before it has come back.
func TestCloseWhileTheReceiverDies(t *testing.T) {
	for range 20 { // without this promise, half of them would not come back
		dead := make(chan struct{})
		s, theirs := sendTo(t, dead)
		s.mu.Lock()
		s.most, s.window = 1, 1
		s.mu.Unlock()
		closed, back := make(chan struct{}), make(chan error, 1)
		for range 2 { // one to be in flight, one behind it
			if !s.Reserve() {
				t.Fatal("no room")
			}
		}
		s.Put(&Item{Server: "web", FD: 0}, func(_ *Item, err error) { back <- err })
		s.Put(&Item{Server: "web", FD: 0}, func(*Item, error) {
			// The sender has failed, and doesn't know yet what is in flight.
			go func() { s.Close(t.Context()); close(closed) }()
			select {
			case <-closed:
			case <-s.over:
			}
		})
		m, err := theirs.Recv()
		if err != nil {
			t.Fatal(err)
		}
		m.Close()
		close(dead)
		theirs.Close()
		if err := proctest.Await(t, "the connection", back); !errors.Is(err, ErrDead) {
			t.Error(err)
		}
		proctest.Await(t, "Close", closed)
	}
}

// sendTo returns a sender, and a link whose receiver has greeted it.
func sendTo(t *testing.T, dead <-chan struct{}) (*Sender, *link.Conn) {
	t.Helper()
	ours, theirs := linkPair(t)
	t.Cleanup(func() { theirs.Close() })
	s := NewSender(ours, SenderConfig{Dead: dead, Log: quiet, HelloWait: proctest.Patience(t)})
	h := hello{lowest: lowestVersion, highest: highestVersion, room: 10, servers: []string{"web"}}
	if err := theirs.Send(h.append(nil)); err != nil {
		t.Fatal(err)
	}
	if err := s.Takes(proctest.Context(t), "web"); err != nil {
		t.Fatal(err)
	}
	return s, theirs
}
