//go:build unix

package upgrader

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/link"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

func FuzzDecode(f *testing.F) {
	for _, m := range []message{
		{Type: msgState, Protocol: 1, State: &state{Generation: 2, Files: 3}},
		{Type: msgFiles, Items: []*item{{Key: key{Kind: streams, Network: "tcp", Addr: ":0"}}}},
		{Type: msgHistory, History: []byte(`{"upgrades":1,"outcomes":{},"events":{}}`)},
		{Type: msgReady, Unwanted: []key{{Kind: streams}}},
		{Type: msgUpgrade, Trigger: &control.UpgradeRequest{ID: "x"}},
		{Type: msgEvent, Event: &control.Event{Kind: "x"}},
	} {
		b, err := json.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, len(m.Items))
	}
	f.Add([]byte(`{"type":"files","items":[null]}`), 1)
	f.Fuzz(func(t *testing.T, b []byte, files int) {
		m, err := decode(b, files)
		if err != nil {
			return
		}
		// What was taken for sound must not surprise whoever uses it.
		switch m.Type {
		case "":
			t.Fatal("a message without a type was taken for sound")
		case msgState:
			_ = m.State.Files
		case msgFiles:
			if len(m.Items) != files {
				t.Fatalf("%d items for %d descriptors", len(m.Items), files)
			}
			for _, it := range m.Items {
				_ = it.Key.String()
			}
		case msgUpgrade:
			_ = m.Trigger.ID
		case msgEvent:
			_ = m.Event.Kind
		}
		var h history
		h.add(m.History)
	})
}

// More descriptors than fit in one message arrive, under their names.
func TestManyFilesTravel(t *testing.T) {
	ours, theirs, err := link.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	far, err := fromFile(theirs)
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	const many = 400
	var items []*item
	for i := range many {
		f, err := anonymousFile("x")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fmt.Fprint(f, i)
		items = append(items, &item{Key: key{Kind: userFiles, Name: strings.Repeat("n", 200) + fmt.Sprint(i)}, file: f})
	}
	done := make(chan error, 1)
	go func() { done <- sendFiles(ours, items) }()
	for n := 0; n < many; {
		m, raw, err := receive(far)
		if err != nil {
			t.Fatal(err)
		}
		for _, it := range received(m, raw) {
			b := make([]byte, 9)
			k, _ := it.file.ReadAt(b, 0)
			if it.Key != items[n].Key || string(b[:k]) != fmt.Sprint(n) {
				t.Fatalf("item %d is %v with %q", n, it.Key, b[:k])
			}
			it.close()
			n++
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestIncompatibleReleases(t *testing.T) {
	for _, c := range []struct {
		protocol, oldest int
		ok               bool
	}{{1, 1, true}, {2, 1, true}, {2, 2, false}, {0, 0, false}} {
		if err := compatible(message{Protocol: c.protocol, Oldest: c.oldest}); (err == nil) != c.ok {
			t.Errorf("protocol %d, oldest %d: %v", c.protocol, c.oldest, err)
		}
	}
}

func TestExplainTableflipsErrors(t *testing.T) {
	for text, want := range map[string]exitError{
		"child pid=17 exited: exit status 7":   {pid: 17, exit: "exit status 7"},
		"child pid=17 exited":                  {pid: 17, exit: "exit status 0"},
		"child pid=17 exited: signal: killed":  {pid: 17, exit: "signal: killed"},
		"child pid=17 exited: exit status 255": {pid: 17, exit: "exit status 255"},
	} {
		var e *exitError
		if err := explain(errors.New(text)); !errors.As(err, &e) || e.pid != want.pid || e.exit != want.exit {
			t.Errorf("%q: %v", text, err)
		}
		if byStatus := strings.HasPrefix(want.exit, "exit status"); byStatus != (e.code != nil) {
			t.Errorf("%q: code %v", text, e.code)
		}
	}
	err := explain(errors.New("can't start child: can't start process " + os.Args[0] + ": fork/exec: exec format error"))
	if want := "can't start " + os.Args[0] + ": exec format error"; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
}

func TestHistoryTravelsInParts(t *testing.T) {
	ours, theirs, err := link.Pair()
	if err != nil {
		t.Fatal(err)
	}
	far, err := fromFile(theirs)
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	u := Plain()
	u.outcomes.Finish(control.Outcome{ID: "a", Result: control.Ready})
	u.events.Publish(control.Event{Kind: control.EventStart})
	sent := u.remember()
	sent.Crashes, sent.Upgrades = []time.Time{time.Now().UTC()}, 3
	sent.LastCrash = &control.Crash{Error: strings.Repeat("x", link.MaxData)} // too long to travel
	if err := sendHistory(ours, sent); err != nil {
		t.Fatal(err)
	}
	ours.Close()
	var got history
	for {
		m, _, err := receive(far)
		if err != nil {
			break
		}
		if err := got.add(m.History); err != nil {
			t.Error(err)
		}
	}
	next := Plain()
	next.restore(got, &control.Outcome{ID: "b", Result: control.Ready}, []string{"c"})
	if o, ok := next.outcomes.Get("a"); !ok || o.Result != control.Ready {
		t.Error("the outcome was lost")
	}
	if o, ok := next.outcomes.Get("c"); !ok || o.Result != control.Ready {
		t.Error("the new outcome was lost")
	}
	if len(got.Crashes) != 1 || got.Upgrades != 3 || next.events.Last() != 1 || got.LastCrash != nil {
		t.Errorf("%+v", got)
	}
}
