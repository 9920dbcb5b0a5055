// Package kept is what a keeper and a worker that has this library in it say to
// each other: JSON messages over a link, each with its kind and, where it needs
// them, descriptors.
//
// The keeper listens on an abstract SOCK_SEQPACKET unix socket whose address is
// in the worker's environment as $TABLECLOTH_KEEPER, and knows the caller by its
// credentials: the worker's first process, or any process of its session.
// Programs without the library never connect, and are kept all the same, by
// signals and sd_notify.
//
// The sequence, for one worker:
//
//	worker                      keeper
//	Hello             →                    first; all sockets exist, nothing is accepted yet
//	                  ←         Welcome    answers Hello
//	Ready             →                    the worker could serve
//	                  ←         Go         all new workers are ready: this generation acts for the service now
//	Vault             →                    before Ready, if Welcome says that it is wanted
//	Listening         →                    after Vault, before Ready
//	                  ←         Inquiry    somebody wants to know how the worker is
//	Status            →                    answers Inquiry; unasked every few seconds, and at the end
//	Crash             →                    the worker isn't to be trusted any more, but lives
//	Leave             →                    somebody told this process alone to end: a successor, please
//	Upgrade, Stop     →                    somebody asked the worker instead of the keeper
//	                  ←         Outcome    of an Upgrade with that ID
//	                  ←         Drain      finish what you have, then exit 0 (1 after a crash)
//	                  ←→        Peer       a link to another worker, in the message's one descriptor
//	Broadcast         →                    for all other workers of the service
//	                  ←         Broadcast  from another worker, or from outside
//
// A worker accepts connections between Go and Drain only. Go may never come:
// then the process is killed. After Crash and Leave the worker goes on answering
// what it is asked, until Drain comes, which is when its successor has got its
// Go; if no successor gets ready, it comes never. Where one worker is replaced by
// another, both get a Peer: the new one before its Go, the old one before its
// Drain. Outcome comes before the Drain that the upgrade brings. A second Drain may follow with
// another reason or an earlier end: a stop during a drain.
//
// At a stop and after a replacement, Drain takes the place of the stop signal;
// the worker is killed at the end of its Timeout. EOF on the link means that the
// keeper is dead: the worker closes its listening sockets at once, so that the
// next keeper can bind them, and then drains within its KillTimeout.
//
// LISTEN_FDS and NOTIFY_SOCKET are as under systemd. A worker of this library
// that has said Hello need not send READY=1 to the keeper's notify socket;
// whichever is first counts.
package kept

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// Version of this protocol. A side that gets a higher one speaks its own: fields
// are only ever added, and unknown ones ignored.
const Version = 2

// VersionInquiry is the first version whose workers answer an Inquiry.
const VersionInquiry = 2

// Env names the environment variable with the keeper's address. It is for the
// worker alone, not for its children.
const Env = "TABLECLOTH_KEEPER"

// Message is one of the types below, or *Unknown.
type Message interface{ kind() string }

// Hello is the worker's first message.
type Hello struct {
	Version  int      `json:"version"`
	Servers  []string `json:"servers,omitempty"`  // names of those whose connections can move
	Handover int      `json:"handover,omitempty"` // version of the handover protocol; 0: none
	Room     int      `json:"room,omitempty"`     // descriptors that it can still take (RLIMIT_NOFILE)
	Build    string   `json:"build,omitempty"`    // version or revision of its build info
}

// Ready says that the worker could serve.
type Ready struct{}

// Crash says that the worker has caught a crash.
type Crash struct {
	Error string `json:"error"`
	Stack string `json:"stack,omitempty"`
	Count int    `json:"count,omitempty"` // of this process, this one included; only the first starts a successor
}

// Leave says that this process was told to end, and not the service.
type Leave struct {
	Reason string `json:"reason,omitempty"` // "SIGTERM"
}

// Upgrade asks for an upgrade of the worker's service.
type Upgrade struct {
	control.UpgradeRequest
}

// Stop asks for the end of the worker's service.
type Stop struct {
	Now bool `json:"now,omitempty"`
}

// Status is what only the worker knows of itself.
type Status struct {
	Text     string         `json:"text,omitempty"` // for people
	Conns    *control.Conns `json:"conns,omitempty"`
	Holdouts []control.Conn `json:"holdouts,omitempty"` // of a drain
	Notes    []string       `json:"notes,omitempty"`
	Unready  bool           `json:"unready,omitempty"` // don't send it requests now (readyz)
	Inquiry  int            `json:"inquiry,omitempty"` // the last that was heard before
}

// Vault tells of the worker's vault (package vault), with two descriptors: the
// keeper's end of its socket, and its table's memory. Without descriptors there
// is none to adopt, and Error says why; PID is then 0, or of a process to be
// reaped.
type Vault struct {
	PID     int      `json:"pid,omitempty"`
	Error   string   `json:"error,omitempty"`
	Servers []string `json:"servers,omitempty"` // by the numbers that the table has for them
}

// Listening tells where the vault's servers accept connections, so that one is
// known which was accepted a moment before its worker died: "IP:port" each.
type Listening struct {
	Servers [][]string `json:"servers,omitempty"` // by their numbers
	Others  []string   `json:"others,omitempty"`  // connections from there are not in the table: they end
}

// Event is for those who watch the service. The keeper fills in its number, and
// service, generation and PID where they are zero.
type Event struct {
	control.Event
}

// Welcome answers Hello.
type Welcome struct {
	Version     int           `json:"version"`
	Service     string        `json:"service"`
	Generation  int           `json:"generation"`
	Worker      int           `json:"worker"`  // index, from 0
	Workers     int           `json:"workers"` // how many there are to be
	KillTimeout time.Duration `json:"kill_timeout_ns"`
	StopTimeout time.Duration `json:"stop_timeout_ns"`
	Rescue      bool          `json:"rescue,omitempty"`  // the keeper would adopt a vault
	Crashes     int           `json:"crashes,omitempty"` // of the service, in the window that leads to giving up
}

// Inquiry asks for the worker's Status.
type Inquiry struct {
	Number int `json:"number"` // from 1
}

// Go says that the worker's generation acts for the service.
type Go struct{}

// Why a worker is to drain.
const (
	Replaced = "replaced"
	Crashed  = "crashed"
	Stopped  = "stopped"
)

// Drain tells a worker to end.
type Drain struct {
	Reason  string        `json:"reason"`
	Timeout time.Duration `json:"timeout_ns"` // from now; it is killed then. 0: at once
}

// Outcome answers an Upgrade.
type Outcome struct {
	control.Outcome
}

// What the worker at the other end of a Peer's link is to this one.
const (
	Predecessor = "predecessor" // connections come from there
	Successor   = "successor"   // connections can go there
)

// Peer comes with one descriptor: a link (package link) to another worker.
type Peer struct {
	Role       string `json:"role"`
	Generation int    `json:"generation"`
	PID        int    `json:"pid"`
}

// Broadcast is a message among the workers of a service. One that doesn't read
// loses it.
type Broadcast struct {
	From    int    `json:"from"` // index of the worker that sent it; -1: it came over the control socket
	Message []byte `json:"message"`
}

// Unknown is a message of a later version: to be ignored.
type Unknown struct{ Kind string }

func (*Hello) kind() string     { return "hello" }
func (*Ready) kind() string     { return "ready" }
func (*Crash) kind() string     { return "crash" }
func (*Leave) kind() string     { return "leave" }
func (*Upgrade) kind() string   { return "upgrade" }
func (*Stop) kind() string      { return "stop" }
func (*Status) kind() string    { return "status" }
func (*Vault) kind() string     { return "vault" }
func (*Listening) kind() string { return "listening" }
func (*Event) kind() string     { return "event" }
func (*Welcome) kind() string   { return "welcome" }
func (*Inquiry) kind() string   { return "inquiry" }
func (*Go) kind() string        { return "go" }
func (*Drain) kind() string     { return "drain" }
func (*Outcome) kind() string   { return "outcome" }
func (*Peer) kind() string      { return "peer" }
func (*Broadcast) kind() string { return "broadcast" }
func (u *Unknown) kind() string { return u.Kind }

// empty returns an empty message of a kind.
func empty(kind string) Message {
	for _, m := range []Message{
		&Hello{}, &Ready{}, &Crash{}, &Leave{}, &Upgrade{}, &Stop{}, &Status{}, &Vault{}, &Listening{}, &Event{},
		&Welcome{}, &Inquiry{}, &Go{}, &Drain{}, &Outcome{}, &Peer{}, &Broadcast{},
	} {
		if m.kind() == kind {
			return m
		}
	}
	return &Unknown{kind}
}

type envelope struct {
	Kind string          `json:"kind"`
	Body json.RawMessage `json:"body,omitempty"`
}

// Bounds of a text of arbitrary length, so that a message fits in a link's: JSON
// makes up to six bytes of one.
const (
	maxStack = 8 << 10
	maxError = 2 << 10
)

// Encode returns the bytes of a message. An error of over 2 KiB and a stack of
// over 8 KiB are cut.
func Encode(m Message) ([]byte, error) {
	if c, ok := m.(*Crash); ok {
		short := *c
		short.Error, short.Stack = cut(c.Error, maxError), cut(c.Stack, maxStack)
		m = &short
	}
	if _, ok := m.(*Unknown); ok {
		return nil, errors.New("kept: a message of unknown kind can't be sent")
	}
	body, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("kept: %s: %w", m.kind(), err)
	}
	return json.Marshal(envelope{Kind: m.kind(), Body: body})
}

func cut(s string, most int) string {
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// Decode returns the message in data: *Unknown, without error, if its kind is.
func Decode(data []byte) (Message, error) {
	var e envelope
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("kept: %w", err)
	}
	if e.Kind == "" {
		return nil, errors.New("kept: message without a kind")
	}
	m := empty(e.Kind)
	if _, ok := m.(*Unknown); ok || len(e.Body) == 0 {
		return m, nil
	}
	if err := json.Unmarshal(e.Body, m); err != nil {
		return nil, fmt.Errorf("kept: %s: %w", e.Kind, err)
	}
	return m, nil
}
