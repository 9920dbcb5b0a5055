package proctest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tablecloth-go/tablecloth/upgrader/sd"
)

// Said is a notification.
type Said struct {
	PID int
	sd.Message
}

func (s Said) String() string {
	var parts []string
	for _, f := range s.Fields {
		parts = append(parts, f.Key+"="+f.Value)
	}
	return fmt.Sprintf("%d: %s", s.PID, strings.Join(parts, " "))
}

// Manager plays the service manager.
type Manager struct {
	notify *sd.Receiver
	hear   func(*sd.Received)
	news   bell
	mu     sync.Mutex
	said   []Said
	passed int // of said: what Await has passed
}

// NewManager listens until the end of the test. hear, if it isn't nil, is called
// with each notification before anybody is told of it.
func NewManager(t testing.TB, hear func(*sd.Received)) *Manager {
	t.Helper()
	r, err := sd.NewReceiver("")
	if err != nil {
		t.Fatal(err)
	}
	m := &Manager{notify: r, hear: hear}
	go m.listen()
	t.Cleanup(func() { r.Close() })
	return m
}

// Environment is what processes find the manager by.
func (m *Manager) Environment() string { return "NOTIFY_SOCKET=" + m.notify.Address() }

func (m *Manager) listen() {
	for {
		got, err := m.notify.Recv()
		if err != nil {
			return
		}
		if m.hear != nil {
			m.hear(got)
		}
		if !got.IsBarrier() {
			m.mu.Lock()
			m.said = append(m.said, Said{got.PID, got.Message})
			m.mu.Unlock()
			m.news.ring()
		}
		got.Done()
	}
}

// Said returns all notifications so far.
func (m *Manager) Said() []Said {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.said)
}

// Rest returns the notifications so far that Await hasn't passed.
func (m *Manager) Rest() []Said {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.said[m.passed:])
}

// Await waits for a notification that fits, and passes it and those before it.
func (m *Manager) Await(t testing.TB, what string, fits func(Said) bool) (found Said) {
	t.Helper()
	m.news.until(t, "the manager to hear "+what, func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		i := slices.IndexFunc(m.said[m.passed:], fits)
		if i < 0 {
			return false
		}
		found = m.said[m.passed+i]
		m.passed += i + 1
		return true
	})
	return found
}
