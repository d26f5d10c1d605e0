package portal

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/oriel-project/oriel/internal/theme"
)

// What belongs to a stack looks as its theme has it: its part of the page, or the whole page where there is nothing else.
func TestThemes(t *testing.T) {
	look := theme.Theme{Style: "pink", Title: "Example & Co", Logo: "/icons/l.png", Favicon: "/icons/f.ico", Links: []theme.Link{{Text: "Help", URL: "https://example.com/?a=1&b=2"}}}
	page := func(stacks int, err error) string {
		f := newFixture(t, func(c *Config) {
			c.Theme = func(_ context.Context, account, region, stack string) (theme.Theme, error) {
				if account != "123456789012" || region != "us-west-2" || stack != "office" {
					return theme.Theme{}, nil
				}
				return look, err
			}
		})
		f.people.offers = f.people.offers[:stacks]
		return f.ask(home, nil, f.in(false)).Body.String()
	}
	logo, link := `<img class="brand" src="/icons/l.png" alt="Example &amp; Co">`, `<a href="https://example.com/?a=1&amp;b=2" target="_blank" rel="noopener noreferrer">Help</a>`
	whole := []string{`<html lang="en" data-theme="pink">`, "– Example &amp; Co</title>", `<link rel="icon" href="/icons/f.ico">`}
	for name, test := range map[string]struct {
		body         string
		parts, whole bool
	}{
		"one stack":                   {page(1, nil), true, true},
		"several":                     {page(3, nil), true, false},
		"a theme that cannot be read": {page(1, errors.New("the disk is on fire")), false, false},
	} {
		for _, part := range whole {
			if strings.Contains(test.body, part) != test.whole {
				t.Errorf("%s: the page and %s:\n%s", name, part, test.body)
			}
		}
		for _, part := range []string{logo, link} {
			if n := strings.Count(test.body, part); n != map[bool]int{true: 1}[test.parts] {
				t.Errorf("%s: the page has %d times %s:\n%s", name, n, part, test.body)
			}
		}
		if section := strings.Contains(test.body, `aria-labelledby="offer-0" data-theme="pink">`); section != (test.parts && !test.whole) {
			t.Errorf("%s: the part of the stack has the theme: %v", name, section)
		}
		if !strings.Contains(test.body, "Calc") {
			t.Errorf("%s: the applications are not there:\n%s", name, test.body)
		}
	}
}
