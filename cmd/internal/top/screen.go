package top

import (
	"github.com/gdamore/tcell/v2"
	"github.com/rivo/uniseg"
)

// draw shows lines on a screen; ascii: with no other characters.
func draw(screen tcell.Screen, lines []line, ascii bool) {
	screen.Clear()
	for y, l := range lines {
		if ascii {
			l = l.ascii()
		}
		x := 0
		for _, s := range l {
			style := styleOf(s.look)
			for rest, state := s.text, -1; rest != ""; {
				var cluster string
				var w int
				cluster, rest, w, state = uniseg.FirstGraphemeClusterInString(rest, state)
				screen.Put(x, y, cluster, style)
				x += w
			}
		}
	}
	screen.Show()
}

// styleOf has no background but the terminal's own: only the colours of its
// palette, which its user has chosen.
func styleOf(l look) tcell.Style {
	style := tcell.StyleDefault
	switch {
	case l&bad != 0:
		style = style.Foreground(tcell.ColorMaroon)
	case l&busy != 0:
		style = style.Foreground(tcell.ColorOlive)
	case l&good != 0:
		style = style.Foreground(tcell.ColorGreen)
	}
	return style.Dim(l&faint != 0).Bold(l&bold != 0).Reverse(l&inverse != 0)
}

var keyNames = map[tcell.Key]pressed{
	tcell.KeyUp: "up", tcell.KeyDown: "down", tcell.KeyPgUp: "pgup", tcell.KeyPgDn: "pgdn",
	tcell.KeyHome: "home", tcell.KeyEnd: "end", tcell.KeyEnter: "enter", tcell.KeyEsc: "esc",
	tcell.KeyTab: "tab", tcell.KeyF1: "f1",
	tcell.KeyCtrlC: "ctrl-c", tcell.KeyCtrlZ: "ctrl-z", tcell.KeyCtrlL: "ctrl-l",
}

// keyOf names a key; "": one that means nothing here.
func keyOf(ev *tcell.EventKey) pressed {
	if ev.Key() == tcell.KeyRune {
		if ev.Modifiers()&(tcell.ModAlt|tcell.ModMeta) != 0 {
			return ""
		}
		return pressed(ev.Rune())
	}
	return keyNames[ev.Key()]
}
