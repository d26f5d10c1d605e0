// Package languagetest tests that texts are whole in every language.
package languagetest

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/oriel-project/oriel/internal/language"
)

// verb is a verb of fmt in a text.
var verb = regexp.MustCompile(`%(\[\d+\])?[a-z%]`)

// named is a key that a template asks for.
var named = regexp.MustCompile(`\b(?:t|tag "[a-z]+") "([a-z0-9_]+)"`)

// Check fails t unless every language has every text of w, with the same verbs as in English, and the package in the current directory names every key, in
// its code or its templates, and asks for no other. elsewhere are keys that are made of what another package says; nil for none.
func Check(t *testing.T, w language.Words, elsewhere *regexp.Regexp) {
	t.Helper()
	var sources strings.Builder
	for _, pattern := range []string{"*.go", "templates/*.html"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "words_") {
				continue
			}
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			sources.Write(text)
		}
	}
	english := w[language.Fallback]
	if len(w) != len(language.All) {
		t.Errorf("there are texts in %d languages, and %d languages", len(w), len(language.All))
	}
	for _, l := range language.All {
		for key := range english {
			if w[l.Code][key] == "" {
				t.Errorf("%s has no text %s", l.Name, key)
			}
		}
		for key, text := range w[l.Code] {
			if english[key] == "" {
				t.Errorf("%s has the text %s, and English has not", l.Name, key)
			}
			if got, want := verbs(text), verbs(english[key]); !slices.Equal(got, want) {
				t.Errorf("%s: %s has the verbs %q, in English %q", l.Name, key, got, want)
			}
			if trimmed := strings.TrimSpace(text); trimmed != text {
				t.Errorf("%s: %s has space around it", l.Name, key)
			}
		}
	}
	for key := range english {
		if !strings.Contains(sources.String(), `"`+key+`"`) && (elsewhere == nil || !elsewhere.MatchString(key)) {
			t.Errorf("nothing uses the text %s", key)
		}
	}
	for _, m := range named.FindAllStringSubmatch(sources.String(), -1) {
		if english[m[1]] == "" {
			t.Errorf("there is no text %s", m[1])
		}
	}
}

// verbs gives the verbs of a text, in an order that does not depend on that of its words.
func verbs(text string) []string {
	list := verb.FindAllString(text, -1)
	slices.Sort(list)
	return list
}
