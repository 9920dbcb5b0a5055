package keeper

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// observer answers on Config.Observe what may be known by everybody: nothing
// there changes anything.
type observer struct {
	listener net.Listener
	http     *http.Server
}

func openObserver(addr string, s *control.Server) (*observer, error) {
	if _, err := strconv.ParseUint(addr, 10, 16); err == nil {
		addr = ":" + addr
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, &Error{Err: fmt.Errorf("metrics and probes: %w", err)}
	}
	mux := http.NewServeMux()
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		mux.Handle("GET "+path, s) // which has no /metrics if nobody makes them
	}
	const stuck = 30 * time.Second
	return &observer{ln, &http.Server{Handler: mux, ErrorLog: s.ErrorLog, ReadTimeout: stuck, WriteTimeout: stuck, IdleTimeout: 4 * stuck, MaxHeaderBytes: 16 << 10}}, nil
}

func (o *observer) serve() { o.http.Serve(o.listener) }

func (o *observer) close() {
	o.listener.Close()
	o.http.Close()
}

// openServer makes what answers on the control socket, and on Observe.
func (k *keeper) openServer() error {
	b := backend{k.actor}
	k.server = &control.Server{Backend: b, Events: k.actor.events}
	k.metrics = func() {}
	if k.conf.Metrics != nil {
		var ctx context.Context
		ctx, k.metrics = context.WithCancel(context.Background())
		k.server.Metrics = k.conf.Metrics(ctx, b, k.actor.events)
	}
	if k.conf.Observe == "" {
		return nil
	}
	var err error
	if k.observer, err = openObserver(k.conf.Observe, k.server); err == nil {
		k.conf.Log.Infof("metrics and probes on http://%s", k.observer.listener.Addr())
	}
	return err
}
