package config

import (
	"fmt"
	"path/filepath"
)

// apply gives an option what the file says.
func apply[T any](l *loader, o *Option[T], t *T, p pair) {
	n := p.orKey()
	switch {
	case n.kind == null:
		l.wrong(n, o.Key+" has no value", "give it one, or leave the key out")
	case n.kind == mapping && o.shape != several:
		l.wrong(n, fmt.Sprintf("%s: a mapping means nothing here", o.Key), "it takes "+o.Shape())
	case n.kind == list && o.shape == single:
		l.wrong(n, fmt.Sprintf("%s: a list means nothing here", o.Key), "it takes one value")
	case n.kind == scalar && o.shape == several:
		l.wrong(n, fmt.Sprintf("%s: a single value means nothing here", o.Key), "write NAME: VALUE below it, indented")
	case n.kind == scalar:
		applyOne(l, o, t, n, n.text)
	case o.reset != nil:
		o.reset(t)
		fallthrough
	default:
		applyMany(l, o, t, n)
	}
}

func applyOne[T any](l *loader, o *Option[T], t *T, n *node, s string) {
	if o.typ == "string" && !o.enumerated && !n.quoted && (s == "true" || s == "false") {
		l.wrong(n, fmt.Sprintf("%s: %s is no text", o.Key, s), fmt.Sprintf("if it is meant to be one, put it in quotes: %q", s))
		return
	}
	if s == "" && n.kind == scalar && o.shape != several {
		l.wrong(n, o.Key+" has no value", "give it one, or leave the key out")
		return
	}
	if o.path && s != "none" {
		s = l.path(s)
	}
	if o.inFile != nil {
		if err := o.inFile(s); err != nil {
			l.say(n, o.Key, err)
			return
		}
	}
	if err := o.set(t, s); err != nil {
		l.say(n, o.Key, err)
	}
}

// path is as seen from the file.
func (l *loader) path(s string) string {
	if l.directory == "" || filepath.IsAbs(s) {
		return s
	}
	return filepath.Join(l.directory, s)
}

func applyMany[T any](l *loader, o *Option[T], t *T, n *node) {
	var words []string
	for _, item := range n.items {
		switch {
		case item.kind == mapping && o.shape == several:
			l.wrong(item, o.Key+": a mapping in a list", "write KEY=VALUE, or leave the dash out")
		case item.kind != scalar:
			l.wrong(item, fmt.Sprintf("%s: an item that is %s", o.Key, item.kind), "each is one value; in quotes, if it has what means something in YAML")
		case o.setAll != nil:
			words = append(words, item.text)
		default:
			applyOne(l, o, t, item, item.text)
		}
	}
	for _, p := range n.pairs {
		if p.value.kind != scalar {
			hint := "write one value"
			if p.value.kind == null {
				hint = `write "" for an empty one`
			}
			l.wrong(p.orKey(), fmt.Sprintf("%s: %s has no value", o.Key, p.key.text), hint)
			continue
		}
		if err := o.set(t, p.key.text+"="+p.value.text); err != nil {
			l.say(p.key, o.Key, err)
		}
	}
	if o.setAll != nil && len(words) == len(n.items) {
		if err := o.setAll(t, words); err != nil {
			l.say(n, o.Key, err)
		}
	}
}
