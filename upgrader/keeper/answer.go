//go:build linux

package keeper

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/chain"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

const (
	outcomeLines = 20 // of output in an outcome or a crash report
	stackLines   = 60
)

// request asks for an upgrade on behalf of waiter id; 0: of a signal, which waits
// for nothing.
func (s *service) request(r control.UpgradeRequest, why trigger, id int) {
	condition := toUpgrade
	if r.Restart {
		condition = toRestart
	}
	s.feed(event{kind: evRequest, request: id, condition: condition, why: why, args: r.Args, now: r.Now, lead: len(s.stored) > 0})
}

// await gives w a number by which a request's answer finds it.
func (s *service) await(w *waiter) int {
	s.lastID++
	s.waiters[s.lastID] = w
	return s.lastID
}

// answer tells a requester, or keeps for all of them, how a change ended.
func (s *service) answer(t action) {
	if t.request == 0 {
		if d := s.designs[t.design]; d != nil && t.result == control.Ready {
			s.install(d)
		}
		s.decide(t)
		return
	}
	w := s.waiters[t.request]
	delete(s.waiters, t.request)
	if w == nil {
		return
	}
	o := s.decided
	if t.result == control.Refused || o.Result != t.result {
		o = s.acting(control.Outcome{Result: t.result, Reason: t.reason, At: time.Now()})
	}
	o.ID, o.Service = w.id, s.conf.Name
	if w.trigger != "" {
		o.Trigger = w.trigger
	}
	w.done(o)
}

// decide makes the outcome of a change.
func (s *service) decide(t action) {
	o := control.Outcome{ID: control.NewID(), Service: s.conf.Name, Trigger: string(t.why), Result: t.result,
		Reason: t.reason, At: time.Now()}
	if began, ok := s.began[t.generation]; ok {
		o.Took = time.Since(began)
	}
	if f, ok := s.failures[t.generation]; ok && t.result != control.Ready {
		o.Exit, o.Output, o.Hint = f.end.String(), last(f.end.output, outcomeLines), f.hint
		if f.end.failed != nil || f.end.status.Exited() {
			code := f.end.code()
			o.ExitCode = &code
		}
	}
	if t.result == control.TimedOut && o.Hint == "" {
		o.Hint = s.readyHint()
	}
	o = s.acting(o)
	s.decided = o
	switch {
	case t.why == byStart:
		return
	case t.condition == toAdjust:
		return
	case t.condition == toScale:
		s.scaled(o)
		return
	}
	s.outcome = &o
	kind := control.EventUpgraded
	if t.result != control.Ready {
		kind = control.EventFailed
		s.a.os.announce(notice{kind: "ready", text: s.conf.Name + ": upgrade failed: " + t.reason + ": the old generation serves"})
	} else {
		s.upgrades++
	}
	s.tell(control.Event{Kind: kind, Generation: t.generation, Text: t.reason, Outcome: &o})
}

// scaled tells how a change of the number of workers has ended.
func (s *service) scaled(o control.Outcome) {
	text := fmt.Sprintf("%d workers", s.state.policy.workers)
	if o.Result != control.Ready {
		text += ", as before: " + o.Reason
	}
	s.tell(control.Event{Kind: control.EventScale, Generation: s.current, Text: text})
}

// acting fills in who serves now.
func (s *service) acting(o control.Outcome) control.Outcome {
	o.Generation, o.Workers = s.current, s.state.policy.workers
	for _, p := range s.procs {
		if _, w := s.state.find(p.proc); w != nil && w.life == serving && p.generation == s.current {
			o.PID, o.Confirmed = p.pid(), p.confirmed
			if w.index == 0 {
				break
			}
		}
	}
	return o
}

// readyHint says why nothing was heard of a process.
func (s *service) readyHint() string {
	switch {
	case s.conf.readyMode() == "auto" && s.spoke:
		return "the last generation said itself that it was ready, this one never did: if it can't, use --ready listen or delay=1s"
	case s.conf.readyMode() == "notify":
		return "it never said READY=1 to $NOTIFY_SOCKET; if it can't, use --ready listen or delay=1s"
	case s.conf.readyMode() == "fd":
		return "it never wrote a newline to the descriptor of --ready fd="
	case s.conf.readyMode() == "listen":
		return "it was never seen to wait for connections on the sockets that it was given (LISTEN_FDS)"
	}
	return ""
}

// hint knows common reasons of an early end.
func (s *service) hint(e end) string {
	text := strings.ToLower(strings.Join(e.output, "\n"))
	switch {
	case strings.Contains(text, "address already in use") || strings.Contains(text, "eaddrinuse"):
		hint := "it binds a port that the old generation has: have the keeper bind it (--listen), and the program take it (LISTEN_FDS)"
		if s.conf.Workers > 1 && !s.conf.SerialStart {
			hint = "it binds a port that another worker has: have the keeper bind it (--listen), and the program take it (LISTEN_FDS); with this library, or FDSTORE, --serial-start does too"
		}
		return hint
	case e.failed != nil:
		return startHint(e.failed)
	}
	return ""
}

// startHint knows what keeps a process from becoming the program.
func startHint(err error) string {
	var chained *chain.Error
	step := ""
	if errors.As(err, &chained) {
		step, _, _ = strings.Cut(chained.Step, " ")
	}
	switch status := execStatus(err); {
	case isEnvFileError(err):
		return "it needs a file of KEY=VALUE lines that the keeper can read"
	case step == "limit":
		return "without the right to raise it (root's, CAP_SYS_RESOURCE) a limit can't be above the keeper's own hard one (ulimit -H); and nofile never above /proc/sys/fs/nr_open"
	case step == "setgroups", step == "setgid", step == "setuid":
		return "only root can run a program as somebody else: start the keeper as root, or leave out user and group"
	case step == "change":
		return "the directory must be there, and open to the user that the program runs as"
	case status == 127:
		return "there is no such file, or its interpreter is missing"
	case status == 126:
		return "it is not executable for the user that it runs as, or not for this machine"
	}
	return ""
}

// panicText finds what Go's runtime wrote about the end of a process.
func panicText(lines []string) (text, stack string) {
	for i := len(lines) - 1; i >= 0; i-- {
		if strings.HasPrefix(lines[i], "panic: ") || strings.HasPrefix(lines[i], "fatal error: ") {
			end := min(len(lines), i+stackLines)
			return lines[i], strings.Join(lines[i:end], "\n")
		}
	}
	return "", ""
}
