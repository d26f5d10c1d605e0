package tomlfile

import (
	"strings"
	"testing"
)

type sample struct {
	Base  string   `toml:"base"`
	List  []string `toml:"list"`
	Table struct {
		Name string            `toml:"name"`
		Tags map[string]string `toml:"tags"`
	} `toml:"table"`
	Entries []struct {
		Run string `toml:"run"`
	} `toml:"entry"`
}

func TestDecode(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"base = 'x'\nlists = []", "f.toml:2: there is no key lists; did you mean list?"},
		{"[table]\nnome = 'x'\n[tables]\na = 1", "f.toml:2: there is no key table.nome; did you mean name?\nf.toml:3: there is no key tables; did you mean table?"},
		{"[[entry]]\nxyz = 1", "f.toml:2: there is no key entry.xyz; the keys here are run"},
		{"base = 1", "f.toml:1:8: cannot decode TOML integer into struct field tomlfile.sample.Base of type string"},
		{"\nbase", "f.toml:2:"},
	} {
		err := Decode([]byte(c.text), "f.toml", new(sample))
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%q: %v, want %s", c.text, err, c.want)
		}
	}
	var s sample
	if err := Decode([]byte("list = ['a']\n[table.tags]\nb = 'c'"), "f.toml", &s); err != nil || s.List[0] != "a" || s.Table.Tags["b"] != "c" {
		t.Errorf("%+v, %v", s, err)
	}
}

const lines = `base = "x"
list = [
  "a",
  'b', 'c',
]
[table]
tags = { one = "1" }
"quoted key".dotted = 1
[table.tags]
two = "2"
[[entry]]
run = """
text
"""
[[entry]]
run = 'x'
[[entry.sub]]
a = [[1], [2,
3]]
`

func TestLines(t *testing.T) {
	l := NewLines([]byte(lines))
	for name, want := range map[string]int{
		"base": 1, "list": 2, "list[0]": 3, "list[1]": 4, "list[2]": 4, "list[7]": 2, "table": 6, "table.tags.one": 7, "table.quoted key.dotted": 8,
		"table.tags": 9, "table.tags.two": 10, "entry[0]": 11, "entry[0].run": 12, "entry[1].run": 16, "entry[1].missing": 15, "entry[1].sub[0].a": 18,
		"entry[1].sub[0].a[1][1]": 19, "entry[9].run": 0, "none": 0, "": 0,
	} {
		if got := l.Of(name); got != want {
			t.Errorf("%s is in line %d, want %d", name, got, want)
		}
	}
}

func FuzzFile(f *testing.F) {
	f.Add(lines)
	f.Add("a.b.c = [{x=[1]}]\n[a.b]\n[[a.b.d]]\n")
	f.Add("list = [\"\\u00e9\", '''\n\n''']")
	f.Fuzz(func(t *testing.T, text string) {
		rows := strings.Count(text, "\n") + 1
		for name, line := range NewLines([]byte(text)) {
			if line < 1 || line > rows {
				t.Errorf("%q is in line %d of %d", name, line, rows)
			}
		}
		if err := Decode([]byte(text), "f.toml", new(sample)); err != nil && !strings.HasPrefix(err.Error(), "f.toml") {
			t.Errorf("an error without its place: %v", err)
		}
	})
}
