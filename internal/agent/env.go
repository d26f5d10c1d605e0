package agent

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/oriel-project/oriel/internal/agentapi"
)

// desktopUID is the user whose desktop is shown: ImageBuilderAdmin.
const desktopUID = 1000

// account is the desktop's user as /etc/passwd has it.
type account struct {
	name, home string
	uid, gid   int
	groups     []uint32
}

func lookupAccount(uid int) (account, error) {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return account{}, fmt.Errorf("the image has no user with uid %d: %w", uid, err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return account{}, fmt.Errorf("user %s has no numeric group: %w", u.Username, err)
	}
	a := account{name: u.Username, home: u.HomeDir, uid: uid, gid: gid}
	names, err := u.GroupIds()
	if err != nil {
		return account{}, fmt.Errorf("groups of user %s: %w", u.Username, err)
	}
	for _, s := range names {
		if g, err := strconv.ParseUint(s, 10, 32); err == nil {
			a.groups = append(a.groups, uint32(g))
		}
	}
	return a, nil
}

// systemVars are the variables that AppStream documents for every instance.
func systemVars(c agentapi.Config) [][2]string {
	return [][2]string{
		{"AppStream_Image_Arn", c.ImageARN},
		{"AppStream_Instance_Type", c.InstanceType},
		{"AppStream_Resource_Type", string(c.Role)},
		{"AppStream_Resource_Name", c.ResourceName},
	}
}

// writeSystemVars puts the variables where login shells find them, as
// AppStream does on Linux.
func writeSystemVars(file string, c agentapi.Config) error {
	var b strings.Builder
	b.WriteString("# Written by oriel-agent at each start.\n")
	for _, v := range systemVars(c) {
		fmt.Fprintf(&b, "export %s=%s\n", v[0], shellQuote(v[1]))
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

// sessionEnv is the environment of the desktop's programs.
func sessionEnv(c agentapi.Config, a account, paths paths) []string {
	env := []string{
		"DISPLAY=:0",
		"XAUTHORITY=" + paths.xauthority(),
		"HOME=" + a.home,
		"USER=" + a.name,
		"LOGNAME=" + a.name,
		"PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games",
		"XDG_RUNTIME_DIR=" + paths.userRuntime,
		"XDG_SESSION_TYPE=x11",
	}
	env = append(env, locale(paths.locale)...)
	for _, v := range systemVars(c) {
		env = append(env, v[0]+"="+v[1])
	}
	return env
}

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
