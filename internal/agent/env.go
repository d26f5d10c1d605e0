package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/oriel-project/oriel/internal/agentapi"
)

// systemVars are the variables that AppStream documents for every instance.
func systemVars(c agentapi.Config) [][2]string {
	return [][2]string{
		{"AppStream_Image_Arn", c.ImageARN},
		{"AppStream_Instance_Type", c.InstanceType},
		{"AppStream_Resource_Type", string(c.Role)},
		{"AppStream_Resource_Name", c.ResourceName},
	}
}

// userVars are those that it documents for a session.
func userVars(s agentapi.Session) [][2]string {
	return [][2]string{
		{"AppStream_Stack_Name", s.Stack},
		{"AppStream_User_Access_Mode", s.AccessMode},
		{"AppStream_Session_Reservation_DateTime", s.Reserved.UTC().Format(time.RFC3339)},
		{"AppStream_UserName", s.UserID},
		{"AppStream_Session_ID", s.ID},
		{"APPSTREAM_SESSION_CONTEXT", s.Context},
	}
}

// environ writes variables as programs get them. None can end one early.
func environ(vars [][2]string) []string {
	env := make([]string, len(vars))
	for i, v := range vars {
		env[i] = v[0] + "=" + strings.ReplaceAll(v[1], "\x00", "")
	}
	return env
}

// writeVars puts variables where login shells find them, as AppStream does on
// Linux.
func writeVars(file string, vars [][2]string) error {
	var b strings.Builder
	b.WriteString("# Written by oriel-agent.\n")
	for _, v := range vars {
		fmt.Fprintf(&b, "export %s=%s\n", v[0], shellQuote(strings.ReplaceAll(v[1], "\x00", "")))
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", []byte(b.String()), 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// shellQuote makes s one word of a POSIX shell, whatever is in it.
func shellQuote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// desktopEnv is the environment of every desktop's programs, without what
// depends on the display and its user.
func desktopEnv(c agentapi.Config, p paths) []string {
	return slices.Concat(
		[]string{"PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"},
		locale(p.locale),
		environ(systemVars(c)),
	)
}

// imageEnv reads what the image gives to programs of the desktop, such as
// where they find their looks: lines NAME=value, with $HOME for the user's
// home. The desktop itself has it from there, too. Without the file it is
// nothing.
func imageEnv(file, home string) []string {
	text, _ := os.ReadFile(file)
	var env []string
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && variableName.MatchString(name) {
			env = append(env, name+"="+strings.ReplaceAll(value, "$HOME", home))
		}
	}
	return env
}

var variableName = regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)

// locale returns the LANG and LC_* settings of Debian's /etc/default/locale,
// or UTF-8 without a language.
func locale(file string) []string {
	text, _ := os.ReadFile(file)
	var env []string
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && (name == "LANG" || name == "LANGUAGE" || strings.HasPrefix(name, "LC_")) {
			env = append(env, name+"="+strings.Trim(value, `"'`))
		}
	}
	if len(env) == 0 {
		env = []string{"LANG=C.UTF-8"}
	}
	return env
}
