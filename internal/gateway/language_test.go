package gateway

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/gateway/words"
	"github.com/oriel-project/oriel/internal/language"
	"github.com/oriel-project/oriel/internal/language/languagetest"
)

// Every text is there in every language, and every text that there is, is used; every state has words, and every page its script.
func TestWords(t *testing.T) {
	languagetest.Check(t, words.All, regexp.MustCompile(`^state_`))
	for _, code := range language.Codes() {
		for _, noun := range []appstream.Noun{appstream.NounImageBuilder, appstream.NounAppBlockBuilder} {
			for _, tr := range appstream.Transitions()[noun] {
				if got := stateWords(code, tr.To); tr.To != "" && got == tr.To {
					t.Errorf("%s: the state %s has no words", code, tr.To)
				}
			}
		}
	}
}

// german gives a request of a browser that asks for German.
func (w *world) german(client *http.Client, method, address, body string, change func(*http.Request)) (int, http.Header, string) {
	w.t.Helper()
	req, err := http.NewRequest(method, w.on(address), strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Accept-Language", "de-AT,de;q=0.9,en;q=0.5")
	if change != nil {
		change(req)
	}
	return w.do(client, req)
}

// shown is what a page shows: its texts, and those of its attributes.
var shown = regexp.MustCompile(`>([^<]+)<|(?:aria-label|title|placeholder|data-tip|alt)="([^"]+)"`)

// notEnglish fails the test when a page has a text that is an English one.
func notEnglish(t *testing.T, name, page string) {
	t.Helper()
	english := map[string]bool{}
	for key, text := range words.All["en"] {
		english[text] = words.All["de"][key] != text
	}
	for _, m := range shown.FindAllStringSubmatch(page, -1) {
		if text := strings.TrimSpace(html.UnescapeString(m[1] + m[2])); english[text] {
			t.Errorf("%s says %q", name, text)
		}
	}
}

func TestGerman(t *testing.T) {
	w := newStudio(t, newMachine(), nil)
	for name, view := range map[string]types.StreamView{"a desktop": types.StreamViewDesktop, "applications": types.StreamViewApp} {
		w.seat(func(s *appstream.Session) { s.View = view })
		status, header, page := w.german(w.seated(), "GET", "/stream/"+testSession, "", nil)
		if status != http.StatusOK || header.Get("Content-Language") != "de" || !strings.Contains(page, `<html lang="de"`) || !strings.Contains(page, "/assets/words-de.js?v=") || strings.Contains(page, "words-en.js") {
			t.Errorf("%s: %d %v:\n%s", name, status, header, page)
		}
		notEnglish(t, name, page)
	}
	_, _, page := w.german(w.signedIn(), "GET", "/stream/"+testID, "", nil)
	notEnglish(t, "an image builder", page)
	if !strings.Contains(page, "<b>hello</b> ist gestoppt, wenn das Image fertig ist") || !strings.Contains(page, "<kbd>Strg</kbd>") {
		t.Errorf("the page:\n%s", page)
	}
	_, _, page = w.german(w.atPackager(), "GET", "/stream/"+packagerID, "", nil)
	notEnglish(t, "an app block builder", page)

	// Notices: as a page, and as what the viewer's scripts get.
	for address, want := range map[string]string{"/stream/unknown": "Öffnen Sie Ihren Streaming-Link", "/authenticate?parameters=x&signature=y": "Dieser Link ist nicht gültig", "/": "Hier ist nichts"} {
		_, _, page := w.german(w.browser(), "GET", address, "", nil)
		notEnglish(t, address, page)
		if offered := strings.Contains(page, `<a href="?lang=en"`); !strings.Contains(page, `<html lang="de">`) || !strings.Contains(page, want) || offered != strings.HasPrefix(address, "/stream/") {
			t.Errorf("%s: the other language is offered: %t\n%s", address, offered, page)
		}
		_, _, body := w.german(w.browser(), "GET", address, "", func(r *http.Request) { r.Header.Set("Sec-Fetch-Dest", "empty") })
		if !strings.Contains(body, want) {
			t.Errorf("%s: the scripts get %s", address, body)
		}
	}
	for state, want := range map[string]string{appstream.BuilderStopped: "hello ist gestoppt", appstream.BuilderSyncingApps: "Software wird installiert", appstream.BuilderFailed: "Ausgefallen"} {
		w.setState(state)
		_, _, page := w.german(w.signedIn(), "GET", "/stream/"+testID, "", nil)
		notEnglish(t, state, page)
		if !strings.Contains(page, want) {
			t.Errorf("%s:\n%s", state, page)
		}
	}
	w.seat(func(s *appstream.Session) { s.Rules.Upload = false })
	if _, _, body := w.german(w.seated(), "PUT", "/stream/"+testSession+"/files/a.txt", "text", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-origin") }); !strings.Contains(body, "In diese Sitzung kann man keine Dateien hochladen") {
		t.Error(body)
	}
	w.seat(func(s *appstream.Session) { s.State, s.EndCode = appstream.SessionExpired, appstream.EndAway })
	_, _, body := w.german(w.seated(), "GET", "/stream/"+testSession+"/info", "", nil)
	if !strings.Contains(body, "Sie waren zu lange weg.") {
		t.Error(body)
	}
}

// What is chosen once holds on all pages, whatever the browser asks for.
func TestChosenLanguage(t *testing.T) {
	w := newStudio(t, newMachine(), nil)
	client := w.seated()
	if status, header, _ := w.get(client, "/stream/"+testSession+"?lang=de"); status != http.StatusSeeOther || header.Get("Location") != "/stream/"+testSession {
		t.Errorf("answered %d to %s", status, header.Get("Location"))
	}
	for _, address := range []string{"/stream/" + testSession, "/stream/unknown"} {
		if _, _, page := w.get(client, address); !strings.Contains(page, `<html lang="de"`) {
			t.Errorf("%s:\n%s", address, page)
		}
	}
	// Programs of the next session speak it too.
	if status, _, _ := w.get(client, w.url(personClaims())); status != http.StatusSeeOther {
		t.Fatal(status)
	}
	if got := w.people.locales[len(w.people.locales)-1]; got != "de_DE.UTF-8" {
		t.Errorf("the locale is %q", got)
	}
	w.get(client, "/stream/"+testSession+"?lang=en")
	if _, _, page := w.german(client, "GET", "/stream/"+testSession, "", nil); !strings.Contains(page, `<html lang="en"`) {
		t.Error("German is not left again")
	}
	if u, _ := url.Parse(w.server.URL); len(client.Jar.Cookies(u)) != 1 {
		t.Errorf("the cookies are %v", client.Jar.Cookies(u))
	}
}

func TestWhyNoSession(t *testing.T) {
	for why, want := range map[appstream.Why]string{appstream.WhyGone: "gibt es nicht mehr", appstream.WhyMoved: "nicht mehr zu diesen", appstream.WhyElsewhere: "den Anwendungen von Other", appstream.WhyStopped: "Die Maschinen von Other",
		appstream.WhyForbidden: "nicht zugeteilt", appstream.WhyWithdrawn: "nicht mehr zugeteilt", "": "auf Englisch: In English."} {
		w := newStudio(t, newMachine(), nil)
		w.people.err = appstream.ErrorFor(appstream.OperationNotPermitted, why, "Other", "In English.")
		_, _, page := w.german(w.browser(), "GET", w.url(personClaims()), "", nil)
		if !strings.Contains(page, want) || why != "" && strings.Contains(page, "In English.") {
			t.Errorf("%q:\n%s", why, page)
		}
	}
}

// Agents of another version have codes that are not known, or none.
func TestRefusalWords(t *testing.T) {
	for _, tt := range []struct {
		refusal  agentapi.CallError
		en, said string
	}{
		{agentapi.CallError{Status: 507, Code: agentapi.CodeFull, Message: "the disk is full"}, "The disk is full. Remove something and try again.", "Die Festplatte ist voll. Löschen Sie etwas, und versuchen Sie es noch einmal."},
		{agentapi.CallError{Status: 413, Code: agentapi.CodeTooLarge}, "A file may have at most 2 GiB.", "Eine Datei darf höchstens 2 GiB haben."},
		{agentapi.CallError{Status: 409, Code: "newer", Message: "100 % is too much"}, "100 % is too much", "Der Server hat das abgelehnt. Er sagt dazu auf Englisch: 100 % is too much"},
		{agentapi.CallError{Status: 409}, "Conflict", "Der Server hat das abgelehnt. Er sagt dazu auf Englisch: Conflict"},
	} {
		if en, de := refusalWords(&tt.refusal).in("en"), refusalWords(&tt.refusal).in("de"); en != tt.en || de != tt.said {
			t.Errorf("%+v: %q, %q", tt.refusal, en, de)
		}
	}
}
