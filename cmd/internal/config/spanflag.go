package config

import (
	"time"

	"github.com/spf13/pflag"
)

// AddSpan makes a flag of a time, read and refused as those of a file are. It
// may be 0 only if zero says so. What d is before is the default.
func AddSpan(f *pflag.FlagSet, d *time.Duration, zero bool, name, usage string) {
	shown := ""
	if *d != 0 {
		shown = d.String()
	}
	o := span(Option[time.Duration]{Default: shown}, zero, func(d *time.Duration) *time.Duration { return d })
	f.VarPF(&flagValue[time.Duration]{option: o, target: d}, name, "", usage).DefValue = shown
}
