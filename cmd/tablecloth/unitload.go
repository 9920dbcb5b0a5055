package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// socketFile is a unit of sockets that starts a service.
type socketFile struct {
	name string
	unitFile
}

// errNoUnit: systemd has none of that name.
var errNoUnit = errors.New("no unit")

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// isUnitName: what can't be the name of a service.
func isUnitName(name string) bool {
	return strings.ContainsRune(name, '/') || strings.HasSuffix(name, ".service")
}

// systemdRuns is sd_booted(3).
func systemdRuns() bool {
	info, err := os.Stat("/run/systemd/system")
	return err == nil && info.IsDir()
}

// nobody explains that there is no such unit: it may have been a service that was
// meant. there are those that were found.
func nobody(name string, there []string, err error) error {
	if !errors.Is(err, errNoUnit) || isUnitName(name) {
		return err
	}
	hint := "name a control socket with --control, or the file of a unit"
	if len(there) > 0 {
		hint = "there is " + strings.Join(there, ", ")
	}
	if !systemdRuns() {
		return fail(exitUsage, hint, "no service is called %s", name)
	}
	return fail(exitUsage, hint, "neither a service nor a unit of systemd is called %s", name)
}

// loadService reads a unit and those of its sockets: a file and what lies beside
// it, or what systemd has loaded.
func loadService(name string, user bool) (unitFile, []socketFile, error) {
	if isFile(name) {
		u, err := readUnitFile(name)
		if err != nil {
			return nil, nil, err
		}
		sockets, err := socketsBeside(name, u)
		return u, sockets, err
	}
	if _, err := os.Stat(name); strings.Contains(name, "/") {
		if err == nil {
			err = errors.New("no file")
		}
		return nil, nil, fail(exitUsage, "name a file, or a unit that is loaded", "%s: %w", name, err)
	}
	u, err := loadedUnit(name, user)
	if err != nil {
		return nil, nil, err
	}
	sockets, err := loadedSockets(name, u, user)
	return u, sockets, err
}

// socketsBeside are the units beside a service's file that start it
// (systemd.socket(5)).
func socketsBeside(path string, u unitFile) ([]socketFile, error) {
	service := filepath.Base(path)
	named := append(strings.Fields(strings.Join(u["Service.Sockets"], " ")), strings.TrimSuffix(service, ".service")+".socket")
	files, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*.socket"))
	if err != nil {
		return nil, err
	}
	var sockets []socketFile
	for _, file := range files {
		s, err := readUnitFile(file)
		if err != nil {
			return nil, err
		}
		name := filepath.Base(file)
		if other := s.last("Socket.Service"); other == service || other == "" && slices.Contains(named, name) {
			sockets = append(sockets, socketFile{name, s})
		}
	}
	return sockets, nil
}

func loadedSockets(service string, u unitFile, user bool) ([]socketFile, error) {
	triggers, err := systemctl(user, "show", "-P", "TriggeredBy", "--", service)
	if err != nil {
		return nil, err
	}
	names := strings.Fields(string(triggers) + " " + strings.Join(u["Service.Sockets"], " "))
	slices.Sort(names)
	var sockets []socketFile
	for _, name := range slices.Compact(names) {
		if !strings.HasSuffix(name, ".socket") {
			continue
		}
		s, err := loadedUnit(name, user)
		if err != nil {
			return nil, err
		}
		sockets = append(sockets, socketFile{name, s})
	}
	return sockets, nil
}

func loadedUnit(name string, user bool) (unitFile, error) {
	out, err := systemctl(user, "cat", "--no-pager", "--", name)
	if err != nil {
		return nil, err
	}
	u := unitFile{}
	u.read(bytes.NewReader(out))
	return u, nil
}

// systemctl returns what it says of a unit, the last argument.
func systemctl(user bool, args ...string) ([]byte, error) {
	name := args[len(args)-1]
	if !systemdRuns() {
		return nil, &exitError{status: exitUsage, hint: "name the unit's file", err: fmt.Errorf("%s: %w: systemd doesn't run here", name, errNoUnit)}
	}
	if user {
		args = append([]string{"--user"}, args...)
	}
	var complaint bytes.Buffer
	cmd := exec.Command("systemctl", args...)
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return nil, fail(exitUsage, "name a file, or a unit that is loaded: systemctl list-units",
			"systemd has %w %s: %w %s", errNoUnit, name, err, firstLine(complaint.String()))
	}
	return out, nil
}
