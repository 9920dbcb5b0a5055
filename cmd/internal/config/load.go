package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/tablecloth-go/tablecloth/upgrader/keeper"
)

// Load reads a file. What is wrong with it is an Errors; else the error says why
// the file can't be read.
func Load(path string) (*keeper.Config, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(absolute)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, err
	}
	return Parse(path, filepath.Dir(absolute), data)
}

// Parse reads the text of a file. name is for its errors; relative paths in it
// begin at directory, which is where services run, too, unless they say where.
func Parse(name, directory string, data []byte) (*keeper.Config, error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	root, err := parse(name, data)
	if err != nil {
		return nil, err
	}
	l := &loader{reader: reader{name: name, lines: strings.Split(string(data), "\n")}, directory: directory}
	settings := l.load(root)
	if len(l.errors) > 0 {
		slices.SortStableFunc(l.errors, func(a, b *Error) int {
			if a.Line != b.Line {
				return a.Line - b.Line
			}
			return a.Column - b.Column
		})
		return nil, slices.CompactFunc(l.errors, func(a, b *Error) bool { return *a == *b }) // through aliases
	}
	return settings, nil
}

type loader struct {
	reader
	directory string
}

const (
	servicesKey = "services"
	defaultsKey = "defaults"
)

func (l *loader) load(root *node) *keeper.Config {
	s := &keeper.Config{}
	switch root.kind {
	case mapping:
	case null:
		l.wrong(root, "nothing is configured", "tablecloth init writes an example")
		return nil
	default:
		l.wrong(root, "a configuration is a mapping, not "+root.kind.String(), "write services:, and below it, indented, NAME: and its settings")
		return nil
	}
	var services, defaults *node
	for _, p := range root.pairs {
		switch o := KeeperOptions.find(p.key.text); {
		case p.key.text == servicesKey:
			services = p.orKey()
		case p.key.text == defaultsKey:
			defaults = p.orKey()
		case o != nil:
			apply(l, o, s, p)
		default:
			l.unknownTop(p)
		}
	}
	if services == nil && len(l.errors) == 0 {
		l.wrong(root, "there are no services", "write services:, and below it, indented, NAME: and its settings")
	}
	if services != nil {
		l.services(s, services, l.defaults(defaults))
	}
	return s
}

func (l *loader) wrong(at *node, message, hint string) {
	l.fail(at.line, at.column, message, hint)
}

// say gives an error of an option its place.
func (l *loader) say(at *node, what string, err error) {
	message, hint := err.Error(), ""
	var m *mistake
	var k *keeper.Error
	switch {
	case errors.As(err, &m):
		hint = m.hint
	case errors.As(err, &k):
		message, hint = k.Err.Error(), k.Hint
	}
	if what != "" && !strings.HasPrefix(message, what+" ") {
		message = what + ": " + message
	}
	l.wrong(at, message, hint)
}

func (l *loader) unknownTop(p pair) {
	known := append(KeeperOptions.keys(), servicesKey, defaultsKey)
	hint := ""
	switch near := closest(p.key.text, known); {
	case ServiceOptions.find(p.key.text) != nil:
		hint = "that is for a service: put it below services: and the service's name; or below defaults:, for all of them"
	case near != "":
		hint = "did you mean " + near + "?"
	case p.value.kind == mapping:
		hint = "if it is a service put it, indented, below services:"
	default:
		hint = "there are " + alternatives(known)
	}
	l.wrong(p.key, fmt.Sprintf("unknown key %q", p.key.text), hint)
}

func (l *loader) defaults(n *node) []pair {
	if n == nil {
		return nil
	}
	if n.kind != mapping {
		l.wrong(n, "defaults are a mapping, not "+n.kind.String(), "write settings of services below it, indented")
		return nil
	}
	for _, p := range n.pairs {
		if p.key.text == "command" || p.key.text == "listen" {
			l.wrong(p.key, p.key.text+" can't be the same for all services", "put it below the service that it is of")
		}
	}
	var probe keeper.Service
	l.settings(&probe, n.pairs) // once, even without a service that takes it
	return n.pairs
}

var serviceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

func (l *loader) services(s *keeper.Config, n *node, defaults []pair) {
	if n.kind != mapping {
		l.wrong(n, "services are a mapping, not "+n.kind.String(), "write NAME: below it, indented, and below that its settings")
		return
	}
	if len(n.pairs) == 0 {
		l.wrong(n, "there are no services", "write NAME: below it, indented, and below that its settings")
	}
	var origins []*origin
	for _, p := range n.pairs {
		if !serviceName.MatchString(p.key.text) {
			l.wrong(p.key, fmt.Sprintf("%q can't be a service's name", p.key.text), "letters, digits, and in between . _ - are allowed, 63 at most")
			continue
		}
		if p.value.kind != mapping {
			l.wrong(p.orKey(), fmt.Sprintf("service %s: its settings are a mapping, not %s", p.key.text, p.value.kind), "write command: below it, indented")
			continue
		}
		origins = append(origins, l.service(p, defaults))
	}
	l.check(origins)
	for _, o := range origins {
		s.Services = append(s.Services, o.build(l))
	}
}

// service collects the settings of one, those of the defaults before its own.
func (l *loader) service(p pair, defaults []pair) *origin {
	o := &origin{name: p.key}
	own := map[string]bool{}
	for _, setting := range p.value.pairs {
		own[setting.key.text] = true
	}
	for _, d := range defaults {
		if opt := ServiceOptions.find(d.key.text); opt != nil && (!own[opt.Key] || opt.shape == several) {
			o.settings = append(o.settings, d)
		}
	}
	var probe keeper.Service
	l.settings(&probe, p.value.pairs)
	o.settings = append(o.settings, p.value.pairs...)
	if !own["command"] && !slices.ContainsFunc(p.value.pairs, func(p pair) bool { return closest(p.key.text, []string{"command"}) != "" }) {
		l.wrong(p.key, fmt.Sprintf("service %s has no command", p.key.text), "write what to run: command: PROGRAM ARG …")
	}
	return o
}

func (l *loader) settings(s *keeper.Service, pairs []pair) {
	for _, p := range pairs {
		if o := ServiceOptions.find(p.key.text); o != nil {
			apply(l, o, s, p)
			continue
		}
		hint := "there are " + alternatives(ServiceOptions.keys())
		for _, o := range ServiceOptions {
			if o.Flag == p.key.text {
				hint = "did you mean " + o.Key + "?"
			}
		}
		if near := closest(p.key.text, ServiceOptions.keys()); near != "" {
			hint = "did you mean " + near + "?"
		}
		if KeeperOptions.find(p.key.text) != nil {
			hint = "that is for the keeper: put it at the top, beside services:"
		}
		l.wrong(p.key, fmt.Sprintf("unknown key %q", p.key.text), hint)
	}
}
