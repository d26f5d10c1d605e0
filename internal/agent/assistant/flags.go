package assistant

import (
	"fmt"
	"strings"
)

// flagKind is how many words a flag takes.
type flagKind int

const (
	oneValue   flagKind = iota // --name VALUE or --name=VALUE
	manyValues                 // --tags VALUE VALUE … up to the next flag
	onOff                      // --name or --no-name
	switchOn                   // --name
)

// flags are the parsed arguments of an operation. The last of a repeated flag
// counts.
type flags struct {
	text map[string]string
	list map[string][]string
	on   map[string]bool
}

// usageError is a command line that is not understood.
type usageError string

func (e usageError) Error() string { return string(e) }

// parseFlags reads args by the kinds in known.
func parseFlags(args []string, known map[string]flagKind) (flags, error) {
	f := flags{text: map[string]string{}, list: map[string][]string{}, on: map[string]bool{}}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		full, ok := strings.CutPrefix(arg, "--")
		if !ok {
			return flags{}, usageError(fmt.Sprintf("Unexpected argument: %s", arg))
		}
		name, value, given := strings.Cut(full, "=")
		positive := strings.TrimPrefix(name, "no-")
		kind, ok := known[name]
		if !ok && known[positive] == onOff && positive != name {
			if _, exists := known[positive]; exists && !given {
				f.on[positive] = false
				continue
			}
		}
		if !ok {
			return flags{}, usageError(fmt.Sprintf("Unknown parameter: --%s", name))
		}
		switch kind {
		case oneValue:
			if !given {
				if len(args) == 0 {
					return flags{}, usageError(fmt.Sprintf("Missing value (%s)", name))
				}
				value, args = args[0], args[1:]
			}
			f.text[name] = value
		case manyValues:
			list := []string{}
			if given {
				list = append(list, value)
			}
			for len(args) > 0 && !strings.HasPrefix(args[0], "--") {
				list, args = append(list, args[0]), args[1:]
			}
			f.list[name] = list
		case onOff, switchOn:
			on := true
			if given {
				switch strings.ToLower(value) {
				case "true":
				case "false":
					on = false
				default:
					return flags{}, usageError(fmt.Sprintf("Invalid value (%s)", name))
				}
			}
			f.on[name] = on
		}
	}
	return f, nil
}

// unescape undoes the escaping that AppStream documents for launch parameters:
// quotation marks are doubled or follow a backslash, and the whole may be in
// quotation marks that the shell has left.
func unescape(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' && s != `""` {
		s = s[1 : len(s)-1]
	} else if s == `""` {
		return ""
	}
	return strings.NewReplacer(`""`, `"`, `\"`, `"`).Replace(s)
}
