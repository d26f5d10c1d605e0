package tomlfile

import (
	"strings"
	"testing"
	"time"
)

type sample struct {
	Base  string    `toml:"base"`
	List  []string  `toml:"list"`
	Yes   *bool     `toml:"yes"`
	When  time.Time `toml:"when"`
	Table struct {
		Name string            `toml:"name"`
		Tags map[string]string `toml:"tags"`
	} `toml:"table"`
	Entries []struct {
		Run   string `toml:"run"`
		Count int    `toml:"count"`
	} `toml:"entry"`
}

func TestDecode(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"base = 'x'\nlists = []", "f.toml:2: there is no key lists; did you mean list?"},
		{"[table]\nnome = 'x'\n[tables]\na = 1", "f.toml:2: there is no key table.nome; did you mean name?\nf.toml:3: there is no key tables; did you mean table?"},
		{"[[entry]]\nxyz = 1", "f.toml:2: there is no key entry.xyz; the keys here are count, run"},
		{"base = 1", "f.toml:1: base must be a text, not a number"},
		{"\nyes = 'no'", "f.toml:2: yes must be true or false, not a text"},
		{"when = []", "f.toml:1: when must be a date, not a list"},
		{"list = 'a'", "f.toml:1: list must be a list of texts, not a text"},
		{"list = [\n'a',\n1]", "f.toml:3: each value in list must be a text, not a number"},
		{"[list]\nx = 1", "f.toml:1: list must be a list of texts, not a table"},
		{"[table]\nname = true", "f.toml:2: table.name must be a text, not true or false"},
		{"[table]\nname = {}", "f.toml:2: table.name must be a text, not a table"},
		{"[table.name.first]\nx = 1", "f.toml:1: table.name must be a text, not a table"},
		{"[table]\ntags = { a = 1 }", "f.toml:2: each value in table.tags must be a text, not a number"},
		{"[table]\ntags = []", "f.toml:2: table.tags must be a table of texts, not a list"},
		{"[table.tags]\na = 1.5", "f.toml:2: table.tags.a must be a text, not a number"},
		{"table = 'x'", "f.toml:1: table must be a table, not a text"},
		{"[[table]]\nname = 'x'", "f.toml:1: table must be a table, not a list of tables"},
		{"entry = ['x']", "f.toml:1: each value in entry must be a table, not a text"},
		{"entry = 1", "f.toml:1: entry must be a list of tables, not a number"},
		{"[[entry]]\ncount = '1'", "f.toml:2: entry.count must be a number, not a text"},
		{"[[entry]]\nrun = 1979-05-27", "f.toml:2: entry.run must be a text, not a date"},
		{"[table]\nlist = ['a']", "f.toml:2: there is no key table.list; list stands above the first [table]"},
		{"[[table.entry]]\nrun = 'a'", "f.toml:1: there is no key table.entry; entry is a table of its own, not in another one"},
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
