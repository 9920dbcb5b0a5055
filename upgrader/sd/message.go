package sd

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// MaxMessage is the greatest length of a message that managers read, in
	// bytes (systemd's NOTIFY_BUFFER_MAX).
	MaxMessage = 4096
	// MaxFiles is the greatest number of descriptors in one message: the
	// kernel's SCM_MAX_FD.
	MaxFiles = 253
	// MaxStatus is where Status cuts a text, in bytes.
	MaxStatus = 2048
)

// Field is one assignment of a message. The key has no '=', neither of them a
// newline or a zero byte.
type Field struct{ Key, Value string }

// Message is one datagram of the notification protocol: assignments, and
// descriptors. It is built by its methods, each of which returns a message with
// one assignment more:
//
//	sd.Message{}.Ready().Status("serving").MainPID(pid)
type Message struct {
	Fields []Field
	Files  []int // Send leaves them open
}

// With adds any assignment, replacing none.
func (m Message) With(key, value string) Message {
	m.Fields = append(slices.Clip(m.Fields), Field{key, value})
	return m
}

// WithFile adds a descriptor.
func (m Message) WithFile(fd int) Message {
	m.Files = append(slices.Clip(m.Files), fd)
	return m
}

// Get returns the last value of key; false: there is none.
func (m Message) Get(key string) (string, bool) {
	for _, f := range slices.Backward(m.Fields) {
		if f.Key == key {
			return f.Value, true
		}
	}
	return "", false
}

// Has reports whether key was said to be 1.
func (m Message) Has(key string) bool {
	v, _ := m.Get(key)
	return v == "1"
}

// Ready: the service is ready, or has finished reloading. It can't be taken back.
func (m Message) Ready() Message { return m.With("READY", "1") }

// Reloading: the service is being reloaded, until the next Ready. It has the
// time in it that Type=notify-reload wants.
func (m Message) Reloading() Message {
	return m.With("RELOADING", "1").With("MONOTONIC_USEC", strconv.FormatInt(monotonicUSec(), 10))
}

// Stopping: the service ends. Only for the last process of a service: newer
// systemd lets nothing follow it.
func (m Message) Stopping() Message { return m.With("STOPPING", "1") }

// Status is a text for people. It is made one line of valid UTF-8, and cut at
// MaxStatus.
func (m Message) Status(text string) Message { return m.With("STATUS", oneLine(text)) }

// MainPID names the process that is the service's main one from now on.
func (m Message) MainPID(pid int) Message { return m.With("MAINPID", strconv.Itoa(pid)) }

// Errno says what went wrong.
func (m Message) Errno(e syscall.Errno) Message {
	return m.With("ERRNO", strconv.FormatUint(uint64(e), 10))
}

// Watchdog says that the service is alive.
func (m Message) Watchdog() Message { return m.With("WATCHDOG", "1") }

// ExtendTimeout asks that the start, reload or stop under way be given d from
// now on. Less than 1 µs asks for 1 µs.
func (m Message) ExtendTimeout(d time.Duration) Message {
	return m.With("EXTEND_TIMEOUT_USEC", strconv.FormatInt(max(d.Microseconds(), 1), 10))
}

// FDStore asks the manager to hold fd for the next process of the service, under
// a name (see NameOf), whatever becomes of the other end of fd. One descriptor
// per message: their order within one is not kept.
func (m Message) FDStore(name string, fd int) Message {
	return m.With("FDSTORE", "1").With("FDNAME", name).With("FDPOLL", "0").WithFile(fd)
}

// FDStoreRemove asks the manager to let go of all descriptors of that name.
func (m Message) FDStoreRemove(name string) Message {
	return m.With("FDSTOREREMOVE", "1").With("FDNAME", name)
}

// IsBarrier reports whether the sender waits until this message, and those
// before it, have been processed.
func (m Message) IsBarrier() bool {
	return len(m.Fields) == 1 && m.Fields[0] == Field{"BARRIER", "1"} && len(m.Files) == 1
}

// Marshal returns the datagram without its descriptors.
func (m Message) Marshal() ([]byte, error) {
	var b strings.Builder
	for _, f := range m.Fields {
		if err := f.check(); err != nil {
			return nil, err
		}
		b.WriteString(f.Key + "=" + f.Value + "\n")
	}
	switch {
	case b.Len() == 0:
		return nil, errors.New("sd: empty message")
	case b.Len() > MaxMessage:
		return nil, fmt.Errorf("sd: message of %d bytes: managers read at most %d", b.Len(), MaxMessage)
	case len(m.Files) > MaxFiles:
		return nil, fmt.Errorf("sd: message with %d descriptors: at most %d", len(m.Files), MaxFiles)
	}
	return []byte(b.String()), nil
}

func (f Field) check() error {
	switch {
	case f.Key == "" || strings.ContainsAny(f.Key, "=\n\x00"):
		return fmt.Errorf("sd: %q can't be a key", f.Key)
	case strings.ContainsAny(f.Value, "\n\x00"):
		return fmt.Errorf("sd: %s=%q: can't be in one line", f.Key, f.Value)
	case f.Key == "FDNAME" && !ValidName(f.Value):
		return fmt.Errorf("sd: FDNAME=%q: %w", f.Value, errName)
	}
	return nil
}

// ParseMessage reads a datagram. Lines that are no assignments are left out, as
// systemd does.
func ParseMessage(data []byte) (Message, error) {
	text := strings.TrimSuffix(string(data), "\x00") // some senders count the terminator
	if strings.Contains(text, "\x00") {
		return Message{}, errors.New("sd: message with a zero byte in it")
	}
	if len(data) > MaxMessage {
		return Message{}, fmt.Errorf("sd: message of more than %d bytes", MaxMessage)
	}
	var m Message
	for line := range strings.SplitSeq(text, "\n") {
		if key, value, ok := strings.Cut(line, "="); ok && key != "" {
			m.Fields = append(m.Fields, Field{key, value})
		}
	}
	return m, nil
}

// oneLine makes text fit for STATUS=: systemd ignores one that isn't UTF-8.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	text = strings.TrimSpace(text)
	if len(text) <= MaxStatus {
		return text
	}
	cut := MaxStatus - len("…")
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}
