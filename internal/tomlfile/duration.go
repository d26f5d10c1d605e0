package tomlfile

import (
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"
)

// Duration is a time.Duration that is written as "2s" or "1m30s". It is a struct, and not a number itself: the parser would take a number for nanoseconds,
// which nobody means.
type Duration struct{ time.Duration }

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) (err error) {
	if _, err := strconv.ParseFloat(string(text), 64); err == nil {
		return unitless(text)
	}
	if d.Duration, err = time.ParseDuration(string(text)); err != nil {
		return fmt.Errorf(`%q is not a time; write it like "90s", "500ms" or "1h30m"`, text)
	}
	return nil
}

// unitless is a number in place of a Duration.
type unitless string

func (u unitless) Error() string {
	return fmt.Sprintf(`%s has no unit; write "%[1]ss" for seconds, in quotation marks`, string(u))
}

var index = regexp.MustCompile(`\[\d+\]`)

// find tells which key has the number, and in which line: the first one that wants a Duration.
func (u unitless) find(text []byte, table reflect.Type) (name string, line int) {
	lines := walk(text, func(at string, n *unstable.Node) {
		if name != "" || n.Kind != unstable.Integer && n.Kind != unstable.Float || string(n.Data) != string(u) {
			return
		}
		t := table
		for part := range strings.SplitSeq(index.ReplaceAllString(at, ""), ".") {
			for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
				t = t.Elem()
			}
			f, ok := field(t, part)
			if !ok {
				return
			}
			t = f.Type
		}
		if t == reflect.TypeFor[Duration]() {
			name = at
		}
	})
	return name, lines.Of(name)
}
