package keeper

import (
	"reflect"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/pidfile"
	"github.com/tablecloth-go/tablecloth/internal/proc"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
	"github.com/tablecloth-go/tablecloth/upgrader/sd"
)

// design is what a service is to be: its definition, and what was opened for that.
type design struct {
	conf    *Service
	sockets []*socket
	pidfile *pidfile.File // of the workers; nil: none
}

// install makes a design count.
func (s *service) install(d *design) {
	elsewhere := d.pidfile != s.pidfile
	s.conf, s.sockets, s.pidfile = d.conf, d.sockets, d.pidfile
	if good := s.programs[s.state.good]; good != nil { // it may be the one of before
		good.conf = d.conf
	}
	if pid := s.acting(control.Outcome{}).PID; elsewhere && pid != 0 {
		s.a.os.announce(notice{kind: "pidfile", pidfile: d.pidfile, worker: pid})
	}
	s.a.later = append(s.a.later, s.a.letGo)
}

// holdings are the sockets and PID files that the keeper has opened, or was given,
// for its services.
type holdings struct {
	sockets  []*socket
	pidfiles []*pidfile.File
	wanted   []*design // by a change of the configuration that is under way
}

// letGo closes what no service wants any more.
func (a *actor) letGo() {
	sockets, pidfiles := map[*socket]bool{}, map[*pidfile.File]bool{}
	want := func(d *design) {
		pidfiles[d.pidfile] = true
		for _, k := range d.sockets {
			sockets[k] = true
		}
	}
	for _, d := range a.held.wanted {
		want(d)
	}
	for _, s := range a.services {
		if s.leaving {
			pidfiles[s.pidfile] = true // its workers still are what it says
			continue
		}
		want(&design{s.conf, s.sockets, s.pidfile})
		for _, d := range s.designs {
			want(d)
		}
	}
	var gone []*socket
	a.held.sockets = slices.DeleteFunc(a.held.sockets, func(k *socket) bool {
		if sockets[k] || a.lent(k) {
			return false
		}
		gone = append(gone, k)
		return true
	})
	a.closeSockets(gone)
	a.held.pidfiles = slices.DeleteFunc(a.held.pidfiles, func(f *pidfile.File) bool {
		if !pidfiles[f] {
			a.os.announce(notice{kind: "forget", pidfile: f}) // in its turn: it may be about to be written
		}
		return !pidfiles[f]
	})
}

// lentPace is how often it is looked whether a process still has a socket.
const lentPace = 100 * time.Millisecond

// lent reports whether a process that drains may still have a socket that nobody
// wants any more: as long as it has, nobody could bind that address anew, so it is
// held for whoever wants it again. A path can be had at any time.
func (a *actor) lent(k *socket) bool {
	if k.path != "" || k.lent {
		return k.lent
	}
	var pids []int
	a.each(func(p *process) {
		if p.pid() != 0 && slices.Contains(p.sockets, k) {
			pids = append(pids, p.pid())
		}
	})
	if k.lent = len(pids) > 0; k.lent {
		go a.takeBack(k, pids)
	}
	return k.lent
}

// takeBack waits until none of some processes has a socket any more.
func (a *actor) takeBack(k *socket, pids []int) {
	pace := time.NewTicker(lentPace)
	defer pace.Stop()
	for slices.ContainsFunc(pids, func(pid int) bool { has, _ := proc.HasSocket(pid, k.inode); return has }) {
		select {
		case <-pace.C:
		case <-a.done:
			return
		}
	}
	a.post(func() {
		k.lent = false
		a.each(func(p *process) {
			if slices.Contains(pids, p.pid()) {
				p.sockets = slices.DeleteFunc(slices.Clone(p.sockets), func(o *socket) bool { return o == k })
			}
		})
		a.letGo()
	})
}

// each calls f for every process there is.
func (a *actor) each(f func(*process)) {
	for _, s := range a.services {
		for _, p := range s.procs {
			f(p)
		}
	}
}

// closeSockets closes some that aren't among those held any more. Another one may
// have the same path.
func (a *actor) closeSockets(gone []*socket) {
	for _, k := range gone {
		a.unstore(k.name)
		k.close(!slices.ContainsFunc(a.held.sockets, func(o *socket) bool { return o.path == k.path }))
	}
}

// unstore has the service manager let go of what isn't held any more. It drops all
// of a name, so it is given again what is held by that name still.
func (a *actor) unstore(name string) {
	held := slices.Clone(a.held.sockets)
	for _, s := range a.services {
		held = append(held, s.stored...)
	}
	held = slices.DeleteFunc(held, func(k *socket) bool { return k.name != name })
	a.os.announce(notice{kind: "store", remove: []string{name}, store: held})
}

// alias is the same socket under another name.
func (s *socket) alias(a address) (*socket, error) {
	fd, err := unix.FcntlInt(uintptr(s.fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	c, err := hold(fd, sd.NameOf(a.key()))
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	c.listen, c.path, c.asked = s.listen, s.path, a
	if a.name != "" {
		c.label = a.name + "="
	}
	return c, nil
}

// sameAs reports whether two definitions mean the same, but perhaps for the
// number of workers.
func (c *Service) sameAs(o *Service) bool {
	a, b := *c, *o
	a.Workers, b.Workers = 0, 0
	return reflect.DeepEqual(&a, &b)
}

// looksAs reports whether two definitions mean the same to the processes.
func (c *Service) looksAs(o *Service) bool {
	a, b := c.looks(), o.looks()
	return a.sameAs(&b)
}

// looks is a definition without what only the keeper goes by.
func (c Service) looks() Service {
	c.Rolling, c.SerialStart, c.MaxDraining = false, false, 0
	c.ReadyTimeout, c.KillTimeout, c.StopTimeout = 0, 0, 0
	c.Restart, c.GiveUp, c.MaxDeaths, c.DeathWindow, c.GiveUpPause = "", "", 0, 0, 0
	c.OnCrash, c.WorkerPIDFile = nil, ""
	return c
}
