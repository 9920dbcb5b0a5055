//go:build unix

// Package link carries messages with descriptors between two generations, or
// between a worker and its keeper: a connected pair of unix sockets which keeps
// message boundaries (SOCK_SEQPACKET on Linux, a length prefix on a stream
// elsewhere).
//
// A message that was sent outlives its sender: what is in the socket when a
// process dies, descriptors included, is still there for the other side.
package link

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// MaxData is the largest payload of one message, in bytes.
	MaxData = 64 << 10
	// MaxFiles is the largest number of descriptors in one message: the
	// kernel's SCM_MAX_FD.
	MaxFiles = 253
)

// Message is what one Recv returns.
type Message struct {
	Data  []byte
	Files []int // close-on-exec (net's ReadMsgUnix sees to it); the receiver owns them
	PID   int   // the sender, by the kernel's word; 0 where it doesn't tell
}

// Close closes the descriptors of a message that nobody wants.
func (m *Message) Close() {
	for _, fd := range m.Files {
		unix.Close(fd)
	}
	m.Files = nil
}

// ErrTruncated means that descriptors of a message were lost on the way: this
// process has no room for them (RLIMIT_NOFILE). Those that did arrive have been
// closed.
var ErrTruncated = errors.New("message truncated: too few descriptors left (raise RLIMIT_NOFILE)")

// Conn is one end. Send and Recv may be called from different goroutines; each
// of them from several.
type Conn struct {
	c       *net.UnixConn
	framed  bool
	sendMu  sync.Mutex
	recvMu  sync.Mutex
	buf     []byte // of Recv
	oob     []byte
	scratch []byte // of a framed Send
}

// Pair returns our end, and the other one as a file to be given to another
// process.
func Pair() (*Conn, *os.File, error) {
	fds, err := socketpair()
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "link")
	ours, err := New(fds[0])
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// New makes a Conn of a socket descriptor, which it takes over: also when it
// fails, the descriptor is closed.
func New(fd int) (*Conn, error) {
	typ, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("not a socket: %w", err)
	}
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "link")
	defer f.Close() // FileConn works on a duplicate
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	uc, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("not a unix socket: %T", c)
	}
	return From(uc, typ == unix.SOCK_STREAM), nil
}

// From makes a Conn of a connected unix socket; framed says that it is a byte
// stream, on which messages need a length prefix.
func From(uc *net.UnixConn, framed bool) *Conn {
	passCredentials(uc)
	return &Conn{
		c:      uc,
		framed: framed,
		buf:    make([]byte, MaxData+4),
		oob:    make([]byte, unix.CmsgSpace(MaxFiles*4)+128),
	}
}

// Send sends one message. It blocks while the other side's queue is full, until
// the write deadline. The descriptors stay the caller's: the message has its own
// duplicates.
func (c *Conn) Send(data []byte, files ...int) error {
	if len(data) == 0 || len(data) > MaxData {
		return fmt.Errorf("message of %d bytes: must be 1 to %d", len(data), MaxData)
	}
	if len(files) > MaxFiles {
		return fmt.Errorf("message with %d descriptors: at most %d", len(files), MaxFiles)
	}
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	var oob []byte
	if len(files) > 0 {
		oob = unix.UnixRights(files...)
	}
	if c.framed {
		c.scratch = frame(c.scratch[:0], data)
		data = c.scratch
	}
	n, _, err := c.c.WriteMsgUnix(data, oob, nil)
	if err != nil {
		return err
	}
	if n < len(data) { // a stream only; the descriptors went with the first byte
		_, err = c.c.Write(data[n:])
	}
	return err
}

// Recv waits for the next message. io.EOF: the other side has closed, or its
// process has ended. The Data of a message is the caller's.
func (c *Conn) Recv() (Message, error) {
	c.recvMu.Lock()
	defer c.recvMu.Unlock()
	want := len(c.buf)
	if c.framed {
		want = 4
	}
	n, oobn, flags, _, err := c.c.ReadMsgUnix(c.buf[:want], c.oob)
	if errors.Is(err, syscall.ECONNRESET) {
		// Once, and before what is still queued: the other side has closed
		// without reading all that we sent (unix_release_sock in the kernel).
		n, oobn, flags, _, err = c.c.ReadMsgUnix(c.buf[:want], c.oob)
	}
	if errors.Is(err, io.EOF) {
		return Message{}, io.EOF // without net's OpError around it
	}
	if err != nil {
		return Message{}, err
	}
	m, err := parseControl(c.oob[:oobn])
	if err == nil && flags&(syscall.MSG_CTRUNC) != 0 {
		err = ErrTruncated
	}
	if err == nil {
		m.Data, err = c.payload(n, flags)
	}
	if err != nil {
		m.Close()
		return Message{}, err
	}
	return m, nil
}

// CloseWrite lets the other side see EOF after what was sent.
func (c *Conn) CloseWrite() error { return c.c.CloseWrite() }

// Close closes this end.
func (c *Conn) Close() error { return c.c.Close() }

// SetDeadline bounds Recv and Send, as net.Conn's does.
func (c *Conn) SetDeadline(t time.Time) error { return c.c.SetDeadline(t) }

// SetReadDeadline bounds Recv.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.c.SetReadDeadline(t) }

// SetWriteDeadline bounds Send.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.c.SetWriteDeadline(t) }

// SyscallConn gives access to the descriptor, without a duplicate.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return c.c.SyscallConn() }

func parseControl(oob []byte) (Message, error) {
	var m Message
	cmsgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return m, fmt.Errorf("control message: %w", err)
	}
	for i := range cmsgs {
		if cmsgs[i].Header.Level == unix.SOL_SOCKET && cmsgs[i].Header.Type == unix.SCM_RIGHTS {
			fds, err := unix.ParseUnixRights(&cmsgs[i])
			if err != nil {
				return m, fmt.Errorf("descriptors: %w", err)
			}
			m.Files = append(m.Files, fds...)
			continue
		}
		if pid := credentialsPID(&cmsgs[i]); pid != 0 {
			m.PID = pid
		}
	}
	return m, nil
}
