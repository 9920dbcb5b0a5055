//go:build unix

package upgrader

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/link"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
	"github.com/tablecloth-go/tablecloth/upgrader/sd"
)

// The private link joins a generation and its successor. What the old one has to
// give is queued in it at once, while the new process starts, so that from then on
// it arrives even if the old one dies:
//
//	old                         new
//	state, files…, history…  →         queued, whether or not anybody reads yet
//	                         ←  hello  at once, in New
//	                         ←  trouble   why it will probably fail
//	                         ←  ready  all sockets exist, nothing is accepted yet
//	go, history…, told       →         committed: only the new one acts from here on
//	                         ←  acting it accepts
//	upgrade, stop            →         what reached the old one too late
//	event, status            →         of the old one's drain
//	                         ←  end    drain no longer
//	                         ←  leaving   the service is being stopped: its end is no death
//
// EOF before go: the old one has died, and the new one takes over by itself.

// protocol is the version spoken, protocolOldest the oldest one understood.
// Fields and messages may be added without a new version; what is unknown is
// ignored. They are variables for the tests.
var protocol, protocolOldest = 1, 1

const (
	msgState   = "state"
	msgFiles   = "files"
	msgHistory = "history"
	msgHello   = "hello"
	msgTrouble = "trouble"
	msgReady   = "ready"
	msgGo      = "go"
	msgTold    = "told"
	msgActing  = "acting"
	msgUpgrade = "upgrade"
	msgStop    = "stop"
	msgEvent   = "event"
	msgStatus  = "status"
	msgEnd     = "end"
	msgLeaving = "leaving"
)

// message is any message on a private link; which fields it has depends on Type.
type message struct {
	Type     string
	Protocol int // state, hello
	Oldest   int // state, hello
	PID      int // state, hello
	State    *state
	Items    []*item                 // files: one for each descriptor
	History  json.RawMessage         // of a history
	Text     string                  // trouble
	Unwanted []key                   // ready: sockets it doesn't want
	PIDFile  string                  // ready: absolute path
	Outcome  *control.Outcome        // go: of the upgrade that it concludes,
	IDs      []string                // and of these requests
	More     bool                    // go: history follows, until told
	Trigger  *control.UpgradeRequest // upgrade
	Event    *control.Event
	Status   *control.Generation
}

// envelope is a message as it travels. What most messages don't have is unpacked
// apart: encoding/json takes long to prepare for the types in there, and each
// process does that anew, while its clients wait.
type envelope struct {
	Type     string          `json:"type"`
	Protocol int             `json:"protocol,omitempty"`
	Oldest   int             `json:"oldest,omitempty"`
	PID      int             `json:"pid,omitempty"`
	State    json.RawMessage `json:"state,omitempty"`
	Items    json.RawMessage `json:"items,omitempty"`
	History  json.RawMessage `json:"history,omitempty"`
	Text     string          `json:"text,omitempty"`
	Unwanted json.RawMessage `json:"unwanted,omitempty"`
	PIDFile  string          `json:"pidfile,omitempty"`
	Outcome  json.RawMessage `json:"outcome,omitempty"`
	IDs      []string        `json:"ids,omitempty"`
	More     bool            `json:"more,omitempty"`
	Trigger  json.RawMessage `json:"trigger,omitempty"`
	Event    json.RawMessage `json:"event,omitempty"`
	Status   json.RawMessage `json:"status,omitempty"`
}

func (m message) MarshalJSON() ([]byte, error) {
	e := envelope{Type: m.Type, Protocol: m.Protocol, Oldest: m.Oldest, PID: m.PID, Text: m.Text, PIDFile: m.PIDFile,
		IDs: m.IDs, More: m.More, History: m.History}
	if err := errors.Join(pack(&e.State, m.State), pack(&e.Outcome, m.Outcome),
		pack(&e.Trigger, m.Trigger), pack(&e.Event, m.Event), pack(&e.Status, m.Status)); err != nil {
		return nil, err
	}
	var err error
	if len(m.Items) > 0 {
		err = pack(&e.Items, &m.Items)
	}
	if len(m.Unwanted) > 0 {
		err = errors.Join(err, pack(&e.Unwanted, &m.Unwanted))
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(e)
}

func (m *message) UnmarshalJSON(b []byte) error {
	var e envelope
	if err := json.Unmarshal(b, &e); err != nil {
		return err
	}
	*m = message{Type: e.Type, Protocol: e.Protocol, Oldest: e.Oldest, PID: e.PID, Text: e.Text, PIDFile: e.PIDFile,
		IDs: e.IDs, More: e.More, History: e.History}
	return errors.Join(unpack(e.State, &m.State), unpack(e.Items, &m.Items),
		unpack(e.Unwanted, &m.Unwanted), unpack(e.Outcome, &m.Outcome), unpack(e.Trigger, &m.Trigger),
		unpack(e.Event, &m.Event), unpack(e.Status, &m.Status))
}

// pack leaves raw as it is for nil.
func pack[T any](raw *json.RawMessage, v *T) (err error) {
	if v != nil {
		*raw, err = json.Marshal(v)
	}
	return err
}

func unpack[T any](raw json.RawMessage, v *T) error {
	if raw == nil {
		return nil
	}
	return json.Unmarshal(raw, v)
}

// state is what the new generation needs to know from the start.
type state struct {
	Generation  int            `json:"generation"` // the new one's
	KillTimeout time.Duration  `json:"kill_timeout_ns"`
	PIDFile     string         `json:"pidfile,omitempty"` // absolute path of the old one's
	Manager     sd.Environment `json:"manager,omitzero"`
	Files       int            `json:"files"`               // descriptors to come
	Control     string         `json:"control,omitempty"`   // path of the control socket,
	ControlID   string         `json:"controlid,omitempty"` // and what tells its file from another
}

// compatible reports why two releases can't work together; nil if they can.
func compatible(m message) error {
	if m.Protocol < protocolOldest || protocol < m.Oldest {
		return fmt.Errorf("the other generation's tablecloth speaks protocol %d (oldest %d), this one's %d (oldest %d)",
			m.Protocol, m.Oldest, protocol, protocolOldest)
	}
	return nil
}

func send(l *link.Conn, m message, files ...int) error {
	b, err := m.MarshalJSON()
	if err != nil {
		return err
	}
	return l.Send(b, files...)
}

// receive waits for the next message. Only files messages keep descriptors.
func receive(l *link.Conn) (message, link.Message, error) {
	raw, err := l.Recv()
	if err != nil {
		return message{}, raw, err
	}
	m, err := decode(raw.Data, len(raw.Files))
	if err != nil || m.Type != msgFiles {
		raw.Close()
	}
	return m, raw, err
}

// decode checks what doesn't depend on the order of messages.
func decode(data []byte, files int) (message, error) {
	var m message
	if err := m.UnmarshalJSON(data); err != nil {
		return message{}, fmt.Errorf("garbled handoff message: %w", err)
	}
	missing := func(what string) (message, error) {
		return message{}, fmt.Errorf("garbled handoff message: %s without %s", m.Type, what)
	}
	switch m.Type {
	case "":
		return message{}, errors.New("garbled handoff message: no type")
	case msgState:
		if m.State == nil || m.State.Files < 0 || m.State.Generation < 1 {
			return missing("a sound state")
		}
	case msgFiles:
		if len(m.Items) != files {
			return message{}, fmt.Errorf("garbled handoff message: %d descriptors, %d names", files, len(m.Items))
		}
		for _, it := range m.Items {
			if it == nil {
				return missing("a name")
			}
		}
	case msgUpgrade:
		if m.Trigger == nil {
			return missing("a trigger")
		}
	case msgEvent:
		if m.Event == nil {
			return missing("an event")
		}
	}
	return m, nil
}

// sendFiles sends items with their descriptors, as many messages as it takes.
func sendFiles(l *link.Conn, items []*item) error {
	const most = link.MaxFiles / 2 // names of 255 bytes fit as well
	for len(items) > 0 {
		n := min(len(items), most)
		if err := withDescriptors(items[:n], nil, func(fds []int) error {
			return send(l, message{Type: msgFiles, Items: items[:n]}, fds...)
		}); err != nil {
			return err
		}
		items = items[n:]
	}
	return nil
}

// withDescriptors calls f while none of the items' descriptors can be closed.
func withDescriptors(items []*item, fds []int, f func([]int) error) error {
	if len(items) == 0 {
		return f(fds)
	}
	var inner error
	err := items[0].descriptor(func(fd int) { inner = withDescriptors(items[1:], append(fds, fd), f) })
	return errors.Join(err, inner)
}

// sendHistory sends what fits of the history: the parts are bounded each, but
// not together.
func sendHistory(l *link.Conn, h history) error {
	parts := []history{
		{Crashes: h.Crashes, PausedUntil: h.PausedUntil, Upgrades: h.Upgrades, Restarts: h.Restarts},
		{LastCrash: h.LastCrash}, {Outcomes: h.Outcomes}, {Events: h.Events},
	}
	for _, part := range parts {
		packed, err := json.Marshal(part)
		if err != nil {
			continue // worth less than the upgrade
		}
		b, err := message{Type: msgHistory, History: packed}.MarshalJSON()
		if err != nil || len(b) > link.MaxData {
			continue
		}
		if err := l.Send(b); err != nil {
			return err
		}
	}
	return nil
}

// received turns a files message into items.
func received(m message, raw link.Message) []*item {
	for i, fd := range raw.Files {
		m.Items[i].file = os.NewFile(uintptr(fd), m.Items[i].Key.String())
	}
	return m.Items
}
