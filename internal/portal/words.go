package portal

import (
	"embed"
	"fmt"
	"hash/fnv"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/oriel-project/oriel/internal/theme"
	"github.com/oriel-project/oriel/internal/web"
)

// languageCookie has the language that somebody chose.
const languageCookie = "oriel-language"

// A language is one that the portal speaks.
type language struct{ Code, Name string }

// languages are those that there are; the first is for those who speak none of them.
var languages = []language{{"en", "English"}, {"de", "Deutsch"}}

// words has every text of the pages, by language.
var words = map[string]map[string]string{
	"en": {
		"sign_in":               "Sign in",
		"sign_in_intro":         "Your applications, in the browser.",
		"email":                 "E-mail address",
		"password":              "Password",
		"forgotten_link":        "Forgotten your password?",
		"wrong":                 "The e-mail address or the password is not right. Capital and small letters count in both.",
		"wait":                  "Too many attempts. Try again in %s.",
		"disabled":              "Your access is disabled just now. Ask your administrator.",
		"old":                   "Your temporary password has expired. Ask your administrator for a new one.",
		"signed_out":            "You are signed out.",
		"password_changed":      "Your password is changed. Sign in with it.",
		"password_changed_here": "Your password is changed.",
		"choose_title":          "Choose a password",
		"choose_intro":          "It takes the place of the one that you were given.",
		"reset_intro":           "It takes the place of the one that you have now.",
		"change_title":          "Change your password",
		"change_intro":          "You are signed out everywhere else then.",
		"old_password":          "Present password",
		"new_password":          "New password",
		"new_again":             "New password, once more",
		"new_hint":              "At least 10 characters. A few words that nobody would put together are good, and easy to remember.",
		"save_password":         "Save the password",
		"cancel":                "Cancel",
		"different":             "The two are not the same. Type the new password again.",
		"old_wrong":             "The present password is not right.",
		"same":                  "That is the password that you have. Choose another one.",
		"weak_short":            "That is too short. Take at least 10 characters.",
		"weak_long":             "That is too long. Take at most 128 characters.",
		"weak_plain":            "That is too easy to guess: it has few different characters.",
		"weak_known":            "That is too easy to guess: it is your address, or a part of it.",
		"weak_broken":           "That has characters that are no text. Choose another one.",
		"forgotten_title":       "Forgotten your password?",
		"forgotten_intro":       "Tell us your address, and we send you a link by which you can choose a new password.",
		"send_link":             "Send the link",
		"sent_title":            "Look into your mail",
		"sent_text":             "If there is access for this address, a link is on its way. It is good for 24 hours.",
		"sent_more":             "Nothing there after a few minutes? Look into the folder for unwanted mail, or ask your administrator.",
		"no_mail_text":          "Ask your administrator. He can give you a temporary password, with which you choose a new one.",
		"back":                  "Back to the sign-in",
		"link_title":            "This link is not good any more",
		"link_text":             "It was used already, a newer one was sent, or its time is over. Ask for a new one.",
		"home_title":            "Your applications",
		"account":               "Your access",
		"sign_out":              "Sign out",
		"change_password":       "Change password",
		"none_title":            "Nothing here yet",
		"none_text":             "Your administrator has not given you any applications so far. Load this page again when that has happened.",
		"closed":                "Not available just now",
		"running":               "You have a session here",
		"resume":                "Back to your session",
		"desktop":               "Desktop",
		"no_applications":       "There are no applications in here.",
		"skip":                  "Skip to the applications",
		"region":                "Region",
		"language":              "Language",
		"nothing_title":         "There is nothing here",
		"nothing_text":          "Check that the address was copied whole, or ask your administrator for it.",
		"gone_title":            "This is not there any more",
		"gone_text":             "The application was taken away, or is not given to you any more.",
		"foreign_title":         "Not from this site",
		"foreign_text":          "The request came from another website and was not carried out.",
		"broken_title":          "That could not be read",
		"broken_text":           "Go back and try again.",
		"fault_title":           "Something went wrong",
		"fault_text":            "The server could not answer just now. Try again in a moment.",
		"go_home":               "Go to the start page",
		"second":                "1 second",
		"seconds":               "%d seconds",
		"minute":                "1 minute",
		"minutes":               "%d minutes",
	},
	"de": {
		"sign_in":               "Anmelden",
		"sign_in_intro":         "Ihre Anwendungen, im Browser.",
		"email":                 "E-Mail-Adresse",
		"password":              "Passwort",
		"forgotten_link":        "Passwort vergessen?",
		"wrong":                 "E-Mail-Adresse oder Passwort stimmt nicht. In beiden zählen Groß- und Kleinbuchstaben.",
		"wait":                  "Zu viele Versuche. Versuchen Sie es in %s noch einmal.",
		"disabled":              "Ihr Zugang ist zurzeit gesperrt. Wenden Sie sich an Ihre Administration.",
		"old":                   "Ihr vorläufiges Passwort ist abgelaufen. Bitten Sie Ihre Administration um ein neues.",
		"signed_out":            "Sie sind abgemeldet.",
		"password_changed":      "Ihr Passwort ist geändert. Melden Sie sich damit an.",
		"password_changed_here": "Ihr Passwort ist geändert.",
		"choose_title":          "Passwort wählen",
		"choose_intro":          "Es ersetzt das Passwort, das Sie bekommen haben.",
		"reset_intro":           "Es ersetzt Ihr bisheriges Passwort.",
		"change_title":          "Passwort ändern",
		"change_intro":          "Überall sonst werden Sie dabei abgemeldet.",
		"old_password":          "Bisheriges Passwort",
		"new_password":          "Neues Passwort",
		"new_again":             "Neues Passwort, noch einmal",
		"new_hint":              "Mindestens 10 Zeichen. Gut und leicht zu merken sind ein paar Wörter, die niemand zusammen vermutet.",
		"save_password":         "Passwort speichern",
		"cancel":                "Abbrechen",
		"different":             "Die beiden sind nicht gleich. Geben Sie das neue Passwort noch einmal ein.",
		"old_wrong":             "Das bisherige Passwort stimmt nicht.",
		"same":                  "Das ist Ihr jetziges Passwort. Wählen Sie ein anderes.",
		"weak_short":            "Das ist zu kurz. Nehmen Sie mindestens 10 Zeichen.",
		"weak_long":             "Das ist zu lang. Nehmen Sie höchstens 128 Zeichen.",
		"weak_plain":            "Das ist zu leicht zu erraten: Es hat nur wenige verschiedene Zeichen.",
		"weak_known":            "Das ist zu leicht zu erraten: Es ist Ihre Adresse oder ein Teil davon.",
		"weak_broken":           "Das hat Zeichen, die kein Text sind. Wählen Sie ein anderes.",
		"forgotten_title":       "Passwort vergessen?",
		"forgotten_intro":       "Nennen Sie uns Ihre Adresse, dann schicken wir Ihnen einen Link, mit dem Sie ein neues Passwort wählen können.",
		"send_link":             "Link schicken",
		"sent_title":            "Sehen Sie in Ihre E-Mails",
		"sent_text":             "Wenn es für diese Adresse einen Zugang gibt, ist ein Link unterwegs. Er gilt 24 Stunden.",
		"sent_more":             "Nach ein paar Minuten noch nichts da? Sehen Sie in den Ordner für unerwünschte E-Mails, oder wenden Sie sich an Ihre Administration.",
		"no_mail_text":          "Wenden Sie sich an Ihre Administration. Dort bekommen Sie ein vorläufiges Passwort, mit dem Sie ein neues wählen.",
		"back":                  "Zurück zur Anmeldung",
		"link_title":            "Dieser Link gilt nicht mehr",
		"link_text":             "Er wurde schon benutzt, es wurde ein neuerer geschickt, oder seine Zeit ist um. Bitten Sie um einen neuen.",
		"home_title":            "Ihre Anwendungen",
		"account":               "Ihr Zugang",
		"sign_out":              "Abmelden",
		"change_password":       "Passwort ändern",
		"none_title":            "Hier ist noch nichts",
		"none_text":             "Ihre Administration hat Ihnen bisher keine Anwendungen zugeteilt. Laden Sie die Seite neu, wenn das geschehen ist.",
		"closed":                "Zurzeit nicht verfügbar",
		"running":               "Sie haben hier eine Sitzung",
		"resume":                "Zurück zur Sitzung",
		"desktop":               "Desktop",
		"no_applications":       "Hier sind keine Anwendungen.",
		"skip":                  "Zu den Anwendungen springen",
		"region":                "Region",
		"language":              "Sprache",
		"nothing_title":         "Hier ist nichts",
		"nothing_text":          "Prüfen Sie, ob die Adresse vollständig ist, oder fragen Sie Ihre Administration danach.",
		"gone_title":            "Das gibt es nicht mehr",
		"gone_text":             "Die Anwendung wurde entfernt, oder sie ist Ihnen nicht mehr zugeteilt.",
		"foreign_title":         "Nicht von dieser Website",
		"foreign_text":          "Die Anfrage kam von einer anderen Website und wurde nicht ausgeführt.",
		"broken_title":          "Das war nicht zu lesen",
		"broken_text":           "Gehen Sie zurück und versuchen Sie es noch einmal.",
		"fault_title":           "Etwas ist schiefgegangen",
		"fault_text":            "Der Server konnte gerade nicht antworten. Versuchen Sie es gleich noch einmal.",
		"go_home":               "Zur Startseite",
		"second":                "1 Sekunde",
		"seconds":               "%d Sekunden",
		"minute":                "1 Minute",
		"minutes":               "%d Minuten",
	},
}

// languageOf gives the language of a request: the one that was chosen, else the first that the browser asks for and that there is.
func languageOf(r *http.Request) string {
	if c, err := r.Cookie(languageCookie); err == nil && words[c.Value] != nil {
		return c.Value
	}
	return preferred(r.Header.Get("Accept-Language"))
}

const maxAcceptLanguage = 512 // bytes that are looked at

func preferred(header string) string {
	best, quality := languages[0].Code, 0.0
	for part := range strings.SplitSeq(header[:min(len(header), maxAcceptLanguage)], ",") {
		tag, parameter, _ := strings.Cut(part, ";")
		code, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(tag)), "-")
		q := 1.0
		if text, ok := strings.CutPrefix(strings.TrimSpace(parameter), "q="); ok {
			var err error
			if q, err = strconv.ParseFloat(text, 64); err != nil {
				continue
			}
		}
		if words[code] != nil && q > quality && q <= 1 {
			best, quality = code, q
		}
	}
	return best
}

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
	for _, l := range languages {
		all[l.Code] = pages{}
		text := func(key string) string {
			if t, ok := words[l.Code][key]; ok {
				return t
			}
			panic("portal: there is no text " + key + " in " + l.Code)
		}
		funcs := template.FuncMap{"asset": web.Path, "icon": web.Icon, "t": text, "languages": func() []language { return languages }, "initial": initial, "hue": hue,
			"failure": func(key string, wait time.Duration) string {
				if key == "wait" {
					return fmt.Sprintf(text(key), timeWords(text, wait))
				}
				return text(key)
			}}
		for _, name := range []string{"sign-in", "password", "forgotten", "home", "notice"} {
			all[l.Code][name] = template.Must(template.New("layout.html").Funcs(funcs).ParseFS(templates, "templates/layout.html", "templates/"+name+".html"))
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
