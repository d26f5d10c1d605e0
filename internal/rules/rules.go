// Package rules holds what is true of the repository as a whole: which package may import which, that every package explains
// itself, that documents say what the code does. Its tests check it; each rule says why it is there.
package rules

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/oriel-project/oriel/internal/appstream"
)

// module is the name of this module.
const module = "github.com/oriel-project/oriel"

// direction says what a package may import of this module.
type direction struct {
	pkg    string   // a path in the module; with /... also what is below
	may    []string // likewise; what is not named is forbidden
	reason string
}

// contracts are what everything in the middle may know: the domain, the two contracts, and small things that know nothing.
var contracts = []string{"internal/appstream", "internal/compute", "internal/store", "internal/agentapi", "internal/ticket", "internal/blob", "internal/seal", "internal/objects"}

// directions has the most particular package first; the first that fits holds.
var directions = []direction{
	{"cmd/oriel-agent", []string{"internal/agent"}, "the agent runs in every machine, as root: it links nothing of the server"},
	{"cmd/oriel", []string{"internal/server", "internal/config", "internal/bootstrap", "internal/awsclient", "internal/keys", "internal/telemetry", "internal/agentapi", "internal/objects", "internal/recipe", "internal/imagebuild"},
		"a command reads flags and prints; what is done, server does"},
	{"internal/server", []string{"..."}, "the one package that knows every other"},
	{"internal/rules/...", []string{"internal/rules", "internal/appstream"}, "rules look at sources; they link the domain to print its tables"},
	{"e2e/...", []string{"..."}, "tests that act as users may look anywhere"},

	{"internal/agent/...", []string{"internal/agent/...", "internal/agentapi"}, "the agent links nothing of the server, so that it stays small and can be of another version"},
	{"internal/agentapi", nil, "both the server and the agent link it"},

	{"internal/appstream", nil, "the domain has no I/O: its plans can be tested with nothing around them"},
	{"internal/store", []string{"internal/appstream"}, "a contract knows the domain and no implementation"},
	{"internal/compute", []string{"internal/appstream"}, "a contract knows the domain and no implementation"},
	{"internal/store/...", []string{"internal/appstream", "internal/store"}, "stores do not know one another, so that each can be left out"},
	{"internal/compute/...", []string{"internal/appstream", "internal/compute", "internal/agentapi", "internal/oci"}, "providers do not know one another, so that each can be left out"},

	{"internal/service", append([]string{"internal/picture", "internal/password", "internal/lockout"}, contracts...), "operations write what is wanted; who carries it out, and on which store, they do not know"},
	{"internal/reconcile", contracts, "the engine knows contracts, so that it can be simulated with crashes anywhere"},
	{"internal/gateway/words", []string{"internal/language"}, "texts know nothing of what they are said of"},
	{"internal/gateway", append([]string{"internal/web", "internal/proxy", "internal/rfb", "internal/picture", "internal/theme", "internal/language", "internal/gateway/words"}, contracts...), "the browser's side knows contracts, and no operation"},
	{"internal/keyring", append([]string{"internal/api/iam", "internal/keys", "internal/service"}, contracts...), "it has the operations on keys, and knows no wire"},
	{"internal/journal", []string{"internal/appstream", "internal/store"}, "it reads the logs, and knows no operation that writes them"},
	{"internal/mail", append([]string{"internal/language"}, contracts...), "letters are about users, of whom it knows by an interface"},
	{"internal/portal", append([]string{"internal/service", "internal/web", "internal/proxy", "internal/lockout", "internal/theme", "internal/language"}, contracts...), "pages for people: what they ask for is done by operations"},
	{"internal/attend", append([]string{"internal/service"}, contracts...), "what agents ask for is done by operations"},

	{"internal/api/iam", nil, "policies can be checked without a server"},
	{"internal/api/...", []string{"internal/api/...", "internal/appstream"}, "the wire knows shapes, and no operation"},
	{"internal/config", []string{"internal/api/iam", "internal/appstream", "internal/language", "internal/tomlfile"}, "settings are checked before anything is there"},
	{"internal/telemetry", []string{"internal/appstream"}, "it counts nouns and states, and does not know who tells it"},
	{"internal/web/...", nil, "files of the browser's side"},
	{"internal/bootstrap/...", []string{"images"}, "it makes a root file system, and knows no engine"},
	{"internal/awsclient", []string{"internal/keys"}, "a client is made of a key and an address, as users make theirs"},
	{"internal/blob", nil, "a leaf"},
	{"internal/blob/blobtest", []string{"internal/blob", "internal/porttest"}, "tests of what is kept in buckets share a server"},
	{"internal/oci", nil, "a leaf"},
	{"internal/objects", []string{"internal/blob"}, "it knows how a bucket is reached, and nothing of what is in it"},
	{"internal/picture", nil, "a leaf: an image can be checked without knowing what it is for"},
	{"internal/theme", []string{"internal/appstream", "internal/store"}, "every page of a stack asks it how to look, the portal's and the gateway's"},
	{"internal/proxy", nil, "a leaf"},
	{"internal/rfb", nil, "a leaf: what may pass is decided without a stream"},
	{"internal/mail/mailtest", nil, "tests of letters share a server"},
	{"internal/porttest", nil, "a leaf: whatever test starts a server asks it for a port"},
	{"internal/rfb/rfbtest", nil, "tests of streams share a real display"},
	{"internal/keys", nil, "a leaf"},
	{"internal/password", nil, "a leaf: passwords can be checked without a server"},
	{"internal/language", nil, "a leaf: whatever people read asks it for the language"},
	{"internal/language/languagetest", []string{"internal/language"}, "texts are tested alike wherever they are"},
	{"internal/lockout", nil, "a leaf: it counts, and does not know what"},
	{"internal/seal", nil, "a leaf: secrets can be sealed and opened without a server"},
	{"internal/tomlfile", nil, "a leaf"},
	{"internal/recipe", []string{"internal/tomlfile", "internal/agentapi"}, "what a file says can be checked without a server"},
	{"internal/imagebuild", []string{"internal/recipe"}, "it calls the API as any client does"},
	{"internal/ticket", nil, "a leaf: signatures can be checked without a server"},
	{"images", nil, "files"},
}

// directionOf gives the direction that holds for a package.
func directionOf(pkg string) (direction, bool) {
	i := slices.IndexFunc(directions, func(d direction) bool { return matches(d.pkg, pkg) })
	if i < 0 {
		return direction{}, false
	}
	return directions[i], true
}

func matches(pattern, pkg string) bool {
	prefix, below := strings.CutSuffix(pattern, "...")
	if !below {
		return pattern == pkg
	}
	return strings.HasPrefix(pkg+"/", prefix)
}

// States gives docs/states.md: the transition table of each noun.
func States() string {
	var b strings.Builder
	b.WriteString("# States\n\nWritten by `make docs` from the tables in `internal/appstream`, which the store enforces: " +
		"it refuses a change of\nstate that is not here.\n")
	tables := appstream.Transitions()
	for _, noun := range slices.Sorted(maps.Keys(tables)) {
		fmt.Fprintf(&b, "\n## %s\n\n| from | to | when |\n|---|---|---|\n", noun)
		for _, t := range grouped(tables[noun]) {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", t.From, t.To, t.When)
		}
	}
	return b.String()
}

// grouped puts transitions with the same end and cause into one row, in the order in which they first appear.
func grouped(table []appstream.Transition) []appstream.Transition {
	var rows []appstream.Transition
	for _, t := range table {
		t.From, t.To = state(t.From, "(new)"), state(t.To, "(gone)")
		same := func(r appstream.Transition) bool { return r.To == t.To && r.When == t.When }
		if i := slices.IndexFunc(rows, same); i >= 0 {
			rows[i].From += ", " + t.From
		} else {
			rows = append(rows, t)
		}
	}
	return rows
}

func state(name, none string) string {
	if name == "" {
		return none
	}
	return "`" + name + "`"
}
