package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// readBody decodes an optional JSON body. Unknown fields are those of later
// releases, and ignored.
func readBody(w http.ResponseWriter, r *http.Request, into any) error {
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Now().Add(stuckAfter))
	defer rc.SetReadDeadline(time.Time{}) // the request's context must live on
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return &Error{Message: fmt.Sprintf("the body has over %d bytes", maxBody), Err: err}
		}
		return &Error{Message: "read the body: " + err.Error(), Err: err}
	}
	if len(strings.TrimSpace(string(b))) == 0 {
		return nil
	}
	if err := json.Unmarshal(b, into); err != nil {
		return &Error{Message: "the body is not a JSON request: " + err.Error(), Err: err}
	}
	return nil
}

func bodyStatus(err error) int {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusBadRequest
}

// resultStatus makes `curl -f` fail where an upgrade has failed.
func resultStatus(r Result) int {
	switch r {
	case Ready:
		return http.StatusOK
	case Failed:
		return http.StatusBadGateway
	case TimedOut:
		return http.StatusGatewayTimeout
	case Refused:
		return http.StatusConflict
	case Moved:
		return http.StatusAccepted
	}
	return http.StatusInternalServerError
}

func writeOutcome(w http.ResponseWriter, out Outcome) { writeJSON(w, resultStatus(out.Result), out) }

// answer is the body of what is no success.
type answer struct {
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
}

func writeError(w http.ResponseWriter, status int, err error) {
	a := answer{Error: err.Error()}
	var e *Error
	if errors.As(err, &e) {
		a = answer{Error: e.Message, Hint: e.Hint}
	}
	writeJSON(w, status, a)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(stuckAfter))
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.Encode(v)
}
