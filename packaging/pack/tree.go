package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/cpuguy83/go-md2man/v2/md2man"
)

// file is one of a package: its path below the prefix (/usr, or /usr/local), what
// is in it.
type file struct {
	path string
	mode fs.FileMode
	text []byte
}

// documentation is what is installed of the repository as it is.
var documentation = []string{"README.md", "LICENSE", "docs", "examples", "deploy"}

// common are the files of all architectures.
func (b *build) common(ctx context.Context, temp string) ([]file, error) {
	var all []file
	for _, part := range []func() ([]file, error){
		b.manPages,
		func() ([]file, error) { return b.completions(ctx, temp) },
		b.units,
		b.documents,
	} {
		files, err := part()
		if err != nil {
			return nil, err
		}
		all = append(all, files...)
	}
	return all, nil
}

var (
	option  = regexp.MustCompile("(?m)^- `([^`]+)`: (.*)$")
	link    = regexp.MustCompile(`\[([^\]]+)\]\(tablecloth[a-z-]*\.md\)`)
	comment = regexp.MustCompile(`(?m)^<!--.*-->\n`)
	title   = regexp.MustCompile(`(?m)^# (.*)\n\n(.*)\.\n`)
	heading = regexp.MustCompile(`(?m)^## (.*)$`)
)

// manPages are made of docs/commands.
func (b *build) manPages() ([]file, error) {
	sources, err := filepath.Glob(filepath.Join(b.source, "docs/commands/tablecloth*.md"))
	if err != nil || len(sources) == 0 {
		return nil, fmt.Errorf("no pages of commands: %w", err)
	}
	var files []file
	for _, s := range sources {
		text, err := os.ReadFile(s)
		if err != nil {
			return nil, err
		}
		name := strings.TrimSuffix(filepath.Base(s), ".md")
		page, err := squeeze(md2man.Render([]byte(b.manSource(name, string(text)))))
		if err != nil {
			return nil, err
		}
		files = append(files, file{"share/man/man1/" + name + ".1.gz", 0o644, page})
	}
	return files, nil
}

// manSource is a page as md2man wants it: with a title block, the name in a
// section of its own, options as definitions, headings in capitals.
func (b *build) manSource(name, text string) string {
	text = comment.ReplaceAllString(text, "")
	text = title.ReplaceAllString(text, "# NAME\n\n"+name+` \- $2`+"\n")
	text = link.ReplaceAllString(text, "**$1**(1)")
	text = option.ReplaceAllString(text, "**$1**\n: $2\n")
	text = heading.ReplaceAllStringFunc(text, func(h string) string { return "# " + strings.ToUpper(h[3:]) })
	return fmt.Sprintf("%% %s 1 %q \"tablecloth %s\" \"User commands\"\n\n%s", name, b.time.Format(time.DateOnly), b.version, text)
}

// completions are what the program prints itself.
func (b *build) completions(ctx context.Context, temp string) ([]file, error) {
	if runtime.GOOS != "linux" {
		return nil, errors.New("packages are built on Linux: the program has to run")
	}
	program, err := b.compile(ctx, temp, runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	var files []file
	for _, c := range []struct{ shell, path string }{
		{"bash", "share/bash-completion/completions/tablecloth"},
		{"zsh", "share/zsh/site-functions/_tablecloth"},
		{"fish", "share/fish/vendor_completions.d/tablecloth.fish"},
	} {
		text, err := exec.CommandContext(ctx, program, "completion", c.shell).Output()
		if err != nil {
			return nil, fmt.Errorf("completion for %s: %w", c.shell, err)
		}
		files = append(files, file{c.path, 0o644, text})
	}
	return files, nil
}

func (b *build) units() ([]file, error) {
	text, err := os.ReadFile(filepath.Join(b.source, "packaging/assets/tablecloth@.service"))
	return []file{{"lib/systemd/system/tablecloth@.service", 0o644, text}}, err
}

// documents are copied, without what only the repository's tests need.
func (b *build) documents() ([]file, error) {
	var files []file
	for _, d := range documentation {
		err := filepath.WalkDir(filepath.Join(b.source, d), func(p string, e fs.DirEntry, err error) error {
			if e != nil && e.IsDir() && e.Name() == "results" { // of measurements
				return filepath.SkipDir
			}
			if err != nil || e.IsDir() || strings.HasSuffix(p, "_test.go") {
				return err
			}
			info, err := e.Info()
			if err != nil || !info.Mode().IsRegular() {
				return err
			}
			text, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(b.source, p)
			files = append(files, file{path.Join("share/doc/tablecloth", filepath.ToSlash(rel)), 0o644 | info.Mode()&0o111, text})
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}

// squeeze is gzip without a name and a time.
func squeeze(text []byte) ([]byte, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(text); err != nil {
		return nil, err
	}
	err = z.Close()
	return b.Bytes(), err
}
