// Package tomlfile reads TOML files that people write: keys that do not exist are refused, and everything that is wrong is said with the line that it
// is in.
package tomlfile

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// network is what net/netip says of a text that is no netip.Prefix.
var network = regexp.MustCompile(`^netip\.ParsePrefix\((".*")\): .*`)

// notNetwork is what people are told of it, behind the text.
const notNetwork = ` is not a network; write it like "10.1.2.0/24", or "10.1.2.3/32" for one address`

// ParseNetwork reads a network that stands elsewhere than in a file, with the error that Decode would give.
func ParseNetwork(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("%q"+notNetwork, text)
	}
	return p, nil
}

// Decode reads text into what v points to, a struct. file is for messages. A wrong key is answered with the one that was probably meant.
func Decode(text []byte, file string, v any) error {
	err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(v)
	if unknown, ok := errors.AsType[*toml.StrictMissingError](err); ok {
		var list []error
		for _, e := range unknown.Errors {
			row, _ := e.Position()
			list = append(list, fmt.Errorf("%s:%d: there is no key %s%s", file, row, strings.Join(e.Key(), "."), Hint(reflect.TypeOf(v).Elem(), e.Key())))
		}
		return errors.Join(list...)
	}
	if e, ok := errors.AsType[*toml.DecodeError](err); ok {
		row, column := e.Position()
		if text := mismatch(reflect.TypeOf(v).Elem(), e); text != "" {
			return fmt.Errorf("%s:%d: %s", file, row, text)
		}
		text := network.ReplaceAllString(strings.TrimPrefix(e.Error(), "toml: "), "$1"+notNetwork)
		return fmt.Errorf("%s:%d:%d: %s", file, row, column, text)
	}
	if number, ok := errors.AsType[unitless](err); ok {
		if name, line := number.find(text, reflect.TypeOf(v).Elem()); line > 0 {
			return fmt.Errorf("%s:%d: %s: %w", file, line, name, number)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// Lines tells in which line of a file something is. Names are as in name, table.name, list[0] and list[0].name.
type Lines map[string]int

// NewLines reads the lines of a text. One that is no TOML has those up to where it is wrong.
func NewLines(text []byte) Lines { return walk(text, func(string, *unstable.Node) {}) }

// walk reads the lines of a text, and calls visit with every value.
func walk(text []byte, visit func(name string, n *unstable.Node)) Lines {
	l := Lines{}
	var ends []int // of lines
	for n, b := range text {
		if b == '\n' {
			ends = append(ends, n)
		}
	}
	lineOf := func(n *unstable.Node) int {
		before, _ := slices.BinarySearch(ends, int(n.Raw.Offset))
		return before + 1
	}
	entries := map[string]int{} // of lists of tables
	var value func(name string, n *unstable.Node)
	pair := func(prefix string, n *unstable.Node) {
		name, line := prefix, 0
		for keys := n.Key(); keys.Next(); {
			name, line = join(name, string(keys.Node().Data)), lineOf(keys.Node())
		}
		l[name] = line
		value(name, n.Value())
	}
	value = func(name string, n *unstable.Node) {
		visit(name, n)
		switch n.Kind {
		case unstable.Array:
			i := 0
			for list := n.Children(); list.Next(); i++ {
				entry := name + "[" + strconv.Itoa(i) + "]"
				if list.Node().Raw.Length > 0 {
					l[entry] = lineOf(list.Node())
				}
				value(entry, list.Node())
			}
		case unstable.InlineTable:
			for list := n.Children(); list.Next(); {
				pair(name, list.Node())
			}
		}
	}
	var p unstable.Parser
	p.Reset(text)
	table := ""
	for p.NextExpression() {
		switch n := p.Expression(); n.Kind {
		case unstable.KeyValue:
			pair(table, n)
		case unstable.Table, unstable.ArrayTable:
			table = ""
			line := 0
			for keys := n.Key(); keys.Next(); {
				if i := entries[table]; i > 0 {
					table += "[" + strconv.Itoa(i-1) + "]"
				}
				table, line = join(table, string(keys.Node().Data)), lineOf(keys.Node())
			}
			if n.Kind == unstable.ArrayTable {
				entries[table]++
				table += "[" + strconv.Itoa(entries[table]-1) + "]"
			}
			l[table] = line
		}
	}
	return l
}

// Of gives the line of a name, or of what it is in; 0 when the file has neither.
func (l Lines) Of(name string) int {
	for name != "" {
		if line := l[name]; line > 0 {
			return line
		}
		name = name[:max(0, strings.LastIndexAny(name, ".["))]
	}
	return 0
}

func join(prefix, key string) string {
	if prefix == "" {
		return key
	}
	return prefix + "." + key
}
