package control

import (
	"context"
	"fmt"
	"net/http"
)

// scale and broadcast are for services with workers: those of a keeper.

func (s *Server) scale(w http.ResponseWriter, r *http.Request) {
	var req ScaleRequest
	if err := readBody(w, r, &req); err != nil {
		writeError(w, bodyStatus(err), err)
		return
	}
	backend, ok := s.Backend.(Scaler)
	if !ok {
		writeError(w, http.StatusConflict, notKept("scaled"))
		return
	}
	if err := checkID(req.ID); err != nil {
		writeError(w, http.StatusBadRequest, err)
		return
	}
	if req.ID == "" {
		req.ID = NewID()
	}
	writeOutcome(w, backend.Scale(r.Context(), req))
}

func (s *Server) broadcast(w http.ResponseWriter, r *http.Request) {
	var req Broadcast
	if err := readBody(w, r, &req); err != nil {
		writeError(w, bodyStatus(err), err)
		return
	}
	backend, ok := s.Backend.(Broadcaster)
	if !ok {
		writeError(w, http.StatusConflict, notKept("told anything"))
		return
	}
	answer, err := backend.Broadcast(r.Context(), req)
	if err != nil {
		writeError(w, http.StatusConflict, err)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

func notKept(what string) error {
	return &Error{Message: "this service has no workers that could be " + what,
		Hint: "services with workers are run by a keeper: tablecloth run"}
}

// Scale asks for another number of workers, and blocks until the outcome is known.
func (c *Client) Scale(ctx context.Context, r ScaleRequest) (Outcome, error) {
	if r.Workers < 1 {
		return Outcome{}, &Error{Message: fmt.Sprintf("%d workers: at least 1", r.Workers), Hint: "to end a service: tablecloth stop"}
	}
	if r.ID == "" {
		r.ID = NewID()
	}
	var out Outcome
	_, err := c.ask(ctx, "POST", "/scale", r, &out)
	return out, err
}

// Broadcast sends a message to all workers of a service that have this library in
// them. It doesn't wait until they have it.
func (c *Client) Broadcast(ctx context.Context, b Broadcast) (BroadcastAnswer, error) {
	var a BroadcastAnswer
	_, err := c.ask(ctx, "POST", "/broadcast", b, &a)
	return a, err
}
