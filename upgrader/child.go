//go:build unix

package upgrader

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/link"
	"github.com/tablecloth-go/tablecloth/internal/proc"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// child is the next generation as this one sees it: first a process that may get
// ready, later the heir.
type child struct {
	a          *alone
	began      time.Time
	generation int
	link       *link.Conn
	handover   *link.Conn
	words      *os.File
	inode      uint64 // of its end of the link: marks it among our children
	foreign    bool   // it has none of this library

	ended    chan struct{} // closed: tableflip's Upgrade has returned
	exit     error         // with this; valid when ended is closed
	messages chan message  // its hello and ready
	acts     chan struct{} // closed: it said that it acts
	expired  chan struct{} // closed: it wants our drain to end

	mu      sync.Mutex
	trouble string // what it said of itself
	leaving bool   // it said that the service is being stopped
	process *proc.Handle
	actsOne sync.Once
	expOne  sync.Once
}

func inodeOf(f *os.File) uint64 {
	var st unix.Stat_t
	raw, err := f.SyscallConn()
	if err != nil {
		return 0
	}
	raw.Control(func(fd uintptr) { unix.Fstat(int(fd), &st) })
	return st.Ino
}

// msgMarker is said by this process itself, on the new one's end of the link:
// what was said there before has been heard when it arrives. EOF can't tell, as
// tableflip keeps a duplicate of that end.
const msgMarker = "marker"

// await waits for the process's end, and until all that it had said is heard.
func (c *child) await(done <-chan error, theirs *link.Conn) {
	defer close(c.ended)
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		c.listen()
	}()
	c.exit = <-done
	if c.exit == nil { // it lives, without this library
		c.search()
		theirs.Close()
		return
	}
	if send(theirs, message{Type: msgMarker}) == nil {
		<-heard
	}
	theirs.Close()
}

// listen hears the new process for as long as this one lives.
func (c *child) listen() {
	for {
		m, raw, err := receive(c.link)
		if err != nil || m.Type == msgMarker && fromUs(raw.PID) {
			return
		}
		c.hear(m, raw.PID)
	}
}

func (c *child) hear(m message, pid int) {
	switch m.Type {
	case msgHello:
		c.found(firstPID(pid, m.PID))
		c.say(m)
	case msgReady:
		c.say(m)
	case msgTrouble:
		c.mu.Lock()
		c.trouble = m.Text
		c.mu.Unlock()
	case msgActing:
		c.actsOne.Do(func() { close(c.acts) })
	case msgEnd:
		c.expOne.Do(func() { close(c.expired) })
	case msgLeaving:
		c.mu.Lock()
		c.leaving = true
		c.mu.Unlock()
	}
}

// say passes a message to the attempt. One that talks too much isn't heard.
func (c *child) say(m message) {
	select {
	case c.messages <- m:
	default:
	}
}

// fromUs: where the kernel doesn't tell, a marker is believed.
func fromUs(pid int) bool { return pid == 0 || pid == os.Getpid() }

// firstPID: the kernel's word counts more than the process's own.
func firstPID(kernel, own int) int {
	if kernel != 0 {
		return kernel
	}
	return own
}

// found keeps a handle of the new process, once.
func (c *child) found(pid int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != nil || pid == 0 {
		return
	}
	select {
	case <-c.ended: // it may be waited for, and its PID another's
		return
	default:
	}
	if h, err := proc.Open(pid); err == nil {
		c.process = h
	}
}

func (c *child) handle() *proc.Handle {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.process
}

func (c *child) pid() int {
	if h := c.handle(); h != nil {
		return h.PID()
	}
	return 0
}

// search looks for a new process that has not said who it is. It looks twice:
// another child of the service has all our descriptors too, until it has become
// the program that it is to be.
func (c *child) search() {
	pid := c.likely()
	if time.Sleep(time.Millisecond); pid != 0 && pid == c.likely() {
		c.found(pid)
	}
}

// likely returns the PID that the new process probably has, which tableflip
// doesn't tell; 0: it is not to be seen.
func (c *child) likely() int {
	children, _ := proc.Children(os.Getpid())
	for _, pid := range slices.Backward(children) {
		if mine, err := proc.HasSocket(pid, c.inode); err == nil && mine {
			return pid
		}
	}
	return 0
}

// kill ends the new process, and returns when it has ended. It may hang from its
// start, and may only be about to start.
func (c *child) kill() {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		if c.handle() == nil {
			c.search()
		}
		if h := c.handle(); h != nil {
			h.Kill(syscall.SIGKILL)
		}
		if c.foreign { // tableflip has returned long ago
			return
		}
		select {
		case <-c.ended:
			return
		case <-time.After(wait):
		}
	}
}

// close lets go of a process that has ended, or was never started.
func (c *child) close() {
	c.link.Close()
	if c.handover != nil {
		c.handover.Close()
	}
	if h := c.handle(); h != nil {
		h.Close()
	}
}

func (c *child) outcome(l launch) control.Outcome {
	return control.Outcome{Trigger: l.trigger, Result: control.Ready, Generation: c.generation, PID: c.pid(),
		Took: time.Since(c.began), Confirmed: true, At: time.Now()}
}

// explain adds what is known of a process that has failed.
func (c *child) explain(o *control.Outcome, err error) {
	if c.words != nil {
		o.Output = readWords(c.words)
	}
	var exit *exitError
	if errors.As(c.exitError(), &exit) {
		o.Exit, o.ExitCode = exit.exit, exit.code
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.trouble != "" {
		o.Reason = fmt.Sprintf("%s: %s", o.Reason, c.trouble)
	}
	if errors.As(err, &exit) && o.Hint == "" {
		o.Hint = "its own log, which is the service's, may say more"
	}
}

func (c *child) exitError() error {
	select {
	case <-c.ended:
		return c.exit
	default:
		return nil
	}
}
