package recipe

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json/v2"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// An image carries in its tags what it was made of, as digests: of the whole recipe, of its parts, and of the single items if there are few. So one
// can tell of an image and a file whether the one was made of the other, and what is different.
const (
	tagPrefix = "oriel:"
	tagDigest = "oriel:recipe"       // 64 hexadecimal digits
	tagParts  = "oriel:recipe-parts" // "base=1234abcd packages=…"
	tagItems  = "oriel:recipe-items" // itemLength characters for each item
	tagNames  = "oriel:recipe-names" // the items' names, as far as they fit, also with -2 and -3: to say what was taken out
)

const (
	digestDigits = 12 // of the digest in an image's name
	partDigits   = 8
	itemLength   = 6   // three characters of base64 for which item it is, three for what it is like
	maxTagValue  = 256 // characters
	nameTags     = 3
)

// tellable are the parts whose items have names that may be told, by the letter that a name begins with in the tags. A command is not one: it may have
// secrets in it.
var tellable = map[string]string{"packages": "p", "files": "f", "environment": "e", "applications": "a"}

// nameSeparator stands between names in the tags. It is made of what tags may have, and names that have it are left out.
const nameSeparator = " : "

// nameTag is what a tag's value may have.
var nameTag = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]+$`)

// form is part of each digest. It changes when the same file begins to mean something else.
const form = "1"

// Identity is what makes two images the same: the recipe with the content of its local files, and the base image.
type Identity struct {
	Digest string // 64 hexadecimal digits
	parts  []part
}

// part is a part of a recipe.
type part struct {
	Name  string
	Items []item
}

// item is something in it.
type item struct {
	Key   string // tells it from the others of its part
	Value string
	Line  int `json:"-"`
}

// Identity gives the identity of the image that the recipe makes of a base image; base is that image's own identity.
func (r *Recipe) Identity(base string) Identity {
	id := Identity{parts: []part{{Name: "base", Items: []item{{"base", base, r.lines.Of("base")}}}}}
	add := func(name string, ordered bool, items []item) {
		if !ordered {
			slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.Key, b.Key) })
		}
		id.parts = append(id.parts, part{name, items})
	}
	add("packages", false, r.packageItems())
	var files, commands, environment, applications, tests []item
	for n, f := range r.Files {
		files = append(files, item{f.Path, join(f.sum(r.files, n), strings.TrimLeft(f.Mode, "0"), f.Owner, strconv.FormatBool(f.Unpack)), r.lines.Of(entry("file", n))})
	}
	add("files", true, files)
	for n, c := range r.Commands {
		commands = append(commands, item{c.Run, "", r.lines.Of(entry("command", n))})
	}
	add("commands", true, commands)
	for n, name := range r.Env {
		environment = append(environment, item{name, "from outside", r.lines.Of(entry("env", n))})
	}
	for name, v := range r.Environment {
		environment = append(environment, item{name, "=" + v, r.lines.Of("environment." + name)})
	}
	add("environment", false, environment)
	for n, a := range r.Applications {
		icon := ""
		if n < len(r.icons) && r.icons[n] != nil {
			icon = r.icons[n].SHA256
		}
		applications = append(applications, item{a.Name, join(a.DisplayName, a.Path, icon, a.LaunchParameters, a.WorkingDirectory), r.lines.Of(entry("application", n))})
	}
	add("applications", true, applications)
	if r.Test.Launch != nil {
		tests = append(tests, item{"launch", join(*r.Test.Launch...), r.lines.Of("test.launch")})
	}
	for n, run := range r.Test.Commands {
		tests = append(tests, item{"command " + run, "", r.lines.Of(entry("test.commands", n))})
	}
	add("tests", true, tests)
	image := []item{
		{"display_name", r.Image.DisplayName, r.lines.Of("image.display_name")},
		{"description", r.Image.Description, r.lines.Of("image.description")},
		{"use_latest_agent", strconv.FormatBool(r.Image.UseLatestAgent), r.lines.Of("image.use_latest_agent")},
	}
	for k, v := range r.Image.Tags {
		image = append(image, item{"tag " + k, v, r.lines.Of("image.tags." + k)})
	}
	add("image", false, image)
	add("builder", false, []item{
		{"instance_type", r.Builder.InstanceType, r.lines.Of("builder.instance_type")},
		{"subnet", r.Builder.Subnet, r.lines.Of("builder.subnet")},
		{"internet", strconv.FormatBool(r.Internet()), r.lines.Of("builder.internet")},
	})
	id.Digest = digest(id.parts)
	return id
}

func (r *Recipe) packageItems() (list []item) {
	for n, p := range r.Packages {
		sum := ""
		if n < len(r.debs) && r.debs[n] != nil {
			sum = r.debs[n].SHA256
		}
		list = append(list, item{p, sum, r.lines.Of(entry("packages", n))})
	}
	return append(list, item{"recommends", strconv.FormatBool(r.recommends()), r.lines.Of("recommends")})
}

func (f File) sum(sources []*Source, n int) string {
	if n < len(sources) && sources[n] != nil {
		return sources[n].SHA256
	}
	return ""
}

// join makes one text of several, of which no others make the same.
func join(list ...string) string {
	text, err := json.Marshal(list)
	if err != nil {
		return fmt.Sprintf("%q", list) // not text; what is checked is
	}
	return string(text)
}

func digest(v any) string {
	text, err := json.Marshal([]any{form, v})
	if err != nil {
		text = fmt.Appendf(nil, "%s %q", form, v) // likewise
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Name gives the image its name: that of the recipe or another, with the digest where it shall be.
func (id Identity) Name(name string) string {
	return strings.Replace(name, digestPlace, id.Digest[:digestDigits], 1)
}

// HasDigest tells whether a name has a place for the digest.
func HasDigest(name string) bool { return strings.Contains(name, digestPlace) }

// MayBeOf tells whether a build of a name with a place for the digest can have called its image so.
func MayBeOf(name, image string) bool {
	before, behind, ok := strings.Cut(name, digestPlace)
	return ok && len(image) == len(before)+digestDigits+len(behind) && strings.HasPrefix(image, before) && strings.HasSuffix(image, behind)
}

// IsOf tells whether a build of that name has made an image with these tags.
func IsOf(name, image string, tags map[string]string) bool {
	digest := tags[tagDigest]
	return MayBeOf(name, image) && len(digest) >= digestDigits && Identity{Digest: digest}.Name(name) == image
}

// Tags gives the tags by which an image tells what it was made of.
func (id Identity) Tags() map[string]string {
	var parts []string
	var items strings.Builder
	for _, p := range id.parts {
		parts = append(parts, p.Name+"="+digest(p)[:partDigits])
		for _, i := range p.Items {
			items.WriteString(p.item(i))
		}
	}
	tags := map[string]string{tagDigest: id.Digest, tagParts: strings.Join(parts, " ")}
	if items.Len() <= maxTagValue {
		tags[tagItems] = items.String()
		id.nameItems(tags)
	}
	return tags
}

// nameItems adds the tags with the names of the items.
func (id Identity) nameItems(tags map[string]string) {
	n, line := 1, ""
	for _, p := range id.parts {
		for _, i := range p.Items {
			name := tellable[p.Name] + i.Key
			if tellable[p.Name] == "" || len(name) > maxTagValue || !nameTag.MatchString(name) || strings.Contains(name, nameSeparator) || strings.TrimSpace(name) != name {
				continue
			}
			if line != "" && len(line)+len(nameSeparator)+len(name) > maxTagValue {
				if n++; n > nameTags {
					return
				}
				line = ""
			}
			if line != "" {
				line += nameSeparator
			}
			line += name
			tags[nameTagOf(n)] = line
		}
	}
}

func nameTagOf(n int) string {
	if n == 1 {
		return tagNames
	}
	return fmt.Sprint(tagNames, "-", n)
}

// names reads what nameItems has written: which item, and what it is called.
func names(tags map[string]string) map[string]Difference {
	list := map[string]Difference{}
	for n := range nameTags {
		for name := range strings.SplitSeq(tags[nameTagOf(n+1)], nameSeparator) {
			for part, letter := range tellable {
				if key, ok := strings.CutPrefix(name, letter); ok {
					list[which(part, key)] = Difference{Part: part, What: short(key) + " was taken out"}
				}
			}
		}
	}
	return list
}

// item writes an item of p in short.
func (p part) item(i item) string { return which(p.Name, i.Key) + brief(i.Value) }

func which(part, key string) string { return brief(part + "\x00" + key) }

func brief(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.RawURLEncoding.EncodeToString(sum[:3])[:itemLength/2]
}

// Same tells whether an image with these tags was made of the same recipe.
func (id Identity) Same(tags map[string]string) bool { return tags[tagDigest] == id.Digest }

// IsOurs tells whether an image with these tags was made of a recipe.
func IsOurs(tags map[string]string) bool { return tags[tagDigest] != "" }

// Difference is a part of the recipe that is not as in an image.
type Difference struct {
	Part string
	What string // "geany is new", or "" when nothing more is known
	Line int
}

// String writes a difference for people.
func (d Difference) String() string {
	if d.What == "" {
		return d.Part
	}
	return d.Part + ": " + d.What
}

// Differences tells what in the recipe is not as in an image with these tags.
func (id Identity) Differences(tags map[string]string) (list []Difference) {
	if !IsOurs(tags) {
		return []Difference{{Part: "image", What: "it was not made of a recipe"}}
	}
	had := map[string]string{}
	for p := range strings.SplitSeq(tags[tagParts], " ") {
		name, sum, _ := strings.Cut(p, "=")
		had[name] = sum
	}
	items := map[string]string{}
	for t := tags[tagItems]; len(t) >= itemLength; t = t[itemLength:] {
		items[t[:itemLength/2]] = t[itemLength/2 : itemLength]
	}
	// What is in the image and in no part of the recipe belongs to a part that differs; which, only the parts can tell.
	gone := maps.Clone(items)
	var differ []part
	for _, p := range id.parts {
		for _, i := range p.Items {
			delete(gone, which(p.Name, i.Key))
		}
		if had[p.Name] != digest(p)[:partDigits] {
			differ = append(differ, p)
		}
	}
	called := names(tags)
	told, named := false, 0
	for _, p := range differ {
		before := len(list)
		for _, i := range p.Items {
			was, there := items[which(p.Name, i.Key)]
			switch {
			case len(items) == 0:
			case !there:
				list = append(list, Difference{p.Name, short(i.Key) + " is new", i.Line})
			case was != brief(i.Value) && p.Name == "base":
				list = append(list, Difference{p.Name, "the image to begin with is another, or a newer one", i.Line})
			case was != brief(i.Value):
				list = append(list, Difference{p.Name, short(i.Key) + " has changed", i.Line})
			}
		}
		for _, key := range slices.SortedFunc(maps.Keys(gone), func(a, b string) int { return strings.Compare(called[a].What, called[b].What) }) {
			if d := called[key]; d.Part == p.Name {
				list = append(list, d)
				delete(gone, key)
				named++
			}
		}
		switch {
		case len(list) > before:
		case len(items) == 0:
			list = append(list, Difference{Part: p.Name})
		case len(gone) == 0:
			list = append(list, Difference{Part: p.Name, What: "the order has changed"})
		default:
			list = append(list, Difference{Part: p.Name, What: "something was taken out"})
			told = true
		}
	}
	if len(gone) > 0 && !told {
		more := ""
		if named > 0 {
			more = " more"
		}
		list = append(list, Difference{Part: "taken out", What: fmt.Sprintf("%d%s of what the image has", len(gone), more)})
	}
	return list
}
