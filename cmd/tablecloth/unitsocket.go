package main

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// socketUnit is a .socket unit. All its sockets have the same name for the
// service, so there is one unit per name.
type socketUnit struct {
	Name   string
	FDName string // "": the unit's
	Lines  []string
}

// takeListen makes the socket units, and finds out whether a port needs a
// privilege.
func (u *unit) takeListen() error {
	units := map[string]*socketUnit{}
	for _, l := range u.Listen {
		name, lines, port, err := socketLines(l)
		if err != nil {
			return err
		}
		if port > 0 && port < 1024 && !u.SocketUnit && (u.RunAs != "" || u.Dynamic) {
			u.LowPort = true
		}
		if !u.SocketUnit {
			continue
		}
		s := units[name]
		if s == nil {
			s = &socketUnit{Name: u.Name, FDName: name}
			if name != "" && name != u.Name {
				s.Name += "-" + name
			}
			if !unitName.MatchString(s.Name) {
				return fmt.Errorf("--listen %q: its name can't be part of a unit's", l)
			}
			units[name] = s
			u.Sockets = append(u.Sockets, s)
		}
		for _, line := range lines {
			if !slices.Contains(s.Lines, line) {
				s.Lines = append(s.Lines, line)
			}
		}
	}
	return nil
}

var listenWords = map[string]string{
	"tcp": "ListenStream", "tcp4": "ListenStream", "tcp6": "ListenStream",
	"udp": "ListenDatagram", "udp4": "ListenDatagram", "udp6": "ListenDatagram",
	"unix": "ListenStream", "unixgram": "ListenDatagram", "unixpacket": "ListenSequentialPacket",
}

// socketLines says [NAME=]ADDR in the words of systemd.socket(5). port is 0 for
// unix sockets.
func socketLines(listen string) (name string, lines []string, port int, err error) {
	bad := func(why string) (string, []string, int, error) {
		return "", nil, 0, fmt.Errorf("--listen %q: %s", listen, why)
	}
	rest := listen
	if n, after, ok := strings.Cut(listen, "="); ok && !strings.ContainsAny(n, ":/?[") {
		name, rest = n, after
	}
	network := "tcp"
	if n, after, ok := strings.Cut(rest, ":"); ok && listenWords[n] != "" {
		network, rest = n, after
	}
	word := listenWords[network] + "="
	if strings.HasPrefix(network, "unix") {
		lines, err = pathLines(word, rest)
		if err != nil {
			return bad(err.Error())
		}
		return name, lines, 0, nil
	}
	if _, err := strconv.Atoi(rest); err == nil {
		rest = ":" + rest
	}
	host, p, err := net.SplitHostPort(rest)
	if err != nil {
		return bad("HOST:PORT, :PORT or unix:PATH")
	}
	if port, err = strconv.Atoi(p); err != nil || port < 0 || port > 65535 {
		return bad("no port: " + p)
	}
	switch {
	case host == "" && strings.HasSuffix(network, "4"):
		rest = "0.0.0.0:" + p
	case host == "" && strings.HasSuffix(network, "6"):
		return name, []string{word + "[::]:" + p, "BindIPv6Only=ipv6-only"}, port, nil
	case host == "":
		rest = p
	case net.ParseIP(host) == nil:
		return bad("a socket unit needs an address, not a name")
	}
	return name, []string{word + rest}, port, nil
}

func pathLines(word, rest string) ([]string, error) {
	path, query, _ := strings.Cut(rest, "?")
	if path == "" || path[0] != '/' && path[0] != '@' {
		return nil, fmt.Errorf("unix: needs an absolute path, or @name")
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, err
	}
	lines := []string{word + strings.ReplaceAll(path, "%", "%%")}
	if path[0] == '/' {
		lines = append(lines, "RemoveOnStop=yes")
	}
	mode := values.Get("mode")
	if owner := values.Get("owner"); owner != "" {
		user, group, _ := strings.Cut(owner, ":")
		if user != "" {
			lines = append(lines, "SocketUser="+user)
		}
		if group != "" {
			lines = append(lines, "SocketGroup="+group)
		}
		if mode == "" {
			mode = "0660"
		}
	}
	if mode != "" {
		lines = append(lines, "SocketMode="+mode)
	}
	return lines, nil
}
