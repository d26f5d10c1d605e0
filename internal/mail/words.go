package mail

import (
	_ "embed"
	"html/template"
	"strings"
	texttemplate "text/template"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/language"
)

// facts is what the words of a letter are about.
type facts struct {
	Name    string // first name; "" when it is not known
	Address string
	Portal  string // URL
	Secret  string // temporary password, or the text of a link
	Stack   string // title
}

// Link is where another password can be chosen.
func (f facts) Link() string { return f.Portal + "/reset?code=" + f.Secret }

// contents is a letter that was written.
type contents struct{ Language, Subject, Text, HTML string }

// words are those of one kind of letter in one language. Each is a template of facts, in which a paragraph that is only a link or a password stands out.
type words struct {
	subject    string
	greeting   string
	paragraphs []paragraph
	closing    string // in small letters
}

type paragraph struct {
	text string
	kind string // "": text; password; link: text is what it says in HTML, and url where it leads
	url  string
}

// letters has the words of every kind of letter in every language.
var letters = map[string]map[appstream.LetterKind]words{
	"en": {
		appstream.LetterWelcome: {
			subject:  "Your access to applications",
			greeting: "Hello{{with .Name}} {{.}}{{end}},",
			paragraphs: []paragraph{
				{text: "you can now use applications in your browser. Sign in with your e-mail address, {{.Address}}, and this temporary password:"},
				{text: "{{.Secret}}", kind: "password"},
				{text: "You will choose a password of your own then. The temporary one is good for seven days."},
				{text: "Sign in", kind: "link", url: "{{.Portal}}"},
			},
			closing: "If you do not know what this is about, you can ignore this mail.",
		},
		appstream.LetterReset: {
			subject:  "Choose a new password",
			greeting: "Hello{{with .Name}} {{.}}{{end}},",
			paragraphs: []paragraph{
				{text: "somebody, you most likely, asked for a new password for {{.Address}}. You can choose it here, within 24 hours:"},
				{text: "Choose a password", kind: "link", url: "{{.Link}}"},
			},
			closing: "If it was not you, ignore this mail: your password stays as it is.",
		},
		appstream.LetterStack: {
			subject:  "New for you: {{.Stack}}",
			greeting: "Hello{{with .Name}} {{.}}{{end}},",
			paragraphs: []paragraph{
				{text: "you can now use “{{.Stack}}”. You find it where you sign in, with your address {{.Address}}:"},
				{text: "Go to your applications", kind: "link", url: "{{.Portal}}"},
			},
			closing: "If you do not know what this is about, you can ignore this mail.",
		},
	},
	"de": {
		appstream.LetterWelcome: {
			subject:  "Ihr Zugang zu Anwendungen",
			greeting: "Guten Tag{{with .Name}} {{.}}{{end}},",
			paragraphs: []paragraph{
				{text: "Sie können jetzt Anwendungen in Ihrem Browser benutzen. Melden Sie sich mit Ihrer E-Mail-Adresse {{.Address}} und diesem vorläufigen Passwort an:"},
				{text: "{{.Secret}}", kind: "password"},
				{text: "Danach wählen Sie ein eigenes Passwort. Das vorläufige gilt sieben Tage."},
				{text: "Anmelden", kind: "link", url: "{{.Portal}}"},
			},
			closing: "Wenn Sie nicht wissen, worum es geht, können Sie diese Nachricht ignorieren.",
		},
		appstream.LetterReset: {
			subject:  "Neues Passwort wählen",
			greeting: "Guten Tag{{with .Name}} {{.}}{{end}},",
			paragraphs: []paragraph{
				{text: "jemand, vermutlich Sie selbst, hat um ein neues Passwort für {{.Address}} gebeten. Sie können es hier innerhalb von 24 Stunden wählen:"},
				{text: "Passwort wählen", kind: "link", url: "{{.Link}}"},
			},
			closing: "Wenn Sie es nicht waren, ignorieren Sie diese Nachricht: Ihr Passwort bleibt, wie es ist.",
		},
		appstream.LetterStack: {
			subject:  "Neu für Sie: {{.Stack}}",
			greeting: "Guten Tag{{with .Name}} {{.}}{{end}},",
			paragraphs: []paragraph{
				{text: "Sie können jetzt „{{.Stack}}“ benutzen. Sie finden es nach der Anmeldung mit Ihrer Adresse {{.Address}}:"},
				{text: "Zu Ihren Anwendungen", kind: "link", url: "{{.Portal}}"},
			},
			closing: "Wenn Sie nicht wissen, worum es geht, können Sie diese Nachricht ignorieren.",
		},
	},
}

//go:embed letter.html
var letterText string

var letterPage = template.Must(template.New("letter").Parse(letterText))

// part is a paragraph with its facts.
type part struct{ Text, Kind, URL string }

// write writes a letter. A language that there is not is English.
func write(kind appstream.LetterKind, code string, f facts) contents {
	if letters[code] == nil {
		code = language.Fallback
	}
	w := letters[code][kind]
	fill := func(text string) string {
		var b strings.Builder
		// The templates are those above, which a test has filled.
		template := texttemplate.Must(texttemplate.New("").Parse(text))
		if err := template.Execute(&b, f); err != nil {
			panic(err)
		}
		return b.String()
	}
	// A subject is one line: a title of a stack may have others.
	c := contents{Language: code, Subject: strings.Join(strings.Fields(fill(w.subject)), " ")}
	text := []string{fill(w.greeting)}
	var parts []part
	for _, p := range w.paragraphs {
		filled := part{fill(p.text), p.kind, fill(p.url)}
		parts = append(parts, filled)
		switch p.kind {
		case "password":
			text = append(text, "    "+filled.Text)
		case "link":
			text = append(text, filled.URL)
		default:
			text = append(text, filled.Text)
		}
	}
	closing := fill(w.closing)
	c.Text = strings.Join(append(text, "-- \n"+closing), "\n\n") + "\n"
	var b strings.Builder
	if err := letterPage.Execute(&b, map[string]any{"Language": code, "Subject": c.Subject, "Greeting": text[0], "Parts": parts, "Closing": closing}); err != nil {
		panic(err)
	}
	c.HTML = b.String()
	return c
}
