package tomlfile

import (
	"encoding"
	"reflect"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
)

// found has in people's terms what the parser calls the values of a file.
var found = map[string]string{
	"string": "a text", "integer": "a number", "float": "a number", "boolean": "true or false", "array": "a list", "inline table": "a table", "table": "a table",
	"datetime": "a date", "local datetime": "a date", "local date": "a date", "local time": "a time",
}

// mismatch says in people's terms that a value is not of the kind that its key has; "" when an error is about something else.
func mismatch(table reflect.Type, e *toml.DecodeError) string {
	message := strings.TrimPrefix(e.Error(), "toml: ")
	kind := ""
	if value, ok := strings.CutPrefix(message, "cannot decode TOML "); ok {
		value, _, _ = strings.Cut(value, " into ")
		kind = found[value]
	} else if strings.HasPrefix(message, "cannot store a table in ") {
		kind = "a table"
	} else if strings.HasPrefix(message, "cannot store an array table in ") {
		kind = "a list of tables"
	}
	t, name := table, ""
	for _, part := range e.Key() {
		for t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		if t.Kind() == reflect.Map {
			t = t.Elem()
		} else if f, ok := field(t, part); ok {
			t = f.Type
		} else {
			break // the key above is no table
		}
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		name = join(name, part)
	}
	// Of a value in a list or table of values, the parser gives the key of the whole, and the type of the value.
	if (t.Kind() == reflect.Slice || t.Kind() == reflect.Map) && strings.HasSuffix(message, " of type "+t.Elem().String()) {
		name, t = "each value in "+name, t.Elem()
	}
	want := terms(t)
	if kind == "" || want == "" || name == "" {
		return ""
	}
	return name + " must be " + want + ", not " + kind
}

// terms says which values a type has.
func terms(t reflect.Type) string {
	if t == reflect.TypeFor[time.Time]() {
		return "a date"
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return "a text"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a text"
	case reflect.Int, reflect.Int64, reflect.Float64:
		return "a number"
	case reflect.Struct:
		return "a table"
	case reflect.Map:
		return "a table of " + strings.TrimPrefix(terms(t.Elem()), "a ") + "s"
	case reflect.Slice:
		return "a list of " + strings.TrimPrefix(terms(t.Elem()), "a ") + "s"
	}
	return ""
}

// field finds the field of a key in a struct.
func field(t reflect.Type, key string) (f reflect.StructField, ok bool) {
	if t.Kind() != reflect.Struct {
		return f, false
	}
	for f := range t.Fields() {
		if f.Tag.Get("toml") == key {
			return f, true
		}
	}
	return f, false
}
