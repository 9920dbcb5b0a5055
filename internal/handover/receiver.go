//go:build unix

package handover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/link"
)

// ReceiverConfig of Receive.
type ReceiverConfig struct {
	// Targets are the servers of this process, by name.
	Targets map[string]Target
	// Room tells how many more descriptors this process can have. nil: as many
	// as RLIMIT_NOFILE allows.
	Room func() int
	// Log hears of failures. Required.
	Log logrus.FieldLogger
}

// Received counts what a receiver got.
type Received struct {
	Adopted int
	Refused int
}

// Receive greets the sender at the other end of l, and gives the connections
// that come to their targets. It takes over l, and returns when the sender has
// said that this was all (nil), or has ended without saying so
// (io.ErrUnexpectedEOF), when it sends nonsense, or when ctx is done. Connections
// which were not acknowledged by then stay with the sender, and it is told so.
func Receive(ctx context.Context, l *link.Conn, c ReceiverConfig) (Received, error) {
	r := &receiver{l: l, c: c, room: new(descriptors).room}
	if c.Room != nil {
		r.room = func(int) int { return c.Room() }
	}
	defer l.Close()
	stop := context.AfterFunc(ctx, func() { l.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err := r.run()
	if ctx.Err() != nil && err != nil {
		err = ctx.Err()
	}
	if err != nil && err != io.ErrUnexpectedEOF {
		l.SetWriteDeadline(time.Now().Add(5 * time.Second))
		l.Send(appendAbort(nil, err.Error()))
	}
	return r.got, err
}

type receiver struct {
	l    *link.Conn
	c    ReceiverConfig
	room func(taken int) int
	in   incoming
	got  Received
}

func (r *receiver) run() error {
	h := hello{lowest: lowestVersion, highest: highestVersion, room: r.room(0)}
	for name := range r.c.Targets {
		h.servers = append(h.servers, name)
	}
	if err := r.l.Send(h.append(nil)); err != nil {
		return unexpected(err)
	}
	for {
		m, err := r.l.Recv()
		if errors.Is(err, link.ErrTruncated) {
			r.c.Log.Warn("handover: " + err.Error())
			if err := r.l.Send(answer{seq: r.in.lost(), all: codeNoRoom}.append(nil)); err != nil {
				return unexpected(err)
			}
			continue
		}
		if err != nil {
			return unexpected(err)
		}
		items, end, err := r.in.message(&m)
		if end || err != nil {
			return err
		}
		if len(items) > 0 {
			r.batch(items)
		}
	}
}

// unexpected names the end of a sender that has not said good-bye.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// message takes one message of a sender's, whose descriptors it closes unless
// they become items.
func (in *incoming) message(m *link.Message) (items []*Item, end bool, err error) {
	d := decoder{b: m.Data}
	k, v := kind(d.u8()), int(d.u8())
	if v < lowestVersion || v > highestVersion {
		m.Close()
		return nil, false, fmt.Errorf("message of version %d: %w", v, errGarbled)
	}
	if k == kindBatch {
		if items, err = in.batch(d.b, m.Files); err != nil {
			m.Close()
		}
		return items, false, err
	}
	m.Close()
	switch k {
	case kindPrefix:
		return nil, false, in.prefix(d.b)
	case kindEnd:
		d.u32()
		return nil, true, d.done("end")
	}
	return nil, false, fmt.Errorf("from the sender: %w", errGarbled)
}

// lost returns the sequence number of a batch whose descriptors didn't all
// arrive: link closes those that did, and no other message has any. All of it is
// to be refused.
func (in *incoming) lost() uint32 {
	in.loose = nil
	in.next++
	return in.next - 1
}

// batch places connections. Until the answer is sent they are the sender's.
func (r *receiver) batch(items []*Item) {
	a := answer{seq: r.in.next - 1}
	taken := items[:0:0]
	for i, it := range items {
		if err := r.claim(it); err != nil {
			a.refused = append(a.refused, refusal{i, codeOf(err)})
			it.Close()
			continue
		}
		taken = append(taken, it)
	}
	a.room = r.room(len(taken))
	// That it can't be sent means that the sender has gone, and its
	// descriptors with it.
	r.l.Send(a.append(nil))
	for _, it := range taken {
		r.c.Targets[it.Server].Adopt(it)
	}
	r.got.Adopted += len(taken)
	r.got.Refused += len(a.refused)
}

func (r *receiver) claim(it *Item) error {
	t := r.c.Targets[it.Server]
	if t == nil {
		return ErrNoServer
	}
	return t.Claim(it)
}
