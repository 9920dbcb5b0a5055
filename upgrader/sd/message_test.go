package sd

import (
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"
)

func TestMarshal(t *testing.T) {
	for want, m := range map[string]Message{
		"READY=1\nSTATUS=serving\nMAINPID=42\n":   Message{}.Ready().Status("serving").MainPID(42),
		"STOPPING=1\n":                            Message{}.Stopping(),
		"ERRNO=13\n":                              Message{}.Errno(syscall.EACCES),
		"WATCHDOG=1\n":                            Message{}.Watchdog(),
		"EXTEND_TIMEOUT_USEC=1500000\n":           Message{}.ExtendTimeout(1500 * time.Millisecond),
		"EXTEND_TIMEOUT_USEC=1\n":                 Message{}.ExtendTimeout(-1),
		"FDSTORE=1\nFDNAME=tcp,%3A80\nFDPOLL=0\n": Message{}.FDStore(NameOf("tcp,:80"), 0),
		"FDSTOREREMOVE=1\nFDNAME=web\n":           Message{}.FDStoreRemove("web"),
		"STATUS=two lines and more\n":             Message{}.Status(" two\nlines\u2028and\tmore\n"),
		"STATUS=bad \uFFFD byte\n":                Message{}.Status("bad \xff byte"),
		"STATUS=\n":                               Message{}.Status("\n"),
		"X_OWN=a=b\n":                             Message{}.With("X_OWN", "a=b"),
	} {
		got, err := m.Marshal()
		if err != nil || string(got) != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
}

func TestMarshalRefuses(t *testing.T) {
	for name, m := range map[string]Message{
		"nothing":          {},
		"empty key":        Message{}.With("", "x"),
		"key with newline": Message{}.With("A\nREADY", "1"),
		"key with =":       Message{}.With("A=B", "1"),
		"second line":      Message{}.With("STATUS", "x\nREADY=1"),
		"zero byte":        Message{}.With("STATUS", "x\x00"),
		"name with colon":  Message{}.FDStore("a:b", 0),
		"too long":         Message{}.With("X", strings.Repeat("x", MaxMessage)),
		"too many files":   {Fields: []Field{{"FDSTORE", "1"}}, Files: make([]int, MaxFiles+1)},
	} {
		if data, err := m.Marshal(); err == nil {
			t.Errorf("%s: marshalled as %q", name, data)
		}
	}
}

func TestMessagesDontShareFields(t *testing.T) {
	base := Message{}.Ready().With("A", "1").With("B", "2")
	one, two := base.Status("one"), base.Status("two")
	if s, _ := one.Get("STATUS"); s != "one" {
		t.Errorf("STATUS=%s, want one", s)
	}
	if s, _ := two.Get("STATUS"); s != "two" || len(base.Fields) != 3 {
		t.Errorf("STATUS=%s, want two; %v", s, base.Fields)
	}
}

func TestStatusIsCutAtARune(t *testing.T) {
	for pad := range 4 {
		s, _ := Message{}.Status(strings.Repeat("x", pad) + strings.Repeat("語", MaxStatus)).Get("STATUS")
		if len(s) > MaxStatus || len(s) < MaxStatus-8 || !utf8.ValidString(s) {
			t.Errorf("pad %d: %d bytes, valid %v", pad, len(s), utf8.ValidString(s))
		}
	}
}

func TestParseMessage(t *testing.T) {
	for in, want := range map[string][]Field{
		"READY=1":                     {{"READY", "1"}},
		"READY=1\nSTATUS=a=b\n":       {{"READY", "1"}, {"STATUS", "a=b"}},
		"READY=1\n\x00":               {{"READY", "1"}},
		"":                            nil,
		"nonsense\n=x\n\nMAINPID=7":   {{"MAINPID", "7"}},
		"READY=0\nREADY=1\nSTATUS=\n": {{"READY", "0"}, {"READY", "1"}, {"STATUS", ""}},
	} {
		m, err := ParseMessage([]byte(in))
		if err != nil || !reflect.DeepEqual(m.Fields, want) {
			t.Errorf("%q: %v, %v, want %v", in, m.Fields, err, want)
		}
	}
	for _, in := range []string{"READY=1\x00\nSTATUS=x", "\x00READY=1", strings.Repeat("x", MaxMessage+1)} {
		if m, err := ParseMessage([]byte(in)); err == nil {
			t.Errorf("%.20q…: %v, want an error", in, m)
		}
	}
}

func TestIsBarrier(t *testing.T) {
	barrier := Message{}.With("BARRIER", "1")
	for _, c := range []struct {
		m    Message
		want bool
	}{
		{barrier.WithFile(0), true},
		{barrier, false},
		{barrier.WithFile(0).WithFile(1), false},
		{barrier.Ready().WithFile(0), false},
		{Message{}.With("BARRIER", "0").WithFile(0), false},
	} {
		if got := c.m.IsBarrier(); got != c.want {
			t.Errorf("%v: %v, want %v", c.m, got, c.want)
		}
	}
}

func FuzzMessage(f *testing.F) {
	for _, s := range []string{"", "READY=1", "READY=1\nSTATUS=x\n", "A=\x00", "=\n=\n", "FDSTORE=1\nFDNAME=a:b", "BARRIER=1", "\n\n", "X=1\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseMessage(data)
		if err != nil {
			return
		}
		out, err := m.Marshal()
		if err != nil {
			return // read more freely than written: an FDNAME, for example
		}
		again, err := ParseMessage(out)
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("%q became %q: %v, %v, %v", data, out, m, again, err)
		}
	})
}
