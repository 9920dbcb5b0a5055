//go:build linux

package keeper

import (
	"fmt"
	"go/build"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/chain"
	"github.com/tablecloth-go/tablecloth/upgrader/sd"
)

func TestParseAddress(t *testing.T) {
	for s, want := range map[string]address{
		"8080":                    {network: "tcp", addr: ":8080"},
		":8080":                   {network: "tcp", addr: ":8080"},
		"web=:8080":               {name: "web", network: "tcp", addr: ":8080"},
		"127.0.0.1:0":             {network: "tcp", addr: "127.0.0.1:0"},
		"[::1]:80":                {network: "tcp", addr: "[::1]:80"},
		"a=[::1]:80":              {name: "a", network: "tcp", addr: "[::1]:80"},
		"tcp4:0.0.0.0:1":          {network: "tcp4", addr: "0.0.0.0:1"},
		"udp::53":                 {network: "udp", addr: ":53"},
		"dns=udp:127.0.0.1:53":    {name: "dns", network: "udp", addr: "127.0.0.1:53"},
		"unix:/run/x":             {network: "unix", addr: "/run/x"},
		"unix:@name":              {network: "unix", addr: "@name"},
		"s=unix:/run/x?mode=0660": {name: "s", network: "unix", addr: "/run/x", mode: 0o660},
		"unix:/x?owner=www:www":   {network: "unix", addr: "/x", owner: "www:www"},
		"unix:/a=b?mode=600":      {network: "unix", addr: "/a=b", mode: 0o600},
		"unixgram:/run/log":       {network: "unixgram", addr: "/run/log"},
		"localhost:http":          {network: "tcp", addr: "localhost:http"},
		"unix:@x?mode=0600":       {},
		"unix:":                   {},
		"unix:/x?mode=rw":         {},
		"unix:/x?mode=0660&a=b":   {},
		"/run/x":                  {},
		"nowhere":                 {},
		"":                        {},
		"70000":                   {},
	} {
		got, err := parseAddress(s)
		if (err != nil) != (want.network == "") || err == nil && got != want {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
}

// FuzzParseAddress: what can be parsed has a key that is a valid descriptor name.
func FuzzParseAddress(f *testing.F) {
	f.Add("web=unix:/run/x?mode=0660&owner=a:b")
	f.Add("[::1]:80")
	f.Fuzz(func(t *testing.T, s string) {
		if a, err := parseAddress(s); err == nil && !sd.ValidName(sd.NameOf(a.key())) {
			t.Errorf("%q: name %q", s, sd.NameOf(a.key()))
		}
	})
}

func TestParseEnvFile(t *testing.T) {
	got, err := parseEnvFile([]byte("# c\n; c\n\nA=1\nB=\"two words\"\n C='x=y' \nexport D=\nE=a\"b\n"))
	if want := []string{"A=1", "B=two words", "C=x=y", "D=", "E=a\"b"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{"A", "=x", "A B=c", "A=\"x", "A=x\x00y"} {
		if got, err := parseEnvFile([]byte("OK=1\n" + bad)); err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%q: %q, %v", bad, got, err)
		}
	}
}

func TestParseLimits(t *testing.T) {
	got, err := parseLimits([]string{"nofile=10:20", "core=unlimited"})
	if want := []chain.Limit{{Resource: unix.RLIMIT_NOFILE, Soft: 10, Max: 20, Text: "nofile=10:20"}, {Resource: unix.RLIMIT_CORE, Soft: 1<<64 - 1, Max: 1<<64 - 1, Text: "core=unlimited"}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"nofile", "nofile=", "nofile=20:10", "files=1", "nofile=-1"} {
		if got, err := parseLimits([]string{bad}); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

func TestParseReady(t *testing.T) {
	for s, ok := range map[string]bool{"auto": true, "notify": true, "listen": true, "fd=3": true, "delay=1s": true,
		"": false, "fd=2": false, "fd": false, "delay": false, "delay=x": false, "auto=1": false, "never": false} {
		if _, _, err := parseReady(s); (err == nil) != ok {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestUnique(t *testing.T) {
	if got := unique([]string{"A=1", "B=2", "A=3"}); !slices.Equal(got, []string{"A=3", "B=2"}) {
		t.Errorf("%q", got)
	}
}

// TestTheKeeperDoesNotImportTheRest: a keeper must not contain what it replaces.
func TestTheKeeperDoesNotImportTheRest(t *testing.T) {
	const module = "github.com/tablecloth-go/tablecloth/"
	forbidden := []string{"github.com/cloudflare/tableflip", module + "upgrader", module + "server"}
	seen := map[string]bool{}
	var visit func(path string)
	visit = func(path string) {
		if seen[path] {
			return
		}
		seen[path] = true
		p, err := build.Import(path, ".", 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range p.Imports {
			if slices.Contains(forbidden, i) {
				t.Errorf("%s imports %s", path, i)
			}
			if strings.HasPrefix(i, module) {
				visit(i)
			}
		}
	}
	visit(module + "upgrader/keeper")
	if len(seen) < 5 {
		t.Errorf("looked at %d packages only", len(seen))
	}
}

// TestAPinnedBinaryIsTheOneThatWasThere also when another lies at its path.
func TestAPinnedBinary(t *testing.T) {
	path := t.TempDir() + "/program"
	copyOf(t, path)
	p, err := prepare(&Service{Command: []string{path, "x"}}, nil)
	if err != nil || p.script || p.changed() {
		t.Fatalf("%+v, %v", p, err)
	}
	defer p.close()
	was, _ := p.pinned.Stat()
	install(t, path, []byte("#!/bin/sh\n"))
	if !p.changed() {
		t.Error("the change isn't seen")
	}
	now, err := os.Stat(fmt.Sprintf("/proc/self/fd/%d", p.pinned.Fd()))
	if err != nil || !os.SameFile(was, now) {
		t.Errorf("%v", err)
	}
	q, err := prepare(&Service{Command: []string{path, "x"}}, []string{"y"})
	if err != nil || !q.script || q.pinned != nil || !slices.Equal(q.args, []string{path, "y"}) {
		t.Errorf("%+v, %v", q, err)
	}
}
