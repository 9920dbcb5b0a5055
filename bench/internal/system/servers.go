package system

import (
	"embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"text/template"
	"time"
)

//go:embed assets
var assets embed.FS

const echoModule = "/usr/lib/nginx/modules/ngx_http_echo_module.so"

func servers() []*System {
	noPanic := "it has no such thing"
	return []*System{
		{
			Name: "nginx", Title: "nginx, reload", Setup: "2 workers, answers by itself (echo module); SIGHUP to the master",
			Delay: restartDelay, NoUpgrade: true, version: nginxVersion, start: nginx, upgrade: nginxReload, Skip: map[string]string{"panic": noPanic},
		},
		{
			Name: "nginx-usr2", Title: "nginx, new binary", Setup: "2 workers; SIGUSR2, when the new master's workers answer SIGQUIT to the old master",
			Delay: restartDelay, NoUpgrade: true, version: nginxVersion, start: nginx, upgrade: nginxBinary,
			Skip: map[string]string{"panic": noPanic, "crash": sameAsReload, "steady": sameAsReload},
		},
		{
			Name: "haproxy", Title: "HAProxy, reload", Setup: "master-worker mode, in front of one net/http process that stays; SIGUSR2 to the master",
			Delay: restartDelay, version: command("haproxy", "-v"), prepare: backend, start: haproxy, upgrade: haproxyReload,
			Skip: map[string]string{"panic": noPanic},
		},
		{
			Name: "node", Title: "Node cluster + graceful", Setup: "2 workers; SIGHUP: new workers, then disconnect() of the old",
			Delay: restartDelay, version: nodeVersion, prepare: asset("app.js"), start: node, upgrade: signalLeader(syscall.SIGHUP),
		},
		{
			Name: "gunicorn", Title: "gunicorn", Setup: "2 gthread workers of 64 threads; SIGHUP to the master",
			Delay: restartDelay, NoUpgrade: true, version: command("gunicorn", "--version"), prepare: asset("app.py"), start: gunicorn, upgrade: signalLeader(syscall.SIGHUP),
			Skip: map[string]string{"panic": "a WSGI application has no such thing"},
		},
	}
}

var digits = regexp.MustCompile(`v?\d+\.\d+[-+.~\w]*`)

// command asks a program for its version.
func command(name string, args ...string) func(*Bed) (string, error) {
	return func(*Bed) (string, error) {
		out, err := exec.Command(name, args...).CombinedOutput()
		if errors.Is(err, exec.ErrNotFound) {
			return "", errors.New("not installed")
		}
		if v := digits.Find(out); v != nil {
			return string(v), nil
		}
		return "", fmt.Errorf("%s %s: %v: %.80q", name, strings.Join(args, " "), err, out)
	}
}

func nginxVersion(b *Bed) (string, error) {
	if _, err := os.Stat(echoModule); err != nil {
		return "", errors.New("the echo module (libnginx-mod-http-echo) is not installed")
	}
	return command("nginx", "-v")(b)
}

func nodeVersion(b *Bed) (string, error) {
	if err := b.installNode(); err != nil {
		return "", fmt.Errorf("install graceful: npm: %w", err)
	}
	return command("node", "--version")(b)
}

// asset copies a program into the instance's directory.
func asset(name string) func(*Instance) error {
	return func(i *Instance) error {
		b, err := assets.ReadFile("assets/" + name)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(i.Dir, name), b, 0o600)
	}
}

// configure writes a configuration whose answers name a new generation.
func (i *Instance) configure(name string) (string, error) {
	t, err := template.ParseFS(assets, "assets/"+name)
	if err != nil {
		return "", err
	}
	i.number++
	path := filepath.Join(i.Dir, name)
	f, err := os.Create(path + ".new")
	if err != nil {
		return "", err
	}
	defer f.Close()
	err = t.Execute(f, map[string]any{"Dir": i.Dir, "Addr": i.Addr, "Backend": i.Backend, "Generation": i.number, "Echo": echoModule, "Daemon": i.daemon})
	if err != nil {
		return "", err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return "", err
	}
	return path, os.WriteFile(i.counter(), []byte(strconv.Itoa(i.number)), 0o600)
}

func nginx(i *Instance) (*exec.Cmd, error) {
	// In the foreground nginx ignores SIGUSR2.
	i.daemon = "off"
	if i.Name == "nginx-usr2" {
		i.daemon = "on"
	}
	path, err := i.configure("nginx.conf")
	if err != nil {
		return nil, err
	}
	// It executes the same path again, and searches nowhere.
	self, err := exec.LookPath("nginx")
	return exec.Command(self, "-c", path, "-e", filepath.Join(i.Dir, "error.log")), err
}

func nginxReload(i *Instance) error {
	if _, err := i.configure("nginx.conf"); err != nil {
		return err
	}
	return syscall.Kill(i.leader, syscall.SIGHUP)
}

// nginxBinary follows nginx's page "Upgrading Executable on the Fly".
func nginxBinary(i *Instance) error {
	if _, err := i.configure("nginx.conf"); err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(i.Dir, "nginx.pid"))
	if err != nil {
		return err
	}
	old, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return err
	}
	if err := syscall.Kill(old, syscall.SIGUSR2); err != nil {
		return err
	}
	select {
	case <-i.answered(i.number):
		return syscall.Kill(old, syscall.SIGQUIT)
	case <-time.After(5 * time.Second):
		return errors.New("the new master's workers don't answer")
	}
}

// backend starts what the proxy stands in front of.
func backend(i *Instance) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	i.Backend = ln.Addr().String()
	ln.Close()
	cmd := exec.Command(i.Bed.Self, "serve", "plain", "--addr", i.Backend, "--counter", i.counter()+".backend")
	pid, err := i.spawn(cmd)
	i.aside = append(i.aside, pid)
	return err
}

func haproxy(i *Instance) (*exec.Cmd, error) {
	path, err := i.configure("haproxy.cfg")
	return exec.Command("haproxy", "-W", "-f", path), err
}

func haproxyReload(i *Instance) error {
	if _, err := i.configure("haproxy.cfg"); err != nil {
		return err
	}
	return syscall.Kill(i.leader, syscall.SIGUSR2)
}

func node(i *Instance) (*exec.Cmd, error) {
	// Modules are looked for beside the program and above it.
	modules := filepath.Join(i.Dir, "node_modules")
	if _, err := os.Lstat(modules); err != nil {
		if err := os.Symlink(filepath.Join(i.Bed.NodeDir, "node_modules"), modules); err != nil {
			return nil, err
		}
	}
	return exec.Command("node", filepath.Join(i.Dir, "app.js")), nil
}

var gunicornArgs = []string{
	"gunicorn", "--workers=2", "--worker-class=gthread", "--threads=64", "--keep-alive=120", "--graceful-timeout=5",
	"--log-level=warning", "app:app",
}

func gunicorn(i *Instance) (*exec.Cmd, error) {
	return exec.Command(gunicornArgs[0], append([]string{"--bind=" + i.Addr}, gunicornArgs[1:]...)...), nil
}
