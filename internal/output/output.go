// Package output passes on what workers write, and what their keeper logs: as it
// comes, or a line at a time with a prefix or as JSON objects; to the keeper's own
// stdout and stderr, or to a file. Nobody hangs on a reader that has stopped: what
// finds no room in time is dropped, counted, and said to be missing in the output
// itself.
//
// A Tail is the pair of pipes of one worker. What comes out of a pipe is cut into
// lines by a flow, given its form, and queued in an outlet, which has one
// goroutine that writes. Linux only.
package output

// Formats.
const (
	Text = "text"
	JSON = "json"
)

// Options are the keeper's Output.
type Options struct {
	Format string // Text or JSON
	Prefix bool   // "[service generation pid] " before each line; not with JSON
	File   string // "": stdout and stderr
	Quiet  bool   // no lines of the keeper below a warning
}

// shaped reports whether workers' output is to be more than passed on.
func (o *Options) shaped() bool { return o.Prefix || o.Format == JSON || o.File != "" }

// Source is who writes.
type Source struct {
	Service            string
	Generation, Worker int
}
