package systemd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A bed is a systemd of our own: PID 1 of new namespaces on this machine's root
// file system. What it has of its own, and what ends with it, are all processes,
// /run, whatever is written to /etc and /var, its units, the journal and the
// network. All other paths are the machine's.
type bed struct {
	name   string // of its control group; ends in the PID of this process
	dir    string // for this process and its bed, on the machine
	usr    string // another /usr to lay over the machine's; "": none
	init   *exec.Cmd
	inside *exec.Cmd
}

// Environment of the processes of a bed, and of who asks for one.
const (
	envUsr      = "TABLECLOTH_SYSTEMD" // directory with the usr of another systemd: see fetch-systemd
	envLogLevel = "TABLECLOTH_SYSTEMD_LOG"
	envCommand  = "TABLECLOTH_SYSTEMD_RUN" // a command to run in a bed, instead of the tests
	envRole     = "TABLECLOTH_BED_ROLE"
	envDir      = "TABLECLOTH_BED_DIR"
	envName     = "TABLECLOTH_BED_NAME"
)

const (
	roleInit   = "init"   // becomes PID 1
	roleSweep  = "sweep"  // removes control groups
	roleInside = "inside" // runs the tests
)

// bootTimeout bounds what takes a third of a second.
const bootTimeout = 30 * time.Second

// groupPrefix of control groups of beds.
const groupPrefix = "tablecloth-bed."

// possible tells why there can be no bed here; nil: there can.
func possible() error {
	if os.Getuid() != 0 {
		return errors.New("root")
	}
	if _, err := os.Stat("/lib/systemd/systemd"); err != nil {
		return errors.New("systemd")
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), envRole+"="+roleSweep)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("new namespaces and a control group of version 2: %v %s", err, out)
	}
	return nil
}

// namespaces of a bed. That of its control groups is made when it is in one.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNET

// runInBed runs this test binary again, in a bed, and returns its exit status.
// prepare puts programs into a directory, which those inside find as binDir.
func runInBed(prepare func(dir string) error) (int, error) {
	dir, err := os.MkdirTemp("", "tablecloth-bed-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		return 0, err
	}
	if err := prepare(filepath.Join(dir, "bin")); err != nil {
		return 0, err
	}
	b := &bed{name: fmt.Sprint(groupPrefix, os.Getpid()), dir: dir, usr: os.Getenv(envUsr)}
	defer b.end()
	done := make(chan error, 1)
	go func() {
		// A parent-death signal is sent when the thread ends that has forked,
		// and the tests are to be started from the bed's namespaces: this thread
		// is of no use for anything else.
		runtime.LockOSThread()
		err := b.boot()
		if err == nil {
			err = b.enter()
		}
		done <- err
		select {}
	}()
	if err := <-done; err != nil {
		return 0, err
	}
	return b.wait()
}

// boot starts systemd, and waits until it says that it is up.
func (b *bed) boot() error {
	said, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(b.dir, "notify"), Net: "unixgram"})
	if err != nil {
		return err
	}
	defer said.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	b.init = exec.Command("/proc/self/exe")
	b.init.Env = []string{envRole + "=" + roleInit, envName + "=" + b.name, envDir + "=" + b.dir, envUsr + "=" + b.usr,
		envLogLevel + "=" + os.Getenv(envLogLevel)}
	b.init.ExtraFiles = []*os.File{w}
	b.init.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces, Pdeathsig: syscall.SIGKILL, Setsid: true}
	err = b.init.Start()
	w.Close()
	if err != nil {
		return err
	}
	if trouble, err := io.ReadAll(r); err != nil || len(trouble) > 0 {
		return fmt.Errorf("prepare the bed: %s %v", trouble, err)
	}
	said.SetReadDeadline(time.Now().Add(bootTimeout))
	buf, last := make([]byte, 4096), ""
	for {
		n, err := said.Read(buf)
		if err != nil {
			return fmt.Errorf("systemd is not up after %v; it last said %q: %w", bootTimeout, last, err)
		}
		if last = string(buf[:n]); strings.Contains("\n"+last, "\nREADY=1\n") {
			return nil
		}
	}
}

// enter moves this thread into the bed, and starts the tests.
func (b *bed) enter() error {
	pwd, err := os.Getwd()
	if err != nil {
		return err
	}
	if err := b.join("mnt", "cgroup", "ipc", "uts", "net", "pid"); err != nil {
		return err
	}
	// In a scope, so that what runs the tests has a control group of its own.
	args := []string{"--scope", "--quiet", "--collect", "--unit=tests", "--"}
	if command := os.Getenv(envCommand); command != "" {
		args = append(args, "/bin/sh", "-c", command)
	} else {
		args = append(append(args, binDir+"/self"), os.Args[1:]...)
	}
	b.inside = exec.Command("/usr/bin/systemd-run", args...)
	b.inside.Dir = pwd
	b.inside.Env = append(os.Environ(), envRole+"="+roleInside, "TMPDIR="+tempDir)
	b.inside.Stdout, b.inside.Stderr = os.Stdout, os.Stderr
	// A session of its own: a signal to group 0 stays in there. If this process
	// dies they do with PID 1; package syscall can't have a parent-death signal in
	// another PID namespace, where it sees no parent.
	b.inside.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return b.inside.Start()
}

// join changes the namespaces of this thread, and of its children to come.
func (b *bed) join(kinds ...string) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // else it can't leave its mounts
		return err
	}
	var fds []int
	for _, kind := range kinds {
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/%s", b.init.Process.Pid, kind), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		fds = append(fds, fd)
	}
	for i, fd := range fds {
		if err := unix.Setns(fd, 0); err != nil {
			return fmt.Errorf("enter the %s namespace: %w", kinds[i], err)
		}
	}
	return nil
}

// wait for the end of the tests. Signals end them: SIGQUIT with a dump.
func (b *bed) wait() (int, error) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	go func() {
		for s := range signals {
			if s != syscall.SIGQUIT {
				s = syscall.SIGKILL
			}
			b.inside.Process.Signal(s)
		}
	}()
	err := b.inside.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() >= 0 {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// end leaves nothing: with PID 1 go all processes, with these the namespaces,
// and with them the mounts.
func (b *bed) end() {
	if b.init != nil && b.init.Process != nil {
		b.init.Process.Kill()
		b.init.Wait()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), envRole+"="+roleSweep, envName+"="+b.name)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "the bed has left control groups: %v %s\n", err, out)
	}
	// Named by the boot's id, which is the bed's own.
	private, _ := filepath.Glob("/tmp/systemd-private-" + b.bootID() + "-*")
	for _, dir := range private {
		os.RemoveAll(dir)
	}
}

func (b *bed) bootID() string {
	id, err := os.ReadFile(filepath.Join(b.dir, "boot_id"))
	if err != nil {
		return "none"
	}
	return strings.ReplaceAll(strings.TrimSpace(string(id)), "-", "")
}
