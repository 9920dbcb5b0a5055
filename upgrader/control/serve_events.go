package control

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	seq, follow, err := s.eventsQuery(r)
	if err != nil {
		writeError(w, http.StatusBadRequest, err)
		return
	}
	w.Header().Set(originHeader, s.Events.Origin())
	w.Header().Set("Content-Type", "application/jsonl")
	out := newStream(w)
	if !follow {
		out.send(s.Events.Since(seq))
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.ending, cancel)()
	reader := s.Events.Follow(seq)
	for evs := []Event(nil); out.send(evs) == nil; { // the first time only the headers are sent
		if evs = reader.Next(ctx); evs == nil {
			return
		}
	}
}

func (s *Server) eventsQuery(r *http.Request) (seq uint64, follow bool, err error) {
	q := r.URL.Query()
	if v := q.Get("since"); v != "" {
		if seq, err = strconv.ParseUint(v, 10, 64); err != nil {
			return 0, false, &Error{Message: fmt.Sprintf("since: %.20q is not a sequence number", v)}
		}
	}
	switch v := q.Get("follow"); v {
	case "", "0", "false":
	case "1", "true":
		follow = true
	default:
		return 0, false, &Error{Message: fmt.Sprintf("follow: %.20q is neither 0 nor 1", v)}
	}
	if o := q.Get("origin"); o != "" && o != s.Events.Origin() {
		seq = ^uint64(0) // numbers of another life of the service mean nothing here
	}
	return seq, follow, nil
}

// stream writes events as JSON lines, each batch at once.
type stream struct {
	rc  *http.ResponseController
	enc *json.Encoder
}

func newStream(w http.ResponseWriter) *stream {
	return &stream{http.NewResponseController(w), json.NewEncoder(w)}
}

func (s *stream) send(evs []Event) error {
	s.rc.SetWriteDeadline(time.Now().Add(stuckAfter)) // not supported by a recorder
	for _, ev := range evs {
		if err := s.enc.Encode(ev); err != nil {
			return err
		}
	}
	return s.rc.Flush()
}
