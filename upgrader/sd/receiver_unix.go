//go:build unix

package sd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Receiver is the manager's end of the notification protocol.
type Receiver struct {
	conn    *net.UnixConn
	path    string      // to be removed; "": none
	own     os.FileInfo // what we have bound at path
	dropped atomic.Uint64
	buf     []byte
	oob     []byte
}

// NewReceiver binds a datagram socket at an absolute path, at "@" and an
// abstract name (Linux), or, for "", at a random address: abstract where that
// is possible. The kernel tells the sender of each message; whether to believe
// it is the caller's decision: anybody in the same network namespace can write
// to an abstract socket.
func NewReceiver(address string) (*Receiver, error) {
	if address == "" {
		address = randomAddress()
	}
	var lc net.ListenConfig
	// Before the bind, so that no message can come without its sender.
	lc.Control = func(_, _ string, raw syscall.RawConn) error {
		var opt error
		err := raw.Control(func(fd uintptr) { opt = passCredentials(int(fd)) })
		return errors.Join(err, opt)
	}
	pc, err := lc.ListenPacket(context.Background(), "unixgram", address)
	if err != nil {
		return nil, fmt.Errorf("sd: %w", err)
	}
	r := &Receiver{
		conn: pc.(*net.UnixConn),
		buf:  make([]byte, MaxMessage+1),
		oob:  make([]byte, unix.CmsgSpace(MaxFiles*4)+256), // credentials, and what a security module may add
	}
	if address[0] != '@' {
		r.path = address
		if r.own, err = os.Lstat(address); err != nil {
			r.Close()
			return nil, fmt.Errorf("sd: %w", err)
		}
	}
	return r, nil
}

// Address is what the service gets as NOTIFY_SOCKET.
func (r *Receiver) Address() string { return r.conn.LocalAddr().String() }

// Recv waits for the next message, whose Done must be called when it has been
// processed. For one goroutine. What no manager would take is dropped, and its
// descriptors are closed: longer than MaxMessage, with a zero byte in it,
// without a sender. An error means that nothing more will come: net.ErrClosed,
// os.ErrDeadlineExceeded, or a failing socket.
func (r *Receiver) Recv() (*Received, error) {
	for {
		n, oobn, flags, _, err := r.conn.ReadMsgUnix(r.buf, r.oob)
		if err != nil {
			return nil, fmt.Errorf("sd: receive: %w", err)
		}
		m, err := receive(r.buf[:n], r.oob[:oobn], flags)
		if err == nil {
			return m, nil
		}
		r.dropped.Add(1)
	}
}

// Dropped is how many datagrams Recv has thrown away.
func (r *Receiver) Dropped() uint64 { return r.dropped.Load() }

// SetDeadline bounds Recv, as net.Conn's SetReadDeadline.
func (r *Receiver) SetDeadline(t time.Time) error { return r.conn.SetReadDeadline(t) }

// Close ends Recv. A path is removed, if it still is what was bound.
func (r *Receiver) Close() error {
	if r.path != "" {
		if fi, err := os.Lstat(r.path); err == nil && r.own != nil && os.SameFile(fi, r.own) {
			os.Remove(r.path)
		}
	}
	return r.conn.Close()
}

// receive makes a message of what recvmsg has returned. With an error all its
// descriptors have been closed.
func receive(data, oob []byte, flags int) (*Received, error) {
	m := &Received{UID: -1, GID: -1}
	files, err := m.parseControl(oob)
	if err == nil && flags&unix.MSG_TRUNC != 0 {
		err = errors.New("message is too long")
	}
	if err == nil {
		m.Message, err = ParseMessage(data)
	}
	if err != nil {
		closeAll(files)
		return nil, err
	}
	if flags&unix.MSG_CTRUNC != 0 {
		closeAll(files)
		files, m.Lost = nil, true
	}
	m.Files = files
	return m, nil
}

// parseControl returns the descriptors even when it fails.
func (r *Received) parseControl(oob []byte) ([]int, error) {
	var files []int
	identified := !hasCredentials
	cmsgs, err := unix.ParseSocketControlMessage(oob)
	for i := range cmsgs {
		c := &cmsgs[i]
		if c.Header.Level != unix.SOL_SOCKET {
			continue
		}
		if c.Header.Type == unix.SCM_RIGHTS {
			fds, rightsErr := unix.ParseUnixRights(c)
			files = append(files, fds...)
			err = errors.Join(err, rightsErr)
		} else if r.credentials(c) {
			identified = true
		}
	}
	if err == nil && !identified {
		err = errors.New("message without a sender")
	}
	return files, err
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
