package systemd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

const configuration = `services:
  web:
    command: %s/self
    listen: %s
    environment:
      %s: %s
      %s: %s
      %s: %s
`

// packaged loads the template that packages bring, for one configuration file.
func packaged(t *testing.T) (u *unit, file string) {
	t.Helper()
	inBed(t)
	port := 10000 + lastPort.Add(1)
	name := fmt.Sprintf("tablecloth@packaged-%d", port)
	u = &unit{kind: kind{name: "packaged", reload: true, follows: true, store: true, kept: true}, t: t, name: name,
		dir: filepath.Join("/run/bed", name), addr: fmt.Sprintf("127.0.0.1:%d", port)}
	file = filepath.Join("/etc/tablecloth", strings.TrimPrefix(name, "tablecloth@")+".yaml")
	for _, dir := range []string{u.dir, filepath.Dir(file)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile("../../packaging/assets/tablecloth@.service")
	if err != nil {
		t.Fatal(err)
	}
	own := strings.ReplaceAll(string(text), "=/usr/bin/tablecloth ", "="+binDir+"/tablecloth ")
	if strings.Count(own, binDir) != 2 {
		t.Fatalf("ExecStart= and ExecReload= are others:\n%s", own)
	}
	proctest.Install(t, filepath.Join(unitsHere, "tablecloth@.service"), []byte(own), 0o644)
	u.systemctl("daemon-reload")
	t.Cleanup(u.unload)
	proctest.Install(t, file, fmt.Appendf(nil, configuration, binDir, u.addr, envRole, roleService, envAddr, u.addr, envFiles, u.dir), 0o644)
	return u, file
}

// TestPackagedTemplate: the unit of the packages keeps the services of a file,
// upgrades them, refuses what is wrong with it, and lets nobody be refused when the
// keeper itself is killed or replaced.
func TestPackagedTemplate(t *testing.T) {
	t.Parallel()
	u, file := packaged(t)
	said(t, "systemd-analyze", "verify", "--man=no", filepath.Join(unitsHere, u.name+".service"))
	if out, err := command(binDir+"/tablecloth", "doctor", u.name+".service"); err != nil {
		t.Errorf("tablecloth doctor: %v %s", err, out)
	}
	u.start()
	keeper := u.mainPID()
	load, report := u.clients()
	for generation := 2; generation <= 1+count(3, 20); generation++ {
		u.systemctl("reload", u.name)
		proctest.Await(t, fmt.Sprintf("generation %d", generation), load.Answered(generation))
	}
	u.mustServe(1 + count(3, 20))

	right, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	serves, _ := u.who()
	proctest.Install(t, file, []byte(strings.Replace(string(right), "listen:", "lisen:", 1)), 0o644)
	if out, err := command("systemctl", "reload", u.name); err == nil {
		t.Errorf("a reload by a file that is wrong: %s", out)
	}
	proctest.Install(t, file, right, 0o644)
	if pid, _ := u.who(); pid != serves || u.show("ActiveState") != "active" || u.mainPID() != keeper {
		t.Errorf("pid %d serves after that, it was %d", pid, serves)
	}
	if err := report().Err(); err != nil {
		t.Error(err)
	}

	_, report = u.clients(connecting)
	u.systemctl("restart", u.name)
	serves = u.awaitOther(serves)
	u.kill(u.mainPID(), syscall.SIGKILL)
	u.awaitOther(serves)
	u.mustRefuseNobody(report())
	u.systemctl("stop", u.name)
	if r := u.show("Result"); r != "success" {
		t.Errorf("after the stop Result is %q", r)
	}
	if left, err := filepath.Glob("/run/tablecloth/packaged*"); err != nil || left != nil {
		t.Errorf("after the stop there is %v, %v", left, err)
	}
}
