package config

import (
	"fmt"
	"strings"
)

// Error is one thing that is wrong with a file.
type Error struct {
	File    string `json:"file"`
	Line    int    `json:"line"`   // from 1
	Column  int    `json:"column"` // from 1, in characters
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"` // what was meant, or what to do
	Source  string `json:"-"`              // that line
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

// Errors is all that is wrong with a file, in its order.
type Errors []*Error

func (all Errors) Error() string {
	text := all[0].Error()
	if hint := all[0].Hint; hint != "" {
		text += ": " + hint
	}
	if n := len(all) - 1; n > 0 {
		text += fmt.Sprintf(" (and %d more)", n)
	}
	return text
}

// Excerpt is the line with a mark below the place; "" if it can't be shown.
func (e *Error) Excerpt() string {
	if strings.TrimSpace(e.Source) == "" || len(e.Source) > 200 {
		return ""
	}
	before := []rune(e.Source)
	before = before[:min(max(e.Column-1, 0), len(before))]
	for i, r := range before {
		if r != '\t' {
			before[i] = ' '
		}
	}
	number := fmt.Sprintf("%5d", e.Line)
	return fmt.Sprintf("%s | %s\n%s | %s^", number, e.Source, strings.Repeat(" ", len(number)), string(before))
}

// mistake is an error that has no position yet.
type mistake struct {
	message, hint string
}

func (m *mistake) Error() string { return m.message }

func wrong(hint, format string, args ...any) error {
	return &mistake{fmt.Sprintf(format, args...), hint}
}
