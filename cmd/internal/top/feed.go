package top

import (
	"context"
	"time"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// feed asks and listens, and posts what it learns.
type feed struct {
	client   *control.Client
	interval time.Duration
	post     func(any)
	news     chan struct{} // an event came: the status is another one
}

func newFeed(client *control.Client, interval time.Duration, post func(any)) *feed {
	return &feed{client: client, interval: interval, post: post, news: make(chan struct{}, 1)}
}

// poll asks for the status at each interval, and soon after each event.
func (f *feed) poll(ctx context.Context) {
	for ctx.Err() == nil {
		asked := time.Now()
		st, err := f.client.Status(ctx)
		if ctx.Err() != nil {
			return
		}
		f.post(answered{st, asked, err})
		select {
		case <-ctx.Done():
		case <-time.After(f.interval):
		case <-f.news:
			pause(ctx, 50*time.Millisecond) // others are likely to follow it
		}
	}
}

// follow reads events for ever: also when the service was gone for so long that
// its Client has given up.
func (f *feed) follow(ctx context.Context) {
	for ctx.Err() == nil {
		for ev, err := range f.client.Follow(ctx, 0) {
			if err != nil {
				break
			}
			f.post(happened{ev})
			select {
			case f.news <- struct{}{}:
			default:
			}
		}
		pause(ctx, f.interval)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// obey gives an order, and posts how it has ended.
func (f *feed) obey(ctx context.Context, o order) {
	if o.what == stopping {
		f.post(concluded{id: o.id, err: f.client.Stop(ctx, control.StopRequest{Service: o.service, Now: o.now})})
		return
	}
	out, err := f.client.Upgrade(ctx, control.UpgradeRequest{ID: o.id, Service: o.service, All: true, Restart: o.what == restarting, Now: o.now})
	if err != nil && ctx.Err() != nil {
		out, err = f.withdrawn(ctx, o.id)
	}
	c := concluded{id: o.id, err: err}
	if err == nil {
		c.outcome = &out
	}
	f.post(c)
}

// withdrawn asks what became of an upgrade that was cancelled: it may have been
// too late.
func (f *feed) withdrawn(ctx context.Context, id string) (control.Outcome, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	out, err := f.client.Outcome(ctx, id)
	if err != nil {
		return out, &control.Error{Message: "cancelled", Err: err}
	}
	if out.Result != control.Ready {
		out.Reason = "cancelled"
	}
	return out, nil
}
