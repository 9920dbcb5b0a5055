package keeper

import (
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
)

// address is a parsed --listen.
type address struct {
	name    string // in LISTEN_FDNAMES; "": made of the rest
	network string // of package net
	addr    string
	mode    os.FileMode // of a unix socket's path; 0: by the umask
	owner   string      // of a unix socket's path: user, user:group, :group; "": this process's
}

// parseAddress reads [NAME=]ADDR: "8080", ":8080", "127.0.0.1:0", "[::1]:80",
// "tcp4:…", "udp:…", "unix:/path?mode=0660&owner=www:www", "unix:@name",
// "unixgram:…", "unixpacket:…".
func parseAddress(s string) (address, error) {
	var a address
	rest := s
	if name, after, ok := strings.Cut(s, "="); ok && !strings.ContainsAny(name, ":/?[") {
		a.name, rest = name, after
	}
	a.network, a.addr = "tcp", rest
	for _, n := range []string{"tcp", "tcp4", "tcp6", "udp", "udp4", "udp6", "unix", "unixgram", "unixpacket"} {
		if after, ok := strings.CutPrefix(rest, n+":"); ok && !(n == "tcp" && after == "") {
			a.network, a.addr = n, after
		}
	}
	if strings.HasPrefix(a.network, "unix") {
		return a, a.parsePath(s)
	}
	if strings.HasPrefix(a.addr, "/") || strings.HasPrefix(a.addr, "@") {
		return a, fmt.Errorf("listen %q: a path needs unix: before it", s)
	}
	if _, err := strconv.ParseUint(a.addr, 10, 16); err == nil {
		a.addr = ":" + a.addr
	}
	if !strings.Contains(a.addr, ":") {
		return a, fmt.Errorf("listen %q: no port: HOST:PORT, :PORT or unix:PATH", s)
	}
	return a, nil
}

func (a *address) parsePath(s string) error {
	path, query, _ := strings.Cut(a.addr, "?")
	a.addr = path
	if path == "" || path == "@" {
		return fmt.Errorf("listen %q: no path", s)
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return fmt.Errorf("listen %q: %w", s, err)
	}
	for key, v := range values {
		switch key {
		case "mode":
			n, err := strconv.ParseUint(v[0], 8, 12)
			if err != nil {
				return fmt.Errorf("listen %q: mode %q: an octal number like 0660", s, v[0])
			}
			a.mode = os.FileMode(n)
		case "owner":
			a.owner = v[0]
		default:
			return fmt.Errorf("listen %q: unknown setting %q: mode and owner are known", s, key)
		}
	}
	if a.addr[0] == '@' && (a.mode != 0 || a.owner != "") {
		return fmt.Errorf("listen %q: an abstract socket has neither mode nor owner", s)
	}
	return nil
}

// key names the socket where it has no name of its own.
func (a address) key() string {
	if a.name != "" {
		return a.name
	}
	if a.network == "tcp" {
		return a.addr
	}
	return a.network + ":" + a.addr
}
