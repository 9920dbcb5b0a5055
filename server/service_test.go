package server

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/upgrader"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

func TestParseAddress(t *testing.T) {
	for spec, want := range map[string]address{
		":80":                 {"tcp", ":80"},
		"localhost:http":      {"tcp", "localhost:http"},
		"[::1]:0":             {"tcp", "[::1]:0"},
		"tcp4:127.0.0.1:8080": {"tcp4", "127.0.0.1:8080"},
		"tcp6:[::]:8080":      {"tcp6", "[::]:8080"},
		"tcp::8080":           {"tcp", ":8080"},
		"tcp4::8080":          {"tcp4", ":8080"},
		"tcp:80":              {"tcp", "tcp:80"}, // a host of that name
		"unix:/run/a.sock":    {"unix", "/run/a.sock"},
		"unix:a:b.sock":       {"unix", "a:b.sock"},
		"unix:@name":          {"unix", "@name"},
	} {
		if got, err := parseAddress(spec); err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", spec, got, err, want)
		}
	}
	for _, spec := range []string{
		"", ":", "80", "localhost", "localhost:", "::1:80", ":99999", ":nosuchservice", "/run/a.sock",
		"unix:", "unix:@", "unix:/" + strings.Repeat("x", 107), "tcp4:80:90:100",
	} {
		if a, err := parseAddress(spec); err == nil {
			t.Errorf("%q: %v, want an error", spec, a)
		} else if !strings.Contains(err.Error(), "listen address") {
			t.Errorf("%q: %v", spec, err)
		}
	}
}

// What is wrong is found before anything is bound.
func TestBadServices(t *testing.T) {
	raw := func(context.Context, net.Conn) {}
	hs := &http.Server{}
	for want, services := range map[string][]*Service{
		"no service given":                  {},
		"has no name":                       {HTTP("", hs, ":0")},
		`two services have the name "a"`:    {HTTP("a", hs, ":0"), Conns("a", raw, ":0")},
		`"a" has no address`:                {HTTP("a", hs)},
		`"b" has no address`:                {HTTP("a", hs, ":0"), Conns("b", raw)},
		"no port":                           {HTTP("a", hs, ":0"), HTTP("b", hs, "localhost:")},
		`is an address of service "a"`:      {HTTP("a", hs, ":8080"), HTTP("b", hs, ":8080")},
		`service "a": no http.Server given`: {HTTP("a", nil, ":0")},
		`service "b": no handler given`:     {HTTP("a", hs, ":0"), Conns("b", nil, ":0")},
		`service "b": no server given`:      {HTTP("a", hs, ":0"), GRPC("b", nil, ":0")},
		"serve and shutdown must be given":  {Custom("b", nil, nil, ":0")},
		"must come from":                    {&Service{Name: "a", Listen: []string{":0"}}},
		"nil listener":                      {{Name: "a", Listeners: []net.Listener{nil}, makeRunner: HTTP("a", hs).makeRunner}},
		"a path needs unix: before it":      {HTTP("a", hs, "/run/a.sock")},
		`"c" has no address`:                {HTTP("c", hs, []string{}...)},
	} {
		s, err := New(Options{Upgrader: upgrader.Plain(), Log: upgrader.Discard}, services...)
		if s != nil || err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "server: ") {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// An address that is taken closes what was bound before it.
func TestBindFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	path := filepath.Join(t.TempDir(), "s")
	_, err = New(Options{Upgrader: upgrader.Plain(), Log: upgrader.Discard},
		HTTP("a", &http.Server{}, "unix:"+path), HTTP("b", &http.Server{}, taken.Addr().String()))
	if err == nil || !strings.Contains(err.Error(), `service "b"`) {
		t.Fatal(err)
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		t.Error("the first service is still bound")
	}
}

func TestSeveralServicesAndAddresses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web.sock")
	hs := &http.Server{Addr: "127.0.0.1:0", Handler: http.HandlerFunc(hello)}
	r := start(t, Options{}, HTTP("one", hs), HTTP("two", hs, "127.0.0.1:0", "tcp4:127.0.0.1:0", "unix:"+path, "unix:@"+t.Name()))
	if n := r.gen.bound; n != 5 {
		t.Errorf("%d sockets", n)
	}
	addrs := []net.Addr{r.Addr("one"), r.Addr("two"), &net.UnixAddr{Net: "unix", Name: path}, &net.UnixAddr{Net: "unix", Name: "@" + t.Name()}}
	for _, a := range addrs {
		res, body := dial(t, a).get("/")
		wantAnswer(t, res, body, 200, "hello", false)
	}
	if r.Addr("three") != nil {
		t.Error("address of a service that isn't there")
	}
}

func TestDefaults(t *testing.T) {
	o := Options{}.withDefaults()
	if o.ReadyTimeout != DefaultReadyTimeout || o.KillTimeout != DefaultKillTimeout || o.StopTimeout != DefaultStopTimeout ||
		o.IdleGrace != DefaultIdleGrace || o.MaxCrashes != DefaultMaxCrashes || o.CrashWindow != DefaultCrashWindow ||
		o.GiveUpPause != DefaultGiveUpPause || o.Log == nil {
		t.Errorf("%+v", o)
	}
}

// Each field of upgrader.Options is passed on.
func TestOptionsForUpgrader(t *testing.T) {
	var o Options
	fill(reflect.ValueOf(&o).Elem())
	o.Log = upgrader.Discard
	o.OnCrash = func(context.Context, Crash) {}
	v := reflect.ValueOf(o.forUpgrader())
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("upgrader.Options.%s is not set", v.Type().Field(i).Name)
		}
	}
}

// fill gives plain fields a value other than zero.
func fill(v reflect.Value) {
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.String:
			f.SetString("x")
		case reflect.Int, reflect.Int64:
			f.SetInt(7)
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Slice:
			f.Set(reflect.MakeSlice(f.Type(), 1, 1))
		}
	}
}

// A field that a later Go adds to http.Server must be copied as well.
func TestClone(t *testing.T) {
	hs := &http.Server{
		Handler:      http.NotFoundHandler(),
		TLSConfig:    &tls.Config{ServerName: "x"},
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){"x": nil},
		ConnState:    func(net.Conn, http.ConnState) {},
		ErrorLog:     log.New(io.Discard, "", 0),
		BaseContext:  func(net.Listener) context.Context { return nil },
		ConnContext:  func(context.Context, net.Conn) context.Context { return nil },
		HTTP2:        &http.HTTP2Config{MaxConcurrentStreams: 7},
		Protocols:    new(http.Protocols),
	}
	typ := reflect.TypeFor[http.Server]()
	exported := func(hs *http.Server, do func(reflect.StructField, reflect.Value)) {
		for i := range typ.NumField() {
			if f := typ.Field(i); f.IsExported() {
				do(f, reflect.ValueOf(hs).Elem().Field(i))
			}
		}
	}
	exported(hs, func(f reflect.StructField, v reflect.Value) {
		switch v.Kind() {
		case reflect.String:
			v.SetString("x")
		case reflect.Int, reflect.Int64:
			v.SetInt(int64(7 + len(f.Name)))
		case reflect.Bool:
			v.SetBool(true)
		}
		if v.IsZero() {
			t.Fatalf("http.Server.%s: the test must set it", f.Name)
		}
	})
	c := clone(hs)
	exported(c, func(f reflect.StructField, v reflect.Value) {
		if v.IsZero() {
			t.Errorf("http.Server.%s is not copied", f.Name)
		}
	})
	if c.TLSConfig == hs.TLSConfig || c.IdleTimeout != hs.IdleTimeout {
		t.Error("copied wrongly")
	}
}

func TestStatus(t *testing.T) {
	h := newSlow()
	echo := func(ctx context.Context, c net.Conn) { io.Copy(c, c) }
	r := start(t, Options{}, web(h.ServeHTTP), Conns("raw", echo, "127.0.0.1:0"))
	idle, busy, raw := dial(t, r.Addr("web")), dial(t, r.Addr("web")), dial(t, r.Addr("raw"))
	idle.get("/")
	busy.send("GET", "/slow", "")
	<-h.began
	io.WriteString(raw, "x")
	raw.r.ReadByte()
	var g control.Generation
	r.gen.status(&g)
	// A client has its answer a little before the server calls the connection idle.
	proctest.Poll(t, "an idle connection", func() bool { r.gen.status(&g); return g.Workers[0].Conns.Idle > 0 })
	n := g.Workers[0].Conns
	if n.Open != 3 || n.Idle != 1 || n.Active != 2 || n.Requests != 3 || len(g.Holdouts) != 0 {
		t.Errorf("%+v, holdouts %v", n, g.Holdouts)
	}
	r.gen.end(upgrader.Replaced, time.Minute)
	proctest.Await(t, "drain", r.epoch.Load().Done())
	g = control.Generation{Workers: make([]control.Worker, 1)}
	r.gen.status(&g)
	for _, hold := range g.Holdouts {
		if hold.Service == "" || hold.Peer == "" || hold.State == "" || hold.Since.IsZero() {
			t.Errorf("%+v", hold)
		}
	}
	if len(g.Holdouts) < 2 || g.Holdouts[0].Since.After(g.Holdouts[1].Since) {
		t.Errorf("holdouts %+v: want two at least, oldest first", g.Holdouts)
	}
	close(h.release)
}
