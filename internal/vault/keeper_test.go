//go:build linux

package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/link"
)

// kept is a worker process as its keeper, the test, has it.
type kept struct {
	cmd      *exec.Cmd
	link     *link.Conn
	vault    *Vault
	vaultPID int
	failure  string // of its Start
}

func startWorker(l *net.TCPListener, log *os.File, set func(*exec.Cmd)) (*kept, error) {
	ours, theirs, err := link.Pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	lf, err := l.File()
	if err != nil {
		return nil, err
	}
	defer lf.Close()
	k := &kept{cmd: exec.Command("/proc/self/exe"), link: ours}
	k.cmd.Env = append(os.Environ(), roleVariable+"=worker")
	k.cmd.ExtraFiles = []*os.File{theirs, lf, log}
	k.cmd.Stderr = log
	if set != nil {
		set(k.cmd)
	}
	if err := k.cmd.Start(); err != nil {
		return nil, err
	}
	ours.SetDeadline(time.Now().Add(time.Minute))
	m, err := ours.Recv()
	if err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	var msg toKeeper
	if err := json.Unmarshal(m.Data, &msg); err != nil {
		return nil, err
	}
	k.failure, k.vaultPID = msg.Error, msg.Vault
	if len(m.Files) == 2 {
		k.vault, err = Adopt(msg.Vault, os.NewFile(uintptr(m.Files[0]), "sock"), os.NewFile(uintptr(m.Files[1]), "memory"))
	} else if msg.Say != "early" {
		Reap(msg.Vault)
	}
	return k, err
}

// service is a listener and the workers that serve it, one after the other.
type service struct {
	t    testing.TB
	ln   *net.TCPListener
	log  *os.File
	set  func(*exec.Cmd)
	now  *kept
	sum  Counts
	took []time.Duration
}

func newService(t testing.TB, set func(*exec.Cmd)) *service {
	t.Helper()
	l, err := listen()
	must(t, err)
	log, err := os.OpenFile(t.TempDir()+"/log", os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	must(t, err)
	s := &service{t: t, ln: l, log: log, set: set}
	t.Cleanup(s.stop)
	s.next(nil)
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// next starts a worker, which goes on with conns.
func (s *service) next(conns []Conn) {
	s.t.Helper()
	k, err := startWorker(s.ln, s.log, s.set)
	must(s.t, err)
	s.now = k
	for part := range slices.Chunk(conns, link.MaxFiles) {
		msg := toWorker{Do: "adopt"}
		var fds []int
		for _, c := range part {
			fds = append(fds, c.FD)
			msg.RXTX = append(msg.RXTX, [2]uint64{c.RX, c.TX})
		}
		s.tell(msg, fds...)
		closeAll(fds)
	}
	s.tell(toWorker{Do: "serve"})
}

func (s *service) tell(m toWorker, files ...int) toKeeper {
	s.t.Helper()
	s.send(m, files...)
	r, err := s.now.link.Recv()
	must(s.t, err)
	var reply toKeeper
	must(s.t, json.Unmarshal(r.Data, &reply))
	return reply
}

func (s *service) send(m toWorker, files ...int) {
	s.t.Helper()
	s.now.link.SetDeadline(time.Now().Add(time.Minute))
	b, err := json.Marshal(m)
	must(s.t, err)
	must(s.t, s.now.link.Send(b, files...))
}

// die ends the worker by the named cause and waits until it is dead.
func (s *service) die(mode string) {
	s.t.Helper()
	if mode == "kill" {
		s.now.cmd.Process.Kill()
	} else {
		s.send(toWorker{Do: "die", Mode: mode})
	}
	s.now.cmd.Wait()
	s.now.link.Close()
	if got, want := s.now.cmd.ProcessState.String(), causes[mode]; want != "" && got != want {
		s.t.Errorf("%s: the worker ended with %s instead of %s", mode, got, want)
	}
}

// rescue returns what there is to go on with; without a vault that is nothing.
func (s *service) rescue() []Conn {
	if s.now.vault == nil {
		return nil
	}
	r := s.now.vault.Rescue(context.Background(), Options{
		Timeout: 30 * time.Second,
		Listen:  []netip.AddrPort{s.ln.Addr().(*net.TCPAddr).AddrPort()},
	})
	if r.Err != nil {
		s.t.Errorf("rescue: %v", r.Err)
	}
	s.count(r)
	if err := unix.Kill(s.now.vaultPID, 0); !errors.Is(err, unix.ESRCH) {
		s.t.Errorf("the vault %d is still there: %v", s.now.vaultPID, err)
	}
	return r.Idle
}

func (s *service) count(r *Rescued) {
	c := &s.sum
	c.Idle += r.Counts.Idle
	c.Done += r.Counts.Done
	c.S500 += r.Counts.S500
	c.S503 += r.Counts.S503
	c.Cut += r.Counts.Cut
	c.Ended += r.Counts.Ended
	c.Closed += r.Counts.Closed
	c.Sent += r.Counts.Sent
	c.Lost += r.Counts.Lost
	s.took = append(s.took, r.Took)
}

// crash is a whole round: a death, the rescue, the next worker.
func (s *service) crash(mode string) {
	s.t.Helper()
	s.die(mode)
	s.next(s.rescue())
}

func (s *service) stop() {
	if s.now != nil {
		s.now.cmd.Process.Kill()
		s.now.cmd.Wait()
		s.now.link.Close()
		if s.now.vault != nil {
			s.now.vault.End()
		}
	}
	s.ln.Close()
	s.log.Close()
}

// keeperMain is a keeper which starts one worker, says its pids, and waits to
// be killed.
func keeperMain() {
	l, err := listen()
	check(err)
	k, err := startWorker(l, os.Stderr, nil)
	check(err)
	fmt.Println(k.cmd.Process.Pid, k.vaultPID)
	io.Copy(io.Discard, os.Stdin)
	select {}
}

func listen() (*net.TCPListener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}
