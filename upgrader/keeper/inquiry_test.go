//go:build linux

package keeper

import (
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/kept"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// TestAStatusIsOfNow: the workers are asked for it, and tell of what has just been.
func TestAStatusIsOfNow(t *testing.T) {
	t.Parallel()
	b := keep(t, webs(t, 2))
	b.settles("test", 2)
	url := "http://" + b.serving() + "/whoami"
	for n := int64(1); n <= 3; n++ {
		resp, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if c := b.of("test").Conns; c == nil || c.Requests != n {
			t.Errorf("after %d requests: %+v", n, c)
		}
	}
}

// A worker that doesn't answer holds up one status, by the timeout; and the next
// one only when it has answered in between. One of a version without inquiries, and
// one that has no line any more, hold up none.
func TestWhoHangsIsWaitedForOnce(t *testing.T) {
	keepFake(t, Service{}, func(w *world) {
		c := w.last()
		c.ready()
		s, p := c.process()
		status := func(want time.Duration) *control.Conns {
			t.Helper()
			start := time.Now()
			conns := w.status().Conns
			if took := time.Since(start); took != want {
				t.Errorf("waited for %v, want %v", took, want)
			}
			return conns
		}
		l := &fakeLine{}
		w.a.ask(func() {
			p.line = l
			s.heard(p, &kept.Hello{Version: kept.VersionInquiry - 1}, nil)
		})
		status(0)
		if l.inquired() {
			t.Error("a worker was asked what it doesn't know")
		}
		w.a.ask(func() { s.heard(p, &kept.Hello{Version: kept.Version}, nil) })
		status(inquiryTimeout)
		status(0)
		tell := func(n int64) {
			w.a.ask(func() { s.heard(p, &kept.Status{Conns: &control.Conns{Requests: n}, Inquiry: int(n)}, nil) })
		}
		tell(1)
		if c := status(inquiryTimeout); c.Requests != 1 {
			t.Errorf("%+v", c)
		}
		tell(2)
		time.AfterFunc(inquiryTimeout/4, func() { tell(2) }) // it had not heard of it yet
		time.AfterFunc(inquiryTimeout/2, func() { tell(3) })
		if c := status(inquiryTimeout / 2); c.Requests != 3 {
			t.Errorf("%+v", c)
		}
		time.AfterFunc(inquiryTimeout/2, func() { w.a.post(func() { s.hungUp(p) }) })
		status(inquiryTimeout / 2)
		status(0)
	})
}

// fakeLine keeps what is sent.
type fakeLine struct{ sent []kept.Message }

func (l *fakeLine) Send(m kept.Message, _ ...int) { l.sent = append(l.sent, m) }
func (l *fakeLine) Roomy() bool                   { return true }
func (l *fakeLine) Close()                        {}

func (l *fakeLine) inquired() bool {
	synctest.Wait()
	return slices.ContainsFunc(l.sent, func(m kept.Message) bool { _, ok := m.(*kept.Inquiry); return ok })
}
