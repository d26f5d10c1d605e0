package tomlfile

import (
	"reflect"
	"slices"
	"strings"
)

// Hint suggests what someone may have meant by a key of a struct that does not exist: the nearest key of the same table, the same key of the
// file itself, or all keys of the table.
func Hint(table reflect.Type, key []string) string {
	root := table
	for _, part := range key[:len(key)-1] {
		i := slices.IndexFunc(reflect.VisibleFields(table), func(f reflect.StructField) bool { return f.Tag.Get("toml") == part })
		if i < 0 {
			return ""
		}
		if table = table.Field(i).Type; table.Kind() == reflect.Slice {
			table = table.Elem()
		}
		if table.Kind() != reflect.Struct {
			return ""
		}
	}
	var known []string
	for f := range table.Fields() {
		if name := f.Tag.Get("toml"); name != "" {
			known = append(known, name)
		}
	}
	if f, ok := field(root, key[len(key)-1]); ok {
		if kind := terms(f.Type); kind == "a table" || kind == "a list of tables" {
			return "; " + f.Tag.Get("toml") + " is a table of its own, not in another one"
		}
		return "; " + f.Tag.Get("toml") + " stands above the first [table]"
	}
	wrong := strings.ToLower(strings.ReplaceAll(key[len(key)-1], "-", "_"))
	best, least := "", min(3, len(wrong)/2)
	for _, name := range known {
		if name == wrong+"s" || name+"s" == wrong {
			return "; did you mean " + name + "?"
		}
		if d := distance(wrong, name); d < least {
			best, least = name, d
		}
	}
	if best != "" {
		return "; did you mean " + best + "?"
	}
	slices.Sort(known)
	return "; the keys here are " + strings.Join(known, ", ")
}

// distance is the number of letters to insert, remove or replace to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		above := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := above
			if a[i] != b[j] {
				replace++
			}
			above = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
