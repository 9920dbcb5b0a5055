package keeper

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/chain"
	"github.com/tablecloth-go/tablecloth/internal/output"
	"github.com/tablecloth-go/tablecloth/internal/proc"
)

// system is the real one.
func (h *host) system(a *herald) system {
	return system{
		vaults:   h,
		prepare:  prepare,
		start:    h.start,
		watch:    watch,
		announce: a.announce,
		advise:   func(c child, sockets []*socket) string { return advise(c, sockets) },
		report: func(conf *Service, crash []byte) {
			go h.report(conf, crash)
		},
		output: h.logs.Passed,
	}
}

// report runs the command for crashes with the report on its standard input. What
// hangs is killed: reports must not pile up.
func (h *host) report(conf *Service, crash []byte) {
	path, err := find(conf.OnCrash[0], conf.Directory)
	if err != nil {
		return
	}
	env, err := environment(conf)
	if err != nil {
		return
	}
	in, err := memoryFile(crash)
	if err != nil {
		return
	}
	defer in.Close()
	spec := &chain.Spec{Path: path, Pinned: -1, Args: conf.OnCrash, Env: env, Files: []int{int(in.Fd()), 1, 2},
		Dir: conf.Directory, UID: -1, GID: -1, Umask: -1, DeathSig: syscall.SIGKILL}
	c, err := h.fork(spec, "")
	if err != nil {
		return
	}
	handle, err := proc.FromPidfd(c.PID, c.Pidfd)
	if err != nil {
		return
	}
	c.Wait()
	late := time.AfterFunc(DefaultOnCrashExpiry, func() { handle.Kill(syscall.SIGKILL) })
	defer late.Stop()
	h.await(&offspring{handle: handle, tail: &output.Tail{}}, "", nil, &launch{ended: func(end) {}})
}

// memoryFile holds data, to be read from its beginning.
func memoryFile(data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("crash", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "crash")
	if _, err := f.Write(data); err != nil {
		f.Close()
		return nil, err
	}
	_, err = f.Seek(0, 0)
	return f, err
}
