package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
	"github.com/tablecloth-go/tablecloth/internal/testenv"
)

// observed is a keeper with metrics and probes.
type observed struct {
	control, addr string // of --metrics
}

func observe(t *testing.T) *observed {
	t.Helper()
	o := &observed{control: filepath.Join(t.TempDir(), "control")}
	cmd := as(t, "tablecloth", "run", "--control", o.control, "--metrics", "127.0.0.1:0", "--name", "web", "--listen", "127.0.0.1:0",
		"--env", roleVariable+"=program", "--", os.Args[0], "one")
	log := logged(t, cmd)
	o.addr = log.Next(t, `metrics and probes on http://([0-9.:]+)`)
	log.Next(t, "ready: ready by")
	return o
}

// logged starts a command that ends with the test.
func logged(t *testing.T, cmd *exec.Cmd) *proctest.Log {
	t.Helper()
	log := &proctest.Log{}
	log.Start(t, cmd)
	ended := proctest.Waited(cmd)
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		proctest.Await(t, "its end", ended)
		log.Report(t)
	})
	return log
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

func TestMetricsAddress(t *testing.T) {
	o := observe(t)
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 200, "/status": 404, "/events": 404, "/": 404} {
		if code, _ := get(t, "http://"+o.addr+path); code != want {
			t.Errorf("%s: %d", path, code)
		}
	}
	for _, path := range []string{"/upgrade", "/stop", "/metrics"} {
		r, err := http.Post("http://"+o.addr+path, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode < 400 {
			t.Errorf("POST %s: %d", path, r.StatusCode)
		}
	}
	tablecloth(t, "--control", o.control, "upgrade").expect(t, exitDone, "generation 2 is ready", "")
	tablecloth(t, "--control", o.control, "upgrade", "--", "fail").expect(t, exitFailed, "", "as the test wants it")
	_, text := get(t, "http://"+o.addr+"/metrics")
	for _, want := range []string{`tablecloth_generation{service="web"} 2`, `tablecloth_upgrades_total{result="ready",service="web"} 1`,
		`tablecloth_upgrades_total{result="failed",service="web"} 1`, `tablecloth_last_upgrade_successful{service="web"} 0`,
		`tablecloth_upgrade_duration_seconds_count{result="ready",service="web"} 1`, `tablecloth_build_info{mode="kept",`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
}

func TestMetricsAddressTaken(t *testing.T) {
	o := observe(t)
	tablecloth(t, "run", "--control", filepath.Join(t.TempDir(), "c"), "--metrics", o.addr, "--", "true").
		expect(t, exitKeeper, "", "metrics and probes: listen tcp "+o.addr)
}

// A Prometheus scrapes a keeper, and answers the queries of the alerts.
func TestPrometheusScrapes(t *testing.T) {
	path, err := exec.LookPath("prometheus")
	testenv.Need(t, "prometheus", err == nil)
	o := observe(t)
	dir := t.TempDir()
	rules, err := filepath.Abs(filepath.Join("..", "..", "docs", "alerts", "tablecloth.rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	conf := fmt.Sprintf("global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 200ms}\nrule_files: [%s]\n"+
		"scrape_configs:\n- job_name: tablecloth\n  static_configs: [{targets: [%q]}]\n", rules, o.addr)
	if err := os.WriteFile(filepath.Join(dir, "conf.yml"), []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	addr := logged(t, exec.Command(path, "--config.file", filepath.Join(dir, "conf.yml"), "--storage.tsdb.path", filepath.Join(dir, "data"), "--web.listen-address", "127.0.0.1:0")).
		Next(t, `msg="Listening on".* address=([0-9.:]+)`)
	tablecloth(t, "--control", o.control, "upgrade", "--", "fail").expect(t, exitFailed, "", "as the test wants it")
	proctest.Poll(t, "the failed upgrade in Prometheus", func() bool {
		return ask(t, addr, `tablecloth_upgrades_total{job="tablecloth",service="web",result="failed"}`) == "1"
	})
	proctest.Poll(t, "the alert", func() bool {
		return ask(t, addr, `ALERTS{alertname="TableclothUpgradeFailed",alertstate="firing",service="web"}`) == "1"
	})
	if v := ask(t, addr, `ALERTS{alertname="TableclothGaveUp"}`); v != "" {
		t.Errorf("an alert of nothing: %q", v)
	}
}

// ask returns the value of a query's only result; "": there is none.
func ask(t *testing.T, addr, query string) string {
	t.Helper()
	code, body := get(t, "http://"+addr+"/api/v1/query?query="+url.QueryEscape(query))
	var answer struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := json.Unmarshal([]byte(body), &answer); code == http.StatusServiceUnavailable || err != nil || len(answer.Data.Result) != 1 {
		return ""
	}
	return fmt.Sprint(answer.Data.Result[0].Value[1])
}
