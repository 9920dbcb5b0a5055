package keeper

import (
	"fmt"
	"net"
	"strings"
)

// conflict finds two sockets of a configuration that can't both be bound.
func (c *Config) conflict() error {
	type known struct {
		address
		text, service string
	}
	var all []known
	for _, s := range c.Services {
		for _, l := range s.Listen {
			a, err := parseAddress(l)
			if err != nil {
				return &Error{Err: err}
			}
			for _, k := range all {
				if !a.conflicts(k.address) {
					continue
				}
				also := ""
				if k.text != l {
					also = " as " + k.text
				}
				return &Error{Err: fmt.Errorf("listen %q: %s listens there already%s", l, k.service, also)}
			}
			all = append(all, known{a, l, s.Name})
		}
	}
	return nil
}

// conflicts reports whether only one of a and b can be bound.
func (a address) conflicts(b address) bool {
	if strings.HasPrefix(a.network, "unix") || strings.HasPrefix(b.network, "unix") {
		return a.network == b.network && a.addr == b.addr
	}
	if a.network[:3] != b.network[:3] || a.family()&b.family() == 0 {
		return false
	}
	hostA, portA, _ := net.SplitHostPort(a.addr)
	hostB, portB, _ := net.SplitHostPort(b.addr)
	if portA != portB || portA == "0" || portA == "" {
		return false
	}
	return hostA == hostB || wildcard(hostA) || wildcard(hostB)
}

// family has a bit for IPv4 and one for IPv6: a socket of both can't be bound
// beside one of either.
func (a address) family() int {
	switch host, _, _ := net.SplitHostPort(a.addr); {
	case strings.HasSuffix(a.network, "4"):
		return 1
	case strings.HasSuffix(a.network, "6"):
		return 2
	case net.ParseIP(host) == nil || host == "::":
		return 3
	case strings.Contains(host, ":"):
		return 2
	}
	return 1
}

func wildcard(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}
