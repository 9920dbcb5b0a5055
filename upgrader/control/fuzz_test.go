package control

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// FuzzRequest: whatever is asked, the answer is one that a client understands,
// and only well-formed requests reach the service.
func FuzzRequest(f *testing.F) {
	for _, target := range []string{"/status", "/upgrade", "/upgrade/ABC", "/stop", "/events?since=3", "/events?since=-1&follow=0", "/healthz", "/%2e%2e/", "//"} {
		f.Add("GET", target, "", "1")
		f.Add("POST", target, `{"id":"x","args":["a"],"now":true}`, "")
	}
	f.Fuzz(func(t *testing.T, method, target, body, version string) {
		r, err := http.NewRequest(method, "http://x/", strings.NewReader(body))
		if err != nil {
			t.Skip()
		}
		if r.URL, err = r.URL.Parse(target); err != nil {
			t.Skip()
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // or following the events would not end
		r = r.WithContext(ctx)
		r.Header.Set(versionHeader, version)
		b := &fakeBackend{upgrade: func(_ context.Context, u UpgradeRequest) Outcome {
			if u.ID == "" || checkID(u.ID) != nil || u.Trigger == "" {
				t.Errorf("%+v has reached the service", u)
			}
			return Outcome{ID: u.ID, Result: Ready}
		}}
		s := &Server{Backend: b, Events: NewEvents(2)}
		publish(s.Events, 4)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code >= 400 && w.Code != http.StatusServiceUnavailable {
			var a answer
			if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || a.Error == "" {
				t.Errorf("%d %q", w.Code, w.Body)
			}
		}
	})
}

// FuzzEventsResume: readers that resume anywhere see every event that is held,
// once, in order, and a gap exactly where something is missing.
func FuzzEventsResume(f *testing.F) {
	f.Add(uint8(3), uint8(9), uint8(2), uint64(4))
	f.Add(uint8(1), uint8(0), uint8(0), uint64(1<<63))
	f.Fuzz(func(t *testing.T, size, before, after uint8, since uint64) {
		old, next := NewEvents(int(size)), NewEvents(int(size))
		publish(old, int(before))
		travel(t, old, next)
		publish(next, int(after))
		last, held := uint64(before)+uint64(after), uint64(size)
		if held == 0 {
			held = DefaultEvents
		}
		first := uint64(1)
		if last > held {
			first = last - held + 1
		}
		evs := next.Since(since)
		gap := since > last || since+1 < first
		if gap != (len(evs) > 0 && evs[0].Kind == EventGap) {
			t.Fatalf("held %d to %d, since %d: %s", first, last, since, seqs(evs))
		}
		want := since + 1
		if gap {
			want, evs = first, evs[1:]
		}
		for _, ev := range evs {
			if ev.Seq != want {
				t.Fatalf("%d, want %d", ev.Seq, want)
			}
			want++
		}
		if want != last+1 {
			t.Fatalf("ends at %d, last is %d", want-1, last)
		}
	})
}

// FuzzEventsState: what a generation of another release sends is taken over whole
// or refused, and never breaks the ring.
func FuzzEventsState(f *testing.F) {
	f.Add([]byte(`{"origin":"x","last":2,"tail":[{"seq":1},{"seq":2,"kind":"ready"}]}`), uint64(1))
	f.Add([]byte(`{"last":9223372036854775807}`), uint64(0))
	f.Fuzz(func(t *testing.T, state []byte, since uint64) {
		e := NewEvents(3)
		publish(e, 2)
		if json.Unmarshal(state, e) != nil && e.Last() != 2 {
			t.Error("refused, but changed")
		}
		ev := e.Publish(Event{})
		if ev.Seq != e.Last() || ev.Seq < 3 {
			t.Errorf("%d, last %d", ev.Seq, e.Last())
		}
		e.Since(since)
		var o Outcomes
		json.Unmarshal(state, &o)
	})
}

// FuzzAnswer: no answer of a service makes the client panic, or believe that an
// upgrade has succeeded without saying so.
func FuzzAnswer(f *testing.F) {
	f.Add(200, []byte(`{"id":"x","result":"ready","took_ns":1,"at":"2026-01-01T00:00:00Z"}`))
	f.Add(502, []byte(`{"result":"failed","exit_code":7,"output":["a"]}`))
	f.Add(404, []byte(`{"error":"no","hint":"do"}`))
	f.Add(200, []byte(`{"version":1,"services":[{"name":"web","generations":[{"workers":[{"conns":{}}]}]}]}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		var out Outcome
		if decode(status, body, &out) == nil && out.Result == Ready && !bytes.Contains(bytes.ToLower(body), []byte("result")) {
			t.Errorf("%d %q is taken for a success", status, body)
		}
		var st Status
		if decode(status, body, &st) == nil {
			again, err := json.Marshal(st)
			if err != nil {
				t.Skip() // a year of over four digits can be decoded only
			}
			var same Status
			if err := json.Unmarshal(again, &same); err != nil {
				t.Fatalf("%v: %s", err, again)
			}
			if b, _ := json.Marshal(same); !bytes.Equal(b, again) {
				t.Errorf("%s\n%s", again, b)
			}
		}
		fl := follower{c: &Client{}}
		fl.lines(t.Context(), io.MultiReader(bytes.NewReader(body), strings.NewReader("\n{}")), func(Event, error) bool { return true })
	})
}
