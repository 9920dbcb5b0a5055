// Command pack builds tablecloth's packages: deb, rpm and tar.gz, each with the
// program, its man pages, completions, units and examples.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

// build is what packages are made of.
type build struct {
	source  string // the repository's root
	out     string
	version string // without a leading v
	commit  string
	time    time.Time // of every file in every package
	arches  []string
	formats []string
}

var allFormats = []string{"deb", "rpm", "tar.gz"}

func run(ctx context.Context, args []string) error {
	var b build
	flags := pflag.NewFlagSet("pack", pflag.ContinueOnError)
	flags.StringVar(&b.source, "source", ".", "the repository's root")
	flags.StringVar(&b.out, "out", "dist", "directory for the packages")
	flags.StringVar(&b.version, "version", "", "version of the packages (default: what git describe says)")
	flags.StringVar(&b.commit, "commit", "", "commit they are built from (default: what git says)")
	flags.StringSliceVar(&b.arches, "arch", []string{"amd64", "arm64"}, "architectures")
	flags.StringSliceVar(&b.formats, "format", allFormats, "formats")
	if err := flags.Parse(args); err != nil {
		return err
	}
	for _, f := range b.formats {
		if !slices.Contains(allFormats, f) {
			return fmt.Errorf("--format %q: one of %v", f, allFormats)
		}
	}
	if err := b.identify(ctx); err != nil {
		return err
	}
	return b.all(ctx)
}

// identify finds out version, commit and time where they are not given. The time
// is $SOURCE_DATE_EPOCH (reproducible-builds.org), else the commit's.
func (b *build) identify(ctx context.Context) error {
	git := func(args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, "git", append([]string{"-C", b.source}, args...)...).Output()
		return strings.TrimSpace(string(out)), err
	}
	var err error
	if b.version == "" {
		if b.version, err = git("describe", "--tags", "--match=v*", "--dirty=+dirty"); err != nil {
			b.version = "0.0.0"
		}
	}
	b.version = strings.TrimPrefix(b.version, "v")
	if b.commit == "" {
		if b.commit, err = git("rev-parse", "HEAD"); err != nil {
			return fmt.Errorf("which commit? git rev-parse: %w; or use --commit", err)
		}
	}
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		if epoch, err = git("log", "-1", "--format=%ct", b.commit); err != nil {
			return fmt.Errorf("the commit's time: %w; or set SOURCE_DATE_EPOCH", err)
		}
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	b.time = time.Unix(seconds, 0).UTC()
	return nil
}

func (b *build) all(ctx context.Context) error {
	temp, err := os.MkdirTemp("", "tablecloth-pack-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	if err := os.MkdirAll(b.out, 0o755); err != nil {
		return err
	}
	common, err := b.common(ctx, temp)
	if err != nil {
		return err
	}
	for _, arch := range b.arches {
		program, err := b.compile(ctx, temp, arch)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(program)
		if err != nil {
			return err
		}
		tree := append([]file{{path: "bin/tablecloth", mode: 0o755, text: text}}, common...)
		for _, format := range b.formats {
			if err := b.write(format, arch, temp, tree); err != nil {
				return fmt.Errorf("%s for %s: %w", format, arch, err)
			}
		}
	}
	return nil
}

// compile builds the program, once for each architecture, and returns its path:
// the same bytes wherever and whenever it is done.
func (b *build) compile(ctx context.Context, temp, arch string) (string, error) {
	path := filepath.Join(temp, "tablecloth-"+arch)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	set := fmt.Sprintf("-X main.release=v%s -X main.commit=%s", b.version, b.commit)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -buildid= "+set, "-o", path, "./cmd/tablecloth")
	cmd.Dir = b.source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOFLAGS=", "GOWORK=off", "GOAMD64=", "GOARM64=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build for %s: %w\n%s", arch, err, out)
	}
	return path, nil
}
