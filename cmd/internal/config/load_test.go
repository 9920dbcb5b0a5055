package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/upgrader/keeper"
)

// everything is a file with all options in it.
const everything = `pidfile: run/keeper.pid
control: /run/app/control
control_group: "0"
status_file: run/status.json
metrics: ":9100"
forward: [USR1, SIGUSR2]
log_format: json
log_prefix: yes
log_file: log
quiet: on
defaults: &d
  kill_timeout: 1m
  environment: {A: 1, B: two}
services:
  web:
    command: gunicorn "a b" 'c d' app:wsgi
    listen: [8080, "admin=127.0.0.1:8081", 'unix:/run/web.sock?mode=0660']
    workers: 4
    rolling: true
    serial_start: true
    ready: delay=2s
    ready_timeout: 2m
    stop_timeout: 1m30s
    max_draining: 3
    stop_signal: SIGQUIT
    restart: on-failure
    give_up: exit
    max_deaths: -1
    death_window: 1d
    give_up_pause: 500ms
    handover: off
    rescue: false
    rescue_timeout: 3s
    crash_page: page.html
    on_crash: cat >>crashes
    watchdog: 0s
    environment:
      B: "3"
      EMPTY: ""
    env_file: web.env
    directory: srv
    user: 0
    group: 0
    umask: 0027
    limits:
      nofile: 1024:2048
      core: unlimited
    foreign: off
    capture: all
    worker_pidfile: /run/web.pid
  jobs:
    <<: {restart: no}
    command: [python3, jobs.py, '']
    kill_timeout: 5s
`

func TestEverythingCanBeSaid(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "page.html"), []byte("<p>sorry"), 0o644); err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	mask := 0o27
	want := &keeper.Config{
		PIDFile: in("run/keeper.pid"), Control: "/run/app/control", ControlGroup: "0", StatusFile: in("run/status.json"), Observe: ":9100",
		Forward: []os.Signal{syscall.SIGUSR1, syscall.SIGUSR2},
		Output:  keeper.Output{Format: "json", Prefix: true, File: in("log"), Quiet: true},
		Services: []keeper.Service{{
			Name: "web", Command: []string{"gunicorn", "a b", "c d", "app:wsgi"},
			Listen:  []string{"8080", "admin=127.0.0.1:8081", "unix:/run/web.sock?mode=0660"},
			Workers: 4, Rolling: true, SerialStart: true, Ready: "delay=2s",
			ReadyTimeout: 2 * time.Minute, KillTimeout: time.Minute, StopTimeout: 90 * time.Second, MaxDraining: 3, StopSignal: syscall.SIGQUIT,
			Restart: keeper.RestartOnFailure, GiveUp: keeper.GiveUpExit, MaxDeaths: -1, DeathWindow: 24 * time.Hour, GiveUpPause: 500 * time.Millisecond,
			Handover: keeper.Off, Rescue: keeper.Off, RescueTimeout: 3 * time.Second, CrashPage: in("page.html"),
			OnCrash:     []string{"/bin/sh", "-c", "cat >>crashes"},
			Environment: []string{"A=1", "B=two", "B=3", "EMPTY="}, EnvFile: in("web.env"), Directory: in("srv"), User: "0", Group: "0",
			Umask: &mask, Limits: []string{"nofile=1024:2048", "core=unlimited"}, Foreign: keeper.Off, Capture: "all", WorkerPIDFile: "/run/web.pid",
		}, {
			Name: "jobs", Command: []string{"python3", "jobs.py", ""}, KillTimeout: 5 * time.Second, Restart: keeper.RestartNever,
			Environment: []string{"A=1", "B=two"}, Directory: dir,
		}},
	}
	text := everything
	if os.Getuid() != 0 {
		text = strings.NewReplacer("    user: 0\n", "", "    group: 0\n", "").Replace(text)
		want.Services[0].User, want.Services[0].Group = "", ""
	}
	got, err := Parse("all.yaml", dir, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for _, key := range append(ServiceOptions.keys(), KeeperOptions.keys()...) {
		if !strings.Contains(everything, key+":") {
			t.Errorf("%s is not in the file", key)
		}
	}
}

// TestEveryFieldHasItsOption: what the keeper can do can be said, in a file and
// by a flag.
func TestEveryFieldHasItsOption(t *testing.T) {
	has := map[string]bool{}
	for _, o := range ServiceOptions {
		has["Service."+o.Field] = true
		checkNames(t, o)
	}
	for _, o := range KeeperOptions {
		has["Config."+o.Field] = true
		checkNames(t, o)
	}
	none := map[string]string{
		"Config.Services": "the services", "Config.Reread": "what reads the file again",
		"Config.Log": "the keeper has one", "Config.Ready": "of run --detach", "Config.MustStart": "of run --detach", "Config.Metrics": "what answers at Observe",
	}
	n := 0
	var look func(typ reflect.Type, prefix string)
	look = func(typ reflect.Type, prefix string) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			name := prefix + f.Name
			switch {
			case !f.IsExported() || none[name] != "":
			case f.Type.Kind() == reflect.Struct:
				look(f.Type, name+".")
			case !has[name]:
				t.Errorf("keeper.%s has no option", name)
			default:
				n++
			}
		}
	}
	look(reflect.TypeFor[keeper.Service](), "Service.")
	look(reflect.TypeFor[keeper.Config](), "Config.")
	if n != len(has) {
		t.Errorf("%d fields have an option, but there are %d options", n, len(has))
	}
}

func checkNames[T any](t *testing.T, o *Option[T]) {
	if o.Usage == "" || o.set == nil || o.typ == "" {
		t.Errorf("%s: incomplete", o.Field)
	}
	// A name is the key, a command is the arguments, and --control is every command's.
	if o.Key == "" && o.Field != "Name" || o.Flag == "" && o.Field != "Command" && o.Field != "Control" {
		t.Errorf("%s has no key or no flag", o.Field)
	}
}

// nasty are files that are refused, where, and with which words.
var nasty = []struct{ name, text, place, message, hint string }{
	{"empty", "", "1:1", "nothing is configured", "tablecloth init"},
	{"only a comment", "# nothing\n", "1:1", "nothing is configured", ""},
	{"a text", "web", "1:1", "not a value", "services:"},
	{"a list", "- web\n", "1:1", "not a list", "services:"},
	{"no services", "pidfile: x\n", "1:1", "there are no services", ""},
	{"services without any", "services:\n", "1:1", "services are a mapping, not nothing", "NAME:"},
	{"services: an empty mapping", "services: {}\n", "1:11", "there are no services", ""},
	{"services: a list", "services:\n  - command: x\n", "2:3", "services are a mapping, not a list", "NAME:"},
	{"service without settings", "services:\n  web:\n", "2:3", "its settings are a mapping, not nothing", "command:"},
	{"service without command", "services:\n  web:\n    listen: 80\n", "2:3", "service web has no command", "command: PROGRAM"},
	{"unknown key", "services:\n  web:\n    command: x\n    wrokers: 2\n", "4:5", `unknown key "wrokers"`, "did you mean workers?"},
	{"key as a flag", "services:\n  web:\n    command: x\n    kill-timeout: 2s\n", "4:5", `unknown key "kill-timeout"`, "did you mean kill_timeout?"},
	{"name of a flag", "services:\n  web:\n    command: x\n    chdir: /\n", "4:5", `unknown key "chdir"`, "did you mean directory?"},
	{"unknown key, nothing near", "services:\n  web:\n    command: x\n    zzz: 2\n", "4:5", `unknown key "zzz"`, "there are command, listen"},
	{"key in capitals", "services:\n  web:\n    Command: x\n", "3:5", `unknown key "Command"`, "did you mean command?"},
	{"unknown key at the top", "servces:\n  web: {command: x}\n", "1:1", `unknown key "servces"`, "did you mean services?"},
	{"service at the top", "web:\n  command: x\n", "1:1", `unknown key "web"`, "below services:"},
	{"service's key at the top", "listen: 80\nservices: {web: {command: x}}\n", "1:1", `unknown key "listen"`, "that is for a service"},
	{"keeper's key in a service", "services:\n  web:\n    command: x\n    pidfile: y\n", "4:5", `unknown key "pidfile"`, "put it at the top"},
	{"key twice", "services:\n  web:\n    command: x\n    command: y\n", "4:5", "command is here twice", "line 3"},
	{"service twice", "services:\n  web: {command: x}\n  web: {command: y}\n", "3:3", "web is here twice", "line 2"},
	{"no workers", "services:\n  web:\n    command: x\n    workers: 0\n", "4:14", "1 or more", ""},
	{"less than no workers", "services:\n  web:\n    command: x\n    workers: -3\n", "4:14", "1 or more", ""},
	{"half a worker", "services:\n  web:\n    command: x\n    workers: 1.5\n", "4:14", "no whole number", ""},
	{"workers in words", "services:\n  web:\n    command: x\n    workers: two\n", "4:14", "no whole number", ""},
	{"workers: a list", "services:\n  web:\n    command: x\n    workers: [1, 2]\n", "4:14", "a list means nothing here", "one value"},
	{"workers: nothing", "services:\n  web:\n    command: x\n    workers:\n", "4:5", "workers has no value", "leave the key out"},
	{"far too many workers", "services:\n  web:\n    command: x\n    workers: 99999999999999999999\n", "4:14", "no whole number", ""},
	{"time without unit", "services:\n  web:\n    command: x\n    kill_timeout: 30\n", "4:19", "a time needs its unit", "did you mean 30s?"},
	{"negative time", "services:\n  web:\n    command: x\n    kill_timeout: -30s\n", "4:19", "can't be negative", ""},
	{"no time", "services:\n  web:\n    command: x\n    kill_timeout: 0s\n", "4:19", "more than nothing", "the default, 30s"},
	{"time in words", "services:\n  web:\n    command: x\n    stop_timeout: soon\n", "4:19", "no time like 30s", ""},
	{"time with a wrong unit", "services:\n  web:\n    command: x\n    stop_timeout: 30 seconds\n", "4:19", "no time like 30s", ""},
	{"signal", "services:\n  web:\n    command: x\n    stop_signal: SIGFOO\n", "4:18", "is no signal", ""},
	{"restart", "services:\n  web:\n    command: x\n    restart: on_failure\n", "4:14", "always, on-failure or no", "did you mean on-failure?"},
	{"switch", "services:\n  web:\n    command: x\n    rescue: maybe\n", "4:13", "on or off", ""},
	{"umask", "services:\n  web:\n    command: x\n    umask: 888\n", "4:12", "an octal number", ""},
	{"ready", "services:\n  web:\n    command: x\n    ready: whenever\n", "4:12", "auto, notify, listen", ""},
	{"ready's time", "services:\n  web:\n    command: x\n    ready: delay=x\n", "4:12", "ready", ""},
	{"limit", "services:\n  web:\n    command: x\n    limits: {nofile: 1, patience: 3}\n", "4:25", "patience", ""},
	{"limit the wrong way round", "services:\n  web:\n    command: x\n    limits:\n      nofile: 20:10\n", "5:7", "the soft one not above the hard one", ""},
	{"limits: a number", "services:\n  web:\n    command: x\n    limits: 1024\n", "4:13", "a single value means nothing", "NAME: VALUE"},
	{"user", "services:\n  web:\n    command: x\n    user: nobody-of-that-name\n", "4:11", "user nobody-of-that-name: there is none of that name", "/etc/passwd"},
	{"group", "services:\n  web:\n    command: x\n    group: nobody-of-that-name\n", "4:12", "nobody-of-that-name", ""},
	{"user: a boolean", "services:\n  web:\n    command: x\n    user: true\n", "4:11", "true is no text", `"true"`},
	{"crash page", "services:\n  web:\n    command: x\n    crash_page: /no/such/page\n", "4:17", "/no/such/page", ""},
	{"address", "services:\n  web:\n    command: x\n    listen: nowhere\n", "4:13", "no port", ""},
	{"address: a path", "services:\n  web:\n    command: x\n    listen: [80, /run/web.sock]\n", "4:18", "unix:", ""},
	{"address: brackets without quotes", "services:\n  web:\n    command: x\n    listen: [::1]:80\n", "4:18", "", `in quotes: "[::1]:80"`},
	{"address: a star", "services:\n  web:\n    command: x\n    listen: *:80\n", "4:13", "no anchor", `in quotes: "*:80"`},
	{"same address twice", "services:\n  web:\n    command: x\n    listen: [80, \":80\"]\n", "4:18", "listens there already", ""},
	{"same address in two services", "services:\n  a: {command: x, listen: 80}\n  b: {command: x, listen: '[::]:80'}\n", "3:27", "a listens there already", ""},
	{"relative path of a socket", "services:\n  web:\n    command: x\n    listen: local=unix:web.sock\n", "4:13", "begins with /", "whole path"},
	{"mode of an address", "services:\n  web:\n    command: x\n    listen: unix:/a?mode=rw\n", "4:13", "octal", ""},
	{"environment: a list of mappings", "services:\n  web:\n    command: x\n    environment:\n      - A: 1\n", "5:9", "a mapping in a list", "leave the dash out"},
	{"environment: no value", "services:\n  web:\n    command: x\n    environment:\n      A:\n", "5:7", "A has no value", `""`},
	{"environment: a list", "services:\n  web:\n    command: x\n    environment:\n      - A\n", "5:9", "not KEY=VALUE", ""},
	{"environment: nested", "services:\n  web:\n    command: x\n    environment:\n      A: [1, 2]\n", "5:10", "A has no value", "one value"},
	{"command: a mapping", "services:\n  web:\n    command: {x: y}\n", "3:14", "a mapping means nothing", "a text or a list"},
	{"command: empty", "services:\n  web:\n    command: ''\n", "3:14", "no value", ""},
	{"command: spaces", "services:\n  web:\n    command: '  '\n", "3:14", "no program", ""},
	{"command: an empty list", "services:\n  web:\n    command: []\n", "3:14", "no program", ""},
	{"command: for a shell", "services:\n  web:\n    command: cd /srv && ./web\n", "3:14", "no shell reads the command", "/bin/sh"},
	{"command: a variable", "services:\n  web:\n    command: ./web --port $PORT\n", "3:14", "no shell reads the command", ""},
	{"command: a quote", "services:\n  web:\n    command: ./web \"a\n", "3:14", "within a quote", ""},
	{"command: a list in a list", "services:\n  web:\n    command: [a, [b]]\n", "3:18", "an item that is a list", ""},
	{"command for all", "defaults: {command: x}\nservices: {a: {command: y}}\n", "1:12", "can't be the same for all", ""},
	{"defaults: a list", "defaults: [a]\nservices: {a: {command: y}}\n", "1:11", "defaults are a mapping, not a list", ""},
	{"defaults: wrong", "defaults: {workers: x}\nservices: {a: {command: y}}\n", "1:21", "no whole number", ""},
	{"name with a space", "services:\n  my web:\n    command: x\n", "2:3", "can't be a service's name", "letters"},
	{"name with a slash", "services:\n  ../web:\n    command: x\n", "2:3", "can't be a service's name", ""},
	{"name with an equals sign", "services:\n  a=b:\n    command: x\n", "2:3", "can't be a service's name", ""},
	{"a tab", "services:\n\tweb:\n\t\tcommand: x\n", "2:1", "a tab", "spaces"},
	{"wrong indentation", "services:\n  web:\n    command: x\n   listen: 80\n", "4:4", "", ""},
	{"no space after a colon", "services:\n  web:\n    command:x\n    listen: 80\n", "3:5", "", ""},
	{"two colons", "services:\n  web:\n    command: a: b\n", "3:14", "", `quotes: "a: b"`},
	{"quote without end", "services:\n  web:\n    command: \"x\n", "3:14", "", ""},
	{"bracket without end", "services:\n  web:\n    command: [x\n", "3:14", "", ""},
	{"brace too many", "services: {web: {command: x}}}\n", "1:30", "", ""},
	{"reserved character", "services:\n  web:\n    command: @x\n", "3:14", "", "in quotes"},
	{"unknown anchor", "services:\n  web:\n    <<: *base\n    command: x\n", "3:9", "no anchor &base", ""},
	{"unknown anchor, one near", "defaults: &base {quiet: on}\nservices:\n  web:\n    <<: *bse\n", "4:9", "no anchor &bse", "did you mean *base?"},
	{"merged text", "services:\n  web:\n    <<: x\n    command: x\n", "3:9", "<< takes a mapping", ""},
	{"a tag", "services:\n  web:\n    command: !!binary eA==\n", "3:14", "tags mean nothing", ""},
	{"a type of a language", "services: !!python/object:os.system {web: {command: x}}\n", "1:11", "tags mean nothing", ""},
	{"a complex key", "services:\n  ? [a, b]\n  : {command: x}\n", "", "", ""},
	{"two documents", "services: {web: {command: x}}\n---\nservices: {api: {command: x}}\n", "3:1", "second document", ""},
	{"a NUL", "services: {web: {command: x}}\x00", "1:30", "control character", ""},
	{"an escape sequence", "services:\n  web:\n    command: x\x1b[2J\n", "3:15", "control character", ""},
	{"no UTF-8", "services:\n  w\xffeb: {command: x}\n", "2:4", "no UTF-8", ""},
	{"UTF-16", "\xff\xfes\x00e\x00", "1:1", "no UTF-8", ""},
	{"brackets without end", "services: " + strings.Repeat("[", 200000), "1:111", "nested so deep", ""},
	{"dashes without end", "services: \n" + strings.Repeat("- ", 200000), "2:1", "nested so deep", ""},
	{"questions without end", "services: \n" + strings.Repeat("? ", 200000), "2:1", "nested so deep", ""},
	{"indentation without end", staircase(3000), "", "", ""},
	{"too large", strings.Repeat("# nothing\n", 200000), "1:1", "more than 1048576 bytes", ""},
	{"aliases of aliases", laughs(), "", "", ""},
	{"path on top: a list", "pidfile: [a, b]\nservices: {web: {command: x}}\n", "1:10", "a list means nothing here", ""},
	{"log format", "log_format: xml\nservices: {web: {command: x}}\n", "1:13", "text or json", ""},
	{"forward", "forward: [USR1, NONE]\nservices: {web: {command: x}}\n", "1:17", "is no signal", ""},
	{"forward: what can't be caught", "forward: [USR1, KILL]\nservices: {web: {command: x}}\n", "1:17", "can't be caught", ""},
	{"forward: what stops the keeper", "forward: TERM\nservices: {web: {command: x}}\n", "1:10", "it stops all", ""},
	{"forward: what upgrades", "forward: [SIGHUP]\nservices: {web: {command: x}}\n", "1:11", "it upgrades", ""},
	{"JSON with a comment", "{\"services\": {\"web\": {\"command\": \"x\", // y\n}}}", "1:39", "", ""},
	{"INI", "[services]\nweb = x\n", "2:1", "", ""},
	{"TOML", "[services.web]\ncommand = \"x\"\n", "2:1", "", ""},
}

func staircase(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%sa:\n", strings.Repeat(" ", i))
	}
	return b.String()[:min(b.Len(), 200000)]
}

// laughs is a file which is enormous if aliases are copied.
func laughs() string {
	text := "defaults:\n  environment: &e0 {A: 1}\nservices:\n  web:\n    command: x\n    environment:\n      <<: &e1 [*e0, *e0]\n"
	for i := range 40 {
		text += fmt.Sprintf("      X%d: &e%d [*e%d, *e%d]\n", i, i+2, i+1, i+1)
	}
	return text
}

func TestNastyFilesAreRefused(t *testing.T) {
	for _, c := range nasty {
		t.Run(c.name, func(t *testing.T) {
			all := refused(t, c.text)
			e := all[0]
			if got := fmt.Sprintf("%d:%d", e.Line, e.Column); c.place != "" && got != c.place {
				t.Errorf("at %s, want %s", got, c.place)
			}
			if !strings.Contains(e.Message, c.message) || !strings.Contains(e.Hint, c.hint) {
				t.Errorf("%s (%s), want %s (%s)", e.Message, e.Hint, c.message, c.hint)
			}
		})
	}
}

// refused reads a file that is wrong, and sees to it that all complaints have a
// place in it.
func refused(t *testing.T, text string) Errors {
	t.Helper()
	s, err := Parse("f.yaml", t.TempDir(), []byte(text))
	var all Errors
	if !errors.As(err, &all) || len(all) == 0 || s != nil {
		t.Fatalf("%+v, %v", s, err)
	}
	checkPlaces(t, all, text)
	return all
}

func checkPlaces(t *testing.T, all Errors, text string) {
	t.Helper()
	lines := strings.Split(text, "\n")
	for _, e := range all {
		if e.File != "f.yaml" || e.Line < 1 || e.Line > len(lines) || e.Column < 1 || e.Column > len([]rune(lines[e.Line-1]))+2 {
			t.Errorf("no place in the file: %v", e)
		}
		if e.Message == "" || strings.ContainsAny(e.Message+e.Hint, "\n\x00\x1b") {
			t.Errorf("message %q, hint %q", e.Message, e.Hint)
		}
		e.Excerpt()
	}
}

// TestAllMistakesAreSaidAtOnce: in the file's order.
func TestAllMistakesAreSaidAtOnce(t *testing.T) {
	all := refused(t, "services:\n  a:\n    umsak: 1\n    workers: 0\n  b:\n    command: x\n    kill_timeout: 3\n    listen: [80, nowhere]\n")
	var got []string
	for _, e := range all {
		got = append(got, fmt.Sprintf("%d:%d", e.Line, e.Column))
	}
	if want := []string{"2:3", "3:5", "4:14", "7:19", "8:18"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if want := "f.yaml:2:3: service a has no command: write what to run: command: PROGRAM ARG … (and 4 more)"; all.Error() != want {
		t.Errorf("%q", all.Error())
	}
	if want := "    4 |     workers: 0\n      |              ^"; all[2].Excerpt() != want {
		t.Errorf("%q", all[2].Excerpt())
	}
}

// The keeper's own complaints get their places, all of them.
func TestTheKeepersComplaintsHavePlaces(t *testing.T) {
	all := refused(t, "services:\n  a:\n    command: x\n    ready: never\n    listen: [80, nowhere]\n  b:\n    command: y\n    limits: [nofile=1, x=2]\n    listen: 80\n")
	var got []string
	for _, e := range all {
		got = append(got, fmt.Sprintf("%d:%d", e.Line, e.Column))
	}
	if want := []string{"4:12", "5:18", "8:24", "9:13"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v: %v", got, want, all)
	}
}

func TestTheExampleIsRight(t *testing.T) {
	s, err := Parse("example", "/srv", []byte(Example))
	if err != nil {
		t.Fatal(err)
	}
	web := s.Services[0]
	if len(s.Services) != 1 || web.Name != "web" || web.Workers != 2 || !reflect.DeepEqual(web.Listen, []string{"8080"}) || web.Directory != "/srv" {
		t.Errorf("%+v", s)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "t.yaml")
	if _, err := Load(path); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := Load(dir); err == nil {
		t.Error("a directory was read")
	}
	os.WriteFile(path, []byte("\ufeffservices:\r\n  web:\r\n    command: ./x\r\n    env_file: e\r\n"), 0o644)
	s, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if w := s.Services[0]; w.EnvFile != filepath.Join(dir, "e") || w.Command[0] != "./x" || w.Directory != dir {
		t.Errorf("%+v", w)
	}
}
