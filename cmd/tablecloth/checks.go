package main

import (
	"fmt"
	"strings"
	"time"
)

// The checks of tablecloth doctor. Each returns nil if there is nothing to say.

func found(id, problem string, instead []string) *finding {
	return &finding{ID: id, Problem: problem, Instead: instead}
}

func checkType(p *patient) *finding {
	switch {
	case p.notifies() || p.typ == "simple" && p.last("Service.PIDFile") != "" || p.typ == "forking" && p.kept:
		return nil
	case p.typ == "forking":
		return found("Type", "Type=forking waits for a program that goes into the background, which this library's don't: the start times out",
			[]string{"Type=notify", "NotifyAccess=all"})
	case p.kept:
		return found("Type", fmt.Sprintf("with Type=%s systemd takes the service for started before it is ready", p.typ), []string{"Type=notify"})
	}
	return found("Type", fmt.Sprintf("with Type=%s systemd doesn't learn of the new main process: it stops the service when the old one ends", p.typ),
		[]string{"Type=notify", "NotifyAccess=all"})
}

func checkNotifyAccess(p *patient) *finding {
	access := p.or("Service.NotifyAccess", "main")
	switch {
	case !p.notifies() || access == "all" || p.kept && access != "none":
		return nil
	case access == "none":
		return found("NotifyAccess", "NotifyAccess=none: nobody may tell systemd that the service is ready", []string{"NotifyAccess=all"})
	}
	return found("NotifyAccess", fmt.Sprintf("NotifyAccess=%s: if a new main process dies while the old one drains, systemd doesn't believe the old one, which could serve again", access),
		[]string{"NotifyAccess=all"})
}

func checkPIDFile(p *patient) *finding {
	if p.notifies() || p.kept || p.last("Service.PIDFile") == "" {
		return nil
	}
	return found("PIDFile", "by PIDFile= systemd learns of the new main process only when the old one has ended",
		[]string{"Type=notify", "NotifyAccess=all", "PIDFile="})
}

// reload is what ExecReload= should be.
func (p *patient) reload() []string {
	return []string{"ExecReload=", fmt.Sprintf("ExecReload=%s upgrade --timeout=%ds", ownPath(), seconds(p.startTimeout()-5*time.Second))}
}

func checkReload(p *patient) *finding {
	reload := p.unitFile["Service.ExecReload"]
	if p.typ == "notify-reload" {
		return nil
	}
	if len(reload) == 0 {
		return found("ExecReload", "there is no ExecReload=: systemctl reload doesn't upgrade", p.reload())
	}
	for _, r := range reload {
		if strings.Contains(r, "kill") && !strings.Contains(r, "tablecloth") {
			return found("ExecReload", "ExecReload= only sends a signal: systemctl reload returns before anything has happened, and can't fail", p.reload())
		}
		if strings.HasPrefix(r, "-") {
			return found("ExecReload", "with a - before it ExecReload= can't fail: a failed upgrade looks like a good one", p.reload())
		}
	}
	return nil
}

func checkBothReloads(p *patient) *finding {
	if p.typ != "notify-reload" {
		return nil
	}
	if len(p.unitFile["Service.ExecReload"]) > 0 {
		return found("ExecReload", "with Type=notify-reload systemd sends SIGHUP too: systemctl reload upgrades twice",
			append([]string{"Type=notify"}, p.reload()...))
	}
	return found("Type", "with Type=notify-reload a failed upgrade looks like a good one: systemctl reload can't fail",
		append([]string{"Type=notify"}, p.reload()...))
}

func checkStop(p *patient) *finding {
	if p.kept || len(p.unitFile["Service.ExecStop"]) > 0 {
		return nil
	}
	return found("ExecStop", "there is no ExecStop=: after an upgrade the main process is none that systemd has started, and a stop sends SIGKILL right after SIGTERM",
		[]string{fmt.Sprintf("ExecStop=-%s stop --timeout=%ds", ownPath(), seconds(p.stopTimeout+4*time.Second))})
}

func checkRestart(p *patient) *finding {
	if r := p.or("Service.Restart", "no"); r == "no" || r == "on-success" || r == "on-watchdog" {
		return found("Restart", fmt.Sprintf("Restart=%s: after a crash nothing is started again", r), []string{"Restart=always"})
	}
	return nil
}

func checkRestartSec(p *patient) *finding {
	if d, ok := p.span("Service.RestartSec"); ok && d == 0 {
		return nil
	}
	return found("RestartSec", fmt.Sprintf("RestartSec=%s: clients wait, or are refused, for 100 ms or more after a crash; only 0 is at once", p.or("Service.RestartSec", "100ms")),
		[]string{"RestartSec=0"})
}

func checkStartLimit(p *patient) *finding {
	interval, burst := p.or("Unit.StartLimitIntervalSec", p.or("Unit.StartLimitInterval", p.last("Service.StartLimitInterval"))), p.or("Unit.StartLimitBurst", "5")
	if d, ok := parseSpan(interval); ok && d == 0 {
		return nil
	}
	if interval == "" {
		interval = "10s"
	}
	return found("StartLimit", fmt.Sprintf("more than %s crashes in %s, and the service stays down, its sockets lost", burst, interval),
		[]string{"[Unit]", "StartLimitIntervalSec=0", "[Service]"})
}

func checkStore(p *patient) *finding {
	if v := p.or("Service.FileDescriptorStoreMax", "0"); v != "0" {
		return nil
	}
	who := "the process"
	if p.kept {
		who = "the keeper"
	}
	return found("FileDescriptorStoreMax", "systemd holds no copies of the sockets: when "+who+" is killed, clients are refused until it is back",
		[]string{"FileDescriptorStoreMax=64"})
}

func checkKillMode(p *patient) *finding {
	mode := p.or("Service.KillMode", "control-group")
	switch {
	case mode == "process" || mode == "none":
		want := "control-group"
		if p.kept {
			want = "mixed"
		}
		return found("KillMode", fmt.Sprintf("KillMode=%s leaves processes behind after a stop", mode), []string{"KillMode=" + want})
	case p.kept && mode != "mixed":
		return found("KillMode", fmt.Sprintf("KillMode=%s: at a stop workers get SIGTERM from systemd and from the keeper; and a restart waits for draining workers", mode),
			[]string{"KillMode=mixed"})
	case !p.kept && mode == "mixed":
		return found("KillMode", "KillMode=mixed: an old generation that still drains is killed as soon as the new one has stopped", []string{"KillMode=control-group"})
	}
	return nil
}

func checkOOMPolicy(p *patient) *finding {
	if v := p.last("Service.OOMPolicy"); v == "continue" {
		return nil
	}
	return found("OOMPolicy", "when one process is killed for its memory systemd ends all of them (OOMPolicy=stop is the default)", []string{"OOMPolicy=continue"})
}

func checkSendKill(p *patient) *finding {
	if !p.isOff("Service.SendSIGKILL") {
		return nil
	}
	return found("SendSIGKILL", "with SendSIGKILL=no a process that hangs is left behind, and holds the port", []string{"SendSIGKILL=yes"})
}

// systemd's own defaults (systemd-system.conf(5)).
const defaultUnitTimeout = 90 * time.Second

func (p *patient) timeout(key string) time.Duration {
	if d, ok := p.span("Service." + key); ok {
		if d == 0 {
			return forever
		}
		return d
	}
	if d, ok := p.span("Service.TimeoutSec"); ok {
		return d
	}
	return defaultUnitTimeout
}

func (p *patient) startTimeout() time.Duration {
	return min(p.timeout("TimeoutStartSec"), 24*time.Hour)
}

func checkTimeoutStop(p *patient) *finding {
	if p.timeout("TimeoutStopSec") > p.stopTimeout {
		return nil
	}
	return found("TimeoutStopSec", fmt.Sprintf("systemd kills after %v what may take %v to finish", p.timeout("TimeoutStopSec"), p.stopTimeout),
		[]string{fmt.Sprintf("TimeoutStopSec=%d", seconds(p.stopTimeout+7*time.Second))})
}

// checkTimeoutStart: reload is bounded by the same time as start.
func checkTimeoutStart(p *patient) *finding {
	for _, r := range p.unitFile["Service.ExecReload"] {
		for w := range strings.FieldsSeq(r) {
			value, ok := strings.CutPrefix(w, "--timeout=")
			d, err := time.ParseDuration(value)
			if ok && err == nil && (d == 0 || d >= p.timeout("TimeoutStartSec")) {
				return found("TimeoutStartSec", fmt.Sprintf("systemd ends ExecReload= after %v, before its --timeout %v can take the upgrade back", p.timeout("TimeoutStartSec"), d),
					[]string{fmt.Sprintf("TimeoutStartSec=%d", seconds(max(d, time.Minute)+5*time.Second))})
			}
		}
		if strings.Contains(r, "tablecloth") && !strings.Contains(r, "--timeout") && p.timeout("TimeoutStartSec") <= upgradeTimeout {
			return found("TimeoutStartSec", fmt.Sprintf("systemd ends ExecReload= after %v, tablecloth upgrade by itself after %v only", p.timeout("TimeoutStartSec"), upgradeTimeout),
				[]string{fmt.Sprintf("TimeoutStartSec=%d", seconds(upgradeTimeout+5*time.Second))})
		}
	}
	return nil
}

// upgradeTimeout is the default of tablecloth upgrade.
const upgradeTimeout = 2 * time.Minute

func checkWatchdog(p *patient) *finding {
	d, ok := p.span("Service.WatchdogSec")
	if !ok || d == 0 || p.notifies() || p.or("Service.NotifyAccess", "none") != "none" {
		return nil
	}
	return found("WatchdogSec", "the service can't say that it is alive without NotifyAccess=: it is killed again and again", []string{"NotifyAccess=all"})
}
