//go:build unix

package upgrader

import (
	"encoding/json"
	"io"
	"time"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// memory is what a service remembers over the sudden death of its only process,
// if the service manager has a descriptor store: a file without a name that is
// held there.
type memory struct {
	Generation int            `json:"generation"`
	Acting     bool           `json:"acting"` // it had not ended as it should
	Crashes    []time.Time    `json:"crashes,omitempty"`
	LastCrash  *control.Crash `json:"last_crash,omitempty"`
}

// memoryKey names the file over generations and in the store.
var memoryKey = key{Kind: memories}

const maxMemory = 64 << 10

// remember finds the memory of an earlier life of the service, or begins one.
func (a *alone) remember() {
	if a.manager.n == nil {
		return
	}
	v, stored := a.u.inventory, storeName(memoryKey)
	it := v.claim(func(it *item) bool { return it.Key.Kind == activated && it.Key.Name == stored })
	if it == nil {
		f, err := anonymousFile("tablecloth-memory")
		if err != nil {
			a.u.log.WithError(err).Warn("crashes won't be remembered over a restart")
			return
		}
		it = &item{file: f}
	}
	it.Key = memoryKey
	v.hold(it)
	var m memory
	err := json.NewDecoder(io.NewSectionReader(it.file, 0, maxMemory)).Decode(&m)
	if err != nil || m.Generation < 1 {
		return
	}
	a.u.generation = m.Generation + 1
	a.u.post(func(l *life) { l.remembered(m) })
}

// remembered is what an earlier life has left. One that had not ended as it
// should has died.
func (l *life) remembered(m memory) {
	l.history.Crashes, l.history.LastCrash = m.Crashes, m.LastCrash
	if !m.Acting {
		return
	}
	l.history.LastCrash = &control.Crash{At: time.Now(), Generation: m.Generation, Error: "died without a word"}
	l.event(control.Event{Kind: control.EventDeath, Generation: m.Generation, Crash: l.history.LastCrash})
	if l.tooMany(time.Now()) {
		l.giveUp()
	}
}

// record writes the memory.
func (a *alone) record(h history, ended bool) {
	a.u.inventory.mu.Lock()
	f, err := a.u.inventory.fileOf(memoryKey)
	a.u.inventory.mu.Unlock()
	if f == nil || err != nil {
		return
	}
	defer f.Close()
	b, err := json.Marshal(memory{Generation: a.u.generation, Acting: !ended, Crashes: h.Crashes, LastCrash: h.LastCrash})
	if err == nil {
		// In place: the store holds this file. What is left behind a shorter
		// text isn't read.
		_, err = f.WriteAt(b, 0)
	}
	if err != nil {
		a.u.log.WithError(err).Warn("crashes won't be remembered over a restart")
	}
}
