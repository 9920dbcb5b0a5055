package config

import (
	"fmt"
	"strings"
)

// Option is one thing that can be chosen, for a T: a service or the keeper.
type Option[T any] struct {
	Key   string // in a file
	Flag  string // of tablecloth run; "": it has none
	Short string // its letter, if it has one
	Field string // of keeper.Service or keeper.Config, which documents it
	Usage string // as a flag has it, and the reference of the file
	// Default is what is meant where nothing is said; "": nothing.
	Default string

	shape shape
	typ   string // of the value, in a usage
	// set takes a single value, or one of a list.
	set func(*T, string) error
	// setAll takes a list as a whole, where it means something else than its
	// parts.
	setAll func(*T, []string) error
	// reset forgets what lists had.
	reset  func(*T)
	inFile func(string) error // of what a flag may say, but a file may not; nil: nothing

	path       bool // relative ones begin where the file lies
	enumerated bool // only some values mean something
}

// shape is what a value looks like in a file.
type shape int

const (
	single  shape = iota // one value
	many                 // one value, or a list
	several              // a mapping, or a list of KEY=VALUE
	command              // a text, or a list of words
)

// Shape says in words what the option takes in a file.
func (o *Option[T]) Shape() string {
	switch o.shape {
	case many:
		return "one or a list"
	case several:
		return "a mapping, or a list of NAME=VALUE"
	case command:
		return "a text or a list of words"
	}
	switch {
	case o.path:
		return "a path"
	case o.typ == "duration":
		return "a time"
	case o.typ == "int":
		return "a number"
	case o.typ == "bool":
		return "on or off"
	}
	return "a text"
}

// options of one kind of thing.
type options[T any] []*Option[T]

func (all options[T]) find(key string) *Option[T] {
	for _, o := range all {
		if o.Key == key && key != "" {
			return o
		}
	}
	return nil
}

func (all options[T]) keys() []string {
	var keys []string
	for _, o := range all {
		if o.Key != "" {
			keys = append(keys, o.Key)
		}
	}
	return keys
}

// text makes an option of a field that is a text.
func text[T any, S ~string](o Option[T], field func(*T) *S) *Option[T] {
	o.typ = "string"
	o.set = func(t *T, s string) error {
		*field(t) = S(s)
		return nil
	}
	return &o
}

// file is a text with the name of a file or directory.
func file[T any](o Option[T], field func(*T) *string) *Option[T] {
	o.path = true
	return text(o, field)
}

// texts makes an option of a list.
func texts[T any](o Option[T], field func(*T) *[]string) *Option[T] {
	o.shape, o.typ = many, "stringArray"
	o.set = func(t *T, s string) error {
		*field(t) = append(*field(t), s)
		return nil
	}
	o.reset = func(t *T) { *field(t) = nil }
	return &o
}

// assignments makes an option of a list of KEY=VALUE. Those of a service come
// after, and count more than, those of the defaults.
func assignments[T any](o Option[T], field func(*T) *[]string) *Option[T] {
	out := texts(o, field)
	out.shape, out.reset = several, nil
	add := out.set
	out.set = func(t *T, s string) error {
		if k, _, ok := strings.Cut(s, "="); !ok || k == "" || strings.ContainsAny(k, " \t") {
			return wrong("", "%q: not KEY=VALUE", s)
		}
		if strings.Contains(s, "\x00") {
			return wrong("", "a NUL in it")
		}
		return add(t, s)
	}
	return out
}

// oneOf limits an option to some values.
func (o *Option[T]) oneOf(values ...string) *Option[T] {
	set := o.set
	o.enumerated = true
	o.set = func(t *T, s string) error {
		for _, v := range values {
			if s == v {
				return set(t, s)
			}
		}
		hint := ""
		if near := closest(s, values); near != "" {
			hint = "did you mean " + near + "?"
		}
		return wrong(hint, "%q: %s", s, alternatives(values))
	}
	return o
}

// alternatives is "a, b or c".
func alternatives(values []string) string {
	if len(values) < 2 {
		return strings.Join(values, "")
	}
	last := len(values) - 1
	return fmt.Sprintf("%s or %s", strings.Join(values[:last], ", "), values[last])
}
