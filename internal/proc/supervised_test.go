//go:build linux

package proc

import "testing"

func TestSupervisedByARealParent(t *testing.T) {
	for name, want := range map[string]string{
		"runsv": `"runsv"`, "s6-supervise": `"s6-supervise"`, "tini": `"tini"`, "supervise-daemon": `"supervise-daemo"`,
		"some-shell": `""`, "bash": `""`, // a shell that is not PID 1 is just where the service was started
	} {
		if c := start(t, "supervisor", tempExe(t, name)); c.says != want {
			t.Errorf("under %s: %s, want %s", name, c.says, want)
		}
	}
}

func TestSupervisor(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		init bool
		want string
	}{
		{"supervisord", []string{"/usr/bin/python3", "/usr/bin/supervisord", "-n"}, false, "supervisord"},
		{"python3", []string{"/usr/bin/python3", "/usr/bin/supervisord", "-n"}, true, "supervisord"},
		{"python3", []string{"python3", "-c", "supervisord"}, false, ""},
		{"python3", []string{"python3", "deploy.py", "supervisord"}, false, ""},
		{"vi", []string{"vi", "supervisord"}, false, ""},
		{"docker-init", []string{"/sbin/docker-init", "--", "app"}, true, "docker-init"},
		{"dumb-init", []string{"dumb-init", "app"}, true, "dumb-init"},
		{"PM2 v5.3.0: God", []string{"PM2 v5.3.0: God Daemon (/root/.pm2)"}, false, "pm2"},
		{"ruby", []string{"foreman: master"}, false, "foreman"},
		{"systemd", []string{"/sbin/init"}, true, ""},
		{"systemd", []string{"/lib/systemd/systemd", "--user"}, false, ""},
		{"init", []string{"/sbin/init"}, true, ""},
		{"busybox", []string{"init"}, true, ""},
		{"launchd", nil, true, ""},
		{"sh", []string{"sh", "-c", "app; true"}, true, "sh"},
		{"entrypoint.sh", []string{"/bin/bash", "/entrypoint.sh"}, true, "bash"},
		{"bash", []string{"-bash"}, false, ""},
		{"", nil, false, ""},
	} {
		if got := supervisor(c.name, c.args, c.init); got != c.want {
			t.Errorf("%q %q, init %v: %q, want %q", c.name, c.args, c.init, got, c.want)
		}
	}
}
