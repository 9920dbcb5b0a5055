package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/tablecloth-go/tablecloth/cmd/internal/diag"
	"github.com/tablecloth-go/tablecloth/cmd/internal/phrase"
	"github.com/tablecloth-go/tablecloth/internal/proc"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

const (
	slowStart    = 5 * time.Second  // a worker that isn't ready after so long is worth a look
	silence      = 15 * time.Second // workers with the library are heard every few seconds
	nearlyFull   = 80               // percent
	mostHoldouts = 8
)

func newWard(st control.Status) *ward {
	w := &ward{status: st, now: time.Now(), owners: sync.OnceValue(diag.Owners), look: diag.Look, changed: proc.Changed}
	w.sockets, w.blind = diag.Sockets()
	return w
}

// The checks of tablecloth doctor for a running service.

func checkState(w *ward, s control.Service) []ailment {
	// What was stopped by its name has been served since it last died.
	diedLast := s.LastCrash != nil && s.LastCrash.Generation >= s.Generation
	if s.State != control.GaveUp && s.State != control.Down && (s.State != control.Stopped || !diedLast) {
		return nil
	}
	a := ailment{ID: "state", Problem: "nothing serves: " + string(s.State), Advice: "see why it dies, then tablecloth upgrade with one that doesn't"}
	if s.Crashes > 0 {
		a.Problem += fmt.Sprintf(" after %s", counted(s.Crashes, "death"))
	}
	if s.RetryAt != nil {
		a.Problem += ", next start in " + shortDuration(s.RetryAt.Sub(w.now))
	}
	if c := s.LastCrash; c != nil {
		a.Details = append(a.Details, phrase.Crash(*c))
		a.Details = append(a.Details, lastLines(c.Output, 5)...)
	}
	return []ailment{a}
}

func lastLines(lines []string, n int) []string {
	return lines[max(0, len(lines)-n):]
}

func checkWorkers(w *ward, s control.Service) []ailment {
	n := serving(s)
	if s.State != control.Serving || n >= s.Workers {
		return nil
	}
	a := ailment{ID: "workers", Problem: fmt.Sprintf("%d of %s serve", n, counted(s.Workers, "worker"))}
	if c := s.LastCrash; c != nil {
		a.Details = append(a.Details, fmt.Sprintf("%s ago %s", shortDuration(w.now.Sub(c.At)), phrase.Crash(*c)))
	}
	return []ailment{a}
}

// checkReadiness: why wasn't, or isn't, it ready?
func checkReadiness(w *ward, s control.Service) []ailment {
	var all []ailment
	eachWorker(s, func(g control.Generation, worker control.Worker) {
		age := w.now.Sub(worker.Started)
		if worker.State != control.Starting || age < slowStart {
			return
		}
		a := ailment{ID: "ready", PID: worker.PID, Problem: fmt.Sprintf("generation %d (pid %d) is not ready, %s after its start", g.Number, worker.PID, shortDuration(age))}
		if worker.Status != "" {
			a.Details = append(a.Details, "it says: "+worker.Status)
		}
		if p := w.process(worker.PID); p != nil {
			a.Details = append(a.Details, "it is "+p.State)
			a.Details = append(a.Details, w.listensOn(p)...)
		}
		all = append(all, a)
	})
	if o := s.LastOutcome; o != nil && o.Result != control.Ready {
		a := ailment{ID: "upgrade", Problem: fmt.Sprintf("the last upgrade, %s ago: %s", shortDuration(w.now.Sub(o.At)), firstLine(outcomeLine(*o))),
			Details: lastLines(o.Output, 5), Advice: o.Hint}
		all = append(all, a)
	}
	return all
}

// listensOn says what a process that isn't ready listens on.
func (w *ward) listensOn(p *diag.Process) []string {
	var all []string
	for _, s := range w.sockets {
		if s.Listening && p.Inodes[s.Inode] {
			all = append(all, "it has the socket of "+s.Local.String())
		}
	}
	return all
}

// checkDrain: why doesn't it end?
func checkDrain(w *ward, s control.Service) []ailment {
	var all []ailment
	for _, g := range s.Generations {
		drains := phrase.Drains(g)
		if len(drains) == 0 {
			continue
		}
		who := fmt.Sprintf("generation %d", g.Number)
		if len(drains) < len(g.Workers) {
			who = fmt.Sprintf("a part of %s (%d of %d workers)", who, len(drains), len(g.Workers))
		}
		a := ailment{ID: "drain", Problem: fmt.Sprintf("%s is still %s", who, drains[0].State)}
		if since := longest(drains); !since.IsZero() {
			a.Problem += " after " + shortDuration(w.now.Sub(since))
		}
		if g.Deadline != nil {
			a.Problem += ", and " + phrase.Force(g, w.now)
		}
		pinned, toService := 0, func(k diag.Socket) bool { return isOf(s, k.Peer) }
		for _, c := range g.Holdouts {
			if len(a.Details) < mostHoldouts {
				a.Details = append(a.Details, fmt.Sprintf("%s%s: %s for %s%s", c.Peer, w.whose(c.Peer, toService), c.State, shortDuration(w.now.Sub(c.Since)), prefixed(": ", c.Request)))
			}
			if c.State != "active" && c.State != "idle" {
				pinned++
			}
		}
		if more := len(g.Holdouts) - len(a.Details); more > 0 {
			a.Details = append(a.Details, fmt.Sprintf("and %d more", more))
		}
		switch {
		case pinned > 0:
			a.Advice = "websockets, HTTP/2 and TLS can't move: end them when server.Draining(ctx) is closed, or wait for the deadline"
		case len(g.Holdouts) > 0:
			a.Advice = "these requests are still being answered; the deadline is the kill timeout of the service"
		default:
			a.foreignDrain(w, drains)
		}
		all = append(all, a)
	}
	return all
}

// foreignDrain looks from outside at a program that doesn't say what it waits for.
func (a *ailment) foreignDrain(w *ward, drains []control.Worker) {
	for _, worker := range drains {
		a.PID = worker.PID
		connections := w.connections(worker.PID)
		for i, c := range connections {
			if i == mostHoldouts {
				a.Details = append(a.Details, fmt.Sprintf("and %d more", len(connections)-i))
				break
			}
			text := fmt.Sprintf("pid %d has %s%s: last heard of %s ago", worker.PID, c.Peer, w.whose(c.Peer.String(), func(s diag.Socket) bool { return s.Peer == c.Local }), shortDuration(c.Received))
			if !c.Established {
				text = fmt.Sprintf("pid %d has %s: the other side has closed it", worker.PID, c.Peer)
			}
			if c.Waiting > 0 {
				text += fmt.Sprintf(", %d bytes unread", c.Waiting)
			}
			a.Details = append(a.Details, text)
		}
		if p := w.process(worker.PID); p != nil && len(connections) == 0 {
			a.Details = append(a.Details, fmt.Sprintf("pid %d has no connection left, and is %s", worker.PID, p.State))
		}
	}
	a.Advice = "the program was told to end, and doesn't: see what it does with the stop signal"
}

// longest is since when the first of them drains.
func longest(drains []control.Worker) time.Time {
	var first time.Time
	for _, w := range drains {
		if !w.Since.IsZero() && (first.IsZero() || w.Since.Before(first)) {
			first = w.Since
		}
	}
	return first
}

// checkLife finds processes that hang.
func checkLife(w *ward, s control.Service) []ailment {
	var all []ailment
	eachWorker(s, func(g control.Generation, worker control.Worker) {
		p := w.process(worker.PID)
		switch {
		case p != nil && strings.HasPrefix(p.State, "stopped"):
			all = append(all, ailment{ID: "stopped", PID: worker.PID, Problem: fmt.Sprintf("pid %d is %s: it does nothing at all", worker.PID, p.State),
				Advice: fmt.Sprintf("kill -CONT %d", worker.PID)})
		case worker.State == control.Serving && !worker.Heard.IsZero() && w.now.Sub(worker.Heard) > silence:
			all = append(all, ailment{ID: "silent", PID: worker.PID, Problem: fmt.Sprintf("pid %d was last heard of %s ago", worker.PID, shortDuration(w.now.Sub(worker.Heard))),
				Advice: fmt.Sprintf("it hangs, or gets no CPU: kill -QUIT %d ends it with its stacks in the log, and another one is started", worker.PID)})
		}
	})
	return all
}

func checkDescriptors(w *ward, s control.Service) []ailment {
	var all []ailment
	eachWorker(s, func(_ control.Generation, worker control.Worker) {
		p := w.process(worker.PID)
		if p == nil || p.Full() < nearlyFull {
			return
		}
		all = append(all, ailment{ID: "descriptors", PID: worker.PID,
			Problem: fmt.Sprintf("pid %d has %d of %d descriptors open", worker.PID, p.Descriptors, p.Limit),
			Details: []string{fmt.Sprintf("%d of them are sockets", len(p.Inodes))},
			Advice:  "raise the limit (limits: {nofile: 65536}, --limit nofile=65536), or find what isn't closed: ls -l /proc/" + fmt.Sprint(worker.PID) + "/fd"})
	})
	return all
}

// checkBacklog: are connections waiting that nobody accepts?
func checkBacklog(w *ward, s control.Service) []ailment {
	mine := map[uint64]bool{}
	note := func(pid int) {
		if p := w.process(pid); p != nil {
			for inode := range p.Inodes {
				mine[inode] = true
			}
		}
	}
	eachWorker(s, func(_ control.Generation, worker control.Worker) { note(worker.PID) })
	if w.status.Keeper != nil {
		note(w.status.Keeper.PID)
	}
	var all []ailment
	for _, k := range w.sockets {
		if !k.Listening || !mine[k.Inode] || k.Room == 0 || k.Waiting*100 < k.Room*nearlyFull || !isOf(s, k.Local) {
			continue
		}
		a := ailment{ID: "backlog", Problem: fmt.Sprintf("%d of %d connects that may wait at %s do", k.Waiting, k.Room, k.Local),
			Advice: "nobody accepts them fast enough: see what the workers do, use more (tablecloth scale), or raise net.core.somaxconn"}
		if k.Waiting > k.Room {
			a.Problem += ": the next ones are dropped"
		}
		all = append(all, a)
	}
	return all
}

// isOf reports whether a service listens at an address, as far as its port tells.
func isOf(s control.Service, a netip.AddrPort) bool {
	port := fmt.Sprintf(":%d", a.Port())
	for _, l := range s.Listen {
		if strings.HasSuffix(l, port) {
			return true
		}
	}
	return len(s.Listen) == 0
}

// checkBinary: is what runs what lies on the disk?
func checkBinary(w *ward, s control.Service) []ailment {
	said := map[string]bool{}
	var all []ailment
	eachWorker(s, func(g control.Generation, worker control.Worker) {
		if worker.State != control.Serving || worker.Binary == "" || said[worker.Binary] {
			return
		}
		why := ""
		switch info, err := os.Stat(worker.Binary); {
		case os.IsNotExist(err):
			why = "is not there any more"
		case worker.Changed:
			why = "is another file now"
		case err == nil && w.runs(worker) && info.ModTime().After(worker.Started):
			why = "was changed after its start"
		case err == nil && !w.runs(worker) && isProgram(worker.Binary):
			why = "is another file now"
		}
		if why == "" {
			return
		}
		said[worker.Binary] = true
		all = append(all, ailment{ID: "binary", PID: worker.PID, Problem: fmt.Sprintf("generation %d (pid %d) doesn't run what lies on the disk: %s %s", g.Number, worker.PID, worker.Binary, why),
			Advice: "tablecloth upgrade " + s.Name})
	})
	return all
}

// runs reports whether a process runs the file that it was started as.
func (w *ward) runs(worker control.Worker) bool {
	changed, err := w.changed(worker.PID, worker.Binary)
	return err != nil || !changed
}

// isProgram: of a script the interpreter is run.
func isProgram(path string) bool {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return false
	}
	defer f.Close()
	var magic [4]byte
	n, _ := f.Read(magic[:])
	return n == 4 && string(magic[:]) == "\x7fELF"
}

func checkOutput(_ *ward, s control.Service) []ailment {
	o := s.Output
	if o == nil || o.DroppedLines == 0 {
		return nil
	}
	return []ailment{{ID: "output", Problem: fmt.Sprintf("%d of %d lines of output were dropped", o.DroppedLines, o.Lines),
		Advice: "who reads the keeper's output doesn't keep up: see the log's reader, or use log_file (--log-file)"}}
}
