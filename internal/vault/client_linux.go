package vault

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/link"
)

// client asks a vault.
type client struct {
	conn *link.Conn
	turn chan struct{} // full from a request to its answer
}

// newClient works on a duplicate of sock.
func newClient(sock *os.File) (*client, error) {
	fd, err := unix.FcntlInt(sock.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	conn, err := link.New(fd)
	if err != nil {
		return nil, err
	}
	return &client{conn: conn, turn: make(chan struct{}, 1)}, nil
}

// ask waits for the answer until ctx ends. One that comes later is taken all the
// same: as long as it lies in the socket, the connections in it can't end.
func (c *client) ask(ctx context.Context, numbers ...int32) ([]int32, []int, error) {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	answers := make(chan answer)
	go func() {
		a := c.exchange(numbers)
		<-c.turn
		select {
		case answers <- a:
		case <-ctx.Done():
			closeAll(a.files)
		}
	}()
	select {
	case a := <-answers:
		return a.numbers, a.files, a.err
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

type answer struct {
	numbers []int32
	files   []int
	err     error
}

// exchange ends with the vault, or with Close, if there is no answer.
func (c *client) exchange(numbers []int32) answer {
	request := make([]byte, 0, 4*len(numbers))
	for _, n := range numbers {
		request = binary.NativeEndian.AppendUint32(request, uint32(n))
	}
	if err := c.conn.Send(request); err != nil {
		return answer{err: err}
	}
	m, err := c.conn.Recv()
	if err != nil {
		return answer{err: err}
	}
	reply := make([]int32, len(m.Data)/4)
	for i := range reply {
		reply[i] = int32(binary.NativeEndian.Uint32(m.Data[4*i:]))
	}
	return answer{numbers: reply, files: m.Files}
}

// fetch hands every descriptor that the vault has to found, which owns its
// duplicate then, and every other one to missing. An error means that the rest
// was not asked for.
func (c *client) fetch(ctx context.Context, fds []int32, found func(i, dup int), missing func(i int, err error)) error {
	for at := 0; at < len(fds); at += maxFetch {
		part := fds[at:min(at+maxFetch, len(fds))]
		if err := c.fetchPart(ctx, at, part, found, missing); err != nil {
			return err
		}
	}
	return nil
}

func (c *client) fetchPart(ctx context.Context, at int, fds []int32, found func(int, int), missing func(int, error)) error {
	status, dups, err := c.ask(ctx, append([]int32{requestFetch}, fds...)...)
	if errors.Is(err, link.ErrTruncated) {
		// The vault still has them; what there is room for comes with
		// smaller portions.
		return c.fetchHalves(ctx, at, fds, found, missing, unix.EMFILE)
	}
	if err != nil {
		return err
	}
	if len(status) != len(fds) {
		closeAll(dups)
		return fmt.Errorf("%d statuses for %d descriptors", len(status), len(fds))
	}
	if batch := unix.Errno(-status[0]); status[0] < 0 && batch != unix.EBADF {
		return c.fetchHalves(ctx, at, fds, found, missing, batch)
	}
	for i, s := range status {
		switch {
		case s < 0:
			missing(at+i, unix.Errno(-s))
		case len(dups) == 0:
			return errors.New("fewer descriptors than statuses")
		default:
			found(at+i, dups[0])
			dups = dups[1:]
		}
	}
	closeAll(dups)
	return nil
}

// fetchHalves tries again after a batch has failed as a whole. A descriptor that
// doesn't exist never makes it fail.
func (c *client) fetchHalves(ctx context.Context, at int, fds []int32, found func(int, int), missing func(int, error), why unix.Errno) error {
	if why == unix.ETOOMANYREFS { // others of this user have descriptors in flight: until the deadline
		time.Sleep(time.Millisecond)
		return c.fetchPart(ctx, at, fds, found, missing)
	}
	if len(fds) == 1 {
		missing(at, why)
		return nil
	}
	half := len(fds) / 2
	if err := c.fetchPart(ctx, at, fds[:half], found, missing); err != nil {
		return err
	}
	return c.fetchPart(ctx, at+half, fds[half:], found, missing)
}

// scan calls found for each TCP socket below end that doesn't listen. open is how
// many descriptors of all kinds there are; 0: not known.
func (c *client) scan(ctx context.Context, end, open int, found func(fd int)) error {
	for from := int32(0); int(from) < end; {
		reply, dups, err := c.ask(ctx, requestScan, from, int32(end), int32(open))
		closeAll(dups)
		if err != nil {
			return err
		}
		if len(reply) == 0 || reply[0] <= from {
			return errors.New("scan makes no progress")
		}
		from = reply[0]
		for _, fd := range reply[1:] {
			found(int(fd))
		}
	}
	return nil
}

func (c *client) Close() { c.conn.Close() }

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
