package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb" // registers itself
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

const description = `Replaces running services without their clients noticing
tablecloth keeps a program alive, in any language, under one PID that never
changes, and replaces it by a new version without closing a port: on request, or
when it dies. Live connections and requests go on.`

// write makes one package.
func (b *build) write(format, arch, temp string, tree []file) error {
	name := fmt.Sprintf("tablecloth_%s_linux_%s.%s", b.version, arch, format)
	var text bytes.Buffer
	var err error
	if format == "tar.gz" {
		err = b.tarball(&text, strings.TrimSuffix(name, ".tar.gz"), tree)
	} else {
		err = b.pack(&text, format, arch, temp, tree)
	}
	if err != nil {
		return err
	}
	path := filepath.Join(b.out, name)
	if err := os.WriteFile(path, text.Bytes(), 0o644); err != nil {
		return err
	}
	fmt.Println(path)
	return nil
}

// pack makes a deb or rpm.
func (b *build) pack(w io.Writer, format, arch, temp string, tree []file) error {
	contents, err := b.contents(filepath.Join(temp, format+"-"+arch), format, tree)
	if err != nil {
		return err
	}
	script := func(name string) string { return filepath.Join(b.source, "packaging/assets", name) }
	info := nfpm.WithDefaults(&nfpm.Info{
		Name: "tablecloth", Arch: arch, Platform: "linux",
		Version: b.version, Release: "1", Section: "admin", Priority: "optional",
		Maintainer: "The tablecloth authors <tablecloth@users.noreply.github.com>", Vendor: "tablecloth",
		Description: description, Homepage: "https://github.com/tablecloth-go/tablecloth", License: "MIT",
		MTime: b.time, DisableGlobbing: true,
		Overridables: nfpm.Overridables{
			Contents: contents,
			Scripts: nfpm.Scripts{
				PostInstall: script("postinstall.sh"),
				PreRemove:   script("preremove.sh"),
				PostRemove:  script("postremove.sh"),
			},
			RPM: nfpm.RPM{BuildHost: "reproducible", Summary: strings.SplitN(description, "\n", 2)[0]},
		},
	})
	if err := nfpm.PrepareForPackager(info, format); err != nil {
		return err
	}
	packager, err := nfpm.Get(format)
	if err != nil {
		return err
	}
	return packager.Package(info, w)
}

// elsewhere is where distributions want files in other places.
var elsewhere = map[string]map[string]string{
	"deb": {
		"share/zsh/site-functions/_tablecloth": "share/zsh/vendor-completions/_tablecloth",
		"share/doc/tablecloth/LICENSE":         "share/doc/tablecloth/copyright",
	},
}

// contents puts the tree into dir, for nfpm to read it from there.
func (b *build) contents(dir, format string, tree []file) (files.Contents, error) {
	list := files.Contents{b.directory("/etc/tablecloth")}
	owned := map[string]bool{}
	for _, f := range tree {
		if other := elsewhere[format][f.path]; other != "" {
			f.path = other
		}
		source := filepath.Join(dir, f.path)
		err := errors.Join(os.MkdirAll(filepath.Dir(source), 0o755), os.WriteFile(source, f.text, f.mode))
		if err != nil {
			return nil, err
		}
		// rpm removes no directory of which it wasn't told.
		for d := path.Dir("/usr/" + f.path); strings.Contains(d, "/tablecloth") && !owned[d]; d = path.Dir(d) {
			owned[d] = true
			list = append(list, b.directory(d))
		}
		list = append(list, &files.Content{
			Source: source, Destination: "/usr/" + f.path,
			FileInfo: &files.ContentFileInfo{Mode: f.mode, MTime: b.time, Owner: "root", Group: "root"},
		})
	}
	return list, nil
}

func (b *build) directory(path string) *files.Content {
	return &files.Content{Destination: path, Type: files.TypeDir,
		FileInfo: &files.ContentFileInfo{Mode: 0o755, MTime: b.time, Owner: "root", Group: "root"}}
}

// tarball is to be unpacked anywhere: tar -C /usr/local --strip-components 1 -xf.
// Its units say /usr/local/bin.
func (b *build) tarball(w io.Writer, top string, tree []file) error {
	var plain bytes.Buffer
	t := tar.NewWriter(&plain)
	for _, f := range tree {
		text := f.text
		if strings.HasSuffix(f.path, ".service") {
			text = bytes.ReplaceAll(text, []byte("=/usr/bin/"), []byte("=/usr/local/bin/"))
		}
		h := &tar.Header{Name: top + "/" + f.path, Mode: int64(f.mode), Size: int64(len(text)), ModTime: b.time, Uname: "root", Gname: "root", Format: tar.FormatPAX}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := t.Write(text); err != nil {
			return err
		}
	}
	if err := t.Close(); err != nil {
		return err
	}
	z, err := squeeze(plain.Bytes())
	if err != nil {
		return err
	}
	_, err = w.Write(z)
	return err
}
