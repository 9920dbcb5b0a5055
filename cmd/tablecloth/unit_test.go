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
			dir := t.TempDir()
			if r := tablecloth(t, append(append([]string{"unit", "--name=x", "--output=" + dir}, flags...), "--", "/bin/cat")...); r.status != 0 {
				t.Fatalf("%+v", r)
			}
			path := filepath.Join(dir, "x.service")
			if r := tablecloth(t, "doctor", path); r.status != 0 {
				t.Errorf("%+v", r)
			}
			sockets, err := socketsBeside(path, unitFile{})
			if written, globErr := filepath.Glob(filepath.Join(dir, "*.socket")); err != nil || globErr != nil || len(sockets) != len(written) {
				t.Errorf("%d of the sockets %v are seen, %v", len(sockets), written, err)
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
			dropIn(t, path, advice)
			if r := tablecloth(t, "doctor", path); r.status != 0 {
				t.Errorf("with this advice followed:\n%s\n%s%s", advice, r.stdout, r.stderr)
			}
		})
	}
}

// TestDoctorLooksAtSockets: those that start the service, and no others. What
// systemd does with them is in integration_test/systemd.
func TestDoctorLooksAtSockets(t *testing.T) {
	for name, c := range map[string]struct {
		sockets map[string]string
		more    string // lines of the service
		finds   string
	}{
		"no socket":         {},
		"its own":           {sockets: map[string]string{"x.socket": "ListenStream=80"}, finds: "x.socket TriggerLimit"},
		"another's":         {sockets: map[string]string{"y.socket": "ListenStream=80", "z.socket": "ListenStream=81\nService=y.service"}},
		"by Service=":       {sockets: map[string]string{"y.socket": "ListenStream=80\nService=x.service"}, finds: "y.socket TriggerLimit"},
		"by Sockets=":       {sockets: map[string]string{"y.socket": "ListenStream=80"}, more: "Sockets=a.socket y.socket\n", finds: "y.socket TriggerLimit"},
		"several":           {sockets: map[string]string{"x.socket": "ListenStream=80\nAccept=yes", "y.socket": "Service=x.service"}, finds: "x.socket Accept x.socket TriggerLimit y.socket TriggerLimit"},
		"no limit":          {sockets: map[string]string{"x.socket": "TriggerLimitIntervalSec=0"}},
		"no limit by burst": {sockets: map[string]string{"x.socket": "TriggerLimitBurst=0"}},
		"a high limit":      {sockets: map[string]string{"x.socket": "TriggerLimitIntervalSec=1min\nTriggerLimitBurst=1000"}, finds: "x.socket TriggerLimit"},
		"polled less often": {sockets: map[string]string{"x.socket": "PollLimitBurst=10"}},
		"polled as often":   {sockets: map[string]string{"x.socket": "PollLimitBurst=20\nPollLimitIntervalSec=5s"}, finds: "x.socket TriggerLimit"},
		"polled in bursts":  {sockets: map[string]string{"x.socket": "PollLimitIntervalSec=100ms"}, finds: "x.socket TriggerLimit"},
		"no poll limit":     {sockets: map[string]string{"x.socket": "PollLimitIntervalSec=0"}, finds: "x.socket TriggerLimit"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if r := tablecloth(t, "unit", "--name=x", "--output="+dir, "--", "/bin/cat"); r.status != 0 {
				t.Fatalf("%+v", r)
			}
			path := filepath.Join(dir, "x.service")
			dropIn(t, path, "[Service]\n"+c.more)
			for name, lines := range c.sockets {
				if err := os.WriteFile(filepath.Join(dir, name), []byte("[Socket]\n"+lines+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			r := tablecloth(t, "doctor", "--json", path)
			var all []finding
			if err := json.Unmarshal([]byte(r.stdout), &all); err != nil || (r.status == 0) != (c.finds == "") {
				t.Fatalf("%v %+v", err, r)
			}
			var got []string
			for _, f := range all {
				got = append(got, f.Unit, f.ID)
			}
			if strings.Join(got, " ") != c.finds {
				t.Fatalf("found %v, not %s", got, c.finds)
			}
			r = tablecloth(t, "doctor", path)
			for name := range c.sockets {
				if told := "systemctl edit " + name + " takes these lines.\n"; strings.Contains(r.stdout, told) != strings.Contains(c.finds, name) {
					t.Errorf("%q: %s", told, r.stdout)
				}
			}
			for _, f := range all {
				dropIn(t, filepath.Join(dir, f.Unit), strings.Join(f.Instead, "\n")+"\n")
			}
			if r := tablecloth(t, "doctor", path); r.status != 0 {
				t.Errorf("with this advice followed: %+v", r)
			}
		})
	}
}

// dropIn adds lines to those that are beside a unit.
func dropIn(t *testing.T, unit, lines string) {
	t.Helper()
	if err := os.MkdirAll(unit+".d", 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(unit+".d", "override.conf"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(lines); err != nil {
		t.Fatal(err)
	}
}

// TestDoctorKnowsTheKeeper by any name.
func TestDoctorKnowsTheKeeper(t *testing.T) {
	renamed := filepath.Join(t.TempDir(), "ourkeeper")
	if err := os.Symlink(os.Args[0], renamed); err != nil {
		t.Fatal(err)
	}
	for start, want := range map[string]bool{
		"/no/such/tablecloth run -- app":                   true,
		"/no/such/tablecloth-1.2 run --file /etc/x":        true,
		"-/no/such/tablecloth --control=/run/x run -- app": true,
		"/no/such/tablecloth status":                       false,
		"/no/such/tablecloth upgrade -- run":               false,
		"/no/such/app run":                                 false,
		"/bin/sh run":                                      false,
		renamed + " run -- app":                            true,
		renamed + " status -- run":                         false,
		"":                                                 false,
	} {
		if got := isKeeper(start); got != want {
			t.Errorf("%s: %v", start, got)
		}
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
		examine(u, []socketFile{{"x.socket", u}}, doctorOptions{})
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
