package top

import (
	"context"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/gdamore/tcell/v2"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// DefaultInterval is how often the status is asked for where nothing happens.
const DefaultInterval = time.Second

// Options of Run.
type Options struct {
	Client   *control.Client
	Interval time.Duration // 0: DefaultInterval
	// Screen is an initialized one, which Run doesn't end.
	Screen tcell.Screen
	// ASCII shows no other characters: see WantsASCII.
	ASCII bool
}

// NewScreen opens the terminal of this process. Fini gives it back. An error: there
// is none, or none that lines can be drawn on.
func NewScreen() (tcell.Screen, error) {
	tcell.SetEncodingFallback(tcell.EncodingFallbackASCII)
	screen, err := tcell.NewScreen()
	if err != nil {
		return nil, err
	}
	return screen, screen.Init()
}

// WantsASCII reports whether the locale (locale(7)) has characters of ASCII only, or
// none that we know.
func WantsASCII() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := os.Getenv(name); v != "" {
			v = strings.ToUpper(v)
			return !strings.Contains(v, "UTF-8") && !strings.Contains(v, "UTF8")
		}
	}
	return true
}

// Run shows the service until its user leaves or ctx is done, which is no error.
// Upgrades that were asked for here and are not done then are cancelled.
func Run(ctx context.Context, o Options) error {
	if o.Interval <= 0 {
		o.Interval = DefaultInterval
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &session{Options: o, ctx: ctx, posts: make(chan any, 64), orders: map[string]context.CancelFunc{}, model: newModel(control.NewID)}
	defer s.doing.Wait()
	defer cancel()
	s.feed = newFeed(o.Client, o.Interval, s.post)
	s.doing.Go(func() { s.feed.poll(ctx) })
	s.doing.Go(func() { s.feed.follow(ctx) })
	return s.run()
}

// session is one Run. Only run touches the model and the screen.
type session struct {
	Options
	ctx    context.Context
	posts  chan any
	feed   *feed
	model  *Model
	orders map[string]context.CancelFunc
	doing  sync.WaitGroup
}

func (s *session) post(msg any) {
	select {
	case s.posts <- msg:
	case <-s.ctx.Done():
	}
}

// refresh is how often times that are shown go on.
const refresh = 500 * time.Millisecond

func (s *session) run() error {
	inputs, stop := make(chan tcell.Event, 16), make(chan struct{})
	defer close(stop)
	go s.Screen.ChannelEvents(inputs, stop)
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	for {
		s.show()
		select {
		case <-s.ctx.Done():
			return nil
		case <-tick.C:
		case msg := <-s.posts:
			if s.take(msg) {
				return nil
			}
		case ev := <-inputs:
			if done, err := s.input(ev); done || err != nil {
				return err
			}
		}
		if s.drain() {
			return nil
		}
	}
}

// drain takes what else has come, so that a thousand events are drawn once.
func (s *session) drain() (done bool) {
	for until := time.Now().Add(refresh / 10); time.Now().Before(until); {
		select {
		case msg := <-s.posts:
			if s.take(msg) {
				return true
			}
		default:
			return false
		}
	}
	return false
}

func (s *session) show() {
	s.model.now = time.Now()
	columns, lines := s.Screen.Size()
	draw(s.Screen, s.model.view(columns, lines), s.ASCII)
}

func (s *session) input(ev tcell.Event) (done bool, err error) {
	switch ev := ev.(type) {
	case nil: // the screen was ended
		return true, nil
	case *tcell.EventError: // the terminal is gone
		return true, ev
	case *tcell.EventResize:
		s.Screen.Sync()
	case *tcell.EventKey:
		return s.take(keyOf(ev)), nil
	}
	return false, nil
}

// take passes a message to the model, and does what that wants.
func (s *session) take(msg any) (done bool) {
	if c, ok := msg.(concluded); ok {
		s.orders[c.id]()
		delete(s.orders, c.id)
	}
	for _, act := range s.model.update(time.Now(), msg) {
		switch act := act.(type) {
		case leave:
			return true
		case suspend:
			sleepUntilContinued(s.Screen)
		case repaint:
			s.Screen.Sync()
		case withdrawal:
			if cancel := s.orders[act.id]; cancel != nil {
				cancel()
			}
		case order:
			ctx, cancel := context.WithCancel(s.ctx)
			s.orders[act.id] = cancel
			s.doing.Go(func() { s.feed.obey(ctx, act) })
		}
	}
	return false
}
