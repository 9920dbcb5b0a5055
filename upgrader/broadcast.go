package upgrader

import (
	"fmt"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// MaxBroadcast is how many bytes a message of Broadcast may have.
const MaxBroadcast = control.MaxBroadcast

// maxBroadcasts is how many messages wait for somebody who reads Broadcasts.
const maxBroadcasts = 64

// Broadcast is a message to all workers of a service.
type Broadcast struct {
	From    int // the worker that sent it; -1: it came by the control socket
	Message []byte
}

// Broadcast sends a message to all other workers of this service that serve. It
// doesn't wait until they have it: it is lost for one that dies, or doesn't read
// Broadcasts. Where there is no keeper there are no other workers, and nothing
// happens. An error: the message has over MaxBroadcast bytes, or the keeper is dead.
func (u *Upgrader) Broadcast(message []byte) error {
	if len(message) > MaxBroadcast {
		return fmt.Errorf("upgrader: broadcast of %d bytes: at most %d", len(message), MaxBroadcast)
	}
	if k, ok := u.succession.(broadcaster); ok {
		return k.broadcast(message)
	}
	return nil
}

// Broadcasts has the messages of other workers, and of those who use the control
// socket (tablecloth broadcast). While 64 wait to be read, further ones are lost.
// It is never closed.
func (u *Upgrader) Broadcasts() <-chan Broadcast { return u.broadcasts }

// broadcaster is a succession with other workers.
type broadcaster interface{ broadcast(message []byte) error }

func (u *Upgrader) hearBroadcast(b Broadcast) {
	select {
	case u.broadcasts <- b:
	default:
	}
}

// Worker is the index of this process among those of its generation, from 0.
func (u *Upgrader) Worker() int { return u.worker }
