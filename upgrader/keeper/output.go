package keeper

import (
	"errors"
	"fmt"
)

// Formats of Output.
const (
	FormatText = "text"
	FormatJSON = "json"
)

// Output says what becomes of what the workers write, and of the keeper's own
// log, which goes along. The zero value passes everything on as it comes.
//
// Where any of it is set, both stdout and stderr of the workers pass through the
// keeper; which of them it holds for reports is still up to Service.Capture.
type Output struct {
	// Format of a line: FormatText leaves it as it is, FormatJSON makes an object
	// of it. "": FormatText.
	Format string
	// Prefix puts "[service generation pid] " before each line. Not with
	// FormatJSON, where these are fields.
	Prefix bool
	// File takes all that would go to the keeper's stdout and stderr. It is
	// appended to, made with mode 0640 if it isn't there, and opened anew at
	// SIGUSR1, which is then passed on to the workers only if Config.Forward names
	// it. "": there is none.
	File string
	// Quiet leaves out of the keeper's own log what is not at least a warning.
	Quiet bool
}

func (o *Output) fill() error {
	defaults(&o.Format, FormatText)
	switch {
	case o.Format != FormatText && o.Format != FormatJSON:
		return &Error{Err: fmt.Errorf("log format %q: text or json", o.Format)}
	case o.Prefix && o.Format == FormatJSON:
		return hinted(errors.New("a prefix is for text, not for JSON"), "JSON has service, generation and pid in each line anyway: leave out the prefix")
	}
	return nil
}

// shaped reports whether workers' output is to be more than passed on.
func (o *Output) shaped() bool { return o.Prefix || o.Format == FormatJSON || o.File != "" }
