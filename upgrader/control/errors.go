package control

import "errors"

// What a caller can act on, by errors.Is.
var (
	// ErrNotRunning: there is no socket, or nobody listens on it.
	ErrNotRunning = errors.New("not running")
	// ErrDenied: this user may not talk to the service.
	ErrDenied = errors.New("permission denied")
	// ErrUnknown: nobody can tell how an upgrade ended.
	ErrUnknown = errors.New("outcome unknown")
	// ErrVersion: the two sides speak different versions of the protocol, or the
	// other one none at all.
	ErrVersion = errors.New("other protocol")
	// ErrInUse: a live service listens on the path.
	ErrInUse = errors.New("in use")
	// ErrAmbiguous: several services run, and none was named.
	ErrAmbiguous = errors.New("several services are running")
)

// Error is an error of this package. Message is for people, Hint says what to do
// about it, and may be empty.
type Error struct {
	Message string
	Hint    string
	Err     error // one of the sentinels, or the cause; may be nil
}

func (e *Error) Error() string { return "control: " + e.Message }

func (e *Error) Unwrap() error { return e.Err }
