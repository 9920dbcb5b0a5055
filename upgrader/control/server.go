package control

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// versionHeader is in every request and answer. A request without it is taken
	// for one of version 1, so that curl will do.
	versionHeader = "Tablecloth-Control-Version"
	// originHeader is Events.Origin, in answers to GET /events.
	originHeader = "Tablecloth-Events-Origin"

	maxBody = 1 << 20 // of a request: Args may be long
	// stuckAfter ends a connection whose peer does not take or send anything.
	stuckAfter = 30 * time.Second
)

// Server answers on a control socket. Each connection is for one request, so
// that the next one reaches whichever generation acts for the service then.
type Server struct {
	Backend Backend
	Events  *Events      // nil: GET /events is not found
	Metrics http.Handler // of GET /metrics; nil: not found
	// ErrorLog hears of what net/http complains about, and of panics of the
	// Backend. nil: nobody.
	ErrorLog *log.Logger

	once   sync.Once
	mux    *http.ServeMux
	http   *http.Server
	ending context.Context // done when the streams of events are to end
	end    context.CancelFunc

	mu        sync.Mutex
	listeners []net.Listener
	serving   sync.WaitGroup
	open      int           // connections
	closed    chan struct{} // has a value: one of them was
}

func (s *Server) init() {
	s.once.Do(func() {
		s.ending, s.end = context.WithCancel(context.Background())
		s.mux = http.NewServeMux()
		for _, r := range s.routes() {
			s.mux.HandleFunc(r.method+" "+r.path, r.handle)
			s.mux.HandleFunc(r.path, methodNotAllowed(r.method))
		}
		s.mux.HandleFunc("/", s.notFound)
		if s.ErrorLog == nil {
			s.ErrorLog = log.New(io.Discard, "", 0)
		}
		s.http = &http.Server{
			Handler:           s,
			ErrorLog:          s.ErrorLog,
			ReadHeaderTimeout: stuckAfter,
			MaxHeaderBytes:    16 << 10,
			ConnState:         s.count,
		}
		s.closed = make(chan struct{}, 1)
		s.http.SetKeepAlivesEnabled(false)
	})
}

type route struct {
	method, path string
	handle       http.HandlerFunc
}

func (s *Server) routes() []route {
	rs := []route{
		{"GET", "/status", s.status},
		{"POST", "/upgrade", s.upgrade},
		{"GET", "/upgrade/{id}", s.outcome},
		{"POST", "/stop", s.stop},
		{"POST", "/scale", s.scale},
		{"POST", "/broadcast", s.broadcast},
		{"GET", "/healthz", probe(func() bool { return s.Backend.Live() })},
		{"GET", "/readyz", probe(func() bool { return s.Backend.Ready() })},
	}
	if s.Events != nil {
		rs = append(rs, route{"GET", "/events", s.events})
	}
	if s.Metrics != nil {
		rs = append(rs, route{"GET", "/metrics", s.Metrics.ServeHTTP})
	}
	return rs
}

// Serve answers on the connections of ln, until ln fails or the Server is shut
// down or closed: http.ErrServerClosed then. Whether peers may ask at all is for
// ln to see to, as Listener does.
func (s *Server) Serve(ln net.Listener) error {
	s.init()
	s.mu.Lock()
	if s.ending.Err() != nil {
		s.mu.Unlock()
		return http.ErrServerClosed
	}
	s.listeners = append(s.listeners, ln)
	s.serving.Add(1)
	s.mu.Unlock()
	defer s.serving.Done()
	if err := s.http.Serve(ln); s.ending.Err() == nil {
		return err
	}
	return http.ErrServerClosed
}

// Shutdown closes the listeners, ends the streams of events, and waits until all
// that was accepted has been answered or ctx is done: also requests that are yet
// to be read, which http.Server.Shutdown would drop.
func (s *Server) Shutdown(ctx context.Context) error {
	s.init()
	s.mu.Lock()
	s.end()
	for _, ln := range s.listeners {
		ln.Close()
	}
	s.mu.Unlock()
	s.serving.Wait() // nothing is accepted, and not counted yet
	for s.connections() > 0 {
		select {
		case <-s.closed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return s.http.Shutdown(ctx)
}

func (s *Server) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// count is told by net/http of each connection.
func (s *Server) count(_ net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.open++
	case http.StateClosed, http.StateHijacked:
		s.open--
		select {
		case s.closed <- struct{}{}:
		default:
		}
	}
}

// Close closes the listeners and all connections. The requests' contexts end.
func (s *Server) Close() error {
	s.init()
	s.end()
	return s.http.Close()
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.init()
	w.Header().Set(versionHeader, strconv.Itoa(Version))
	w.Header().Set("Cache-Control", "no-store")
	defer s.contain(w, r)
	if err := checkVersion(r); err != nil {
		writeError(w, http.StatusBadRequest, err)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// contain answers for a Backend that panics: its requester should learn why there
// is no outcome.
func (s *Server) contain(w http.ResponseWriter, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler { //nolint:errorlint // net/http compares it as well
		panic(v)
	}
	s.ErrorLog.Printf("control: %s %s: panic: %v\n%s", r.Method, r.URL.Path, v, debug.Stack())
	writeError(w, http.StatusInternalServerError, &Error{Message: fmt.Sprintf("panic: %v", v)})
}

func checkVersion(r *http.Request) error {
	v := r.Header.Get(versionHeader)
	if v == "" {
		return nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		return &Error{Message: fmt.Sprintf("%s: %.20q is not a version", versionHeader, v)}
	}
	if n > Version {
		return &Error{Message: fmt.Sprintf("this service speaks version %d of the control protocol, the request is of version %d", Version, n),
			Hint: "use the tablecloth command of the release that the service was built with"}
	}
	return nil
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	st := s.Backend.Status()
	if st.Mode == "" {
		panic(http.ErrAbortHandler)
	}
	st.Version = Version
	writeJSON(w, http.StatusOK, st)
}

func (s *Server) upgrade(w http.ResponseWriter, r *http.Request) {
	var req UpgradeRequest
	if err := readBody(w, r, &req); err != nil {
		writeError(w, bodyStatus(err), err)
		return
	}
	if err := checkID(req.ID); err != nil {
		writeError(w, http.StatusBadRequest, err)
		return
	}
	if req.ID == "" {
		req.ID = NewID()
	}
	if req.Trigger == "" {
		req.Trigger = "control"
	}
	writeOutcome(w, s.Backend.Upgrade(r.Context(), req))
}

// checkID keeps IDs harmless in paths and logs.
func checkID(id string) error {
	if len(id) > 64 {
		return &Error{Message: "the id has over 64 characters"}
	}
	for _, c := range id {
		if !strings.ContainsRune("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_", c) {
			return &Error{Message: "the id has characters other than letters, digits, - and _"}
		}
	}
	return nil
}

func (s *Server) outcome(w http.ResponseWriter, r *http.Request) {
	out, ok := s.Backend.Outcome(r.Context(), r.PathValue("id"))
	if !ok {
		writeError(w, http.StatusNotFound, &Error{Message: "nobody knows an upgrade of this id",
			Hint: fmt.Sprintf("only the last %d outcomes are kept", KeptOutcomes)})
		return
	}
	writeOutcome(w, out)
}

func (s *Server) stop(w http.ResponseWriter, r *http.Request) {
	var req StopRequest
	if err := readBody(w, r, &req); err != nil {
		writeError(w, bodyStatus(err), err)
		return
	}
	if err := s.Backend.Stop(r.Context(), req); err != nil {
		writeError(w, http.StatusConflict, err)
		return
	}
	writeJSON(w, http.StatusAccepted, struct{}{})
}

func probe(ok func() bool) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if !ok() {
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, "no\n")
			return
		}
		io.WriteString(w, "ok\n")
	}
}

func methodNotAllowed(allow string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", allow)
		writeError(w, http.StatusMethodNotAllowed, &Error{Message: fmt.Sprintf("%s is for %s", r.URL.Path, allow)})
	}
}

func (s *Server) notFound(w http.ResponseWriter, r *http.Request) {
	var known []string
	for _, r := range s.routes() {
		known = append(known, r.method+" "+r.path)
	}
	writeError(w, http.StatusNotFound, &Error{Message: fmt.Sprintf("there is no %.100q", r.URL.Path),
		Hint: "there are " + strings.Join(known, ", ")})
}
