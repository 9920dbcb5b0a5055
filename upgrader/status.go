package upgrader

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proc"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// statusInterval is how often a draining generation tells its successor how far
// it is.
const statusInterval = time.Second

// OnStatus registers what fills in a server's part of a status: Conns of
// g.Workers[0], and g.Holdouts during a drain. It must not block.
func (u *Upgrader) OnStatus(fill func(g *control.Generation)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.fill = fill
}

// Status tells how things are. After Close only what is left to tell.
func (u *Upgrader) Status() Status {
	s, _ := u.status()
	return s
}

// status tells also whether this generation still is one.
func (u *Upgrader) status() (s Status, alive bool) {
	s = Status{Version: 1, Mode: "alone"}
	if u.kept {
		s.Mode = "kept"
	}
	alive = u.ask(func(l *life) { s.Services = []control.Service{l.service()} })
	return s, alive
}

// service describes the service as this generation sees it.
func (l *life) service() control.Service {
	u := l.u
	own := l.ownGeneration()
	s := control.Service{
		Name:        serviceName(),
		State:       own.State,
		Generation:  u.generation,
		Listen:      u.inventory.listening(),
		LastOutcome: l.last,
		LastCrash:   l.history.LastCrash,
		Crashes:     len(l.history.Crashes),
		Restarts:    l.history.Restarts,
		Upgrades:    l.history.Upgrades,
	}
	if l.before != nil {
		s.Generations = append(s.Generations, *l.before)
	}
	s.Generations = append(s.Generations, own)
	if l.paused() {
		until := l.history.PausedUntil
		s.State, s.RetryAt = control.GaveUp, &until
	}
	return s
}

// ownGeneration describes this process.
func (l *life) ownGeneration() control.Generation {
	u := l.u
	w := control.Worker{Process: ownProcess(u.born), State: l.state()}
	g := control.Generation{Number: u.generation, State: w.State, Confirmed: true, ReadyBy: "library",
		Workers: []control.Worker{w}}
	if l.drain != nil {
		deadline := l.drain.Deadline
		g.Deadline = &deadline
	}
	u.fillIn(&g)
	return g
}

func (u *Upgrader) fillIn(g *control.Generation) {
	u.mu.Lock()
	fill := u.fill
	u.mu.Unlock()
	if fill != nil {
		fill(g)
	}
}

func (l *life) state() control.State {
	switch {
	case l.phase == draining:
		return control.Draining
	case l.phase == stopping:
		return control.Stopping
	case l.phase == serving, l.open:
		return control.Serving
	default:
		return control.Starting
	}
}

func ownProcess(born time.Time) control.Process {
	p := control.Process{PID: os.Getpid(), Started: born, Binary: os.Args[0], Build: buildVersion()}
	p.Changed, _ = proc.Changed(p.PID, p.Binary)
	if cpu, err := proc.CPU(p.PID); err == nil {
		p.CPU = cpu.Seconds()
	}
	p.Memory, _ = proc.Resident(p.PID)
	return p
}

// buildVersion is the version of the program, or the revision that it was built from.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && (info.Main.Version == "" || info.Main.Version == "(devel)") {
			return s.Value
		}
	}
	return info.Main.Version
}

// reportDrain tells the successor every now and then how far the drain is.
func (l *life) reportDrain(h heir) {
	if l.heir != h {
		return
	}
	h.status(l.ownGeneration())
	u := l.u
	time.AfterFunc(statusInterval, func() { u.post(func(l *life) { l.reportDrain(h) }) })
}

// backend is the Upgrader as a control socket shows it.
type backend struct{ u *Upgrader }

func (b backend) Status() control.Status {
	if s, alive := b.u.status(); alive {
		return s
	}
	return control.Status{} // the next generation is to be asked
}

func (b backend) Upgrade(ctx context.Context, r control.UpgradeRequest) control.Outcome {
	if err := anothers(append(r.Services, r.Service)); err != nil {
		return control.Outcome{ID: r.ID, Result: control.Refused, Trigger: r.Trigger, Reason: err.Message, Hint: err.Hint}
	}
	if len(r.Args) > 0 || r.Restart {
		return control.Outcome{ID: r.ID, Result: control.Refused, Trigger: r.Trigger,
			Reason: "without a keeper a generation is started with the arguments of the one before",
			Hint:   "run the service under the keeper: `tablecloth run -- PROGRAM`"}
	}
	if r.Trigger == "" {
		r.Trigger = "control"
	}
	return b.u.request(ctx, r)
}

func (b backend) Outcome(ctx context.Context, id string) (control.Outcome, bool) {
	return b.u.outcomes.Wait(ctx, id)
}

func (b backend) Stop(_ context.Context, r control.StopRequest) error {
	if err := anothers(append(r.Services, r.Service)); err != nil {
		return err
	}
	b.u.ask(func(l *life) { l.stop(r, "") })
	return nil
}

// anothers refuses names that aren't this service's.
func anothers(names []string) *control.Error {
	own := serviceName()
	for _, name := range names {
		if name != "" && name != own {
			return &control.Error{Message: fmt.Sprintf("no service is called %q", name), Hint: "there is " + own}
		}
	}
	return nil
}

func serviceName() string { return filepath.Base(os.Args[0]) }

func (b backend) Live() bool { return true }

func (b backend) Ready() bool { return b.u.acts.Load() && b.u.Drain() == nil }
