package cmdline

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestSplit(t *testing.T) {
	for line, want := range map[string][]string{
		"":                       nil,
		"  \t\n":                 nil,
		"one two":                {"one", "two"},
		` --title "a b"  'c d' `: {"--title", "a b", "c d"},
		`"" ''`:                  {"", ""},
		`a"b"'c'`:                {"abc"},
		`"say \"hi\" \n \\"`:     {`say "hi" \n \`},
		`'\'`:                    {`\`},
		`a\ b \"`:                {"a b", `"`},
	} {
		if got, err := Split(line); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v, want %q", line, got, err, want)
		}
	}
	for _, line := range []string{`"open`, `it's`, `end\`, "nul\x00"} {
		if got, err := Split(line); err == nil {
			t.Errorf("%q: %q", line, got)
		}
	}
}

// A shell is the judge of words that it would not expand.
func TestSplitIsAShells(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		line := rapid.StringMatching(`[ab '"\\]{0,12}`).Draw(t, "line")
		got, err := Split(line)
		if err != nil {
			return
		}
		out, fail := exec.Command("/bin/sh", "-c", `for w in `+line+`; do printf '%s\n' "$w"; done`).Output()
		if want := strings.Join(append(slices.Clone(got), ""), "\n"); fail != nil || string(out) != want {
			t.Fatalf("%q: %q, a shell says %q, %v", line, want, out, fail)
		}
	})
}

func FuzzSplit(f *testing.F) {
	f.Add(`--title "a \"b\"" 'c d' e\ f`)
	f.Add("\"\xff'")
	f.Fuzz(func(t *testing.T, line string) {
		words, err := Split(line)
		if err != nil {
			return
		}
		// Words in single quotes are the same words.
		for n, w := range words {
			words[n] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		again, err := Split(strings.Join(words, " "))
		if err != nil || len(again) != len(words) {
			t.Errorf("%q became %q, %v", words, again, err)
		}
	})
}
