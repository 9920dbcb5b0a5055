package config

import (
	"fmt"
	"maps"
	"slices"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// read makes a node of YAML's. Anchors are known from where they stand on.
func (r *reader) read(n ast.Node) *node {
	out := &node{}
	out.line, out.column = position(n)
	switch n := n.(type) {
	case nil, *ast.NullNode:
	case *ast.MappingNode:
		out.kind = mapping
		r.readPairs(out, n.Values)
	case *ast.MappingValueNode:
		out.kind = mapping
		r.readPairs(out, []*ast.MappingValueNode{n})
	case *ast.SequenceNode:
		out.kind = list
		for _, v := range n.Values {
			out.items = append(out.items, r.read(v))
		}
	case *ast.AnchorNode:
		out = r.read(n.Value)
		r.anchors[n.Name.String()] = out
	case *ast.AliasNode:
		return r.alias(n, out)
	case *ast.TagNode:
		r.failAt(n, fmt.Sprintf("%s: tags mean nothing here", n.GetToken().Value), "leave it out; a text is one in quotes too")
	case *ast.LiteralNode:
		out.kind, out.quoted = scalar, true
		if n.Value != nil {
			out.text = n.Value.Value
		}
	case *ast.StringNode:
		t := n.GetToken()
		out.kind, out.text = scalar, n.Value
		out.quoted = t.Type == token.SingleQuoteType || t.Type == token.DoubleQuoteType
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		out.kind, out.text = scalar, n.GetToken().Value
	default:
		r.failAt(n, "this kind of YAML is not known here", "write KEY: VALUE")
	}
	return out
}

func (r *reader) alias(n *ast.AliasNode, at *node) *node {
	name := n.Value.String()
	if known, ok := r.anchors[name]; ok {
		return known
	}
	hint := fmt.Sprintf("if a text was meant, put it in quotes: %q", "*"+name)
	if near := closest(name, slices.Sorted(maps.Keys(r.anchors))); near != "" {
		hint = "did you mean *" + near + "?"
	}
	r.failAt(n, fmt.Sprintf("*%s: there is no anchor &%s above", name, name), hint)
	return at
}

// readPairs reads a mapping. What << brings doesn't count where the mapping has
// the key itself.
func (r *reader) readPairs(out *node, values []*ast.MappingValueNode) {
	own := map[string]*node{}
	var merged []pair
	for _, v := range values {
		if _, ok := v.Key.(*ast.MergeKeyNode); ok {
			merged = append(merged, r.merge(r.read(v.Value))...)
			continue
		}
		key := r.readKey(v)
		if key == nil {
			continue
		}
		if first := own[key.text]; first != nil {
			r.fail(key.line, key.column, fmt.Sprintf("%s is here twice", key.text), fmt.Sprintf("it was first in line %d: leave one out", first.line))
			continue
		}
		own[key.text] = key
		out.pairs = append(out.pairs, pair{key, r.read(v.Value)})
	}
	for _, p := range merged {
		if own[p.key.text] == nil {
			own[p.key.text] = p.key
			out.pairs = append(out.pairs, p)
		}
	}
}

func (r *reader) merge(n *node) []pair {
	switch n.kind {
	case mapping:
		return n.pairs
	case list:
		var all []pair
		for _, item := range n.items {
			if item.kind == list { // each level would multiply them
				r.fail(item.line, item.column, "<< takes a mapping, or a list of such", "")
				return nil
			}
			all = append(all, r.merge(item)...)
		}
		return all
	}
	r.fail(n.line, n.column, "<< takes a mapping, or a list of such", "name one by its anchor: <<: *name")
	return nil
}

// readKey reads a key: a text on one line.
func (r *reader) readKey(v *ast.MappingValueNode) *node {
	var key *node
	switch k := v.Key.(type) {
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode, *ast.InfinityNode, *ast.NanNode:
		key = r.read(k)
		key.kind, key.text = scalar, k.GetToken().Value
	}
	if key == nil {
		r.failAt(v, "this can't be a key", "write KEY: VALUE")
	}
	return key
}
