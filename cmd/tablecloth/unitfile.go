package main

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// unitFile has the settings of a unit and its drop-ins: values in the order in
// which they are given, by "Section.Key" (systemd.syntax(7)).
type unitFile map[string][]string

// readUnitFile reads a unit and the drop-ins that lie beside it.
func readUnitFile(path string) (unitFile, error) {
	dropIns, err := filepath.Glob(path + ".d/*.conf")
	if err != nil {
		return nil, err
	}
	slices.Sort(dropIns)
	u := unitFile{}
	for _, p := range append([]string{path}, dropIns...) {
		f, err := os.Open(p)
		if err != nil {
			return nil, err
		}
		u.read(f)
		f.Close()
	}
	return u, nil
}

// read adds what r says. An empty value forgets those before.
func (u unitFile) read(r io.Reader) {
	section, line := "", ""
	for s := bufio.NewScanner(r); s.Scan(); {
		text := strings.TrimSpace(s.Text())
		if strings.HasPrefix(text, "#") || strings.HasPrefix(text, ";") {
			continue // between the lines of a long one, too
		}
		if before, more := strings.CutSuffix(text, `\`); more {
			line += before + " "
			continue
		}
		line, text = "", line+text
		if strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]") {
			section = strings.Trim(text, "[]")
			continue
		}
		key, value, ok := strings.Cut(text, "=")
		if !ok {
			continue
		}
		key, value = section+"."+strings.TrimSpace(key), strings.TrimSpace(value)
		if value == "" {
			u[key] = nil
			continue
		}
		u[key] = append(u[key], value)
	}
}

// last is the value that counts of a setting which is no list; "": none.
func (u unitFile) last(key string) string {
	if v := u[key]; len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}

// or is last, or what holds without.
func (u unitFile) or(key, otherwise string) string {
	if v := u.last(key); v != "" {
		return v
	}
	return otherwise
}

func (u unitFile) isOn(key string) bool {
	return slices.Contains([]string{"yes", "true", "on", "1"}, strings.ToLower(u.last(key)))
}

func (u unitFile) isOff(key string) bool {
	return slices.Contains([]string{"no", "false", "off", "0"}, strings.ToLower(u.last(key)))
}

// span reads a time span (systemd.time(7)); false: there is none, or it is
// none.
func (u unitFile) span(key string) (time.Duration, bool) { return parseSpan(u.last(key)) }

var (
	spanPart  = regexp.MustCompile(`^\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zµ]*)`)
	spanUnits = map[string]time.Duration{
		"": time.Second, "s": time.Second, "sec": time.Second, "second": time.Second, "seconds": time.Second,
		"us": time.Microsecond, "µs": time.Microsecond, "usec": time.Microsecond,
		"ms": time.Millisecond, "msec": time.Millisecond,
		"m": time.Minute, "min": time.Minute, "minute": time.Minute, "minutes": time.Minute,
		"h": time.Hour, "hr": time.Hour, "hour": time.Hour, "hours": time.Hour,
		"d": 24 * time.Hour, "day": 24 * time.Hour, "days": 24 * time.Hour,
	}
)

// forever is how "infinity" is told.
const forever = time.Duration(1<<63 - 1)

func parseSpan(s string) (time.Duration, bool) {
	if s == "infinity" {
		return forever, true
	}
	total, found := time.Duration(0), false
	for strings.TrimSpace(s) != "" {
		m := spanPart.FindStringSubmatch(s)
		if m == nil {
			return 0, false
		}
		unit, known := spanUnits[m[2]]
		n, err := strconv.ParseFloat(m[1], 64)
		if !known || err != nil {
			return 0, false
		}
		total, found, s = total+time.Duration(n*float64(unit)), true, s[len(m[0]):]
	}
	return total, found
}
