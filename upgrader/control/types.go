package control

import (
	"context"
	"time"
)

// Version of the protocol and its formats. Unknown fields are ignored on both
// sides; what must not be misunderstood raises the number.
const Version = 1

// Result is how an upgrade ended.
type Result string

const (
	Ready    Result = "ready"     // the new generation acts for the service
	Failed   Result = "failed"    // the new process died or said that it can't; the old generation serves
	TimedOut Result = "timed out" // the new process was not ready in time and was killed; the old generation serves
	Refused  Result = "refused"   // nothing was started
	Moved    Result = "moved"     // the next generation will see to it: ask it for the outcome by ID
)

// Outcome is the answer to one upgrade request.
type Outcome struct {
	ID         string        `json:"id"`
	Service    string        `json:"service,omitempty"`
	Trigger    string        `json:"trigger"` // "SIGHUP", "control", "api", "crash", "death"
	Result     Result        `json:"result"`
	Reason     string        `json:"reason,omitempty"` // why not ready
	Hint       string        `json:"hint,omitempty"`   // what to do about it
	Generation int           `json:"generation"`       // the one that acts for the service now
	PID        int           `json:"pid"`              // its process
	Took       time.Duration `json:"took_ns"`
	Confirmed  bool          `json:"confirmed"`           // the new process said itself that it is ready
	Exit       string        `json:"exit,omitempty"`      // "exit status 7", "signal: killed"
	ExitCode   *int          `json:"exit_code,omitempty"` // nil: not ended, or by a signal
	Output     []string      `json:"output,omitempty"`    // the new process's last lines, where they are known
	At         time.Time     `json:"at"`
	Workers    int           `json:"workers,omitempty"` // of a kept service that was scaled: how many there are now
	// Services has the outcomes of a request for more than one service, in the
	// order in which they were dealt with; those after a failure are missing. The
	// fields above are then of the first that failed, or of the last one.
	Services []Outcome `json:"services,omitempty"`
	Changes  *Changes  `json:"changes,omitempty"` // what a new configuration has changed; nil: there is none
}

// Changes are what a new configuration has changed: names of services.
type Changes struct {
	Added     []string `json:"added,omitempty"`
	Replaced  []string `json:"replaced,omitempty"` // their definition or binary was another one, or they were asked for
	Scaled    []string `json:"scaled,omitempty"`   // only their number of workers was another one
	Adjusted  []string `json:"adjusted,omitempty"` // only what their processes don't see was another one: time-outs, say
	Removed   []string `json:"removed,omitempty"`
	Unchanged []string `json:"unchanged,omitempty"` // not touched
}

// State is what a generation, or a worker of it, is doing.
type State string

const (
	Starting State = "starting"
	Serving  State = "serving"
	Draining State = "draining" // replaced or crashed: finishing what it has
	Stopping State = "stopping" // the service is being stopped
	GaveUp   State = "gave up"  // too many deaths: paused (a service, not a process)
	Down     State = "down"     // waiting for its next start (a service, not a process)
	Stopped  State = "stopped"  // ended, until somebody asks for an upgrade (a service, not a process)
)

// Status tells everything that is known of the services behind a socket.
type Status struct {
	Version  int       `json:"version"` // of this format: 1
	Mode     string    `json:"mode"`    // "alone", "kept"
	Keeper   *Process  `json:"keeper,omitempty"`
	Services []Service `json:"services"`
}

// Process is one process.
type Process struct {
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	Binary  string    `json:"binary,omitempty"`  // path as it was started
	Changed bool      `json:"changed,omitempty"` // what lies at that path now is another file
	Build   string    `json:"build,omitempty"`   // version or VCS revision of its build info
	Memory  int64     `json:"memory_bytes,omitempty"`
	CPU     float64   `json:"cpu_seconds,omitempty"`
}

// Service is one service: one or several generations, of which one is current.
type Service struct {
	Name        string       `json:"name"`
	State       State        `json:"state"`
	Generation  int          `json:"generation"`             // the current one
	Generations []Generation `json:"generations"`            // those with processes, oldest first
	Workers     int          `json:"workers,omitempty"`      // kept: how many there are to be
	Listen      []string     `json:"listen,omitempty"`       // "name=network:address"
	LastOutcome *Outcome     `json:"last_outcome,omitempty"` // of an upgrade
	LastCrash   *Crash       `json:"last_crash,omitempty"`
	Crashes     int          `json:"crashes"` // in the window that leads to giving up
	Restarts    int          `json:"restarts"`
	Upgrades    int          `json:"upgrades"`
	Rescued     *Rescued     `json:"rescued,omitempty"`  // nil: no worker has left any connections
	RetryAt     *time.Time   `json:"retry_at,omitempty"` // gave up, or backing off, until then
	Conns       *Conns       `json:"conns,omitempty"`    // kept: of all workers that there were; nil: none has told
	Output      *Output      `json:"output,omitempty"`   // kept; nil: nothing of it passes through the keeper
	Notes       []string     `json:"notes,omitempty"`    // "rescue: off: clone(2) refused: operation not permitted"
}

// Generation is one run of a service's program.
type Generation struct {
	Number    int      `json:"number"`
	State     State    `json:"state"`
	Confirmed bool     `json:"confirmed"`          // it said itself that it is ready
	ReadyBy   string   `json:"ready_by,omitempty"` // "library", "notify", "listen", "fd", "delay", "alive"
	Workers   []Worker `json:"workers"`            // alone: one
	// Deadline is when a drain ends by force, the first one of several workers'; nil: none.
	Deadline *time.Time `json:"deadline,omitempty"`
	Holdouts []Conn     `json:"holdouts,omitempty"` // what a drain waits for, oldest first, at most 16
}

// Worker is one process of a generation.
type Worker struct {
	Process
	Index   int       `json:"index"`
	State   State     `json:"state"`
	Since   time.Time `json:"since,omitzero"`    // of that state
	Status  string    `json:"status,omitempty"`  // its own words (STATUS=)
	Conns   *Conns    `json:"conns,omitempty"`   // nil: not known (no library in it)
	Heard   time.Time `json:"heard,omitzero"`    // kept: when it last told of itself; zero: never
	Rescued int64     `json:"rescued,omitempty"` // kept: connections that it took over from workers that had died
}

// Conns counts connections of a process, by what became of them.
type Conns struct {
	Open     int              `json:"open"`
	Idle     int              `json:"idle"`
	Active   int              `json:"active"` // a request is being served
	Pinned   int              `json:"pinned"` // can't move: TLS, HTTP/2, hijacked
	Requests int64            `json:"requests"`
	Moved    int64            `json:"moved"`            // handed over to the next generation
	Adopted  int64            `json:"adopted"`          // taken from the last one
	Closed   map[string]int64 `json:"closed,omitempty"` // at a drain, by reason
	Panics   int64            `json:"panics"`           // answered with a 500
}

// Add counts what another has counted, too.
func (c *Conns) Add(o *Conns) {
	c.Open += o.Open
	c.Idle += o.Idle
	c.Active += o.Active
	c.Pinned += o.Pinned
	c.Requests += o.Requests
	c.Moved += o.Moved
	c.Adopted += o.Adopted
	c.Panics += o.Panics
	for why, n := range o.Closed {
		if c.Closed == nil {
			c.Closed = make(map[string]int64)
		}
		c.Closed[why] += n
	}
}

// Conn is one connection that a drain waits for.
type Conn struct {
	Service string    `json:"service"`
	Peer    string    `json:"peer"`
	State   string    `json:"state"`             // "active", "idle", "hijacked", "http2", "tls"
	Since   time.Time `json:"since"`             // of that state
	Request string    `json:"request,omitempty"` // "GET /slow"
}

// Crash is one death or caught crash.
type Crash struct {
	At         time.Time     `json:"at"`
	Generation int           `json:"generation"`
	PID        int           `json:"pid"`
	Uptime     time.Duration `json:"uptime_ns"`
	Caught     bool          `json:"caught"`          // the process lived long enough to hand over
	Error      string        `json:"error,omitempty"` // the panic's text
	Exit       string        `json:"exit,omitempty"`  // "exit status 2", "signal: killed"
	Stack      string        `json:"stack,omitempty"`
	Output     []string      `json:"output,omitempty"` // last lines of stderr, kept only
}

// Rescued counts what became of the connections of workers that died.
type Rescued struct {
	Workers int   `json:"workers"` // that left some
	Idle    int64 `json:"idle"`    // went on with the next worker
	S500    int64 `json:"s500"`    // their request died with its handler: answered with 500
	S503    int64 `json:"s503"`    // their request had not been started: answered with 503
	Cut     int64 `json:"cut"`     // ended within the answer
	Ended   int64 `json:"ended"`   // nothing was open on them, but they could not go on
	Closed  int64 `json:"closed"`  // not HTTP/1 in plaintext over TCP
	Lost    int64 `json:"lost"`    // could not be had in time: see the log
	// Untaken are those of Idle that were closed, in good order, after all: no
	// worker came, or none would have them.
	Untaken int64 `json:"untaken"`
	// Took is how long what dead workers had open stayed so, all in all.
	Took time.Duration `json:"took_ns"`
}

// Output counts what the workers of a service have written through the keeper,
// by the ends of lines.
type Output struct {
	Lines        int64 `json:"lines"`
	Bytes        int64 `json:"bytes"`
	DroppedLines int64 `json:"dropped_lines"` // nobody read them, or they could not be written
	DroppedBytes int64 `json:"dropped_bytes"`
}

// Event is one line of GET /events.
type Event struct {
	Seq        uint64         `json:"seq"`
	At         time.Time      `json:"at"`
	Kind       string         `json:"kind"` // see the Event… constants
	Service    string         `json:"service,omitempty"`
	Generation int            `json:"generation,omitempty"`
	PID        int            `json:"pid,omitempty"`
	Text       string         `json:"text,omitempty"`    // for people
	Outcome    *Outcome       `json:"outcome,omitempty"` // of EventUpgraded, EventFailed
	Crash      *Crash         `json:"crash,omitempty"`   // of EventCrash, EventDeath
	Counts     map[string]int `json:"counts,omitempty"`  // of EventHandover, EventRescue
}

// Kinds of events.
const (
	EventStart    = "start"    // a process was started
	EventReady    = "ready"    // a generation acts for the service
	EventUpgrade  = "upgrade"  // an upgrade begins
	EventUpgraded = "upgraded" // it succeeded
	EventFailed   = "failed"   // it did not
	EventDrain    = "drain"    // a generation begins to drain
	EventHandover = "handover" // its connections have moved
	EventKill     = "kill"     // the kill timeout ended a process
	EventGone     = "gone"     // a generation has ended
	EventCrash    = "crash"    // a caught crash
	EventDeath    = "death"    // a process died of its own
	EventRescue   = "rescue"   // what became of a dead worker's connections
	EventGiveUp   = "giveup"   // too many deaths: pause
	EventResumed  = "resumed"  // the successor died: the old generation serves again
	EventStop     = "stop"     // the service is being stopped
	EventScale    = "scale"    // the number of workers is another one now
	EventRoll     = "roll"     // one more worker was replaced, of an upgrade one by one
	EventReread   = "reread"   // a new configuration: what it changes, or why it can't be
	EventGap      = "gap"      // made by the server: events before this one are not held any more
)

// UpgradeRequest asks for an upgrade.
type UpgradeRequest struct {
	// ID is chosen by the requester (NewID), so that it can ask again after a
	// broken connection. "": one is made.
	ID      string `json:"id,omitempty"`
	Service string `json:"service,omitempty"` // "": see Services
	// Services are those to be upgraded, in this order; with Service, that one too.
	// Without either: all, or all that have changed where there is a configuration
	// that can be read again (all, if none has).
	Services []string `json:"services,omitempty"`
	// AllAtOnce upgrades several services at the same time, and all to the end.
	// false: one after the other, and after the first failure no more.
	AllAtOnce bool `json:"all_at_once,omitempty"`
	// All upgrades those too that haven't changed.
	All     bool   `json:"all,omitempty"`
	Trigger string `json:"trigger,omitempty"` // "": "control"
	Now     bool   `json:"now,omitempty"`     // end a drain that is in the way at once
	// Args are new arguments of a kept program, which stick if the upgrade
	// succeeds. nil: as before.
	Args    []string `json:"args,omitempty"`
	Restart bool     `json:"restart,omitempty"` // kept: start the last good binary again instead of what is on disk
}

// StopRequest asks for the end of a service.
type StopRequest struct {
	Service string `json:"service,omitempty"` // "": see Services
	// Services are those to be stopped. Without either: all of them, and the keeper.
	Services []string `json:"services,omitempty"`
	Now      bool     `json:"now,omitempty"` // don't wait for requests in flight
}

// ScaleRequest asks for another number of workers of a kept service, which it
// keeps until it is defined anew.
type ScaleRequest struct {
	ID      string `json:"id,omitempty"`      // as of UpgradeRequest
	Service string `json:"service,omitempty"` // "": the only one
	Workers int    `json:"workers"`           // at least 1
}

// Broadcast is a message to all workers of a kept service.
type Broadcast struct {
	Service string `json:"service,omitempty"` // "": the only one
	Message []byte `json:"message"`           // at most MaxBroadcast
}

// MaxBroadcast is how many bytes a broadcast may have.
const MaxBroadcast = 32 << 10

// BroadcastAnswer tells what became of a Broadcast.
type BroadcastAnswer struct {
	Workers int `json:"workers"` // that it was sent to
	Deaf    int `json:"deaf"`    // that have no library in them, or don't read
}

// Backend is what a control socket is a door to. Its methods may be called
// from many goroutines.
type Backend interface {
	// Status tells how things are. It doesn't block. Without a Mode it is nobody's:
	// then the asker's connection is cut, and a Client asks whoever listens now.
	Status() Status
	// Upgrade blocks until the outcome is known, or ctx is done: that cancels
	// the upgrade, unless others have asked for it too.
	Upgrade(ctx context.Context, r UpgradeRequest) Outcome
	// Outcome blocks until the outcome of a request made earlier, possibly of an
	// earlier generation, is known, or ctx is done, which cancels nothing.
	// false: nobody knows that ID, or ctx was done first.
	Outcome(ctx context.Context, id string) (Outcome, bool)
	// Stop blocks until the stop has begun.
	Stop(ctx context.Context, r StopRequest) error
	// Live reports whether the process works at all, Ready whether requests
	// should be sent to it.
	Live() bool
	Ready() bool
}

// Scaler is a Backend whose services can be scaled: POST /scale.
type Scaler interface {
	// Scale blocks until the outcome is known. Upgrade says what ctx does.
	Scale(ctx context.Context, r ScaleRequest) Outcome
}

// Broadcaster is a Backend with workers that can be told something: POST
// /broadcast.
type Broadcaster interface {
	// Broadcast doesn't wait for the workers. An error: there is no such service,
	// or the message is too long.
	Broadcast(ctx context.Context, b Broadcast) (BroadcastAnswer, error)
}
