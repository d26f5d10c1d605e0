package gateway

import (
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/ticket"
)

// Every page that a person meets on his way to a session and after it looks as his stack's theme has it.
func TestThemedPages(t *testing.T) {
	pages := map[string]func(w *world) string{
		"the viewer": func(w *world) string { _, _, body := w.get(w.seated(), "/stream/"+testSession); return body },
		"the end": func(w *world) string {
			client := w.seated()
			w.store.put(ended(w.store, appstream.EndByUser), nil)
			_, _, body := w.get(client, "/stream/"+testSession)
			return body
		},
		"a session that is gone": func(w *world) string {
			client := w.seated()
			w.store.remove(testSession)
			_, _, body := w.get(client, "/stream/"+testSession)
			return body
		},
		"no place": func(w *world) string {
			w.people.err = appstream.Errorf(appstream.InsufficientCapacity, "All places are taken.")
			_, _, body := w.get(w.browser(), w.url(personClaims()))
			return body
		},
		"a link that has expired": func(w *world) string {
			c := personClaims()
			c.Expires = c.Expires.AddDate(0, 0, -1)
			_, _, body := w.get(w.browser(), w.url(c))
			return body
		},
		"from another network": func(w *world) string {
			client := w.seated()
			w.seat(func(s *appstream.Session) {
				s.AccessEndpoints = []types.AccessEndpoint{{EndpointType: types.AccessEndpointTypeStreaming, VpceId: new("vpce-1")}}
			})
			_, _, body := w.get(client, "/stream/"+testSession)
			return body
		},
	}
	parts := []string{`data-theme="light-blue"`, `Example &amp; Co &lt;b&gt;</title>`, `<link rel="icon" href="/icons/f.ico">`,
		`<img class="brand" src="/icons/l.png" alt="Example &amp; Co &lt;b&gt;">`,
		`<a href="https://example.com/help?a=1&amp;b=2" target="_blank" rel="noopener noreferrer">Help desk</a>`}
	for name, page := range pages {
		for _, state := range []string{appstream.ThemeEnabled, appstream.ThemeDisabled, ""} {
			t.Run(name+" "+state, func(t *testing.T) {
				w := newStudio(t, newMachine(), nil)
				if state != "" {
					w.store.put(&appstream.Theme{Meta: appstream.Meta{Key: appstream.Key{Account: testAccount, Region: testRegion, Noun: appstream.NounTheme, Name: "Design"}, State: state},
						View: types.Theme{ThemeTitleText: new("Example & Co <b>"), ThemeStyling: types.ThemeStylingLightBlue,
							ThemeFooterLinks: []types.ThemeFooterLink{{DisplayName: new("Help desk"), FooterLinkURL: new("https://example.com/help?a=1&b=2")}}},
						Logo: "l.png", Favicon: "f.ico"}, nil)
				}
				body := page(w)
				for _, part := range parts {
					if strings.Contains(body, part) != (state == appstream.ThemeEnabled) {
						t.Errorf("the page and %s:\n%s", part, body)
					}
				}
			})
		}
	}
}

// A page without a stack, and the page of an image builder, have no theme.
func TestPagesWithoutATheme(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.store.put(&appstream.Theme{Meta: appstream.Meta{Key: appstream.Key{Account: testAccount, Region: testRegion, Noun: appstream.NounTheme}, State: appstream.ThemeEnabled},
		View: types.Theme{ThemeStyling: types.ThemeStylingRed}}, nil)
	for _, claims := range []ticket.Claims{w.claims(), {}} {
		if status, _, body := w.get(w.browser(), w.url(claims)); status == http.StatusOK && strings.Contains(body, "data-theme") {
			t.Errorf("answered %d:\n%s", status, body)
		}
	}
}
