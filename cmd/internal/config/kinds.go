package config

import (
	"math"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// span makes an option of a duration that is more than none, or no less.
func span[T any](o Option[T], zero bool, field func(*T) *time.Duration) *Option[T] {
	o.typ = "duration"
	o.set = func(t *T, s string) error {
		d, err := parseSpan(s)
		switch {
		case err != nil:
			return err
		case d < 0:
			return wrong("", "%s: a time can't be negative", s)
		case d == 0 && !zero:
			return wrong("leave it out for the default, "+o.Default, "%s: a time of more than nothing is needed", s)
		}
		*field(t) = d
		return nil
	}
	return &o
}

// parseSpan knows days too, which time.ParseDuration doesn't.
func parseSpan(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err == nil {
		return d, nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseFloat(days, 64); err == nil && math.Abs(n) < 1e4 {
			return time.Duration(n * 24 * float64(time.Hour)), nil
		}
	}
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		return 0, wrong("did you mean "+s+"s?", "%s: a time needs its unit", s)
	}
	return 0, wrong("", "%q: no time like 30s, 1m30s or 500ms", s)
}

// count makes an option of a number of things. never: -1 is allowed, too.
func count[T any](o Option[T], never bool, field func(*T) *int) *Option[T] {
	o.typ = "int"
	o.set = func(t *T, s string) error {
		n, err := strconv.Atoi(s)
		switch {
		case err != nil:
			return wrong("", "%q: no whole number", s)
		case n == -1 && never:
		case n < 1 && never:
			return wrong("", "%d: 1 or more is needed, or -1 for never", n)
		case n < 1:
			return wrong("", "%d: 1 or more is needed", n)
		case n > 1<<20:
			return wrong("", "%d: so many?", n)
		}
		*field(t) = n
		return nil
	}
	return &o
}

// mask makes an option of an umask.
func mask[T any](o Option[T], field func(*T) **int) *Option[T] {
	o.typ = "string"
	o.set = func(t *T, s string) error {
		n, err := strconv.ParseUint(strings.TrimPrefix(s, "0o"), 8, 12)
		if err != nil || n > 0o777 {
			return wrong("", "%q: an octal number like 027", s)
		}
		m := int(n)
		*field(t) = &m
		return nil
	}
	return &o
}

// boolean makes an option of yes or no. As a flag it needs no value.
func boolean[T any](o Option[T], field func(*T) *bool) *Option[T] {
	o.typ = "bool"
	o.set = func(t *T, s string) error {
		on, err := parseSwitch(s)
		*field(t) = on
		return err
	}
	return &o
}

func parseSwitch(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "true", "on", "yes":
		return true, nil
	case "false", "off", "no":
		return false, nil
	}
	return false, wrong("", "%q: on or off", s)
}

// onOff makes an option of a field that is "on" or "off".
func onOff[T any, S ~string](o Option[T], field func(*T) *S) *Option[T] {
	out := text(o, field)
	set := out.set
	out.enumerated = true
	out.set = func(t *T, s string) error {
		on, err := parseSwitch(s)
		if err != nil {
			return err
		}
		return set(t, map[bool]string{true: "on", false: "off"}[on])
	}
	return out
}

var signals = map[string]syscall.Signal{
	"HUP": syscall.SIGHUP, "INT": syscall.SIGINT, "QUIT": syscall.SIGQUIT, "KILL": syscall.SIGKILL,
	"TERM": syscall.SIGTERM, "ALRM": syscall.SIGALRM,
}

// parseSignal reads "TERM", "SIGTERM" and "15".
func parseSignal(s string) (os.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil && n > 0 && n < 65 {
		return syscall.Signal(n), nil
	}
	if sig, ok := signals[strings.TrimPrefix(strings.ToUpper(s), "SIG")]; ok {
		return sig, nil
	}
	return nil, wrong("", "%q is no signal", s)
}
