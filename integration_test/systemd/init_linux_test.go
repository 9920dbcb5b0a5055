package systemd

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Paths inside a bed.
const (
	binDir  = "/run/bed/bin" // programs of the tests
	tempDir = "/run/bed/tmp"
	unitDir = "/run/bed/units" // the few that systemd needs to be up
)

// becomeInit arranges the mounts, and executes systemd. What goes wrong is told
// on descriptor 3.
func becomeInit() {
	runtime.LockOSThread() // capabilities and the namespace of control groups are a thread's
	report := os.NewFile(3, "report")
	unix.CloseOnExec(3)
	fmt.Fprint(report, prepareBed(os.Getenv(envName), os.Getenv(envDir), os.Getenv(envUsr)))
	os.Exit(1)
}

func prepareBed(group, dir, usr string) error {
	steps := []func() error{
		func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") },
		func() error { return mount("proc", "/proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "") },
		func() error { return mount("tmpfs", "/run", unix.MS_NOSUID|unix.MS_NODEV, "mode=755") },
		func() error { return layOver("/etc", "/etc") },
		func() error { return layOver("/var", "/var") },
		func() error { return layOverUsr(usr) },
		func() error { return copyBin(filepath.Join(dir, "bin")) },
		configure,
		protect,
		func() error { return ownBootID(dir) },
		func() error { return ownGroup(group) },
		dropCapabilities,
		// As systemd expects it in a container.
		func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "") },
		func() error { return execSystemd(dir) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func mount(kind, target string, flags uintptr, data string) error {
	if err := unix.Mount(kind, target, kind, flags, data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", kind, target, err)
	}
	return nil
}

func bind(from, to string, flags uintptr) error {
	err := unix.Mount(from, to, "", unix.MS_BIND, "")
	if err == nil && flags != 0 {
		err = unix.Mount("", to, "", unix.MS_BIND|unix.MS_REMOUNT|flags, "")
	}
	if err != nil {
		return fmt.Errorf("bind %s on %s: %w", from, to, err)
	}
	return nil
}

// layOver keeps what is written to dir in memory.
func layOver(dir, lower string) error {
	upper, work := "/run/bed/over"+dir, "/run/bed/work"+dir
	for _, d := range []string{upper, work} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	return mount("overlay", dir, 0, fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, upper, work))
}

func layOverUsr(usr string) error {
	if usr == "" {
		return nil
	}
	return layOver("/usr", filepath.Join(usr, "usr")+":/usr")
}

// copyBin takes the programs along: units with PrivateTmp= don't see /tmp.
func copyBin(from string) error {
	if err := os.MkdirAll(tempDir, 0o777); err != nil {
		return err
	}
	if err := os.Chmod(tempDir, fs.ModeSticky|0o777); err != nil {
		return err
	}
	return os.CopyFS(binDir, os.DirFS(from))
}

// units of the machine which make up a system: nothing that it enables is here,
// neither gettys nor sysctl, fstab, or what empties /tmp.
var units = []string{
	"basic.target", "sysinit.target", "sockets.target", "timers.target", "paths.target", "slices.target",
	"local-fs.target", "swap.target", "network.target", "network-online.target", "multi-user.target",
	"shutdown.target", "umount.target", "final.target", "emergency.target",
	"systemd-journald.service", "systemd-journald.socket",
}

var files = map[string]string{
	unitDir + "/bed.target": `[Unit]
Requires=basic.target systemd-journald.service
After=basic.target systemd-journald.service
AllowIsolate=yes
`,
	"/etc/systemd/journald.conf.d/bed.conf": `[Journal]
Storage=volatile
Audit=
ReadKMsg=no
RateLimitBurst=0
ForwardToSyslog=no
`,
	"/etc/systemd/system.conf.d/bed.conf": `[Manager]
DefaultTimeoutStartSec=20s
DefaultTimeoutStopSec=20s
DefaultTimeoutAbortSec=20s
`,
}

func configure() error {
	for path, text := range files {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	for _, u := range units {
		b, err := os.ReadFile("/usr/lib/systemd/system/" + u)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(unitDir, u), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// protect the machine from what runs in the bed.
func protect() error {
	const quiet = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := bind("/proc/sys", "/proc/sys", unix.MS_RDONLY|quiet); err != nil {
		return err
	}
	if err := mount("sysfs", "/sys", unix.MS_RDONLY|quiet, ""); err != nil {
		return err
	}
	for _, path := range []string{"/dev/console", "/dev/kmsg", "/proc/sysrq-trigger"} {
		if err := bind("/dev/null", path, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}

// ownBootID gives the bed a journal of its own, and names to its private
// directories by which they are found again.
func ownBootID(dir string) error {
	id, err := os.ReadFile("/proc/sys/kernel/random/uuid")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "boot_id")
	if err := os.WriteFile(path, id, 0o444); err != nil {
		return err
	}
	return bind(path, "/proc/sys/kernel/random/boot_id", 0)
}

const groupRoot = "/sys/fs/cgroup"

// ownGroup makes a control group for the bed, which looks like the root of all
// from inside.
func ownGroup(name string) error {
	if err := mount("cgroup2", groupRoot, 0, ""); err != nil {
		return err
	}
	dir := filepath.Join(groupRoot, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
		return err
	}
	if err := unix.Unmount(groupRoot, 0); err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return err
	}
	return mount("cgroup2", groupRoot, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
}

// dropCapabilities that namespaces don't confine.
func dropCapabilities() error {
	for _, c := range []uintptr{unix.CAP_SYS_TIME, unix.CAP_SYS_MODULE, unix.CAP_SYS_RAWIO} {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			return err
		}
	}
	return nil
}

func execSystemd(dir string) error {
	level := os.Getenv(envLogLevel)
	if level == "" {
		level = "info"
	}
	return syscall.Exec("/lib/systemd/systemd",
		[]string{"/lib/systemd/systemd", "--system", "--unit=bed.target", "--show-status=false", "--log-level=" + level},
		[]string{
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"container=tablecloth-bed",
			"NOTIFY_SOCKET=" + filepath.Join(dir, "notify"),
			// Without the directories in which the machine enables things.
			"SYSTEMD_UNIT_PATH=/run/systemd/system.control:/run/systemd/transient:/run/systemd/system:" + unitDir,
			"SYSTEMD_GENERATOR_PATH=/nowhere",
			"SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/nowhere",
		})
}

// sweep removes the control groups of a bed, and those of beds whose process is
// gone. It has mounts of its own.
func sweep(name string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := mount("cgroup2", groupRoot, 0, ""); err != nil {
		return err
	}
	if name == "" {
		return nil
	}
	dirs, err := filepath.Glob(filepath.Join(groupRoot, groupPrefix+"*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range dirs {
		owner := strings.TrimPrefix(filepath.Base(dir), groupPrefix)
		if _, err := os.Stat("/proc/" + owner); err == nil && filepath.Base(dir) != name {
			continue
		}
		if err := awaitEmpty(dir); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, removeGroups(dir))
	}
	return errors.Join(errs...)
}

// awaitEmpty waits until the last process has left a control group: the file of
// its events changes then, with an exceptional condition for who polls it.
func awaitEmpty(dir string) error {
	f, err := os.Open(filepath.Join(dir, "cgroup.events"))
	if err != nil {
		return err
	}
	defer f.Close()
	for range 100 {
		if _, err := f.Seek(0, 0); err != nil {
			return err
		}
		for s := bufio.NewScanner(f); s.Scan(); {
			if s.Text() == "populated 0" {
				return nil
			}
		}
		unix.Poll([]unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLPRI}}, 100)
	}
	return fmt.Errorf("%s has processes", dir)
}

func removeGroups(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeGroups(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return unix.Rmdir(dir)
}
