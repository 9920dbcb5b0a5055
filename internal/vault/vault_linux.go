package vault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/fdtable"
)

// Vault is the keeper's side of a worker's vault.
type Vault struct {
	pid    int
	pidfd  *os.File
	client *client
	view   *View
	memory *os.File
	dead   chan struct{}
	kill   sync.Once
}

// Adopt takes over what a worker's Start returned: with an error too, the files
// are closed then, the vault ends and is reaped. pid must be a child of this
// process that nobody waits for but the Vault.
func Adopt(pid int, sock, memory *os.File) (*Vault, error) {
	v := &Vault{pid: pid, memory: memory, dead: make(chan struct{})}
	err := v.adopt(sock)
	sock.Close()
	if err != nil {
		v.closeFiles()
		Reap(pid)
		return nil, fmt.Errorf("vault: %w", err)
	}
	go v.wait()
	return v, nil
}

// Reap kills and reaps a vault that won't be adopted: the one of a failed Start.
// It does nothing if pid isn't a child of this process.
func Reap(pid int) {
	if pid <= 0 || !isChild(pid) {
		return
	}
	unix.Kill(pid, unix.SIGKILL)
	for {
		if _, err := unix.Wait4(pid, nil, 0, nil); !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// isChild makes sure that a number from another process can be used: as long as
// a child hasn't been waited for, its PID is not given to anybody else.
func isChild(pid int) bool {
	return unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil) == nil
}

func (v *Vault) adopt(sock *os.File) (err error) {
	if !isChild(v.pid) {
		return fmt.Errorf("process %d is not a child of this one", v.pid)
	}
	if v.view, err = NewView(v.memory); err != nil {
		return err
	}
	if v.client, err = newClient(sock); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), DefaultTimeout)
	defer cancel()
	if _, _, err := v.client.ask(ctx, requestAdopt); err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	fd, err := unix.PidfdOpen(v.pid, 0)
	if err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	unix.SetNonblock(fd, true) // PIDFD_NONBLOCK needs Linux 5.10
	v.pidfd = os.NewFile(uintptr(fd), "pidfd")
	Reserve()
	return nil
}

// wait reaps the vault. Its pidfd is in the runtime's poller, so the goroutine
// costs no thread.
func (v *Vault) wait() {
	defer close(v.dead)
	raw, err := v.pidfd.SyscallConn()
	if err != nil {
		return
	}
	raw.Read(reap)
}

// reap tells whether the process is dead and reaped.
func reap(pidfd uintptr) bool {
	for {
		var info unix.Siginfo // stays empty as long as it lives
		err := unix.Waitid(unix.P_PIDFD, int(pidfd), &info, unix.WEXITED|unix.WNOHANG, nil)
		if !errors.Is(err, unix.EINTR) {
			return err != nil || info.Signo != 0
		}
	}
}

// PID returns the vault's process ID.
func (v *Vault) PID() int { return v.pid }

// Dead is closed when the vault is dead and reaped: after End and Rescue, and
// when somebody has killed it. In the last case nothing of the worker can be
// rescued any more.
func (v *Vault) Dead() <-chan struct{} { return v.dead }

// End kills the vault, waits until it is dead, and releases everything. It is
// for a worker that has ended well, and harmless after Rescue.
func (v *Vault) End() {
	v.signal()
	<-v.dead
	v.closeFiles()
}

func (v *Vault) signal() {
	v.kill.Do(func() {
		if raw, err := v.pidfd.SyscallConn(); err == nil {
			raw.Control(func(fd uintptr) { unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) })
		}
	})
}

func (v *Vault) closeFiles() {
	if v.client != nil {
		v.client.Close()
	}
	if v.pidfd != nil {
		v.pidfd.Close()
	}
	v.memory.Close()
}

// Reserve makes room for the descriptors of a rescue, once. The first Adopt does it;
// earlier, and beside other work, nobody waits for it.
func Reserve() { fdtable.Grow(16 << 10) }
