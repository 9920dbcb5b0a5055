package sd

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"time"
)

// SendTimeout bounds how long a message waits for room in the manager's queue.
const SendTimeout = 5 * time.Second

// Notifier tells the service manager how the service is (sd_notify(3)). A nil
// Notifier means that there is no manager: all methods do nothing and return
// nil. Its methods may be called from many goroutines.
//
// Each message is one datagram. That a method returned nil says that it was
// queued, not that it was believed: a manager doesn't answer those whom it
// doesn't believe (NotifyAccess=). It blocks for at most SendTimeout, while a
// manager doesn't read.
type Notifier struct {
	address string
	sender  sender
}

// NewNotifier returns the Notifier for a NOTIFY_SOCKET: an absolute path, or
// "@" and an abstract name (Linux). "": nil, without an error.
func NewNotifier(address string) (*Notifier, error) {
	if address == "" {
		return nil, nil
	}
	if strings.HasPrefix(address, "vsock") {
		return nil, fmt.Errorf("sd: NOTIFY_SOCKET=%q: vsock is not supported: use a unix socket", address)
	}
	if address[0] != '/' && address[0] != '@' || address == "@" {
		return nil, fmt.Errorf("sd: NOTIFY_SOCKET=%q: must be an absolute path or an abstract name (@…)", address)
	}
	s, err := newSender(address, SendTimeout)
	if err != nil {
		return nil, fmt.Errorf("sd: NOTIFY_SOCKET=%q: %w", address, err)
	}
	return &Notifier{address: address, sender: s}, nil
}

// Address is what NewNotifier was given; "" of nil.
func (n *Notifier) Address() string {
	if n == nil {
		return ""
	}
	return n.address
}

// Close closes the sending socket. Later messages fail.
func (n *Notifier) Close() error {
	if n == nil {
		return nil
	}
	return n.sender.close()
}

// Send sends one message. The descriptors in it stay the caller's.
func (n *Notifier) Send(m Message) error {
	if n == nil {
		return nil
	}
	data, err := m.Marshal()
	if err != nil {
		return err
	}
	if err := n.sender.send(data, m.Files); err != nil {
		return fmt.Errorf("sd: notify %s: %w", n.address, err)
	}
	return nil
}

// Ready sends Message.Ready.
func (n *Notifier) Ready() error { return n.Send(Message{}.Ready()) }

// Reloading sends Message.Reloading. Ready must follow, whatever became of it,
// or the manager waits for ever.
func (n *Notifier) Reloading() error { return n.Send(Message{}.Reloading()) }

// Stopping sends Message.Stopping.
func (n *Notifier) Stopping() error { return n.Send(Message{}.Stopping()) }

// Status sends Message.Status.
func (n *Notifier) Status(text string) error { return n.Send(Message{}.Status(text)) }

// MainPID sends Message.MainPID.
func (n *Notifier) MainPID(pid int) error { return n.Send(Message{}.MainPID(pid)) }

// Errno sends Message.Errno.
func (n *Notifier) Errno(e syscall.Errno) error { return n.Send(Message{}.Errno(e)) }

// Watchdog sends Message.Watchdog.
func (n *Notifier) Watchdog() error { return n.Send(Message{}.Watchdog()) }

// ExtendTimeout sends Message.ExtendTimeout.
func (n *Notifier) ExtendTimeout(d time.Duration) error { return n.Send(Message{}.ExtendTimeout(d)) }

// FDStore sends Message.FDStore.
func (n *Notifier) FDStore(name string, fd int) error { return n.Send(Message{}.FDStore(name, fd)) }

// FDStoreRemove sends Message.FDStoreRemove.
func (n *Notifier) FDStoreRemove(name string) error { return n.Send(Message{}.FDStoreRemove(name)) }

// Barrier waits until the manager has processed everything that was sent
// before, or has ended, or ctx is done. To be called before a process ends that
// has sent something of weight: the manager can't tell whose message it was
// once the sender is gone.
func (n *Notifier) Barrier(ctx context.Context) error {
	if n == nil {
		return nil
	}
	if err := n.barrier(ctx); err != nil {
		return fmt.Errorf("sd: barrier: %w", err)
	}
	return nil
}
