package keeper

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Check reports what is wrong with a configuration, as Run would at its start,
// as far as that can be known before anything is bound: an *Error, or nil.
// Where there is no keeper it is nil.
func (c Config) Check() error { return c.fill() }

// fill checks the configuration, and puts the defaults in.
func (c *Config) fill() error {
	if len(c.Services) == 0 {
		return &Error{Err: errors.New("no service")}
	}
	c.Services = append([]Service(nil), c.Services...)
	names := map[string]bool{}
	for i := range c.Services {
		s := &c.Services[i]
		if err := s.fill(); err != nil {
			return err
		}
		if names[s.Name] {
			return &Error{Err: fmt.Errorf("two services are called %s", s.Name)}
		}
		names[s.Name] = true
	}
	return c.conflict()
}

func (c *Service) fill() error {
	if len(c.Command) == 0 || c.Command[0] == "" {
		return &Error{Err: errors.New("no program")}
	}
	if c.Name == "" {
		c.Name = filepath.Base(c.Command[0])
	}
	c.Workers = max(c.Workers, 1)
	defaults(&c.MaxDraining, DefaultMaxDraining)
	defaults(&c.MaxDeaths, DefaultMaxDeaths)
	defaults(&c.ReadyTimeout, DefaultReadyTimeout)
	defaults(&c.KillTimeout, DefaultKillTimeout)
	defaults(&c.StopTimeout, DefaultStopTimeout)
	defaults(&c.DeathWindow, DefaultDeathWindow)
	defaults(&c.GiveUpPause, DefaultGiveUpPause)
	defaults(&c.Restart, RestartAlways)
	defaults(&c.GiveUp, GiveUpPause)
	defaults(&c.Ready, DefaultReady)
	defaults(&c.Capture, DefaultCapture)
	defaults(&c.Rescue, On)
	defaults(&c.Handover, On)
	defaults(&c.Foreign, On)
	defaults(&c.RescueTimeout, DefaultRescueTimeout)
	if err := c.check(); err != nil {
		return err
	}
	return nil
}

func defaults[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (c *Service) check() error {
	if !utf8.ValidString(c.Name) || strings.ContainsFunc(c.Name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return hinted(fmt.Errorf("name %q: it stands in logs and tables, and must be printable", c.Name), "--name gives another; in a file it is the service's key")
	}
	switch c.Restart {
	case RestartAlways, RestartOnFailure, RestartNever:
	default:
		return &Error{Err: fmt.Errorf("restart %q: always, on-failure or no", c.Restart)}
	}
	switch c.GiveUp {
	case GiveUpPause, GiveUpExit:
	default:
		return &Error{Err: fmt.Errorf("give up %q: pause or exit", c.GiveUp)}
	}
	switch c.Capture {
	case "stderr", "all", "none":
	default:
		return &Error{Err: fmt.Errorf("capture %q: stderr, all or none", c.Capture)}
	}
	for _, s := range []struct {
		name  string
		value Switch
	}{{"rescue", c.Rescue}, {"handover", c.Handover}, {"foreign", c.Foreign}} {
		if s.value != On && s.value != Off {
			return &Error{Err: fmt.Errorf("%s %q: on or off", s.name, s.value)}
		}
	}
	if c.Workers > maxWorkers {
		return &Error{Err: fmt.Errorf("%d workers: at most %d", c.Workers, maxWorkers)}
	}
	if err := c.readPage(); err != nil {
		return err
	}
	if _, _, err := parseReady(c.Ready); err != nil {
		return err
	}
	if _, err := parseLimits(c.Limits); err != nil {
		return &Error{Err: err}
	}
	if c.User != "" || c.Group != "" {
		if _, err := lookup(c.User, c.Group); err != nil {
			return err
		}
		if os.Getuid() != 0 {
			return hinted(errors.New("another user or group can be had by root only"), "start the keeper as root, or as that user")
		}
	}
	for _, l := range c.Listen {
		if _, err := parseAddress(l); err != nil {
			return &Error{Err: err}
		}
	}
	return nil
}
