// Package language says in which language a person is answered, and keeps the texts that people read in every language that there is. The pages of the
// portal and of the gateway and the letters ask it, so that a choice that was made on one page holds on all.
//
// A language is added here, and then where a test or the compiler says that its texts are missing: CONTRIBUTING.md has the steps.
package language

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/text/language"
)

// A Language is one in which people can be answered. Name is its own name for itself.
type Language struct{ Code, Name string }

// All are those that there are; the first is for those who read none of them.
var All = []Language{{"en", "English"}, {"de", "Deutsch"}}

// Fallback is the code of the first.
const Fallback = "en"

// Known tells whether there is a language of that code.
func Known(code string) bool {
	return slices.ContainsFunc(All, func(l Language) bool { return l.Code == code })
}

// Codes gives the codes of all.
func Codes() []string {
	var codes []string
	for _, l := range All {
		codes = append(codes, l.Code)
	}
	return codes
}

var matcher = func() language.Matcher {
	var tags []language.Tag
	for _, code := range Codes() {
		tags = append(tags, language.MustParse(code))
	}
	return language.NewMatcher(tags)
}()

// Bounds of what is looked at in an Accept-Language header.
const (
	maxHeader = 512 // bytes
	maxWishes = 16
)

// Of gives the code of the language in which a request is answered: the one that the person chose, else the one of All that comes closest to what the
// browser asks for.
func Of(r *http.Request) string {
	if code := chosen(r); code != "" {
		return code
	}
	_, n, _ := matcher.Match(wishes(r.Header.Get("Accept-Language"))...)
	return All[n].Code
}

// Locale gives the POSIX name, like de_DE.UTF-8, of the language in which programs shall speak with the person who made a request; "" when nothing is
// known of him. It may be any language: the machine knows whether it has it.
func Locale(r *http.Request) string {
	tags := wishes(r.Header.Get("Accept-Language"))
	if code := chosen(r); code != "" {
		mine := language.MustParse(code)
		base, _ := mine.Base()
		tags = append(slices.DeleteFunc(tags, func(t language.Tag) bool { b, _ := t.Base(); return b != base }), mine)
	}
	for _, t := range tags {
		base, known := t.Base()
		region, _ := t.Region()
		if !region.IsCountry() { // 419, Latin America
			region, _ = language.Make(base.String()).Region()
		}
		if known != language.No && len(base.String()) <= 3 && region.IsCountry() {
			return base.String() + "_" + region.String() + ".UTF-8"
		}
	}
	return ""
}

// wishes gives the languages of an Accept-Language header, the most wanted first. What cannot be understood is left out.
func wishes(header string) []language.Tag {
	type wish struct {
		language.Tag
		quality float64
	}
	var list []wish
	for part := range strings.SplitSeq(header[:min(len(header), maxHeader)], ",") {
		if len(list) == maxWishes {
			break
		}
		name, parameter, _ := strings.Cut(part, ";")
		tag, err := language.Raw.Parse(strings.TrimSpace(name))
		if err != nil {
			continue
		}
		w := wish{tag, 1}
		if q, ok := strings.CutPrefix(strings.TrimSpace(parameter), "q="); ok {
			if w.quality, err = strconv.ParseFloat(q, 64); err != nil || !(w.quality > 0 && w.quality <= 1) {
				continue
			}
		}
		list = append(list, w)
	}
	slices.SortStableFunc(list, func(a, b wish) int { return cmp.Compare(b.quality, a.quality) })
	var tags []language.Tag
	for _, w := range list {
		tags = append(tags, w.Tag)
	}
	return tags
}

// The cookie of a choice is sent to every page of the server, so that who chose in the portal has his session in the same language.
const (
	cookie     = "oriel-language"
	cookieTime = 365 * 24 * 3600 // seconds
	// Parameter is the one of a query by which a page is asked for in another language.
	Parameter = "lang"
)

// chosen gives the language that a person has chosen; "" when he has not.
func chosen(r *http.Request) string {
	for _, c := range r.CookiesNamed(cookie) {
		if Known(c.Value) {
			return c.Value
		}
	}
	return ""
}

// Choose answers a request that asks for its page in another language: it remembers the choice and sends the browser to the page again, without the parameter. It tells whether
// the request was one. secure tells whether it came over https.
func Choose(w http.ResponseWriter, r *http.Request, secure bool) bool {
	query := r.URL.Query()
	code := query.Get(Parameter)
	if r.Method != http.MethodGet || code == "" {
		return false
	}
	if Known(code) {
		c := &http.Cookie{Name: cookie, Value: code, Path: "/", MaxAge: cookieTime, HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: secure}
		if secure && r.Header.Get("Sec-Fetch-Dest") == "iframe" {
			// In a frame of another site the browser takes and sends no other cookie. It keeps it apart from the one of the server's own pages.
			c.SameSite, c.Partitioned = http.SameSiteNoneMode, true
		}
		http.SetCookie(w, c)
	}
	query.Del(Parameter)
	to := url.URL{Path: r.URL.Path, RawQuery: query.Encode()}
	w.Header().Set("Location", to.RequestURI()) // http.Redirect would write it into a page too, and a query may have a secret
	w.WriteHeader(http.StatusSeeOther)
	return true
}

// Words are texts that people read, by language and key. A text may have the verbs of fmt.
type Words map[string]map[string]string

// Text gives the text of a key in a language, with args in place of its verbs. It panics for a key that there is not, which languagetest finds.
func (w Words) Text(code, key string, args ...any) string {
	text, ok := w[code][key]
	if !ok {
		panic("language: there is no text " + key + " in " + code)
	}
	if len(args) == 0 {
		return text
	}
	return fmt.Sprintf(text, args...)
}
