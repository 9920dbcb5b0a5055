package server

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
}
