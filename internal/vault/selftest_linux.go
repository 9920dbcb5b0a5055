//go:build linux && (amd64 || arm64)

package vault

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

// selfTestTimeout outlives a machine that stands still for a while, which would leave
// the worker without a rescue until its end.
const selfTestTimeout = 10 * time.Second

// selfTest plays the keeper. The connection is made after the vault was: so it
// proves that the descriptors are shared, that the vault can send them, and that
// this kernel's counts are what Classify takes them for.
func selfTest(h *Handle) error {
	c, err := newClient(h.Sock)
	if err != nil {
		return err
	}
	defer c.Close()
	deadline := time.Now().Add(selfTestTimeout)
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	peer, ours, err := loopback(deadline)
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	defer peer.Close()
	defer ours.Close()
	if err := converse(peer, ours); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	return control(ours, func(fd int) error { return checkFetch(ctx, h, c, fd) })
}

func loopback(deadline time.Time) (peer, ours *net.TCPConn, err error) {
	lc := net.ListenConfig{}
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	l.(*net.TCPListener).SetDeadline(deadline)
	d := net.Dialer{Deadline: deadline}
	d.SetMultipathTCP(false)
	p, err := d.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	o, err := l.Accept()
	if err != nil {
		p.Close()
		return nil, nil, err
	}
	p.SetDeadline(deadline)
	o.SetDeadline(deadline)
	return p.(*net.TCPConn), o.(*net.TCPConn), nil
}

// What the self-test's connection has seen: of "request" the end is unread.
const (
	testConsumed = 5
	testUnread   = 2
	testWritten  = 4
)

func converse(peer, ours *net.TCPConn) error {
	_, err1 := peer.Write([]byte("request"))
	_, err2 := ours.Read(make([]byte, testConsumed))
	_, err3 := ours.Write(make([]byte, testWritten))
	return errors.Join(err1, err2, err3)
}

func control(conn *net.TCPConn, f func(fd int) error) (err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	if ctl := raw.Control(func(fd uintptr) { err = f(int(fd)) }); ctl != nil {
		return ctl
	}
	return err
}

func checkFetch(ctx context.Context, h *Handle, c *client, fd int) error {
	h.Table.Accepted(fd, 0)
	defer h.Table.Close(fd)
	dup := -1
	err := c.fetch(ctx, []int32{int32(fd), -1},
		func(_, d int) { dup = d },
		func(i int, err error) {
			if i == 0 {
				dup = -1
			}
		})
	if err != nil {
		return fmt.Errorf("the vault doesn't answer: %w", err)
	}
	if dup < 0 {
		return errors.New("the vault doesn't have the worker's descriptors")
	}
	defer syscall.Close(dup)
	return errors.Join(checkSame(fd, dup), checkCounts(h, dup, fd))
}

func checkSame(fd, dup int) error {
	a, err := cookie(fd)
	if err != nil {
		return fmt.Errorf("SO_COOKIE: %w", err)
	}
	if b, err := cookie(dup); err != nil || a != b {
		return errors.New("the vault gave another socket")
	}
	return nil
}

func checkCounts(h *Handle, dup, fd int) error {
	got, err := Inspect(dup)
	if err != nil {
		return err
	}
	if got.Consumed != testConsumed || got.Unread != testUnread || got.Written != testWritten {
		return fmt.Errorf("the kernel's counts can't be used here: %+v", got)
	}
	v, err := NewView(h.Memory)
	if err != nil {
		return err
	}
	lines, err := v.Lines()
	if err != nil {
		return err
	}
	if len(lines) != 1 || lines[0].FD != fd {
		return errors.New("the table doesn't show what was stored")
	}
	return nil
}
