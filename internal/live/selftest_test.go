//go:build unix

package live

import (
	"strings"
	"testing"
)

func TestSelfTest(t *testing.T) {
	if err := SelfTest(); err != nil {
		t.Fatal(err)
	}
}

func TestSelfTestIsStable(t *testing.T) {
	for range 20 {
		for i := range trials {
			if err := trials[i].run(); err != nil {
				t.Fatal(trials[i].name, err)
			}
		}
	}
}

// A server that behaves differently must be found out.
func TestSelfTestControl(t *testing.T) {
	a, err := newArena(false)
	if err != nil {
		t.Fatal(err)
	}
	defer a.end()
	tr := trial{requests: 1, then: "GET"}
	a.hs.SetKeepAlivesEnabled(false)
	if err := tr.talk(a); err == nil || !strings.Contains(err.Error(), "closing: true") {
		t.Fatal(err)
	}
}
