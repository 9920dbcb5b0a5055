package top

import (
	"strings"
	"testing"

	"github.com/gdamore/tcell/v2"
)

// simulated is a screen in memory.
func simulated(t *testing.T, columns, lines int) tcell.SimulationScreen {
	t.Helper()
	s := tcell.NewSimulationScreen("UTF-8")
	if err := s.Init(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Fini)
	s.SetSize(columns, lines)
	return s
}

func contents(s tcell.SimulationScreen) string {
	cells, columns, _ := s.GetContents()
	var b strings.Builder
	for i, c := range cells {
		b.Write(c.Bytes)
		if i%columns == columns-1 {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func TestTheScreenShowsTheView(t *testing.T) {
	s := simulated(t, 80, 24)
	m := watching()
	for range 2 { // nothing is left of what was drawn before
		draw(s, m.view(80, 24), false)
		var want strings.Builder
		for _, l := range m.view(80, 24) {
			want.WriteString(l.filled(80).String() + "\n")
		}
		if got := contents(s); got != want.String() {
			t.Errorf("got\n%s\nwant\n%s", got, &want)
		}
		m.update(noon, pressed("w"))
	}
}

func TestLooks(t *testing.T) {
	s := simulated(t, 10, 1)
	draw(s, []line{{{"a", bad}, {"b", good | bold}, {"c", inverse}, {"世", busy}, {"d", faint}}}, false)
	cells, _, _ := s.GetContents()
	for i, want := range map[int]tcell.Style{
		0: tcell.StyleDefault.Foreground(tcell.ColorMaroon),
		1: tcell.StyleDefault.Foreground(tcell.ColorGreen).Bold(true),
		2: tcell.StyleDefault.Reverse(true),
		3: tcell.StyleDefault.Foreground(tcell.ColorOlive),
		5: tcell.StyleDefault.Dim(true), // after a wide one
	} {
		if cells[i].Style != want {
			t.Errorf("%d %q: %+v", i, cells[i].Bytes, cells[i].Style)
		}
	}
}

func TestKeys(t *testing.T) {
	for want, ev := range map[pressed]*tcell.EventKey{
		"u": tcell.NewEventKey(tcell.KeyRune, 'u', 0), "": tcell.NewEventKey(tcell.KeyRune, 'u', tcell.ModAlt),
		"up": tcell.NewEventKey(tcell.KeyUp, 0, 0), "ctrl-c": tcell.NewEventKey(tcell.KeyCtrlC, 0, tcell.ModCtrl),
		"enter": tcell.NewEventKey(tcell.KeyEnter, 0, 0),
	} {
		if got := keyOf(ev); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestWantsASCII(t *testing.T) {
	for _, c := range []struct {
		all, ctype, lang string
		want             bool
	}{
		{"", "", "", true}, {"", "", "C.UTF-8", false}, {"C", "", "C.UTF-8", true}, {"", "de_DE.utf8", "C", false},
		{"", "", "de_DE.ISO-8859-1", true}, {"", "", "POSIX", true},
	} {
		t.Setenv("LC_ALL", c.all)
		t.Setenv("LC_CTYPE", c.ctype)
		t.Setenv("LANG", c.lang)
		if got := WantsASCII(); got != c.want {
			t.Errorf("%+v", c)
		}
	}
}
