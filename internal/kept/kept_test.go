package kept

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

var samples = []Message{
	&Hello{Version: 1, Servers: []string{"web"}, Handover: 2, Room: 1000, Build: "v1"},
	&Ready{},
	&Crash{Error: "boom", Stack: "goroutine 1", Count: 1},
	&Leave{Reason: "SIGTERM"},
	&Upgrade{control.UpgradeRequest{ID: "x", Trigger: "SIGHUP", Now: true}},
	&Stop{Now: true},
	&Status{Text: "fine", Conns: &control.Conns{Open: 3}},
	&Vault{PID: 5, Servers: []string{"web"}},
	&Listening{Servers: [][]string{{"127.0.0.1:80"}, nil}, Others: []string{"[::]:443"}},
	&Event{control.Event{Kind: control.EventHandover, Counts: map[string]int{"moved": 1}}},
	&Welcome{Version: 1, Service: "web", Generation: 2, Worker: 1, Workers: 4, KillTimeout: time.Second},
	&Inquiry{Number: 1},
	&Go{},
	&Drain{Reason: Replaced, Timeout: time.Second},
	&Outcome{control.Outcome{ID: "x", Result: control.Ready}},
	&Peer{Role: Successor, Generation: 3, PID: 4},
	&Broadcast{From: -1, Message: []byte("hear")},
}

func TestEveryMessageArrivesAsItWasSent(t *testing.T) {
	for _, m := range samples {
		data, err := Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(data)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%s: got %+v, %v", data, got, err)
		}
	}
}

func TestMessagesOfLaterVersionsAreIgnored(t *testing.T) {
	m, err := Decode([]byte(`{"kind":"levitate","body":{"up":1}}`))
	if u, ok := m.(*Unknown); err != nil || !ok || u.Kind != "levitate" {
		t.Errorf("unknown kind: %v, %v", m, err)
	}
	m, err = Decode([]byte(`{"kind":"drain","body":{"reason":"stopped","timeout_ns":5,"politely":true}}`))
	if d, ok := m.(*Drain); err != nil || !ok || d.Timeout != 5 {
		t.Errorf("unknown field: %v, %v", m, err)
	}
}

func TestALongStackIsCut(t *testing.T) {
	data, err := Encode(&Crash{Error: strings.Repeat("\x00", 1<<20), Stack: strings.Repeat("\x01", 1<<20)})
	if err != nil || len(data) > 64<<10 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range samples {
		data, _ := Encode(m)
		f.Add(data)
	}
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"kind":"go","body":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Decode(data)
		if err != nil {
			return
		}
		if _, ok := m.(*Unknown); ok {
			return
		}
		one, err := Encode(m)
		if err != nil {
			return // a time outside of JSON's range
		}
		again, err := Decode(one)
		if err != nil {
			t.Fatalf("%s: %v", one, err)
		}
		two, err := Encode(again)
		if err != nil || !bytes.Equal(one, two) {
			t.Fatalf("%s\n%s\n%v", one, two, err)
		}
	})
}
