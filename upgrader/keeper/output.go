package keeper

import "github.com/tablecloth-go/tablecloth/internal/output"

// Formats of Output.
const (
	FormatText = output.Text
	FormatJSON = output.JSON
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
