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
// give is queued in it before the new process is started, so that it arrives
// even if the old one dies meanwhile:
//
//	old                         new
//	state, files…, history…  →         queued before the start
//	                         ←  hello  at once, in New
//	                         ←  trouble   why it will probably fail
//	                         ←  ready  all sockets exist, nothing is accepted yet
//	go, history…             →         committed: only the new one acts from here on
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
	Type     string                  `json:"type"`
	Protocol int                     `json:"protocol,omitempty"` // state, hello
	Oldest   int                     `json:"oldest,omitempty"`   // state, hello
	PID      int                     `json:"pid,omitempty"`      // state, hello
	State    *state                  `json:"state,omitempty"`
	Items    []*item                 `json:"items,omitempty"` // files: one for each descriptor
	History  *history                `json:"history,omitempty"`
	Text     string                  `json:"text,omitempty"`     // trouble
	Unwanted []key                   `json:"unwanted,omitempty"` // ready: sockets it doesn't want
	PIDFile  string                  `json:"pidfile,omitempty"`  // ready: absolute path
	Outcome  *control.Outcome        `json:"outcome,omitempty"`  // go: of the upgrade that it concludes,
	IDs      []string                `json:"ids,omitempty"`      // and of these requests
	Trigger  *control.UpgradeRequest `json:"trigger,omitempty"`
	Event    *control.Event          `json:"event,omitempty"`
	Status   *control.Generation     `json:"status,omitempty"`
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
	b, err := json.Marshal(m)
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
	if err := json.Unmarshal(data, &m); err != nil {
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
		b, err := json.Marshal(message{Type: msgHistory, History: &part})
		if err != nil || len(b) > link.MaxData {
			continue // worth less than the upgrade
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
