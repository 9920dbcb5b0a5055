package upgrader

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// The report of a crash whose error is very long still fits into a message, and into
// what outlives the process.
func TestLongErrorIsCut(t *testing.T) {
	const much = 64 << 10
	u := Plain()
	defer u.Close()
	u.Crash(&CrashError{Err: errors.New(strings.Repeat("x", much)), Stack: bytes.Repeat([]byte("s"), much)})
	var h history
	if !u.ask(func(l *life) { h = l.history }) || h.LastCrash == nil {
		t.Fatal("no crash was noted")
	}
	if b, err := json.Marshal(h); err != nil || len(b) > much/2 {
		t.Errorf("a report of %d bytes, error %v", len(b), err)
	}
}
