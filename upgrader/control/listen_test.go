//go:build unix

package control

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

func listen(t *testing.T, path string) *Listener {
	t.Helper()
	ln, err := Listen(path, ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

func TestTheSocketIsForItsUserOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control")
	listen(t, path)
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != fs.ModeSocket|0o600 {
		t.Error(info.Mode())
	}
}

func TestALiveSocketIsNotReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control")
	first := listen(t, path)
	_, err := Listen(path, ListenOptions{})
	var e *Error
	if !errors.Is(err, ErrInUse) || !errors.As(err, &e) || e.Hint == "" {
		t.Errorf("%v", err)
	}
	if ident, _ := identify(path); ident != first.Identity() {
		t.Error("the socket of the first is gone")
	}
}

func TestAStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control")
	listen(t, path).Close()
	if _, err := os.Lstat(path); err != nil {
		t.Fatalf("Close has removed the path: %v", err)
	}
	listen(t, path)
	if _, err := Dial(path); err != nil {
		t.Error(err)
	}
}

func TestWhatIsNoSocketIsNeverRemoved(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	stale := filepath.Join(dir, "stale")
	listen(t, stale).Close()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(stale, link); err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{
		dir: "a directory", file: "a file", link: "a symbolic link",
		filepath.Join(dir, "no", "control"):   "no such file or directory",
		filepath.Join(file, "control"):        "not a directory",
		dir + "/" + strings.Repeat("x", 200):  "too long",
		"":                                    "empty",
		filepath.Join(dir, "nul\x00", "file"): "invalid argument",
	} {
		_, err := Listen(path, ListenOptions{})
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", path, err)
		}
		if path == "" {
			continue
		}
		if info, err := os.Lstat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
			t.Errorf("%q is a socket now", path)
		}
	}
	if b, _ := os.ReadFile(file); string(b) != "precious" {
		t.Error("the file is lost")
	}
}

func TestOneOfManyThatFindAStaleSocketGetsIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control")
	for range 20 {
		if ln, err := Listen(path, ListenOptions{}); err == nil {
			ln.Close() // leaves a stale socket
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		var got []*Listener
		for range 8 {
			wg.Go(func() {
				ln, err := Listen(path, ListenOptions{})
				if err != nil {
					if !errors.Is(err, ErrInUse) {
						t.Error(err)
					}
					return
				}
				mu.Lock()
				got = append(got, ln)
				mu.Unlock()
			})
		}
		wg.Wait()
		if len(got) != 1 {
			t.Fatalf("%d of 8 listen", len(got))
		}
		got[0].Close()
	}
}

func TestALongPathIsReachedThroughItsDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("d", 100), "control")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "linux" {
		if _, err := Listen(path, ListenOptions{}); !errors.Is(err, errTooLong) {
			t.Error(err)
		}
		return
	}
	ln := listen(t, path)
	serveOn(t, &Server{Backend: &fakeBackend{}}, ln)
	c, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(soon(t)); err != nil {
		t.Error(err)
	}
	if err := ln.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestRemoveLeavesASocketOfSomebodyElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control")
	first := listen(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := first.Remove(); err != nil {
		t.Errorf("it is gone already: %v", err)
	}
	listen(t, path)
	if err := first.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := Dial(path); err != nil {
		t.Errorf("the other one's socket: %v", err)
	}
}

func TestAnAdoptedSocketIsTheSameOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control")
	first := listen(t, path)
	f, err := first.File()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := net.FileListener(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	next, err := Adopt(raw.(*net.UnixListener), path, ListenOptions{Identity: first.Identity()})
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	serveOn(t, &Server{Backend: &fakeBackend{}}, next)
	c, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(soon(t)); err != nil {
		t.Error(err)
	}
	if next.Remove(); next.Path() != path {
		t.Error(next.Path())
	}
	if _, err := Dial(path); !errors.Is(err, ErrNotRunning) {
		t.Errorf("after Remove: %v", err)
	}
}

func TestAcceptEndsWithClose(t *testing.T) {
	ln := listen(t, filepath.Join(t.TempDir(), "control"))
	ended := make(chan error, 1)
	go func() {
		_, err := ln.Accept()
		ended <- err
	}()
	ln.Close()
	if err := receive(t, ended); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func TestNoSuchGroup(t *testing.T) {
	_, err := Listen(filepath.Join(t.TempDir(), "control"), ListenOptions{Group: "no such group"})
	if err == nil || !strings.Contains(err.Error(), "no such group") {
		t.Error(err)
	}
}

func TestWhoMayTalk(t *testing.T) {
	for _, c := range []struct {
		cred      credentials
		euid, gid int
		want      bool
	}{
		{credentials{uid: 0}, 1000, noGroup, true},
		{credentials{uid: 1000}, 1000, noGroup, true},
		{credentials{uid: 1001}, 1000, noGroup, false},
		{credentials{uid: 1001}, 0, noGroup, false},
		{credentials{uid: 1001, groups: []int{0, 5}}, 1000, noGroup, false},
		{credentials{uid: 1001, groups: []int{0, 5}}, 1000, 5, true},
		{credentials{uid: 1001, groups: []int{0, 5}}, 1000, 6, false},
		{credentials{uid: 1001, groups: []int{0}}, 1000, 0, true},
	} {
		if got := c.cred.may(c.euid, c.gid); got != c.want {
			t.Errorf("%+v: %t", c, got)
		}
	}
}
