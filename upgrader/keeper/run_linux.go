package keeper

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/kept"
	"github.com/tablecloth-go/tablecloth/internal/output"
	"github.com/tablecloth-go/tablecloth/internal/pidfile"
	"github.com/tablecloth-go/tablecloth/internal/vault"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
	"github.com/tablecloth-go/tablecloth/upgrader/sd"
)

// Run keeps the services until they have ended: because they were stopped (ctx
// is done, SIGTERM, SIGINT, the control socket), or because the restart policy
// lets them end. It is for a process that does nothing else: it takes the
// process's signals, reaps all its children, and may be called once.
//
// The error is an *ExitError if the last program that ended did so with a status
// other than 0, or an *Error if the keeper could not start.
func Run(ctx context.Context, c Config) error {
	k := &keeper{conf: &c}
	defer k.close()
	if err := k.open(); err != nil {
		return err
	}
	return k.run(ctx)
}

// keeper is what Run has made, in the order in which it was made.
type keeper struct {
	conf       *Config
	logs       *output.Logs
	actor      *actor
	host       *host
	herald     *herald
	receiver   *sd.Receiver
	lines      *net.UnixListener
	control    *control.Listener
	server     *control.Server
	metrics    func() // ends what makes them
	observer   *observer
	pidfile    *pidfile.File
	acks       *acks // nil: nobody wants any, or they can't be had
	manager    sd.Environment
	statusFile *statusFile
	signals    chan os.Signal
	terminal   bool // there was one at the start
}

// open makes everything that can fail before the first process is started.
func (k *keeper) open() error {
	k.catchSignals()
	if err := k.conf.fill(); err != nil {
		return err
	}
	if err := k.openLogs(); err != nil {
		return err
	}
	if slices.ContainsFunc(k.conf.Services, func(s Service) bool { return s.rescues() }) {
		go vault.Reserve()
	}
	k.manager = sd.Take()
	passed, err := k.manager.Sockets()
	if err != nil {
		return &Error{Err: err}
	}
	notifier, err := k.manager.Notifier()
	if err != nil {
		return &Error{Err: err}
	}
	if k.pidfile, err = acquire(k.conf.PIDFile); err != nil {
		return err
	}
	k.herald = newHerald(notifier, k.conf.Log)
	id := strings.ToLower(rand.Text())
	if k.host, err = newHost(id, k.logs); err != nil {
		return &Error{Err: err}
	}
	if k.receiver, err = sd.NewReceiver(""); err != nil {
		return &Error{Err: err}
	}
	if k.lines, err = listenLines(id); err != nil {
		return &Error{Err: err}
	}
	k.actor = newActor(k.host.system(k.herald), k.conf.Log)
	k.actor.id, k.actor.onReady, k.actor.mustStart = id, k.conf.Ready, k.conf.MustStart
	k.actor.basics, k.actor.reread = k.environment, k.conf.Reread
	k.openAcks()
	if err := k.openSockets(passed); err != nil {
		return err
	}
	if err := k.openServer(); err != nil {
		return err
	}
	if err := k.openControl(); err != nil {
		return err
	}
	if k.conf.StatusFile != "" {
		if k.statusFile, err = openStatusFile(k.conf.StatusFile, backend{k.actor}, k.conf.Log); err != nil {
			return err
		}
	}
	if k.pidfile != nil {
		if err := k.pidfile.Write(os.Getpid()); err != nil {
			return &Error{Err: err}
		}
	}
	return nil
}

func acquire(path string) (*pidfile.File, error) {
	if path == "" {
		return nil, nil
	}
	f, err := pidfile.Acquire(path)
	var held *pidfile.HeldError
	if errors.As(err, &held) {
		return nil, hinted(err, held.Hint())
	}
	if err != nil {
		return nil, &Error{Err: err}
	}
	return f, nil
}

// openSockets binds what the service manager hasn't passed.
func (k *keeper) openSockets(passed []sd.Socket) error {
	inherited, err := restore(passed)
	if err != nil {
		return &Error{Err: err}
	}
	var fresh []*socket
	for i := range k.conf.Services {
		c := &k.conf.Services[i]
		f, err := acquire(c.WorkerPIDFile)
		if err != nil {
			return err
		}
		if f != nil {
			k.actor.held.pidfiles = append(k.actor.held.pidfiles, f)
		}
		var sockets []*socket
		for _, l := range c.Listen {
			a, err := parseAddress(l)
			if err != nil {
				return &Error{Err: err}
			}
			s, rest := take(inherited, a)
			if inherited = rest; s == nil {
				if s, err = k.bind(a); err != nil {
					return err
				}
				fresh = append(fresh, s)
			}
			s.asked = a
			sockets = append(sockets, s)
			k.actor.held.sockets = append(k.actor.held.sockets, s)
		}
		k.actor.services = append(k.actor.services, newService(k.actor, &design{c, sockets, f}))
	}
	if first := k.actor.services[0]; len(inherited) > 0 { // nobody has asked for them by name
		first.sockets = append(first.sockets, inherited...)
		first.always = inherited
		k.actor.held.sockets = append(k.actor.held.sockets, inherited...)
	}
	if len(fresh) > 0 {
		k.herald.announce(notice{kind: "store", store: fresh})
	}
	return nil
}

// openAcks makes einhorn's command socket, if it can be.
func (k *keeper) openAcks() {
	if !slices.ContainsFunc(k.conf.Services, func(s Service) bool { return s.Foreign != Off }) && k.conf.Reread == nil {
		return
	}
	var err error
	if k.acks, err = listenAcks(); err != nil {
		k.conf.Log.WithError(err).Debug("no socket for einhorn's acks")
		return
	}
	k.actor.ackPath = k.acks.path()
}

func take(from []*socket, a address) (*socket, []*socket) {
	for i, s := range from {
		if s.fits(a) {
			return s, append(append([]*socket(nil), from[:i]...), from[i+1:]...)
		}
	}
	return nil, from
}

// environment is what every worker of a service has beside its program's.
func (k *keeper) environment(c *Service) []string {
	env := []string{
		"NOTIFY_SOCKET=" + k.receiver.Address(),
		kept.Env + "=" + k.lines.Addr().String(),
	}
	if c.Watchdog > 0 {
		env = append(env, fmt.Sprintf("WATCHDOG_USEC=%d", c.Watchdog.Microseconds()))
	}
	return env
}

func (k *keeper) openControl() error {
	path := k.conf.Control
	if path == "none" {
		return nil
	}
	if path == "" {
		var err error
		if path, err = control.Place(k.conf.Services[0].Name); err != nil {
			k.conf.Log.WithError(err).Warn("no control socket")
			return nil
		}
		if path == "" {
			k.conf.Log.Warn("no place for a control socket: name one with --control")
			return nil
		}
	}
	ln, err := control.Listen(path, control.ListenOptions{Group: k.conf.ControlGroup})
	if err != nil {
		return err
	}
	k.control = ln
	return nil
}

// run is the keeper at work.
func (k *keeper) run(ctx context.Context) error {
	go k.actor.acceptLines(k.lines)
	go k.actor.hearNotices(k.receiver)
	if k.acks != nil {
		go k.acks.serve(k.actor)
	}
	if k.statusFile != nil {
		go k.statusFile.run()
		defer k.statusFile.end()
	}
	go k.obeySignals(ctx)
	if k.control != nil {
		go k.server.Serve(k.control)
	}
	if k.observer != nil {
		go k.observer.serve()
	}
	if every, err := k.manager.Watchdog(); err == nil && every > 0 {
		go k.actor.pet(every / 2)
	}
	k.actor.run()
	k.actor.settled()
	return k.verdict()
}

// verdict is what the last program ended with.
func (k *keeper) verdict() error {
	var worst error
	for _, s := range k.actor.services {
		e := s.lastEnd
		if e.clean() || s.neverStarted() {
			continue
		}
		x := &ExitError{Code: e.code(), Reason: s.conf.Name + ": " + e.String(), Err: e.failed, Hint: s.hint(e)}
		if e.failed == nil && e.status.Signaled() {
			x.Signal = e.status.Signal()
		}
		worst = x
	}
	return worst
}

func (s *service) neverStarted() bool { return s.state.lastProc == 0 }

// close takes down, in the reverse order, what open has made.
func (k *keeper) close() {
	if k.observer != nil {
		k.observer.close()
	}
	if k.control != nil {
		k.control.Remove() // while it is open: its file's number can't be another's
	}
	if k.server != nil {
		k.metrics()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		k.server.Shutdown(ctx) // those who wait get their answers
		cancel()
		k.server.Close()
	}
	if k.control != nil {
		k.control.Close()
	}
	if k.lines != nil {
		k.lines.Close()
	}
	if k.receiver != nil {
		k.receiver.Close()
	}
	if k.acks != nil {
		k.acks.close()
	}
	if k.actor != nil {
		for _, l := range k.actor.held.sockets {
			l.close(true)
		}
		for _, f := range k.actor.held.pidfiles {
			k.herald.announce(notice{kind: "forget", pidfile: f})
		}
	}
	if k.herald != nil {
		k.herald.end()
	}
	if k.pidfile != nil {
		k.pidfile.Remove()
		k.pidfile.Close()
	}
	if k.logs != nil {
		k.logs.Close()
	}
	signal.Stop(k.signals)
}
