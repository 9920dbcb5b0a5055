package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/testenv"
)

// everyUnit are the flags of units of all sorts.
var everyUnit = map[string][]string{
	"kept":         {"--listen=8080"},
	"alone":        {"--mode=alone"},
	"kept-socket":  {"--listen=web=:80", "--listen=web=unix:/run/w.sock?mode=0600", "--listen=127.0.0.1:81", "--socket-unit"},
	"alone-socket": {"--mode=alone", "--listen=udp:53", "--listen=unix:@abstract", "--listen=tcp6:443", "--socket-unit"},
	"hardened":     {"--listen=80", "--hardened"},
	"alone-hard":   {"--mode=alone", "--hardened", "--run-as=daemon:daemon"},
	"user":         {"--listen=8080", "--user", "--hardened"},
	"timeouts":     {"--listen=8080", "--ready-timeout=3m", "--kill-timeout=1h", "--stop-timeout=1m"},
}

func TestUnitIsValid(t *testing.T) {
	_, err := exec.LookPath("systemd-analyze")
	testenv.Need(t, "systemd-analyze", err == nil)
	for name, flags := range everyUnit {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			args := append([]string{"unit", "--name=" + name, "--output=" + dir}, flags...)
			r := tablecloth(t, append(args, "--", "/bin/cat", "a b", "50%", "$HOME", `"`)...)
			if r.status != 0 {
				t.Fatalf("%+v", r)
			}
			files := strings.Fields(r.stdout)
			cmd := exec.Command("systemd-analyze", append([]string{"verify"}, files...)...)
			if name == "user" {
				cmd = exec.Command("systemd-analyze", append([]string{"verify", "--user"}, files...)...)
				cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir())
			}
			if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// What unit prints, doctor has nothing to say about.
func TestDoctorLikesUnits(t *testing.T) {
	for name, flags := range everyUnit {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "x.service")
			r := tablecloth(t, append(append([]string{"unit"}, flags...), "--", "/bin/cat")...)
			if err := os.WriteFile(path, []byte(r.stdout), 0o644); err != nil || r.status != 0 {
				t.Fatal(err, r)
			}
			if r := tablecloth(t, "doctor", path); r.status != 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}

const worst = `[Service]
ExecStart=/usr/bin/app
ExecReload=/bin/kill -HUP $MAINPID
`

// Whatever doctor finds, following its advice once is enough.
func TestDoctorsAdviceHelps(t *testing.T) {
	for name, c := range map[string]struct{ unit, finds string }{
		"nothing set": {worst, "Type ExecReload ExecStop Restart RestartSec StartLimit FileDescriptorStoreMax OOMPolicy"},
		"notify main": {worst + "Type=notify\nRestart=always\nRestartSec=100ms\n", "NotifyAccess ExecReload ExecStop RestartSec StartLimit FileDescriptorStoreMax OOMPolicy"},
		"both reloads": {worst + "Type=notify-reload\nNotifyAccess=all\nRestart=always\nRestartSec=0\nFileDescriptorStoreMax=9\nOOMPolicy=continue\nExecStop=/bin/true\n",
			"ExecReload StartLimit"},
		"kept": {"[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/usr/bin/tablecloth run --stop-timeout 2m -- x\nExecReload=-/usr/bin/tablecloth upgrade\nKillMode=process\nSendSIGKILL=no\n",
			"Type ExecReload Restart RestartSec FileDescriptorStoreMax KillMode OOMPolicy SendSIGKILL TimeoutStopSec TimeoutStartSec"},
		"mixed": {worst + "KillMode=mixed\nType=notify\nNotifyAccess=none\n",
			"NotifyAccess ExecReload ExecStop Restart RestartSec StartLimit FileDescriptorStoreMax KillMode OOMPolicy"},
		"watchdog": {worst + "Type=simple\nPIDFile=/run/x\nWatchdogSec=1min 30s\n",
			"PIDFile ExecReload ExecStop Restart RestartSec StartLimit FileDescriptorStoreMax OOMPolicy WatchdogSec"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "x.service")
			if err := os.WriteFile(path, []byte(c.unit), 0o644); err != nil {
				t.Fatal(err)
			}
			r := tablecloth(t, "doctor", "--json", path)
			var found []finding
			if err := json.Unmarshal([]byte(r.stdout), &found); err != nil || r.status != 1 {
				t.Fatalf("%v %+v", err, r)
			}
			var ids []string
			advice := "[Service]\n"
			for _, f := range found {
				ids = append(ids, f.ID)
				advice += strings.Join(f.Instead, "\n") + "\n"
			}
			if got := strings.Join(ids, " "); got != c.finds {
				t.Errorf("found %s\nnot   %s", got, c.finds)
			}
			if err := os.Mkdir(path+".d", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(path+".d", "override.conf"), []byte(advice), 0o644); err != nil {
				t.Fatal(err)
			}
			if r := tablecloth(t, "doctor", path); r.status != 0 {
				t.Errorf("with this advice followed:\n%s\n%s%s", advice, r.stdout, r.stderr)
			}
		})
	}
}

func TestDoctorWithoutAPatient(t *testing.T) {
	for _, name := range []string{"/nowhere/x.service", "no-such-unit-at-all.service"} {
		if r := tablecloth(t, "doctor", name); r.status != exitUsage || !strings.Contains(r.stderr, "hint") {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestUnitUsage(t *testing.T) {
	for _, args := range [][]string{
		{},
		{"--mode=both", "--", "/bin/cat"},
		{"--mode=alone", "--listen=80", "--", "/bin/cat"},
		{"--socket-unit", "--", "/bin/cat"},
		{"--socket-unit", "--listen=host.name:80", "--", "/bin/cat"},
		{"--user", "--run-as=daemon", "--", "/bin/cat"},
		{"--name=a/b", "--", "/bin/cat"},
		{"--", "no-such-program-at-all"},
	} {
		if r := tablecloth(t, append([]string{"unit"}, args...)...); r.status != exitUsage || r.stdout != "" {
			t.Errorf("%q: %+v", args, r)
		}
	}
}

func TestUnitOverwritesNothing(t *testing.T) {
	dir := t.TempDir()
	if r := tablecloth(t, "unit", "--output", dir, "--", "/bin/cat"); r.status != 0 {
		t.Fatalf("%+v", r)
	}
	if r := tablecloth(t, "unit", "--output", dir, "--", "/bin/cat"); r.status != exitRefused {
		t.Fatalf("%+v", r)
	}
}

// systemd reads a quoted word as it was meant.
func TestQuoteUnit(t *testing.T) {
	for word, want := range map[string]string{
		"plain": "plain", "": `""`, "a b": `"a b"`, "50%": "50%%", "$HOME": "$$HOME", `q"`: `"q\""`, `\`: `"\\"`, "a\nb": `"a\nb"`, ";": `";"`,
	} {
		if got := quoteUnit(word); got != want {
			t.Errorf("%q: %s, not %s", word, got, want)
		}
	}
}

func FuzzUnitFile(f *testing.F) {
	f.Add([]byte(worst))
	f.Add([]byte("[A]\\\nB=1\n;x\nC=1\\\n# no\n 2\nC=\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		u := unitFile{}
		u.read(bytes.NewReader(b))
		examine(u, doctorOptions{})
	})
}

func TestParseSpan(t *testing.T) {
	for text, want := range map[string]string{
		"5": "5s", "1min 30s": "1m30s", "100ms": "100ms", "0": "0s", "2h": "2h0m0s", "1.5s": "1.5s", "infinity": forever.String(), "": "none", "x": "none", "5 parsecs": "none",
	} {
		d, ok := parseSpan(text)
		if got := d.String(); ok && got != want || !ok && want != "none" {
			t.Errorf("%q: %v, %v", text, d, ok)
		}
	}
}
