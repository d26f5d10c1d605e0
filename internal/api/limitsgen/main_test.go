package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const small = `{
 "operations": {"Do": {"input": "DoRequest", "output": "DoResult"}},
 "shapes": {
  "DoRequest": {"type": "structure", "members": {
   "Name": {"target": "Name", "required": true}, "Free": {"target": "Free"}, "Must": {"target": "Free", "required": true},
   "Kind": {"target": "Kind"}, "Names": {"target": "Names"}, "Tags": {"target": "Tags"}, "Count": {"target": "Count"},
   "Sub": {"target": "Sub"}, "Subs": {"target": "Subs"}}},
  "DoResult": {"type": "structure", "members": {"Hidden": {"target": "Name"}}},
  "Name": {"type": "string", "min": 1, "max": 9, "pattern": "^a b$"},
  "Free": {"type": "string"},
  "Secret": {"type": "string", "sensitive": true},
  "Kind": {"type": "enum", "values": ["A"]},
  "Names": {"type": "list", "member": "Name", "max": 3},
  "Tags": {"type": "map", "key": "Name", "value": "Free", "min": 1},
  "Count": {"type": "long", "min": -1},
  "Sub": {"type": "structure", "sensitive": true, "members": {"Secret": {"target": "Secret"}, "Free": {"target": "Free"}, "Sub": {"target": "Sub"}}},
  "Subs": {"type": "list", "member": "Sub"},
  "Unreached": {"type": "string", "max": 1}
 },
 "newerThanSdk": {"shapes": {
  "Kind": {"type": "enum", "additions": true, "values": ["A", "B"]},
  "Sub": {"type": "structure", "additions": true, "members": {"New": {"target": "New"}}},
  "New": {"type": "enum", "values": ["X"]}}}
}`

const wanted = `enum Kind A B
enum New X
integer Count -1 -
list Names Name - 3
map Tags Name Free 1 -
string Name 1 9 plain ^a b$
string Secret - - sensitive
structure DoInput Count:Count Kind:Kind Must!: Name!:Name Names:Names Tags:Tags
structure Sub Free*: New*:New Secret*:Secret Sub*:
`

func TestRun(t *testing.T) {
	dir := t.TempDir()
	in, out := filepath.Join(dir, "model.json"), filepath.Join(dir, "limits.txt")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(in, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(small)
	if err := run(in, out); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	_, lines, _ := strings.Cut(string(got), "\n")
	if diff := cmp.Diff(wanted, lines); diff != "" {
		t.Error(diff)
	}

	for _, bad := range []string{"", "{", `{"operations":{"Do":{"input":"Nothing"}}}`} {
		write(bad)
		if err := run(in, out); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	if err := run("", out); err == nil || !strings.Contains(err.Error(), "-model") {
		t.Errorf("no model: %v", err)
	}
}
