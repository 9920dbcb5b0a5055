package config

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/testenv"
)

// mutations make something wrong of a right file, most of the time.
var mutations = []func(r *rand.Rand, lines []string) []string{
	func(r *rand.Rand, lines []string) []string { // a letter of a key
		return change(r, lines, func(l string) string {
			i := strings.IndexFunc(l, func(c rune) bool { return c >= 'a' && c <= 'z' })
			end := strings.Index(l, ":")
			if i < 0 || end <= i {
				return l
			}
			at := i + r.IntN(end-i)
			return l[:at] + string(rune('a'+r.IntN(26))) + l[at+1:]
		})
	},
	func(r *rand.Rand, lines []string) []string { // indentation
		return change(r, lines, func(l string) string { return strings.Repeat(" ", 1+r.IntN(7)) + l })
	},
	func(r *rand.Rand, lines []string) []string { // a tab in it
		return change(r, lines, func(l string) string { return "\t" + strings.TrimLeft(l, " ") })
	},
	func(r *rand.Rand, lines []string) []string { // a value of another kind
		kinds := []string{"[a, b]", "{a: b}", "-1", "", "!!int 3", "*nothing", "yes no maybe", `"`, "]", "{", "\x00", "| x", ">", "%", "&", "? ", "- - x"}
		return change(r, lines, func(l string) string {
			key, _, _ := strings.Cut(l, ":")
			return key + ": " + kinds[r.IntN(len(kinds))]
		})
	},
	func(r *rand.Rand, lines []string) []string { // a line twice
		i := r.IntN(len(lines))
		return slices.Insert(lines, i, lines[i])
	},
	func(r *rand.Rand, lines []string) []string { // a line less
		i := r.IntN(len(lines))
		return slices.Delete(lines, i, i+1)
	},
	func(r *rand.Rand, lines []string) []string { // two lines swapped
		i, j := r.IntN(len(lines)), r.IntN(len(lines))
		lines[i], lines[j] = lines[j], lines[i]
		return lines
	},
	func(r *rand.Rand, lines []string) []string { // the end is missing
		text := strings.Join(lines, "\n")
		return strings.Split(text[:r.IntN(len(text))], "\n")
	},
	func(r *rand.Rand, lines []string) []string { // a character that means something
		return change(r, lines, func(l string) string {
			at := r.IntN(len(l) + 1)
			return l[:at] + string(`{}[]:,&*#?|->'"%@!`[r.IntN(18)]) + l[at:]
		})
	},
	func(r *rand.Rand, lines []string) []string { // a byte
		return change(r, lines, func(l string) string {
			at := r.IntN(len(l) + 1)
			return l[:at] + string([]byte{byte(r.IntN(256))}) + l[at:]
		})
	},
}

func change(r *rand.Rand, lines []string, f func(string) string) []string {
	i := r.IntN(len(lines))
	lines[i] = f(lines[i])
	return lines
}

// TestMutatedFilesAreRefused makes files malformed until many were refused: each
// with a place. What is still right must be so for the keeper, too.
func TestMutatedFilesAreRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "page.html"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	wrong, right := 0, 0
	for want := testenv.Count(400, 20000); wrong < want; {
		lines := strings.Split(everything, "\n")
		for i := 1 + r.IntN(3); i > 0 && len(lines) > 1; i-- {
			lines = mutations[r.IntN(len(mutations))](r, lines)
		}
		text := strings.Join(lines, "\n")
		s, err := Parse("f.yaml", dir, []byte(text))
		var all Errors
		switch {
		case err == nil:
			right++
			if err := s.Check(); err != nil {
				t.Errorf("the keeper refuses it: %v\n%s", err, text)
			}
		case errors.As(err, &all) && s == nil:
			wrong++
			checkPlaces(t, all, text)
		default:
			t.Errorf("%v", err)
		}
		if t.Failed() {
			t.Fatalf("seed %d:\n%s", seed, text)
		}
	}
	testenv.Result(t, "%d malformed files refused, each with a place; %d were still right", wrong, right)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(everything))
	f.Add([]byte(Example))
	for _, c := range nasty {
		if len(c.text) < 1000 {
			f.Add([]byte(c.text))
		}
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse("f.yaml", dir, data)
		var all Errors
		switch {
		case err == nil:
			if err := s.Check(); err != nil {
				t.Errorf("the keeper refuses it: %v", err)
			}
		case errors.As(err, &all) && s == nil:
			checkPlaces(t, all, strings.TrimPrefix(string(data), "\ufeff"))
		default:
			t.Error(err)
		}
	})
}
