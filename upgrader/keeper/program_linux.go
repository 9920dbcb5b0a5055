package keeper

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/chain"
)

// prepare finds the program as it is now.
func prepare(conf *Service, args []string) (*program, error) {
	command := conf.Command
	if args != nil {
		command = append([]string{command[0]}, args...)
	}
	path, err := find(command[0], conf.Directory)
	if err != nil {
		return nil, err
	}
	p := &program{path: path, args: command, given: args}
	if p.file, err = os.Stat(path); err != nil {
		return nil, err
	}
	p.scripts = scripts(conf, command)
	if p.env, err = environment(conf); err != nil {
		return nil, err
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if p.script = isScript(path); p.script {
		unix.Close(fd) // its interpreter opens the path
		return p, nil
	}
	p.pinned = os.NewFile(uintptr(fd), path)
	return p, nil
}

// scriptTypes are the names' ends of programs that are another's arguments.
var scriptTypes = []string{".js", ".mjs", ".cjs", ".ts", ".py", ".rb", ".ru", ".pl", ".psgi", ".php", ".lua", ".exs", ".sh", ".jar"}

// scripts are the files among a program's arguments that are programs themselves.
func scripts(conf *Service, command []string) map[string]os.FileInfo {
	all := map[string]os.FileInfo{}
	for _, arg := range command[1:] {
		if !slices.Contains(scriptTypes, filepath.Ext(arg)) {
			continue
		}
		if !filepath.IsAbs(arg) {
			arg = filepath.Join(conf.Directory, arg)
		}
		if fi, err := os.Stat(arg); err == nil && fi.Mode().IsRegular() {
			all[arg] = fi
		}
	}
	return all
}

// find looks up a program as a shell does that runs in dir.
func find(name, dir string) (string, error) {
	if !strings.Contains(name, "/") {
		path, err := exec.LookPath(name)
		if err != nil {
			return "", fmt.Errorf("%s: is not in $PATH: %w", name, os.ErrNotExist)
		}
		return filepath.Abs(path)
	}
	if !filepath.IsAbs(name) && dir != "" {
		name = filepath.Join(dir, name)
	}
	path, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	fi, err := os.Stat(path)
	switch {
	case err != nil:
		return "", err
	case fi.IsDir():
		return "", fmt.Errorf("%s: is a directory: %w", path, os.ErrPermission)
	case fi.Mode()&0o111 == 0:
		return "", fmt.Errorf("%s: is not executable: %w", path, os.ErrPermission)
	}
	return path, nil
}

// isScript reports whether a file begins with #!, or can't be looked into.
func isScript(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var magic [2]byte
	n, _ := f.Read(magic[:])
	return n == 2 && magic == [2]byte{'#', '!'}
}

// ours are variables that mean the keeper itself, or one process.
var ours = []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID", "NOTIFY_SOCKET",
	"WATCHDOG_USEC", "WATCHDOG_PID", "MAINPID"}

// envFileError keeps a program from its start that may be there and right.
type envFileError struct{ error }

func (e *envFileError) Unwrap() error { return e.error }

func isEnvFileError(err error) bool { return errors.As(err, new(*envFileError)) }

// environment is the keeper's, then the file's, then that of the configuration.
func environment(conf *Service) ([]string, error) {
	env := os.Environ()
	if conf.EnvFile != "" {
		more, err := ReadEnvFile(conf.EnvFile)
		if err != nil {
			return nil, &envFileError{err}
		}
		env = append(env, more...)
	}
	env = append(env, conf.Environment...)
	kept := env[:0:0]
	for _, e := range env {
		key, _, _ := strings.Cut(e, "=")
		mine := false
		for _, o := range ours {
			mine = mine || key == o
		}
		for _, f := range foreignPrefixes {
			mine = mine || strings.HasPrefix(key, f)
		}
		if !mine {
			kept = append(kept, e)
		}
	}
	return kept, nil
}

// unique leaves the last value of each variable: programs take the first.
func unique(env []string) []string {
	at := map[string]int{}
	var out []string
	for _, e := range env {
		key, _, _ := strings.Cut(e, "=")
		if i, ok := at[key]; ok {
			out[i] = e
			continue
		}
		at[key] = len(out)
		out = append(out, e)
	}
	return out
}

type identity struct {
	uid, gid int // -1: as it is
	groups   []int
	env      []string // of a user: as a login would have it
}

// lookup finds a user and a group by name or number. "": as it is; a user's own
// group is meant where none is given.
func lookup(name, group string) (identity, error) {
	id := identity{uid: -1, gid: -1}
	if name != "" {
		u, err := user.Lookup(name)
		if n, convErr := strconv.Atoi(name); err != nil && convErr == nil {
			id.uid = n
			u, err = user.LookupId(name)
			if err != nil && group != "" { // a number without a name needs no entry
				u, err = nil, nil
			}
		}
		if err != nil {
			if errors.As(err, new(user.UnknownUserError)) || errors.As(err, new(user.UnknownUserIdError)) {
				err = errors.New("there is none of that name") // what they say has the name, too
			}
			return id, hinted(fmt.Errorf("user %s: %w", name, err), "name one of /etc/passwd; a number without an entry there needs a group too")
		}
		if u != nil {
			id.uid, _ = strconv.Atoi(u.Uid)
			id.gid, _ = strconv.Atoi(u.Gid)
			id.env = []string{"USER=" + u.Username, "LOGNAME=" + u.Username, "HOME=" + u.HomeDir}
			all, _ := u.GroupIds()
			for _, g := range all {
				if n, err := strconv.Atoi(g); err == nil {
					id.groups = append(id.groups, n)
				}
			}
		}
	}
	if group != "" {
		n, err := strconv.Atoi(group)
		if g, lookErr := user.LookupGroup(group); lookErr == nil {
			n, err = strconv.Atoi(g.Gid)
		}
		if err != nil {
			return id, fmt.Errorf("group %s: there is none of that name", group)
		}
		id.gid = n
	}
	if id.gid >= 0 && len(id.groups) == 0 {
		id.groups = []int{id.gid}
	}
	return id, nil
}

var resources = map[string]int{
	"as": unix.RLIMIT_AS, "core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA, "fsize": unix.RLIMIT_FSIZE,
	"locks": unix.RLIMIT_LOCKS, "memlock": unix.RLIMIT_MEMLOCK, "msgqueue": unix.RLIMIT_MSGQUEUE, "nice": unix.RLIMIT_NICE,
	"nofile": unix.RLIMIT_NOFILE, "nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS, "rtprio": unix.RLIMIT_RTPRIO,
	"sigpending": unix.RLIMIT_SIGPENDING, "stack": unix.RLIMIT_STACK,
}

// parseLimits reads "nofile=65536" and "core=0:unlimited".
func parseLimits(all []string) ([]chain.Limit, error) {
	var out []chain.Limit
	for _, s := range all {
		name, value, ok := strings.Cut(s, "=")
		r, known := resources[strings.ToLower(strings.TrimPrefix(strings.ToUpper(name), "RLIMIT_"))]
		if !ok || !known {
			return nil, fmt.Errorf("limit %q: NAME=SOFT[:HARD], NAME being nofile, nproc, core, as, memlock, stack or another of setrlimit(2)", s)
		}
		soft, hard, two := strings.Cut(value, ":")
		if !two {
			hard = soft
		}
		cur, err := parseLimit(soft)
		most, err2 := parseLimit(hard)
		if err != nil || err2 != nil || cur > most {
			return nil, fmt.Errorf("limit %q: a number or \"unlimited\", the soft one not above the hard one", s)
		}
		out = append(out, chain.Limit{Resource: r, Soft: cur, Max: most, Text: s})
	}
	return out, nil
}

func parseLimit(s string) (uint64, error) {
	if s == "unlimited" || s == "infinity" {
		return ^uint64(0), nil
	}
	return strconv.ParseUint(s, 10, 64)
}

func (c *Service) stopSignal() syscall.Signal {
	if sig, ok := c.StopSignal.(syscall.Signal); ok {
		return sig
	}
	return DefaultStopSignal
}
