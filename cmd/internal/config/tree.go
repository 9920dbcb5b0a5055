package config

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

type kind int

const (
	null kind = iota
	scalar
	list
	mapping
)

func (k kind) String() string {
	return [...]string{"nothing", "a value", "a list", "a mapping"}[k]
}

// node is a part of a file, without what YAML has beyond that: aliases and merge
// keys are resolved.
type node struct {
	kind         kind
	text         string // of a scalar, as it stands there
	quoted       bool
	line, column int
	items        []*node
	pairs        []pair
}

type pair struct{ key, value *node }

// orKey is the value, or, if there is none, nothing where the key stands.
func (p pair) orKey() *node {
	if p.value.kind == null {
		return &node{line: p.key.line, column: p.key.column}
	}
	return p.value
}

const (
	maxSize    = 1 << 20
	maxNesting = 100 // what is sensible needs 4; the parser's memory grows with its square
)

// parse reads a file. Its error is Errors.
func parse(name string, data []byte) (*node, error) {
	r := &reader{name: name, lines: strings.Split(string(data), "\n"), anchors: map[string]*node{}}
	if len(data) > maxSize {
		r.fail(1, 1, fmt.Sprintf("the file has more than %d bytes", maxSize), "is it the right one?")
		return nil, r.errors
	}
	if !r.checkText() {
		return nil, r.errors
	}
	f, err := r.parse(data)
	if err != nil {
		r.fail(err.line, err.column, err.message, err.hint)
		return nil, r.errors
	}
	if f == nil || len(f.Docs) == 0 || f.Docs[0].Body == nil {
		return &node{line: 1, column: 1}, nil
	}
	root := r.read(f.Docs[0].Body)
	for _, doc := range f.Docs[1:] {
		if doc.Body != nil {
			r.failAt(doc.Body, "a second document begins here", "one file has one configuration: leave out what follows the line ---")
			break
		}
	}
	if len(r.errors) > 0 {
		return nil, r.errors
	}
	return root, nil
}

// reader makes nodes of YAML's.
type reader struct {
	name    string
	lines   []string
	anchors map[string]*node
	errors  Errors
}

type syntaxError struct {
	line, column  int
	message, hint string
}

// parse survives what the parser doesn't.
func (r *reader) parse(data []byte) (f *ast.File, failed *syntaxError) {
	defer func() {
		if p := recover(); p != nil {
			f, failed = nil, &syntaxError{1, 1, "this is no YAML that can be read", fmt.Sprintf("the parser says: %v", p)}
		}
	}()
	f, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err == nil {
		return f, nil
	}
	failed = &syntaxError{line: 1, column: 1, message: err.Error()}
	var e yaml.Error
	if errors.As(err, &e) {
		failed.message = e.GetMessage()
		if t := e.GetToken(); t != nil && t.Position != nil {
			failed.line, failed.column = t.Position.Line, t.Position.Column
		}
	}
	failed.message, failed.hint = r.explain(failed)
	return nil, failed
}

// explain puts what often goes wrong in better words.
func (r *reader) explain(e *syntaxError) (message, hint string) {
	line := ""
	if e.line >= 1 && e.line <= len(r.lines) {
		line = strings.TrimSpace(r.lines[e.line-1])
	}
	_, value, _ := strings.Cut(line, ": ")
	switch {
	case strings.Contains(e.message, "cannot start any token") && strings.Contains(r.lines[max(e.line-1, 0)], "\t"):
		return "a tab: YAML is indented by spaces", "put spaces in its place"
	case strings.HasPrefix(value, "["), strings.HasPrefix(value, "*"), strings.HasPrefix(value, "@"),
		strings.HasPrefix(value, "%"), strings.HasPrefix(value, "`"):
		return e.message, fmt.Sprintf("if this is one text, put it in quotes: %q", value)
	case strings.Contains(value, ": "):
		return e.message, fmt.Sprintf("a text with a colon and a space needs quotes: %q", value)
	}
	return e.message, ""
}

// checkText refuses what isn't text, before the parser meets it.
func (r *reader) checkText() bool {
	depth := 0
	for i, line := range r.lines {
		depth += indicators(line)
		for column, c := range []rune(strings.TrimSuffix(line, "\r")) {
			switch c {
			case '[', '{':
				depth++
			case ']', '}':
				depth = max(0, depth-1)
			}
			switch {
			case c == utf8.RuneError && !utf8.ValidString(line):
				r.fail(i+1, column+1, "this is no UTF-8", "save the file as UTF-8")
			case c != '\t' && unicode.IsControl(c) || c == '\uFEFF':
				r.fail(i+1, column+1, fmt.Sprintf("a control character: %q", c), "leave it out, or write it as an escape, in double quotes")
			case depth > maxNesting:
				r.fail(i+1, column+1, "nothing is nested so deep here", "")
			default:
				continue
			}
			return false
		}
		depth -= indicators(line)
	}
	return true
}

// indicators counts the lists and keys that a line begins with.
func indicators(line string) int {
	n := 0
	for {
		line = strings.TrimLeft(line, " \t")
		if !strings.HasPrefix(line, "- ") && !strings.HasPrefix(line, "? ") {
			return n
		}
		line = line[2:]
		n++
	}
}

func (r *reader) fail(line, column int, message, hint string) {
	e := &Error{File: r.name, Line: max(line, 1), Column: max(column, 1), Message: oneLine(message), Hint: oneLine(hint)}
	if e.Line <= len(r.lines) {
		e.Source = strings.TrimSuffix(r.lines[e.Line-1], "\r")
	}
	r.errors = append(r.errors, e)
}

// oneLine is a message that can't do anything to a terminal.
func oneLine(s string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return '·'
		}
		return c
	}, s)
}

func (r *reader) failAt(n ast.Node, message, hint string) {
	line, column := position(n)
	r.fail(line, column, message, hint)
}

func position(n ast.Node) (line, column int) {
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 && !m.IsFlowStyle {
		n = m.Values[0]
	}
	if v, ok := n.(*ast.MappingValueNode); ok && v.Key != nil {
		n = v.Key
	}
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return 1, 1
	}
	p := n.GetToken().Position
	return p.Line, p.Column
}
