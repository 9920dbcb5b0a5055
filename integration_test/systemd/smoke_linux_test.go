package systemd

import (
	"os/exec"
	"testing"
)

func TestBed(t *testing.T) {
	inBed(t)
	for _, c := range []string{"systemctl --version | head -1", "systemctl is-system-running", "systemctl list-units --failed --no-legend", "systemctl list-units --all --no-legend; systemctl list-jobs", "journalctl -b --no-pager | tail -20", "ps ax", "ip a; mount|tail -20; ls /sys/fs/cgroup; ls -la /run"} {
		out, err := exec.Command("sh", "-c", c).CombinedOutput()
		t.Logf("%s: %v\n%s", c, err, out)
	}
}
