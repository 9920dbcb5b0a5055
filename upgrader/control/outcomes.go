package control

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"slices"
	"sync"
)

// KeptOutcomes is how many known outcomes an Outcomes holds: those of a crowd that
// asks for one upgrade count each.
const KeptOutcomes = 64

// NewID makes an ID for an UpgradeRequest.
func NewID() string { return rand.Text()[:16] }

// Outcomes holds the outcomes of the last upgrades by ID, and lets requesters
// wait for one that is not known yet. Its JSON form travels to the next
// generation. The zero value is ready.
type Outcomes struct {
	mu      sync.Mutex
	known   []Outcome // oldest first
	pending map[string]chan struct{}
}

// Begin says that the outcome of id will be known: Wait blocks for it. An id
// that is known already is forgotten first.
func (o *Outcomes) Begin(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.known = slices.DeleteFunc(o.known, func(k Outcome) bool { return k.ID == id })
	o.begin(id)
}

func (o *Outcomes) begin(id string) {
	if o.pending == nil {
		o.pending = make(map[string]chan struct{})
	}
	if o.pending[id] == nil {
		o.pending[id] = make(chan struct{})
	}
}

// Finish makes out known under its own ID, or under those given: of requests
// which one upgrade has answered.
func (o *Outcomes) Finish(out Outcome, ids ...string) {
	if len(ids) == 0 {
		ids = []string{out.ID}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, id := range ids {
		out.ID = id
		o.known = slices.DeleteFunc(o.known, func(k Outcome) bool { return k.ID == id })
		o.known = append(o.known, out)
		o.end(id)
	}
	if n := len(o.known) - KeptOutcomes; n > 0 {
		o.known = slices.Delete(o.known, 0, n)
	}
}

// Forget says that the outcome of id will never be known.
func (o *Outcomes) Forget(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.end(id)
}

func (o *Outcomes) end(id string) {
	if done := o.pending[id]; done != nil {
		close(done)
		delete(o.pending, id)
	}
}

// Get returns the outcome of id, if it is known.
func (o *Outcomes) Get(id string) (Outcome, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	out, _, ok := o.get(id)
	return out, ok
}

func (o *Outcomes) get(id string) (out Outcome, pending chan struct{}, ok bool) {
	if i := slices.IndexFunc(o.known, func(k Outcome) bool { return k.ID == id }); i >= 0 {
		return o.known[i], nil, true
	}
	return Outcome{}, o.pending[id], false
}

// Wait is Get, but blocks while the outcome is pending, until ctx is done.
func (o *Outcomes) Wait(ctx context.Context, id string) (Outcome, bool) {
	for {
		o.mu.Lock()
		out, pending, ok := o.get(id)
		o.mu.Unlock()
		if ok || pending == nil {
			return out, ok
		}
		select {
		case <-pending:
		case <-ctx.Done():
			return Outcome{}, false
		}
	}
}

// Pending returns the IDs whose outcome is to come, sorted.
func (o *Outcomes) Pending() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ids()
}

func (o *Outcomes) ids() []string {
	ids := make([]string, 0, len(o.pending))
	for id := range o.pending {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Last returns the newest outcome.
func (o *Outcomes) Last() (Outcome, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.known) == 0 {
		return Outcome{}, false
	}
	return o.known[len(o.known)-1], true
}

type outcomesState struct {
	Known   []Outcome `json:"known"`
	Pending []string  `json:"pending"`
}

// lighten drops the output of older outcomes, so that all of them fit into what
// one message to the next generation carries.
func lighten(known []Outcome) []Outcome {
	known = slices.Clone(known)
	room := 16 << 10
	for i := len(known) - 1; i >= 0; i-- {
		for _, line := range known[i].Output {
			room -= len(line)
		}
		if room < 0 {
			known[i].Output = nil
		}
	}
	return known
}

// MarshalJSON gives the known outcomes and the pending IDs. Older outcomes lose
// their output if there is much of it.
func (o *Outcomes) MarshalJSON() ([]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return json.Marshal(outcomesState{Known: lighten(o.known), Pending: o.ids()})
}

// UnmarshalJSON takes over what another generation knew, before what is known
// here. Who takes over a pending ID must Finish or Forget it.
func (o *Outcomes) UnmarshalJSON(b []byte) error {
	var s outcomesState
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	o.mu.Lock()
	own := o.known
	o.known = nil
	for _, id := range s.Pending {
		o.begin(id)
	}
	o.mu.Unlock()
	for _, k := range append(s.Known, own...) {
		o.Finish(k)
	}
	return nil
}
