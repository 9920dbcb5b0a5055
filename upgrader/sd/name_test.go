package sd

import (
	"strings"
	"testing"
)

func TestNameOf(t *testing.T) {
	for key, want := range map[string]string{
		"web":                    "web",
		"":                       "%",
		"tcp,[::]:8080":          "tcp,[%3A%3A]%3A8080",
		"unix,/run/a b":          "unix,/run/a b",
		"100%":                   "100%25",
		"é\n":                    "%C3%A9%0A",
		"%3A":                    "%253A",
		"unix,@\x00a\x7f":        "unix,@%00a%7F",
		strings.Repeat("a", 255): strings.Repeat("a", 255),
	} {
		name := NameOf(key)
		if name != want {
			t.Errorf("NameOf(%q) = %q, want %q", key, name, want)
		}
		if back, ok := KeyOf(name); !ok || back != key {
			t.Errorf("KeyOf(%q) = %q, %v, want %q", name, back, ok, key)
		}
	}
}

func TestNameOfLongKeys(t *testing.T) {
	a, b := strings.Repeat(":", 86), strings.Repeat(":", 87) // 258 and 261 bytes escaped
	if !ValidName(NameOf(a)) || !ValidName(NameOf(b)) || NameOf(a) == NameOf(b) {
		t.Errorf("names of long keys: %q, %q", NameOf(a), NameOf(b))
	}
	if key, ok := KeyOf(NameOf(a)); ok {
		t.Errorf("a hashed name can't be read back, got %q", key)
	}
}

func TestKeyOfForeignNames(t *testing.T) {
	for _, name := range []string{"%3a", "%41", "%4", "%zz", "a%", "%%", "a:b"} {
		if key, ok := KeyOf(name); ok {
			t.Errorf("KeyOf(%q) = %q: NameOf makes no such name", name, key)
		}
	}
}

func FuzzName(f *testing.F) {
	for _, s := range []string{"", "%", "%%", "web", "tcp,:80", "%3A", "\xff\x00", strings.Repeat("ü", 43), strings.Repeat("x", 256)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name := NameOf(s)
		if name == "" || !ValidName(name) {
			t.Errorf("NameOf(%q) = %q: not valid", s, name)
		}
		hashed := strings.Contains(name, hashMark)
		if key, ok := KeyOf(name); ok == hashed || ok && key != s {
			t.Errorf("KeyOf(NameOf(%q)) = %q, %v", s, key, ok)
		}
		if key, ok := KeyOf(s); ok && NameOf(key) != s {
			t.Errorf("%q is the name of %q, whose name is %q", s, key, NameOf(key))
		}
	})
}
