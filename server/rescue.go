package server

import (
	"net"

	"github.com/tablecloth-go/tablecloth/internal/gate"
)

// openVault lets connections of HTTP/1 without TLS outlive this process, if there
// is a keeper who rescues them. Those of other services end with the process; with
// a vault they do so without a reset, so that what was sent arrives.
func (s *Server) openVault(services []*Service) {
	var names []string
	var rescued []*httpRunner
	wanted := false
	for i, svc := range services {
		if svc.Rescue != Auto {
			continue
		}
		wanted = true
		if h, ok := s.runners[i].(*httpRunner); ok && !h.tls {
			names = append(names, svc.Name)
			rescued = append(rescued, h)
		}
	}
	if !wanted {
		return
	}
	t := s.gen.Vault(names)
	if t == nil {
		return
	}
	s.vault = true
	for i, h := range rescued {
		h.ledger = ledger{t, uint32(i)}
	}
	s.rescued = rescued
}

// tellListening lets the keeper know what was accepted, and isn't in the table:
// not yet, or because it can't be rescued.
func (s *Server) tellListening(bound map[runner][]net.Listener) {
	if !s.vault {
		return
	}
	servers := make([][]net.Addr, len(s.rescued))
	var others []net.Addr
	for i, h := range s.rescued {
		for _, ln := range bound[h] {
			if _, ours := ln.(*gate.Listener); ours {
				servers[i] = append(servers[i], ln.Addr())
			} else {
				others = append(others, ln.Addr())
			}
		}
		delete(bound, h)
	}
	for _, lns := range bound {
		for _, ln := range lns {
			others = append(others, ln.Addr())
		}
	}
	s.gen.Listening(servers, others)
}
