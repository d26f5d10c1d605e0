// Command limitsgen writes limits.txt, the constraints of the AppStream API's inputs, from a description of the
// API model in JSON. Run it again when AWS changes the model:
//
//	APPSTREAM_MODEL=path/to/appstream-model.json go generate ./internal/api
//
// Only shapes that can be reached from an operation's input and that constrain something are written.
package main

import (
	"crypto/sha256"
	"encoding/json/v2"
	"errors"
	"flag"
	"fmt"
	"log"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
)

// model is the part of the model file that matters here.
type model struct {
	Operations   map[string]struct{ Input string }
	Shapes       map[string]*shape
	NewerThanSDK struct {
		Shapes map[string]*shape
	} `json:"newerThanSdk"`
}

type shape struct {
	Type       string
	Additions  bool // newerThanSdk: members and values to add to the shape of the same name
	Members    map[string]member
	Member     string // of a list
	Key, Value string // of a map
	Min, Max   *int64
	Pattern    string
	Values     []string
	Sensitive  bool
}

type member struct {
	Target   string
	Required bool
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("limitsgen: ")
	in := flag.String("model", "", "the model `file` to read")
	out := flag.String("out", "limits.txt", "the `file` to write")
	flag.Parse()
	if err := run(*in, *out); err != nil {
		log.Fatal(err)
	}
}

func run(in, out string) error {
	if in == "" {
		return errors.New("name the model file with -model (or set APPSTREAM_MODEL for go generate)")
	}
	data, err := os.ReadFile(in)
	if err != nil {
		return err
	}
	var m model
	if err := json.Unmarshal(data, &m, json.MatchCaseInsensitiveNames(true)); err != nil {
		return fmt.Errorf("read %s: %w", in, err)
	}
	text, err := m.table()
	if err != nil {
		return err
	}
	return os.WriteFile(out, text, 0o644)
}

// table gives the text of limits.txt, whose form is explained in limits.go.
func (m *model) table() ([]byte, error) {
	m.merge()
	// Structures of operations are named after the Go types: XInput.
	names := map[string]string{}
	for op, o := range m.Operations {
		names[o.Input] = op + "Input"
	}
	goName := func(s string) string {
		if n, ok := names[s]; ok {
			return n
		}
		return s
	}

	reached := map[string]bool{}
	var visit func(string) error
	visit = func(name string) error {
		if name == "" || reached[name] {
			return nil
		}
		s, ok := m.Shapes[name]
		if !ok {
			return fmt.Errorf("the model names shape %s and does not describe it", name)
		}
		reached[name] = true
		for _, mem := range s.Members {
			if err := visit(mem.Target); err != nil {
				return err
			}
		}
		return errors.Join(visit(s.Member), visit(s.Key), visit(s.Value))
	}
	for _, op := range slices.Sorted(maps.Keys(m.Operations)) {
		if err := visit(m.Operations[op].Input); err != nil {
			return nil, err
		}
	}

	lines := []string{}
	for name := range reached {
		if line := m.line(name, goName); line != "" {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	table := strings.Join(lines, "\n") + "\n"
	const header = "# Constraints of the AppStream API's inputs. Written by limitsgen; do not edit. limits.go explains the form. SHA-256 %x\n%s"
	return fmt.Appendf(nil, header, sha256.Sum256([]byte(table)), table), nil
}

// merge adds what the model has gained since the SDK was made.
func (m *model) merge() {
	for name, add := range m.NewerThanSDK.Shapes {
		old, ok := m.Shapes[name]
		if !ok || !add.Additions {
			m.Shapes[name] = add
			continue
		}
		if old.Members == nil {
			old.Members = map[string]member{}
		}
		maps.Copy(old.Members, add.Members)
		for _, v := range add.Values {
			if !slices.Contains(old.Values, v) {
				old.Values = append(old.Values, v)
			}
		}
	}
}

// line gives the line of one shape, "" for a shape that constrains nothing.
func (m *model) line(name string, goName func(string) string) string {
	s := m.Shapes[name]
	switch s.Type {
	case "structure":
		fields := []string{"structure", goName(name)}
		for _, n := range slices.Sorted(maps.Keys(s.Members)) {
			mem := s.Members[n]
			mark := ""
			if mem.Required {
				mark = "!"
			}
			if s.Sensitive {
				mark += "*"
			}
			target := mem.Target
			if !m.constrains(target, map[string]bool{}) {
				if mark == "" {
					continue
				}
				target = ""
			}
			fields = append(fields, n+mark+":"+target)
		}
		return strings.Join(fields, " ")
	case "enum":
		return strings.Join(append([]string{"enum", name}, s.Values...), " ")
	}
	if !m.constrains(name, map[string]bool{}) {
		return ""
	}
	fields := []string{s.Type, name}
	switch s.Type {
	case "list":
		fields = append(fields, s.Member)
	case "map":
		fields = append(fields, s.Key, s.Value)
	case "long":
		fields[0] = "integer"
	}
	fields = append(fields, bound(s.Min), bound(s.Max))
	if s.Type == "string" {
		visible := "plain"
		if s.Sensitive {
			visible = "sensitive"
		}
		fields = append(fields, visible)
		if s.Pattern != "" {
			fields = append(fields, s.Pattern)
		}
	}
	return strings.Join(fields, " ")
}

// constrains reports whether a value of the shape can break a rule.
func (m *model) constrains(name string, seen map[string]bool) bool {
	if seen[name] {
		return false
	}
	seen[name] = true
	s := m.Shapes[name]
	switch s.Type {
	case "structure":
		return false // a Go struct is found by its type
	case "enum":
		return true
	case "list":
		return s.Min != nil || s.Max != nil || m.constrains(s.Member, seen)
	case "map":
		return s.Min != nil || s.Max != nil || m.constrains(s.Key, seen) || m.constrains(s.Value, seen)
	}
	return s.Min != nil || s.Max != nil || s.Pattern != "" || s.Sensitive
}

func bound(n *int64) string {
	if n == nil {
		return "-"
	}
	return strconv.FormatInt(*n, 10)
}
