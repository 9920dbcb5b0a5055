package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
)

// Switch turns a mechanism off which is on wherever it works.
type Switch int

const (
	Auto Switch = iota // on where it works
	Off                // never
)

// Service is one named server and the addresses it listens on. Make it with
// HTTP, HTTPS, GRPC, Conns or Custom; the fields may be changed until New.
type Service struct {
	// Name stands in logs, status and metrics. A socket that a service manager
	// passes is recognised by it (FileDescriptorName= of a systemd socket).
	Name string
	// Listen holds addresses: "host:port", the same after "tcp4:" or "tcp6:",
	// "unix:/path", "unix:@name" (abstract).
	Listen []string
	// Listeners, instead of Listen or in addition: those of Upgrader.Listen,
	// possibly wrapped (PROXY protocol, tls.NewListener). What comes through a
	// wrapped one is served, but doesn't move to the next generation.
	Listeners []net.Listener
	// Handover moves connections to the next generation at an upgrade (HTTP/1
	// without TLS).
	Handover Switch
	// Rescue answers for connections, and keeps them, when the process dies
	// under the keeper (HTTP/1 without TLS, over TCP). Other connections over
	// TCP end then, but what was sent on them arrives, unless it is Off for all
	// services of a process.
	Rescue Switch

	makeRunner func(*Server, *Service) (runner, error)
}

// HTTP serves with hs. Without listen, hs.Addr is the address. If hs.TLSConfig
// has certificates (Certificates, GetCertificate or GetConfigForClient) it
// speaks TLS, with HTTP/2 unless hs switches that off.
//
// hs is a pattern: its fields are read by New, and it is neither changed nor
// does it serve itself. Its Handler is called with a ResponseWriter that keeps
// Flusher, Hijacker, ReaderFrom and Unwrap; its ConnState and ConnContext are
// called as ever (with a net.Conn that has NetConn); functions given to
// RegisterOnShutdown run at the end of the drain. Its Shutdown, Close and
// SetKeepAlivesEnabled have no effect on the service.
func HTTP(name string, hs *http.Server, listen ...string) *Service {
	return &Service{Name: name, Listen: defaultListen(hs, listen), makeRunner: func(s *Server, svc *Service) (runner, error) {
		return newHTTP(s, svc, hs, "", "")
	}}
}

// HTTPS is HTTP with TLS. The files cert and key (PEM) are read by New, thus
// anew in each generation; they may be "" if hs.TLSConfig has certificates.
func HTTPS(name string, hs *http.Server, cert, key string, listen ...string) *Service {
	return &Service{Name: name, Listen: defaultListen(hs, listen), makeRunner: func(s *Server, svc *Service) (runner, error) {
		if cert == "" && key == "" && (hs == nil || !hasCertificates(hs.TLSConfig)) {
			return nil, errors.New("HTTPS without a certificate: give files, or hs.TLSConfig")
		}
		return newHTTP(s, svc, hs, cert, key)
	}}
}

func defaultListen(hs *http.Server, listen []string) []string {
	if len(listen) == 0 && hs != nil && hs.Addr != "" {
		return []string{hs.Addr}
	}
	return listen
}

func hasCertificates(c *tls.Config) bool {
	return c != nil && (len(c.Certificates) > 0 || c.GetCertificate != nil || c.GetConfigForClient != nil)
}

// GracefulServer is what *grpc.Server is.
type GracefulServer interface {
	Serve(net.Listener) error // blocks; may be called for several listeners
	GracefulStop()            // accept no more, and wait for calls in flight
	Stop()                    // cut everything
}

// GRPC serves with gs: GracefulStop at a drain, Stop at its deadline. After
// GracefulStop a gs can't serve any more; if the successor dies during the
// drain, another upgrade follows at once, and clients wait in the backlog.
func GRPC(name string, gs GracefulServer, listen ...string) *Service {
	return &Service{Name: name, Listen: listen, makeRunner: func(s *Server, svc *Service) (runner, error) {
		if gs == nil {
			return nil, errors.New("no server given")
		}
		return newGraceful(s, svc, gs.Serve, func(context.Context) error { gs.GracefulStop(); return nil }, gs.Stop), nil
	}}
}

// Conns calls h in a goroutine of its own for each connection, which is closed
// when h returns. ctx is done when the drain starts: h should then come to an
// end; what still runs at the deadline is cut. A panic of h costs its
// connection only. Draining(ctx) and Go(ctx, f) work.
func Conns(name string, h func(ctx context.Context, c net.Conn), listen ...string) *Service {
	return &Service{Name: name, Listen: listen, makeRunner: func(s *Server, svc *Service) (runner, error) {
		if h == nil {
			return nil, errors.New("no handler given")
		}
		return newConns(s, svc, h), nil
	}}
}

// Custom serves with a server of any kind. serve is called once per listener
// and blocks until the listener or the server is closed; shutdown is called
// once at the drain, must make serve return, and returns when no work is left
// or ctx is done. As with GRPC, what was shut down doesn't serve again.
func Custom(name string, serve func(net.Listener) error, shutdown func(context.Context) error, listen ...string) *Service {
	return &Service{Name: name, Listen: listen, makeRunner: func(s *Server, svc *Service) (runner, error) {
		if serve == nil || shutdown == nil {
			return nil, errors.New("serve and shutdown must be given")
		}
		return newGraceful(s, svc, serve, shutdown, nil), nil
	}}
}

// checkServices finds what is wrong before anything is bound.
func checkServices(services []*Service) error {
	if len(services) == 0 {
		return errors.New("no service given")
	}
	names := make(map[string]bool)
	specs := make(map[address]string)
	for _, svc := range services {
		switch {
		case svc == nil || svc.makeRunner == nil:
			return errors.New("a service must come from HTTP, HTTPS, GRPC, Conns or Custom")
		case svc.Name == "":
			return errors.New("a service has no name")
		case names[svc.Name]:
			return fmt.Errorf("two services have the name %q", svc.Name)
		case len(svc.Listen)+len(svc.Listeners) == 0:
			return fmt.Errorf("service %q has no address to listen on", svc.Name)
		}
		names[svc.Name] = true
		if err := checkAddresses(svc, specs); err != nil {
			return err
		}
	}
	return nil
}

func checkAddresses(svc *Service, taken map[address]string) error {
	for _, ln := range svc.Listeners {
		if ln == nil {
			return fmt.Errorf("service %q has a nil listener", svc.Name)
		}
	}
	for _, spec := range svc.Listen {
		a, err := parseAddress(spec)
		if err != nil {
			return fmt.Errorf("service %q: %w", svc.Name, err)
		}
		if other, ok := taken[a]; ok && !a.anyPort() {
			return fmt.Errorf("service %q: %s is an address of service %q already", svc.Name, spec, other)
		}
		taken[a] = svc.Name
	}
	return nil
}
