package control

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// EnvPath names the control socket's path.
	EnvPath = "TABLECLOTH_CONTROL"
	// systemDirectory is where services of root have their sockets.
	systemDirectory = "/run/tablecloth"
)

// Find returns the path of the control socket that is meant where none is named:
// $TABLECLOTH_CONTROL if it is set; else the one on which a service listens of
// control in $RUNTIME_DIRECTORY and NAME and NAME/control in /run/tablecloth and
// in $XDG_RUNTIME_DIR/tablecloth. ErrNotRunning: there is none; ErrAmbiguous:
// there are several.
func Find() (string, error) {
	if path := os.Getenv(EnvPath); path != "" {
		return path, nil
	}
	live, denied := sift(candidates())
	switch {
	case len(live) == 1:
		return live[0], nil
	case len(live) > 1:
		return "", &Error{Message: "several services are running: " + strings.Join(live, ", "),
			Hint: "choose one with --control", Err: ErrAmbiguous}
	case len(denied) > 0:
		return "", &Error{Message: "this user may not use the control socket " + strings.Join(denied, ", "),
			Hint: "run it as root or as the user of the service", Err: ErrDenied}
	}
	return "", &Error{Message: "no control socket of a running service was found in " + strings.Join(places(), ", "),
		Hint: "name the socket with --control, or with $" + EnvPath, Err: ErrNotRunning}
}

// Place returns the path at which a service of that name makes its control socket
// where none was chosen: $TABLECLOTH_CONTROL, control in $RUNTIME_DIRECTORY, name
// in /run/tablecloth for root, or in $XDG_RUNTIME_DIR/tablecloth; "": nowhere. The
// directory is made if need be. Find looks at the same places.
func Place(name string) (string, error) { return place(name, os.Geteuid()) }

func place(name string, euid int) (string, error) {
	if path := os.Getenv(EnvPath); path != "" {
		return path, nil
	}
	if dirs := runtimeDirectories(); len(dirs) > 0 {
		return filepath.Join(dirs[0], "control"), nil
	}
	if name != filepath.Base(name) || !filepath.IsLocal(name) || name == "." {
		return "", &Error{Message: fmt.Sprintf("%q can't be the name of a control socket", name),
			Hint: "choose a path with --control, or a name without slashes"}
	}
	dir, mode := systemDirectory, os.FileMode(0o755)
	if euid != 0 {
		dir, mode = userDirectory(), 0o700
	}
	if dir == "" {
		return "", nil
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return "", &Error{Message: fmt.Sprintf("can't make the directory of the control socket: %v", err),
			Hint: "choose a path with --control", Err: err}
	}
	return filepath.Join(dir, name), nil
}

// runtimeDirectories are those that systemd makes for a unit (systemd.exec(5),
// RuntimeDirectory=).
func runtimeDirectories() []string {
	return slices.DeleteFunc(filepath.SplitList(os.Getenv("RUNTIME_DIRECTORY")), func(d string) bool { return d == "" })
}

func userDirectory() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "tablecloth")
	}
	return ""
}

func places() []string {
	var ps []string
	for _, d := range runtimeDirectories() {
		ps = append(ps, filepath.Join(d, "control"))
	}
	ps = append(ps, systemDirectory)
	if d := userDirectory(); d != "" {
		ps = append(ps, d)
	}
	return ps
}

func candidates() []string {
	var found []string
	for _, p := range places() {
		if filepath.Base(p) == "control" {
			found = append(found, p)
			continue
		}
		entries, _ := os.ReadDir(p) // not there, or not ours to read: nothing is found
		for _, e := range entries {
			// A unit with RuntimeDirectory=tablecloth/NAME has it one level below.
			found = append(found, filepath.Join(p, e.Name()), filepath.Join(p, e.Name(), "control"))
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// sift finds those on which somebody listens, and those that this user can't dial.
func sift(paths []string) (live, denied []string) {
	for _, p := range paths {
		info, err := os.Lstat(p)
		if err != nil || !isSocket(info) {
			continue
		}
		c, err := dialUnix(p, time.Second)
		switch {
		case err == nil:
			c.Close()
			live = append(live, p)
		case backlogFull(err):
			live = append(live, p)
		case errors.Is(err, os.ErrPermission):
			denied = append(denied, p)
		}
	}
	return live, denied
}
