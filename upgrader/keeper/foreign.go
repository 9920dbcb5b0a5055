//go:build linux

package keeper

import (
	"fmt"
	"net"
	"os"
	"strings"
)

// foreignPrefixes are of variables that mean a supervisor's own child: the keeper
// itself, if it runs under one of those.
var foreignPrefixes = []string{"SERVER_STARTER_", "EINHORN_"}

// foreign passes sockets on as Server::Starter and einhorn do. They are where they
// are for LISTEN_FDS: from descriptor 3 on. ackPath is einhorn's command socket;
// "": there is none.
func foreign(held []*socket, generation int, ackPath string) []string {
	var ports, env []string
	for i, k := range held {
		if spec := k.starterSpec(); spec != "" {
			ports = append(ports, fmt.Sprintf("%s=%d", spec, 3+i))
		}
		env = append(env, fmt.Sprintf("EINHORN_FD_%d=%d", i, 3+i))
		if family := k.family(); family != "" {
			env = append(env, fmt.Sprintf("EINHORN_FD_FAMILY_%d=%s", i, family))
		}
	}
	env = append(env, fmt.Sprintf("EINHORN_FD_COUNT=%d", len(held)), fmt.Sprintf("EINHORN_MASTER_PID=%d", os.Getpid()),
		"SERVER_STARTER_GENERATION="+itoa(generation))
	if ackPath != "" {
		env = append(env, "EINHORN_SOCK_PATH="+ackPath)
	}
	if len(ports) > 0 {
		env = append(env, "SERVER_STARTER_PORT="+strings.Join(ports, ";"))
	}
	return env
}

// starterSpec is what Server::Starter would have been asked for: PORT, HOST:PORT
// or a path; "": it has no word for it.
func (s *socket) starterSpec() string {
	network, addr, _ := strings.Cut(s.listen, ":")
	switch {
	case network == "unix" && strings.HasPrefix(addr, "/") && !strings.ContainsAny(addr, "=;"):
		return addr
	case network != "tcp":
		return ""
	}
	host, port, err := net.SplitHostPort(addr)
	switch ip := net.ParseIP(host); {
	case err != nil:
		return ""
	case ip == nil || ip.IsUnspecified():
		return port
	case ip.To4() == nil:
		return "[" + host + "]:" + port
	}
	return host + ":" + port
}

// family is the socket's address family, as einhorn names it.
func (s *socket) family() string {
	network, addr, _ := strings.Cut(s.listen, ":")
	switch {
	case strings.HasPrefix(network, "unix"):
		return "AF_UNIX"
	case network != "tcp" && network != "udp":
		return ""
	case strings.HasPrefix(addr, "["):
		return "AF_INET6"
	}
	return "AF_INET"
}
