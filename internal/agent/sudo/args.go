package sudo

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// invocation is what the command line asks for.
type invocation struct {
	Login        bool     `json:"login,omitzero"`   // -i
	Shell        bool     `json:"shell,omitzero"`   // -s
	Check        bool     `json:"check,omitzero"`   // -v: ask whether it is allowed, and do nothing
	User         string   `json:"user,omitzero"`    // -u: a name or #uid; root when empty
	Group        string   `json:"group,omitzero"`   // -g: a name or #gid
	Dir          string   `json:"dir,omitzero"`     // -D
	Home         bool     `json:"home,omitzero"`    // -H
	KeepAll      bool     `json:"keepAll,omitzero"` // -E
	Keep         []string `json:"keep,omitzero"`    // --preserve-env=…
	Set          []string `json:"-"`                // VAR=value
	Argv         []string `json:"-"`                // the command
	action       action   // what the client does itself
	inBackground bool     // -b
}

// action is something that needs no command to be run.
type action int

const (
	actionRun     action = iota
	actionNothing        // -k, -K: there is no password to forget
	actionHelp
	actionVersion
	actionList
)

var errUsage = errors.New("usage: sudo [-bEHin] [-s] [-u user] [-g group] [-D directory] [VAR=value] [--] command [argument …]\n" +
	"       sudo -i | -s [command]     a shell as root\n" +
	"       sudo -l | -v               what is allowed")

// option is one of sudo's flags. Those about passwords are understood and do
// nothing: an image builder asks for none.
type option struct {
	short byte
	long  string
	value bool // takes a value
	set   func(v *invocation, value string)
}

var options = []option{
	{'A', "askpass", false, nil},
	{'B', "bell", false, nil},
	{'b', "background", false, func(v *invocation, _ string) { v.inBackground = true }},
	{'C', "close-from", true, nil},
	{'D', "chdir", true, func(v *invocation, s string) { v.Dir = s }},
	{'E', "preserve-env", false, func(v *invocation, s string) {
		if s == "" {
			v.KeepAll = true
			return
		}
		v.Keep = append(v.Keep, strings.Split(s, ",")...)
	}},
	{'g', "group", true, func(v *invocation, s string) { v.Group = s }},
	{'H', "set-home", false, func(v *invocation, _ string) { v.Home = true }},
	{'h', "help", false, func(v *invocation, _ string) { v.action = actionHelp }},
	{'i', "login", false, func(v *invocation, _ string) { v.Login = true }},
	{'K', "remove-timestamp", false, func(v *invocation, _ string) { v.action = actionNothing }},
	{'k', "reset-timestamp", false, func(v *invocation, _ string) { v.action = actionNothing }},
	{'l', "list", false, func(v *invocation, _ string) { v.action = actionList }},
	{'N', "no-update", false, nil},
	{'n', "non-interactive", false, nil},
	{'P', "preserve-groups", false, nil},
	{'p', "prompt", true, nil},
	{'S', "stdin", false, nil},
	{'s', "shell", false, func(v *invocation, _ string) { v.Shell = true }},
	{'u', "user", true, func(v *invocation, s string) { v.User = s }},
	{'V', "version", false, func(v *invocation, _ string) { v.action = actionVersion }},
	{'v', "validate", false, func(v *invocation, _ string) { v.Check = true }},
}

// parse understands the arguments after "sudo".
func parse(args []string) (*invocation, error) {
	v := &invocation{}
	for len(args) > 0 {
		arg := args[0]
		switch {
		case arg == "--":
			args = args[1:]
			v.takeVariables(&args)
			return v.finish(args)
		case strings.HasPrefix(arg, "--"):
			args = args[1:]
			name, value, given := strings.Cut(arg[2:], "=")
			i := slices.IndexFunc(options, func(o option) bool { return o.long == name })
			if i < 0 {
				return nil, fmt.Errorf("unrecognized option '--%s'\n%w", name, errUsage)
			}
			o := options[i]
			if o.value && !given {
				if len(args) == 0 {
					return nil, fmt.Errorf("option '--%s' requires an argument\n%w", name, errUsage)
				}
				value, args = args[0], args[1:]
			}
			if given && !o.value && o.long != "preserve-env" {
				return nil, fmt.Errorf("option '--%s' doesn't allow an argument\n%w", name, errUsage)
			}
			o.apply(v, value)
		case len(arg) > 1 && arg[0] == '-':
			args = args[1:]
			for j := 1; j < len(arg); j++ {
				i := slices.IndexFunc(options, func(o option) bool { return o.short == arg[j] })
				if i < 0 {
					return nil, fmt.Errorf("invalid option -- '%c'\n%w", arg[j], errUsage)
				}
				o := options[i]
				if !o.value {
					o.apply(v, "")
					continue
				}
				value := arg[j+1:]
				if value == "" {
					if len(args) == 0 {
						return nil, fmt.Errorf("option requires an argument -- '%c'\n%w", arg[j], errUsage)
					}
					value, args = args[0], args[1:]
				}
				o.apply(v, value)
				break
			}
		case isVariable(arg):
			v.Set, args = append(v.Set, arg), args[1:]
		default:
			return v.finish(args)
		}
	}
	return v.finish(nil)
}

func (o option) apply(v *invocation, value string) {
	if o.set != nil {
		o.set(v, value)
	}
}

// takeVariables takes the VAR=value words at the front of args.
func (v *invocation) takeVariables(args *[]string) {
	for len(*args) > 0 && isVariable((*args)[0]) {
		v.Set, *args = append(v.Set, (*args)[0]), (*args)[1:]
	}
}

func isVariable(s string) bool {
	name, _, ok := strings.Cut(s, "=")
	return ok && name != "" && strings.IndexFunc(name, func(r rune) bool {
		return r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	}) < 0 && (name[0] < '0' || name[0] > '9')
}

func (v *invocation) finish(argv []string) (*invocation, error) {
	v.Argv = argv
	switch {
	case v.action == actionHelp || v.action == actionVersion || v.action == actionList:
	case v.action == actionNothing && len(argv) > 0: // sudo -k command: just the command
		v.action = actionRun
	case v.action == actionNothing || v.Check:
	case v.Login && v.Shell:
		return nil, errors.New("you may not specify both the -i and -s options")
	case len(argv) == 0 && !v.Login && !v.Shell:
		return nil, errUsage
	}
	return v, nil
}

// shellCommand joins words for a shell's -c as sudo does: every character but
// letters, digits, _, - and $ loses its meaning, so that $HOME is the target's.
func shellCommand(words []string) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteByte(' ')
		}
		if w == "" {
			b.WriteString("''")
		}
		for _, r := range []byte(w) {
			switch {
			case r == '\n':
				b.WriteString("'\n'")
				continue
			case r == '_' || r == '-' || r == '$' || r >= 0x80,
				r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			default:
				b.WriteByte('\\')
			}
			b.WriteByte(r)
		}
	}
	return b.String()
}
