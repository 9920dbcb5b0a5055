package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
)

// maxUnixPath is the room in Linux's sockaddr_un, less the final NUL (unix(7));
// other systems have a little less and say so at bind.
const maxUnixPath = 107

// address is a parsed entry of Service.Listen.
type address struct {
	network, addr string
}

func parseAddress(spec string) (address, error) {
	network, rest, found := strings.Cut(spec, ":")
	switch {
	case found && network == "unix":
		return unixAddress(spec, rest)
	case found && (network == "tcp" || network == "tcp4" || network == "tcp6"):
		if strings.Contains(rest, ":") {
			return tcpAddress(spec, network, rest)
		}
	case strings.Contains(spec, "/"):
		return address{}, fmt.Errorf("listen address %q: a path needs unix: before it", spec)
	}
	return tcpAddress(spec, "tcp", spec)
}

func unixAddress(spec, path string) (address, error) {
	switch {
	case path == "" || path == "@":
		return address{}, fmt.Errorf("listen address %q: no path", spec)
	case len(path) > maxUnixPath:
		return address{}, fmt.Errorf("listen address %q: %d bytes, a unix socket's path has room for %d", spec, len(path), maxUnixPath)
	}
	return address{"unix", path}, nil
}

func tcpAddress(spec, network, addr string) (address, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		var ae *net.AddrError
		if errors.As(err, &ae) {
			err = errors.New(ae.Err)
		}
		return address{}, fmt.Errorf("listen address %q: %w", spec, err)
	}
	if port == "" {
		return address{}, fmt.Errorf("listen address %q: no port (0: any)", spec)
	}
	if _, err := net.DefaultResolver.LookupPort(context.Background(), network, port); err != nil {
		return address{}, fmt.Errorf("listen address %q: %w", spec, err)
	}
	return address{network, addr}, nil
}

// anyPort reports whether the system chooses the port: such an address may be
// listed more than once.
func (a address) anyPort() bool {
	_, port, err := net.SplitHostPort(a.addr)
	return a.network != "unix" && err == nil && port == "0"
}
