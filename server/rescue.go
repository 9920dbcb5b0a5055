package server

import (
	"net"

	"github.com/tablecloth-go/tablecloth/internal/gate"
)

// openVault lets connections of HTTP/1 without TLS outlive this process, if
// there is a keeper who rescues them.
func (s *Server) openVault() {
	var names []string
	var rescued []*httpRunner
	for _, r := range s.runners {
		if h, ok := r.(*httpRunner); ok && h.svc.Rescue == Auto && !h.tls {
			names = append(names, h.svc.Name)
			rescued = append(rescued, h)
		}
	}
	if len(names) == 0 {
		return
	}
	t := s.gen.Vault(names)
	if t == nil {
		return
	}
	for i, h := range rescued {
		h.ledger = ledger{t, uint32(i)}
	}
	s.rescued = rescued
}

// tellListening lets the keeper know what was accepted, and isn't in the table:
// not yet, or because it can't be rescued.
func (s *Server) tellListening(bound map[runner][]net.Listener) {
	if s.rescued == nil {
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
