package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// do sends a raw request, so that the server is seen as curl sees it.
func do(s *Server, method, target, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func TestAnUpgradeIsAnsweredByItsResult(t *testing.T) {
	for result, status := range map[Result]int{
		Ready: 200, Failed: 502, TimedOut: 504, Refused: 409, Moved: 202, "unheard of": 500,
	} {
		b := &fakeBackend{upgrade: func(_ context.Context, r UpgradeRequest) Outcome {
			return Outcome{ID: r.ID, Trigger: r.Trigger, Result: result}
		}}
		w := do(&Server{Backend: b}, "POST", "/upgrade", "")
		var out Outcome
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
			t.Fatal(err)
		}
		if w.Code != status || out.Result != result || out.ID == "" || out.Trigger != "control" {
			t.Errorf("%s: status %d, %+v; want %d", result, w.Code, out, status)
		}
	}
}

func TestBadRequestsAreToldWhatIsWrong(t *testing.T) {
	s := &Server{Backend: &fakeBackend{upgrade: func(context.Context, UpgradeRequest) Outcome {
		t.Error("a bad request has reached the backend")
		return Outcome{}
	}}}
	for _, c := range []struct {
		name, method, target, body string
		status                     int
		says                       string
		header                     []string
	}{
		{"no JSON", "POST", "/upgrade", "now=1", 400, "not a JSON request", nil},
		{"wrong type", "POST", "/upgrade", `{"now":"yes"}`, 400, "not a JSON request", nil},
		{"two values", "POST", "/upgrade", `{}{}`, 400, "not a JSON request", nil},
		{"huge body", "POST", "/upgrade", `{"args":["` + strings.Repeat("x", maxBody) + `"]}`, 413, "over 1048576 bytes", nil},
		{"odd id", "POST", "/upgrade", `{"id":"../status"}`, 400, "characters other than", nil},
		{"long id", "POST", "/upgrade", `{"id":"` + strings.Repeat("x", 65) + `"}`, 400, "over 64", nil},
		{"unknown id", "GET", "/upgrade/nobody", "", 404, "nobody knows", nil},
		{"unknown path", "GET", "/metrics", "", 404, "there is no", nil},
		{"no events", "GET", "/events", "", 404, "there is no", nil},
		{"wrong method", "GET", "/stop", "", 405, "is for POST", nil},
		{"wrong method", "DELETE", "/status", "", 405, "is for GET", nil},
		{"newer version", "GET", "/status", "", 400, "speaks version 1", []string{versionHeader, "2"}},
		{"no version", "GET", "/status", "", 400, "not a version", []string{versionHeader, "new"}},
	} {
		w := do(s, c.method, c.target, c.body, c.header...)
		var a answer
		if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
			t.Errorf("%s: %v in %q", c.name, err, w.Body)
		}
		if w.Code != c.status || !strings.Contains(a.Error, c.says) {
			t.Errorf("%s: %d %q; want %d, %q", c.name, w.Code, a.Error, c.status, c.says)
		}
		if w.Header().Get(versionHeader) == "" {
			t.Errorf("%s: the answer has no version", c.name)
		}
	}
}

func TestUnknownFieldsAreIgnored(t *testing.T) {
	var got UpgradeRequest
	s := &Server{Backend: &fakeBackend{upgrade: func(_ context.Context, r UpgradeRequest) Outcome {
		got = r
		return Outcome{Result: Ready}
	}}}
	w := do(s, "POST", "/upgrade", `{"now":true,"args":[],"colour":"blue"}`)
	if w.Code != 200 || !got.Now || got.Args == nil {
		t.Errorf("%d, %+v", w.Code, got)
	}
}

func TestProbes(t *testing.T) {
	b := &fakeBackend{notReady: true}
	s := &Server{Backend: b, Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "up 1\n") })}
	for target, status := range map[string]int{"/healthz": 200, "/readyz": 503, "/metrics": 200} {
		if w := do(s, "GET", target, ""); w.Code != status {
			t.Errorf("%s: %d", target, w.Code)
		}
	}
}

func TestARefusedStopSaysWhy(t *testing.T) {
	s := &Server{Backend: &fakeBackend{stop: func(_ context.Context, r StopRequest) error {
		return fmt.Errorf("no service %q", r.Service)
	}}}
	w := do(s, "POST", "/stop", `{"service":"x"}`)
	if w.Code != 409 || !strings.Contains(w.Body.String(), `no service \"x\"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestAPanicOfTheBackendIsAnswered(t *testing.T) {
	s := &Server{Backend: &fakeBackend{upgrade: func(context.Context, UpgradeRequest) Outcome { panic("out of cheese") }}}
	_, err := serve(t, s).Upgrade(soon(t), UpgradeRequest{})
	if err == nil || !strings.Contains(err.Error(), "out of cheese") {
		t.Error(err)
	}
}

func TestARequesterWhoGoesAwayEndsItsContext(t *testing.T) {
	began, ended := make(chan struct{}), make(chan struct{})
	c := serve(t, &Server{Backend: &fakeBackend{upgrade: func(ctx context.Context, r UpgradeRequest) Outcome {
		close(began)
		<-ctx.Done()
		close(ended)
		return Outcome{ID: r.ID, Result: Failed, Reason: "cancelled"}
	}}})
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := c.Upgrade(ctx, UpgradeRequest{Now: true})
		failed <- err
	}()
	receive(t, began)
	cancel()
	receive(t, ended)
	if err := receive(t, failed); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Negative control of the test above: while the requester stays, so does its
// context, also beyond the time that a body may take.
func TestARequesterWhoStaysKeepsItsContext(t *testing.T) {
	began, finish := make(chan struct{}), make(chan struct{})
	c := serve(t, &Server{Backend: &fakeBackend{upgrade: func(ctx context.Context, r UpgradeRequest) Outcome {
		close(began)
		select {
		case <-ctx.Done():
			return Outcome{ID: r.ID, Result: Failed}
		case <-finish:
			return Outcome{ID: r.ID, Result: Ready}
		}
	}}})
	time.AfterFunc(50*time.Millisecond, func() { close(finish) })
	out, err := c.Upgrade(soon(t), UpgradeRequest{Args: []string{"--new"}})
	if err != nil || out.Result != Ready {
		t.Errorf("%+v, %v", out, err)
	}
	receive(t, began)
}

func TestShutdownAnswersWhatIsUnderWay(t *testing.T) {
	began, finish := make(chan struct{}), make(chan struct{})
	s := &Server{Events: NewEvents(0), Backend: &fakeBackend{upgrade: func(_ context.Context, r UpgradeRequest) Outcome {
		close(began)
		<-finish
		return Outcome{ID: r.ID, Result: Ready}
	}}}
	c := serve(t, s)
	s.Events.Publish(Event{Kind: EventStart})
	stream := follow(t, c)
	if ev := receive(t, stream); ev.Seq != 1 {
		t.Fatalf("%+v", ev)
	}
	answered := make(chan Outcome, 1)
	go func() {
		out, _ := c.Upgrade(t.Context(), UpgradeRequest{})
		answered <- out
	}()
	receive(t, began)
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(soon(t)) }()
	close(finish)
	if out := receive(t, answered); out.Result != Ready {
		t.Errorf("%+v", out)
	}
	if err := receive(t, down); err != nil {
		t.Errorf("Shutdown waits for the stream: %v", err)
	}
}

func TestAConnectionServesOneRequest(t *testing.T) {
	c := serve(t, &Server{Backend: &fakeBackend{}})
	conn, err := net.Dial("unix", c.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if io.Copy(io.Discard, resp.Body); !resp.Close || resp.StatusCode != 200 {
		t.Errorf("%+v", resp)
	}
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the connection stays open: %v", err)
	}
}

func receive[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}
