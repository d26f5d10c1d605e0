// Package menu is what people's desktops have of the image's catalogue: a menu
// of its applications for the window manager, and the command that each item of
// it does.
package menu

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"unicode"

	"github.com/oriel-project/oriel/internal/agent/catalogue"
	"github.com/oriel-project/oriel/internal/agentapi"
)

// Main is the program's commands menu and launch NAME. It returns the exit code.
func Main(args []string) int {
	c := catalogue.Open(catalogue.Dir)
	var err error
	if args[0] == "menu" {
		var entries []catalogue.Entry
		if entries, err = c.Entries(); err == nil {
			err = Write(os.Stdout, entries)
		}
	} else {
		err = launch(c, args[1])
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "oriel-agent: %v\n", err)
		return 1
	}
	return 0
}

// Write writes the menu, as openbox reads it from a program: the applications of
// the catalogue, or if it has none, the programs that are installed; and the
// windows that are open.
func Write(w io.Writer, entries []catalogue.Entry) error {
	var b strings.Builder
	b.WriteString("<openbox_pipe_menu>\n")
	for _, e := range entries {
		fmt.Fprintf(&b, "  <item label=\"%s\"><action name=\"Execute\"><command>%s</command></action></item>\n",
			escape(label(cmp.Or(e.DisplayName, e.Name))), escape(agentapi.Binary+" launch "+quote(e.Name)))
	}
	if len(entries) == 0 {
		b.WriteString("  <menu id=\"applications\" label=\"Applications\" execute=\"/etc/oriel/applications\"/>\n")
	}
	b.WriteString("  <separator/>\n  <menu id=\"client-list-combined-menu\"/>\n</openbox_pipe_menu>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// label makes a label of a text. The window manager takes the first underscore
// of a label for the mark of a key, and out of it; another one before it is that
// mark then.
func label(text string) string {
	if strings.Contains(text, "_") && text[0] > ' ' && text[0] < 0x7f {
		return "_" + text
	}
	return text
}

// escape makes text part of an XML document, without what cannot be in one.
func escape(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r):
			return ' '
		case r == 0xfffe || r == 0xffff:
			return unicode.ReplacementChar
		}
		return r
	}, text)
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;").Replace(text)
}

// quote makes text one word of a command line, as the window manager reads it.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// launch becomes the application.
func launch(c *catalogue.Catalogue, name string) error {
	e, err := c.Find(name)
	if err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	argv, err := e.Argv()
	if err != nil {
		return err
	}
	if e.WorkingDirectory == "" || os.Chdir(e.WorkingDirectory) != nil {
		os.Chdir(os.Getenv("HOME")) // and if there is none, it begins where it is
	}
	return fmt.Errorf("%s: %w", argv[0], syscall.Exec(argv[0], argv, os.Environ()))
}
