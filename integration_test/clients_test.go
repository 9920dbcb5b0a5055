//go:build linux

package integration

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/strict"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
)

// upgrades replaces the service n times, each time when the clients have had an
// answer of the last generation.
func (b *bed) upgrades(n int, answered func(generation int)) {
	b.t.Helper()
	for g := 2; g <= n+1; g++ {
		b.mustUpgrade()
		answered(g)
	}
}

// tool returns the path of a program that others have written.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if path = "/usr/sbin/" + name; !exists(path) {
			err = os.ErrNotExist
		} else {
			err = nil
		}
	}
	testenv.Need(t, name, err == nil)
	return path
}

// Proxies in front, which keep connections to the service and don't repeat a
// request, have nothing to complain of.
func TestProxiesInFront(t *testing.T) {
	for name, start := range map[string]func(*testing.T, string, string) (addr string){"nginx": startNginx, "haproxy": startHAProxy} {
		t.Run(name, func(t *testing.T) {
			run(t, bothModes, func(t *testing.T, b *bed) {
				b.demo()
				front := start(t, b.dir, b.tcp())
				l := startLoad(t, "tcp", front, strict.Group{Kind: strict.Get, N: 4}, strict.Group{Kind: strict.Post, N: 8},
					strict.Group{Kind: strict.Slow, N: 4}, strict.Group{Kind: strict.Connect, Rate: 30})
				n := testenv.Count(5, 50)
				b.upgrades(n, func(g int) { l.sees(g) })
				r := l.stop()
				if err := r.Err(); err != nil {
					t.Error(err)
				}
				testenv.Result(t, "%s in front: %d upgrades, %d requests, %d failed", name, n, r.Total.Requests, r.Total.Failed())
			})
		})
	}
}

// daemon runs a program until the test ends; addr is where it listens.
func daemon(t *testing.T, addr, path string, args ...string) string {
	t.Helper()
	cmd := exec.Command(path, args...)
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		if text, _ := os.ReadFile(out.Name()); t.Failed() {
			t.Logf("%s said:\n%s", path, text)
		}
	})
	deadline, cancel := context.WithTimeout(t.Context(), patience(t))
	defer cancel()
	for {
		c, err := new(net.Dialer).DialContext(deadline, "tcp", addr)
		if err == nil {
			c.Close()
			return addr
		}
		if deadline.Err() != nil {
			t.Fatalf("%s doesn't listen: %v", path, err)
		}
	}
}

func startNginx(t *testing.T, dir, backend string) string {
	path, addr := tool(t, "nginx"), proctest.FreeAddr(t)
	conf := filepath.Join(dir, "nginx.conf")
	write(t, conf, fmt.Sprintf(`
daemon off; master_process off; pid %[1]s/nginx.pid; error_log %[1]s/nginx.log;
events { worker_connections 512; }
http {
	access_log off;
	client_body_temp_path %[1]s/n1; proxy_temp_path %[1]s/n2; fastcgi_temp_path %[1]s/n3; uwsgi_temp_path %[1]s/n4; scgi_temp_path %[1]s/n5;
	upstream service { server %[2]s; keepalive 32; }
	server {
		listen %[3]s;
		location / {
			proxy_pass http://service;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_next_upstream off;
		}
	}
}`, dir, backend, addr), 0o644)
	return daemon(t, addr, path, "-p", dir, "-c", conf)
}

func startHAProxy(t *testing.T, dir, backend string) string {
	path, addr := tool(t, "haproxy"), proctest.FreeAddr(t)
	conf := filepath.Join(dir, "haproxy.cfg")
	write(t, conf, fmt.Sprintf(`
defaults
	mode http
	timeout connect 10s
	timeout client 60s
	timeout server 60s
	retries 0
	option http-keep-alive
	http-reuse always
listen service
	bind %s
	server one %s
`, addr, backend), 0o644)
	return daemon(t, addr, path, "-db", "-f", conf)
}

// wrk counts every error that it sees.
func TestWrk(t *testing.T) {
	path := tool(t, "wrk")
	run(t, bothModes, func(t *testing.T, b *bed) {
		b.demo()
		addr := b.tcp()
		watch := startLoad(t, "tcp", addr, strict.Group{Kind: strict.Get, N: 1})
		n := testenv.Count(5, 50)
		seconds := testenv.Count(3, 30)
		cmd := exec.Command(path, "-t", "1", "-c", "40", "-d", fmt.Sprintf("%ds", seconds), "--latency", "http://"+addr+"/pid")
		var out []byte
		var err error
		done := make(chan struct{})
		go func() {
			defer close(done)
			out, err = cmd.CombinedOutput()
		}()
		b.upgrades(n, func(g int) { watch.sees(g) })
		<-done
		watch.stop()
		text := string(out)
		if err != nil || strings.Contains(text, "Socket errors") || strings.Contains(text, "Non-2xx") || !strings.Contains(text, "Requests/sec") {
			t.Errorf("%v\n%s", err, text)
		}
		testenv.Result(t, "wrk: %d upgrades, %s, no error", n, regexp.MustCompile(`\d+ requests`).FindString(text))
	})
}

// curl makes one connection, and keeps it.
func TestCurl(t *testing.T) {
	path := tool(t, "curl")
	run(t, bothModes, func(t *testing.T, b *bed) {
		b.demo()
		addr := b.tcp()
		n := testenv.Count(3, 50)
		// One URL after the other, on one connection; each takes a while.
		cmd := exec.Command(path, "-sS", "--fail", "-o", "/dev/null", "-w", "%{http_code} %{num_connects}\n",
			fmt.Sprintf("http://%s/slow?ms=20&n=[1-%d]", addr, testenv.Count(60, 600)))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		errs := new(strings.Builder)
		cmd.Stderr = errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := make(chan []byte, 1)
		go func() { all, _ := io.ReadAll(out); lines <- all }()
		for range n {
			b.mustUpgrade()
		}
		text := string(<-lines)
		if err := cmd.Wait(); err != nil || errs.Len() > 0 {
			t.Errorf("curl: %v: %s", err, errs)
		}
		if ok, fresh := strings.Count(text, "200 "), strings.Count(text, "200 1"); ok != strings.Count(text, "\n") || fresh != 1 {
			t.Errorf("%d answers, %d connections:\n%s", ok, fresh, text)
		}
	})
}

// Go's own client, with requests that it can't repeat: no connection is ended.
func TestGoClient(t *testing.T) {
	run(t, bothModes, func(t *testing.T, b *bed) {
		b.demo()
		addr := b.tcp()
		const clients = 8
		var dialled, ended, requests, newest atomic.Int64
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var wg sync.WaitGroup
		for range clients {
			wg.Go(func() {
				transport := &http.Transport{MaxIdleConnsPerHost: 1,
					DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
						c, err := new(net.Dialer).DialContext(ctx, network, addr)
						dialled.Add(1)
						return &watched{Conn: c, ended: &ended}, err
					}}
				defer transport.CloseIdleConnections()
				for ctx.Err() == nil {
					g, err := postOnce(transport, addr)
					if err != nil {
						t.Errorf("POST: %v", err)
						return
					}
					requests.Add(1)
					newest.Store(max(newest.Load(), g))
				}
			})
		}
		n := testenv.Count(5, 50)
		b.upgrades(n, func(g int) {
			b.poll("an answer of the new generation", func() bool { return newest.Load() >= int64(g) })
		})
		stop()
		wg.Wait()
		if n := ended.Load(); n > 0 {
			t.Errorf("the service ended %d connections", n)
		}
		testenv.Result(t, "net/http's client: %d upgrades, %d POSTs, %d connections for %d clients, %d ended by the service",
			n, requests.Load(), dialled.Load(), clients, ended.Load())
	})
}

// watched is a connection of which is known who ended it. The client itself gives
// one up, and dials another, if it was slow to write (net/http's
// maxWriteWaitBeforeConnReuse).
type watched struct {
	net.Conn
	closed atomic.Bool
	ended  *atomic.Int64
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if err != nil && !w.closed.Load() {
		w.ended.Add(1)
	}
	return n, err
}

func (w *watched) Close() error {
	w.closed.Store(true)
	return w.Conn.Close()
}

// postOnce sends a body that can't be sent again, and returns the generation that
// has answered.
func postOnce(transport *http.Transport, addr string) (generation int64, err error) {
	r, err := http.NewRequest("POST", "http://"+addr+"/echo", struct{ io.Reader }{strings.NewReader("once")})
	if err != nil {
		return 0, err
	}
	r.ContentLength = 4
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != 200 || string(b) != "once") {
		err = fmt.Errorf("%s: %q", resp.Status, b)
	}
	fmt.Sscan(resp.Header.Get("X-Generation"), &generation)
	return generation, err
}
