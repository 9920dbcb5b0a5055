//go:build linux

package upgrader

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/tablecloth-go/tablecloth/internal/pidfile"
)

// The service of these tests speaks lines: "who" is answered with generation,
// PID and version; "hold" never, until the process ends; "crash" reports a crash.
const (
	envSettings = "TABLECLOTH_TEST_SETTINGS"
	envControl  = "TABLECLOTH_TEST_CONTROL"
)

func init() { impersonations["service"] = impersonateService }

func impersonateService() error {
	s, err := readSettings(os.Getenv(envSettings))
	if err != nil {
		return err
	}
	if s.Misbehave == "exit before New" {
		os.Exit(7)
	}
	if s.Misbehave == "hang before New" {
		select {}
	}
	if s.Protocol != 0 {
		protocol, protocolOldest = s.Protocol, s.Protocol
	}
	generation := 1
	step = func(name string) {
		if name == s.Step && (s.StepGen == 0 || s.StepGen == generation) {
			takeStep(s.StepDo)
		}
	}
	if os.Getenv(sentinel) != "" {
		generation = 2 // until New has told
	}
	log := logrus.New()
	log.SetOutput(os.Stderr)
	u, err := New(Options{
		PIDFile: s.PIDFile, Control: os.Getenv(envControl), Log: log.WithField("pid", os.Getpid()),
		KillTimeout:  time.Duration(s.KillTimeout) * time.Millisecond,
		ReadyTimeout: time.Duration(s.Ready) * time.Millisecond,
		StopTimeout:  time.Duration(s.Stop) * time.Millisecond,
		MaxCrashes:   s.MaxCrashes,
		GiveUpPause:  time.Duration(s.GiveUpPause) * time.Millisecond,
		OnCrash:      func(_ context.Context, c Crash) { fmt.Fprintf(os.Stderr, "hook: crash %d: %v\n", c.Count, c.Err) },
	})
	if err != nil {
		return err
	}
	generation, stepping = u.Generation(), u
	switch s.Misbehave {
	case "exit after New":
		os.Exit(8)
	case "exit 0":
		os.Exit(0)
	case "panic":
		panic("misbehaving on purpose")
	case "hang":
		select {}
	}
	return serveLines(u, s)
}

// stepping is this process's Upgrader, once New has returned.
var stepping *Upgrader

func takeStep(what string) {
	switch what {
	case "kill":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "stop":
		stopSelf()
	case "term self":
		p, _ := os.FindProcess(os.Getpid())
		p.Signal(syscall.SIGTERM)
		<-stepping.Exit()
	case "term": // the generation that the PID file names
		s, _ := readSettings(os.Getenv(envSettings))
		if pid, err := pidfile.Read(s.PIDFile); err == nil {
			syscall.Kill(pid, syscall.SIGTERM)
		}
	}
}

func serveLines(u *Upgrader, s settings) error {
	var conns sync.WaitGroup
	for _, spec := range s.Listen {
		network, addr, _ := strings.Cut(spec, ":")
		ln, err := u.Listen(network, addr)
		if err != nil {
			return err
		}
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				conns.Go(func() { answerLines(u, s, c) })
			}
		}()
	}
	if err := u.Ready(); err != nil {
		return err
	}
	for {
		<-u.Exit()
		d := u.Drain()
		if s.Misbehave == "deaf" {
			select {}
		}
		if d == nil { // taken back already
			continue
		}
		served := make(chan struct{})
		go func() { conns.Wait(); close(served) }()
		select {
		case <-served:
		case <-d.Expired:
		case <-d.Resumed:
			continue
		}
		if err := u.Close(); err != nil {
			return err
		}
		if d.Reason == Crashed {
			return errors.New("exit after a crash")
		}
		return nil
	}
}

func answerLines(u *Upgrader, s settings, c net.Conn) {
	defer c.Close()
	in := bufio.NewScanner(c)
	for in.Scan() {
		switch in.Text() {
		case "who":
			fmt.Fprintf(c, "%d %d %s\n", u.Generation(), os.Getpid(), s.Version)
			return
		case "crash":
			u.Crash(errors.New("asked to"))
			fmt.Fprintln(c, "crashed")
			return
		case "hold":
			fmt.Fprintln(c, "holding")
		}
	}
}
