package config

import (
	"strings"

	"github.com/spf13/pflag"
)

// AddFlags makes a flag of each option that has one. What they are given goes to
// target at once.
func AddFlags[T any](f *pflag.FlagSet, all options[T], target *T) {
	for _, o := range all {
		if o.Flag == "" {
			continue
		}
		flag := f.VarPF(&flagValue[T]{option: o, target: target}, o.Flag, o.Short, o.Usage)
		flag.DefValue = o.Default
		if o.typ == "bool" {
			flag.NoOptDefVal = "true"
		}
	}
}

type flagValue[T any] struct {
	option *Option[T]
	target *T
	given  []string
}

func (v *flagValue[T]) String() string { return strings.Join(v.given, ",") }
func (v *flagValue[T]) Type() string   { return v.option.typ }

func (v *flagValue[T]) Set(s string) error {
	if len(v.given) == 0 && v.option.reset != nil {
		v.option.reset(v.target)
	}
	v.given = append(v.given, s)
	if v.option.typ != "strings" {
		return v.set(s)
	}
	for part := range strings.SplitSeq(s, ",") {
		if err := v.set(part); err != nil {
			return err
		}
	}
	return nil
}

func (v *flagValue[T]) set(s string) error {
	err := v.option.set(v.target, s)
	if m, ok := err.(*mistake); ok && m.hint != "" {
		return &mistake{message: m.message + ": " + m.hint}
	}
	return err
}

// Repeat gives target what the flags were given that AddFlags has made, as if it
// had been their target.
func Repeat[T any](f *pflag.FlagSet, all options[T], target *T) error {
	for _, o := range all {
		flag := f.Lookup(o.Flag)
		if flag == nil || !flag.Changed {
			continue
		}
		again := &flagValue[T]{option: o, target: target}
		for _, s := range flag.Value.(*flagValue[T]).given {
			if err := again.Set(s); err != nil {
				return err
			}
		}
	}
	return nil
}

// Given are the flags of these options that were given.
func Given[T any](f *pflag.FlagSet, all options[T]) []*Option[T] {
	var given []*Option[T]
	for _, o := range all {
		if flag := f.Lookup(o.Flag); flag != nil && flag.Changed {
			given = append(given, o)
		}
	}
	return given
}
