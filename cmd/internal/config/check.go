package config

import (
	"slices"

	"github.com/tablecloth-go/tablecloth/upgrader/keeper"
)

// origin is where a service comes from.
type origin struct {
	name     *node
	settings []pair
}

// build makes the service. What is wrong with single settings has been said.
func (o *origin) build(l *loader) keeper.Service {
	quiet := &loader{reader: reader{name: l.name}, directory: l.directory}
	s := keeper.Service{Name: o.name.text}
	for _, p := range o.settings {
		if option := ServiceOptions.find(p.key.text); option != nil {
			apply(quiet, option, &s, p)
		}
	}
	if s.Directory == "" {
		s.Directory = l.directory
	}
	return s
}

// check has the keeper look at the services, and finds out what in the file it
// complains about: that without which it wouldn't.
func (l *loader) check(services []*origin) {
	for {
		err := l.complaint(services)
		if err == nil {
			return
		}
		culprit, what, rest := l.culprit(services, err)
		l.say(culprit, what, err)
		if rest == nil || len(l.errors) >= maxErrors {
			return
		}
		services = rest
	}
}

// maxErrors is as many as anybody reads.
const maxErrors = 20

func (l *loader) complaint(services []*origin) error {
	var c keeper.Config
	for _, o := range services {
		s := o.build(l)
		if len(s.Command) == 0 {
			s.Command = []string{"x"}
		}
		c.Services = append(c.Services, s)
	}
	if len(services) == 0 {
		return nil
	}
	return c.Check()
}

// culprit is the last value without which there is no such complaint; rest is
// everything else.
func (l *loader) culprit(services []*origin, err error) (at *node, what string, rest []*origin) {
	for i := len(services) - 1; i >= 0; i-- {
		without := slices.Delete(slices.Clone(services), i, i+1)
		if same(l.complaint(without), err) {
			continue // it is another service's
		}
		for j := len(services[i].settings) - 1; j >= 0; j-- {
			setting := services[i].settings[j]
			for _, less := range setting.less() {
				o := &origin{name: services[i].name, settings: slices.Clone(services[i].settings)}
				o.settings[j].value = less.rest
				if less.rest == nil {
					o.settings = slices.Delete(o.settings, j, j+1)
				}
				rest := slices.Clone(services)
				rest[i] = o
				if !same(l.complaint(rest), err) {
					return less.without, setting.key.text, rest
				}
			}
		}
		return services[i].name, "service " + services[i].name.text, without
	}
	return services[len(services)-1].name, "", nil
}

func same(a, b error) bool { return a != nil && b != nil && a.Error() == b.Error() }

// part is a value without one of its items.
type part struct {
	without, rest *node
}

// less takes a setting apart.
func (p pair) less() []part {
	n := p.value
	if len(n.items)+len(n.pairs) <= 1 || p.key.text == "command" || p.key.text == "on_crash" {
		at := n
		if len(n.items) == 1 {
			at = n.items[0]
		}
		if len(n.pairs) == 1 {
			at = n.pairs[0].key
		}
		return []part{{at, nil}}
	}
	var all []part
	for i := len(n.items) - 1; i >= 0; i-- {
		rest := *n
		rest.items = slices.Delete(slices.Clone(n.items), i, i+1)
		all = append(all, part{n.items[i], &rest})
	}
	for i := len(n.pairs) - 1; i >= 0; i-- {
		rest := *n
		rest.pairs = slices.Delete(slices.Clone(n.pairs), i, i+1)
		all = append(all, part{n.pairs[i].key, &rest})
	}
	return all
}
