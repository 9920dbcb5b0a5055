package system

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/tablecloth-go/tablecloth/bench/internal/serve"
)

// underSystemd are programs in units of their own: they descend from PID 1, not
// from this process, and it is systemd that starts them again.
func underSystemd() []*System {
	noStart := "its start is systemd's"
	return []*System{{
		Name: "store", Title: "net/http under systemd, descriptor store",
		Setup:   "Type=notify, FileDescriptorStoreMax=1, Restart=always with the default RestartSec=100ms; systemctl restart, the program drains at SIGTERM",
		version: systemdVersion, start: unit, upgrade: restartUnit, stop: stopUnit, processes: unitProcesses, Supervised: true,
		Skip: map[string]string{"beside": noStart},
	}}
}

func systemdVersion(*Bed) (string, error) {
	if comm, err := os.ReadFile("/proc/1/comm"); err != nil || strings.TrimSpace(string(comm)) != "systemd" {
		return "", errors.New("systemd isn't PID 1 here")
	}
	out, err := exec.Command("systemctl", "--version").Output()
	return digits.FindString(string(out)), err
}

func (i *Instance) unitName() string { return filepath.Base(i.Dir) + ".service" }

// unit starts the program in a transient unit.
func unit(i *Instance) (*exec.Cmd, error) {
	args := []string{"--quiet", "--unit=" + i.unitName()}
	for _, p := range []string{"Type=notify", "FileDescriptorStoreMax=1", "Restart=always", "StartLimitIntervalSec=0",
		fmt.Sprintf("TimeoutStopSec=%d", 2*serve.DrainTime/time.Second), "StandardError=append:" + i.Log()} {
		args = append(args, "--property="+p)
	}
	return exec.Command("systemd-run", append(append(args, "--"), i.serve("stored")...)...), nil
}

func restartUnit(i *Instance) error {
	if out, err := exec.Command("systemctl", "restart", i.unitName()).CombinedOutput(); err != nil {
		return fmt.Errorf("systemctl restart: %w %s", err, out)
	}
	return nil
}

func stopUnit(i *Instance) error {
	exec.Command("systemctl", "kill", "--signal=KILL", i.unitName()).Run()
	out, err := exec.Command("systemctl", "stop", i.unitName()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("systemctl stop: %w %s", err, out)
	}
	return nil
}

func unitProcesses(i *Instance) []int {
	group, err := exec.Command("systemctl", "show", "--property=ControlGroup", "--value", i.unitName()).Output()
	if err != nil {
		return nil
	}
	list, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", strings.TrimSpace(string(group)), "cgroup.procs"))
	if err != nil {
		return nil // it has none
	}
	var pids []int
	for pid := range strings.FieldsSeq(string(list)) {
		if n, err := strconv.Atoi(pid); err == nil {
			pids = append(pids, n)
		}
	}
	return pids
}
