package api

import (
	_ "embed"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/oriel-project/oriel/internal/appstream"
)

// modelLimits are the constraints of the AppStream model, one shape a line:
//
//	structure NAME MEMBER[!][*]:SHAPE …   ! required, * sensitive, SHAPE empty: nothing to check
//	list NAME SHAPE MIN MAX
//	map NAME KEYSHAPE VALUESHAPE MIN MAX
//	string NAME MIN MAX plain|sensitive [PATTERN]   PATTERN is the rest of the line
//	integer NAME MIN MAX
//	enum NAME VALUE …
//
// A structure has the name of its Go type. MIN and MAX are - when there is none; they count code points, members or
// the number itself. Service.Limits has the same form.
//
//go:embed limits.txt
var modelLimits string

// limits are lines of such a text by the name of the shape, and the rules made of them.
type limits struct {
	lines map[string][]string
	rules map[string]*rule
}

// memberLimit is what the table says of one member.
type memberLimit struct {
	target              string
	required, sensitive bool
}

// rule is what a value must satisfy.
type rule struct {
	min, max  *int64
	unit      unit
	pattern   string
	match     func(string) bool
	enum      []string
	sensitive bool
	key, elem *rule // of a map; of a list or map
}

type unit string

const (
	unitLength unit = "length"
	unitValue  unit = "value"
)

// parseLimits reads tables; a later line replaces an earlier one of the same name.
func parseLimits(tables ...string) (limits, error) {
	l := limits{lines: map[string][]string{}, rules: map[string]*rule{}}
	fewest := map[string]int{"structure": 2, "list": 5, "map": 6, "string": 5, "integer": 4, "enum": 3}
	for _, table := range tables {
		for line := range strings.Lines(table) {
			line = strings.TrimSpace(line)
			if line == "" || line[0] == '#' {
				continue
			}
			f := strings.Split(line, " ")
			if f[0] == "string" {
				f = strings.SplitN(line, " ", 6)
			}
			if n, ok := fewest[f[0]]; !ok || len(f) < n {
				return limits{}, fmt.Errorf("limits: %q is not a line of the table", line)
			}
			l.lines[f[1]] = f
		}
	}
	return l, nil
}

// members gives the limits of a structure's members by their names on the wire.
func (l limits) members(structure string) map[string]memberLimit {
	f := l.lines[structure]
	if f == nil || f[0] != "structure" {
		return nil
	}
	ms := make(map[string]memberLimit, len(f)-2)
	for _, m := range f[2:] {
		name, target, _ := strings.Cut(m, ":")
		bare := strings.TrimRight(name, "!*")
		ms[bare] = memberLimit{
			target:    target,
			required:  strings.Contains(name, "!"),
			sensitive: strings.Contains(name, "*"),
		}
	}
	return ms
}

// rule gives the rule of a shape, nil for one that constrains nothing.
func (l limits) rule(name string) (*rule, error) {
	f, ok := l.lines[name]
	if !ok || f[0] == "structure" {
		return nil, nil
	}
	if r, ok := l.rules[name]; ok {
		return r, nil
	}
	r := &rule{unit: unitLength}
	l.rules[name] = r
	bounds := f[2:]
	var err error
	switch f[0] {
	case "enum":
		r.enum = f[2:]
		return r, nil
	case "integer":
		r.unit = unitValue
	case "list":
		bounds = f[3:]
		r.elem, err = l.rule(f[2])
	case "map":
		bounds = f[4:]
		if r.key, err = l.rule(f[2]); err == nil {
			r.elem, err = l.rule(f[3])
		}
	case "string":
		r.sensitive = f[4] == "sensitive"
		if len(f) == 6 {
			r.pattern = f[5]
			r.match, err = matcher(f[5])
		}
	}
	if err != nil {
		return nil, fmt.Errorf("limits: %s: %w", name, err)
	}
	for i, p := range []**int64{&r.min, &r.max} {
		if bounds[i] == "-" {
			continue
		}
		n, err := strconv.ParseInt(bounds[i], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("limits: %s: %w", name, err)
		}
		*p = &n
	}
	return r, nil
}

// The patterns of the model that Go's regexp cannot compile: a repetition over 1,000, a look behind, a look ahead.
const (
	patternArn      = `^arn:aws(?:\-cn|\-iso\-b|\-iso|\-us\-gov)?:[A-Za-z0-9][A-Za-z0-9_/.-]{0,62}:[A-Za-z0-9_/.-]{0,63}:[A-Za-z0-9_/.-]{0,63}:[A-Za-z0-9][A-Za-z0-9:_/+=,@.\\-]{0,1023}$`
	patternS3Bucket = `^[0-9a-z\.\-]*(?<!\.)$`
	patternTagKey   = `^(^(?!aws:).[\p{L}\p{Z}\p{N}_.:/=+\-@]*)$`
)

// matcher compiles a pattern.
func matcher(pattern string) (func(string) bool, error) {
	switch pattern {
	case patternArn:
		re := regexp.MustCompile(strings.Replace(pattern, "{0,1023}", "*", 1))
		return func(s string) bool {
			// No part before the fifth colon can hold a colon.
			parts := strings.SplitN(s, ":", 6)
			return re.MatchString(s) && len(parts[len(parts)-1]) <= 1024
		}, nil
	case patternS3Bucket:
		re := regexp.MustCompile(`^[0-9a-z.\-]*$`)
		return func(s string) bool { return re.MatchString(s) && !strings.HasSuffix(s, ".") }, nil
	case patternTagKey:
		re := regexp.MustCompile(`^.[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)
		return func(s string) bool { return re.MatchString(s) && !strings.HasPrefix(s, "aws:") }, nil
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	return re.MatchString, nil
}

// isSensitive reports whether the value or a part of it must not be shown.
func (r *rule) isSensitive() bool {
	return r != nil && (r.sensitive || r.key.isSensitive() || r.elem.isSensitive())
}

// Bounds of a message about limits: it shows that many failures, and of a value that many code points.
const (
	maxFailures  = 20
	maxShownText = 256
)

// checker counts what breaks a limit and keeps the first failures in the words of AWS.
type checker struct {
	n        int
	failures []string
}

func (c *checker) fail(value, path, constraint string) {
	if c.n++; c.n <= maxFailures {
		c.failures = append(c.failures, value+" at '"+path+"' failed to satisfy constraint: "+constraint)
	}
}

// check gives the Validation error of a decoded input, nil when it keeps all limits.
func check(s *shape, v reflect.Value) error {
	var c checker
	c.structure(s, v, "")
	if c.n == 0 {
		return nil
	}
	plural := ""
	if c.n > 1 {
		plural = "s"
	}
	return appstream.Errorf(appstream.Validation, "%d validation error%s detected: %s", c.n, plural, strings.Join(c.failures, "; "))
}

func (c *checker) structure(s *shape, v reflect.Value, path string) {
	for i := range s.fields {
		f := &s.fields[i]
		m, ok := f.get(v)
		switch {
		case ok:
			c.member(f, m, path)
		case f.required:
			c.fail("Value null", path+f.path, "Member must not be null")
		}
	}
}

func (c *checker) member(f *field, v reflect.Value, path string) {
	if f.rule != nil {
		if broken := f.rule.broken(f.shape.kind, v); len(broken) > 0 {
			shown := "Value"
			if !f.sensitive {
				shown = "Value '" + show(f.shape.kind, v) + "'"
			}
			for _, b := range broken {
				c.fail(shown, path+f.path, b)
			}
		}
	}
	switch s := f.shape; s.kind {
	case kindStruct:
		c.structure(s, v, path+f.path+".")
	case kindList:
		if s.elem.kind == kindStruct {
			for i := range v.Len() {
				c.structure(s.elem, v.Index(i), path+f.path+"."+strconv.Itoa(i+1)+".member.")
			}
		}
	}
}

// broken gives the texts of the constraints that v does not satisfy.
func (r *rule) broken(k kind, v reflect.Value) (out []string) {
	switch k {
	case kindInt:
		out = r.outside(v.Int())
	case kindString:
		return r.text(v.String())
	case kindList:
		out = r.outside(int64(v.Len()))
		if r.elem != nil && v.Type().Elem().Kind() == reflect.String {
			for i := range v.Len() {
				if len(r.elem.text(v.Index(i).String())) > 0 {
					out = append(out, "Member must satisfy constraint: "+r.elem.all())
					break
				}
			}
		}
	case kindMap:
		m, _ := reflect.TypeAssert[map[string]string](v)
		out = r.outside(int64(len(m)))
		var badKey, badValue bool
		for key, value := range m {
			badKey = badKey || r.key != nil && len(r.key.text(key)) > 0
			badValue = badValue || r.elem != nil && len(r.elem.text(value)) > 0
		}
		if badKey {
			out = append(out, "Map keys must satisfy constraint: "+r.key.all())
		}
		if badValue {
			out = append(out, "Map value must satisfy constraint: "+r.elem.all())
		}
	}
	return out
}

func (r *rule) text(s string) []string {
	out := r.outside(int64(utf8.RuneCountInString(s)))
	if r.match != nil && !r.match(s) {
		out = append(out, r.patternText())
	}
	if r.enum != nil && !slices.Contains(r.enum, s) {
		out = append(out, r.enumText())
	}
	return out
}

func (r *rule) outside(n int64) []string {
	switch {
	case r.max != nil && n > *r.max:
		return []string{r.maxText()}
	case r.min != nil && n < *r.min:
		return []string{r.minText()}
	}
	return nil
}

func (r *rule) maxText() string {
	return fmt.Sprintf("Member must have %s less than or equal to %d", r.unit, *r.max)
}

func (r *rule) minText() string {
	return fmt.Sprintf("Member must have %s greater than or equal to %d", r.unit, *r.min)
}

func (r *rule) patternText() string {
	return "Member must satisfy regular expression pattern: " + r.pattern
}

func (r *rule) enumText() string {
	return "Member must satisfy enum value set: [" + strings.Join(r.enum, ", ") + "]"
}

// all gives every constraint of a rule, as AWS does for the members of a list or map.
func (r *rule) all() string {
	var out []string
	if r.max != nil {
		out = append(out, r.maxText())
	}
	if r.min != nil {
		out = append(out, r.minText())
	}
	if r.match != nil {
		out = append(out, r.patternText())
	}
	if r.enum != nil {
		out = append(out, r.enumText())
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// show gives a value as AWS shows it, cut when it is long.
func show(k kind, v reflect.Value) string {
	var s string
	switch k {
	case kindInt:
		s = strconv.FormatInt(v.Int(), 10)
	case kindString:
		s = v.String()
	case kindList:
		items := make([]string, 0, min(v.Len(), maxShownText))
		for i := range cap(items) {
			if e := v.Index(i); e.Kind() == reflect.String {
				items = append(items, e.String())
			} else {
				items = append(items, "{}") // AWS shows the whole structure; its parts may be sensitive
			}
		}
		s = "[" + strings.Join(items, ", ") + "]"
	case kindMap:
		m, _ := reflect.TypeAssert[map[string]string](v)
		items := make([]string, 0, len(m))
		for _, k := range slices.Sorted(maps.Keys(m)) {
			items = append(items, k+"="+m[k])
		}
		s = "{" + strings.Join(items, ", ") + "}"
	}
	if r := []rune(s); len(r) > maxShownText {
		s = string(r[:maxShownText]) + "…"
	}
	return s
}
