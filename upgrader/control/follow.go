package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"strconv"
	"time"
)

// maxEvent is the longest line of GET /events that is read.
const maxEvent = 4 << 20

// Events returns the events after number since that the service still holds. The
// sequence ends with them, or with an error.
func (c *Client) Events(ctx context.Context, since uint64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		f := follower{c: c, seq: since}
		if err := f.read(ctx, false, yield); err != nil && !errors.Is(err, errEnough) {
			yield(Event{}, err)
		}
	}
}

// Follow is Events, but goes on with those that are yet to come, over all
// generations, until ctx is done: its error ends the sequence then. ErrNotRunning:
// the service has been gone for a while.
func (c *Client) Follow(ctx context.Context, since uint64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		f := follower{c: c, seq: since}
		if err := f.follow(ctx, yield); !errors.Is(err, errEnough) {
			yield(Event{}, err)
		}
	}
}

// errEnough: whoever ranges over the events has left the loop.
var errEnough = errors.New("enough")

// follower reads events over one connection after the other.
type follower struct {
	c      *Client
	seq    uint64
	origin string
	heard  time.Time // when somebody answered last
}

func (f *follower) follow(ctx context.Context, yield func(Event, error) bool) error {
	f.heard = time.Now()
	first := true
	for {
		seq := f.seq
		err := f.read(ctx, true, yield)
		lost := errors.Is(err, errBroken) || errors.Is(err, ErrNotRunning) && !first
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil, lost && time.Since(f.heard) < reattachTimeout:
		default:
			return err
		}
		first = false
		if err == nil && f.seq != seq {
			continue // the next generation may have little time left, too
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// read returns nil when the service has ended the stream between two events.
func (f *follower) read(ctx context.Context, follow bool, yield func(Event, error) bool) error {
	q := url.Values{"since": {strconv.FormatUint(f.seq, 10)}}
	if follow {
		q.Set("follow", "1")
	}
	if f.origin != "" {
		q.Set("origin", f.origin)
	}
	resp, err := f.c.send(ctx, "GET", "/events?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	f.heard = time.Now()
	if resp.StatusCode != 200 {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, maxBody))
		return decode(resp.StatusCode, b, nil)
	}
	f.origin = resp.Header.Get(originHeader)
	return f.lines(ctx, resp.Body, yield)
}

func (f *follower) lines(ctx context.Context, r io.Reader, yield func(Event, error) bool) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxEvent)
	for lines.Scan() {
		var ev Event
		if err := json.Unmarshal(lines.Bytes(), &ev); err != nil {
			if ctx.Err() == nil && !lines.Scan() { // the last line, cut off
				break
			}
			return &Error{Message: "the service's answer is not to be understood: " + err.Error(), Err: ErrVersion}
		}
		f.seq, f.heard = ev.Seq, time.Now()
		if !yield(ev, nil) {
			return errEnough
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return &Error{Message: fmt.Sprintf("the service tells of an event of over %d bytes", maxEvent), Err: ErrVersion}
	} else if err != nil {
		return broken(ctx, f.c.path, err)
	}
	return nil
}
