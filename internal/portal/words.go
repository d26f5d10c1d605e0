package portal

import (
	"embed"
	"fmt"
	"hash/fnv"
	"html/template"
	"time"
	"unicode"

	"github.com/oriel-project/oriel/internal/language"
	"github.com/oriel-project/oriel/internal/theme"
	"github.com/oriel-project/oriel/internal/web"
)

// words has every text of the pages.
var words = language.Words{"en": english, "de": german}

//go:embed templates/*.html
var templates embed.FS

// pages are the templates of one language.
type pages map[string]*template.Template

// view is what every page is made of.
type view struct {
	Data            any
	Home            string // path
	Here            string // the address of this page in another language, up to its code
	Languages       bool   // it can be shown in another
	Language        string
	Account, Region string
	Regions         []string
	Mail            bool
	Theme           theme.Theme // of the one stack that the page is about
}

// parsePages parses every page in every language.
func parsePages() map[string]pages {
	all := map[string]pages{}
	for _, l := range language.All {
		all[l.Code] = pages{}
		text := func(key string) string { return words.Text(l.Code, key) }
		funcs := template.FuncMap{"asset": web.Path, "icon": web.Icon, "initial": initial, "hue": hue,
			"failure": func(key string, wait time.Duration) string {
				if key == "wait" {
					return fmt.Sprintf(text(key), timeWords(text, wait))
				}
				return text(key)
			}}
		for _, name := range []string{"sign-in", "password", "forgotten", "home", "notice"} {
			all[l.Code][name] = template.Must(template.New("layout.html").Funcs(words.Funcs(l.Code)).Funcs(funcs).ParseFS(templates, "templates/layout.html", "templates/"+name+".html"))
		}
	}
	return all
}

// timeWords says how long something takes: in seconds up to a minute, in minutes from there, never too little.
func timeWords(text func(string) string, d time.Duration) string {
	n, one, many := int((d+time.Second-1)/time.Second), "second", "seconds"
	if n > 60 {
		n, one, many = int((d+time.Minute-1)/time.Minute), "minute", "minutes"
	}
	if n == 1 {
		return text(one)
	}
	return fmt.Sprintf(text(many), n)
}

// initial is the letter that stands for an application without an icon.
func initial(name string) string {
	for _, r := range name {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return string(unicode.ToUpper(r))
		}
	}
	return "·"
}

// hues are the classes of colours that portal.css has for such letters.
const hues = 8

func hue(name string) int {
	h := fnv.New32a()
	h.Write([]byte(name))
	return int(h.Sum32() % hues)
}
