package recipe

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/tomlfile"
)

// Bounds of a recipe; those of applications are the Image Assistant's.
const (
	maxPackages  = 500
	maxFiles     = 150
	maxCommands  = 100
	maxTests     = 50
	maxUserTags  = 40 // of the 50 that an image can have
	maxContent   = 256 << 10
	maxPath      = 1000 // bytes of a path, here or in the image
	maxText      = 256  // characters
	maxLaunch    = 1024 // characters
	maxVariables = agentapi.MaxJobVariables - 1
)

var (
	nameForm     = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,99}$`)
	baseForm     = regexp.MustCompile(`^([a-zA-Z0-9][a-zA-Z0-9_.-]{0,99}|arn:aws[a-z-]*:appstream:[a-z0-9-]+:(\d{12})?:image/[a-zA-Z0-9][a-zA-Z0-9_.-]{0,99})$`)
	packageForm  = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]*(:[a-z0-9-]+)?(=[A-Za-z0-9.+:~-]+)?$`)
	variableForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)
	modeForm     = regexp.MustCompile(`^0?[0-7]{3,4}$`)
	ownerForm    = regexp.MustCompile(`^[a-z_0-9][a-z0-9_.-]{0,31}(:[a-z_0-9][a-z0-9_.-]{0,31})?$`)
	typeForm     = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,99}$`)
	subnetForm   = regexp.MustCompile(`^subnet-[a-z0-9-]{1,48}$`)
	tagForm      = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)
)

// digestPlace is what stands for the digest in an image's name.
const digestPlace = "{digest}"

// unusable are directories of an image that nothing can be put into: they are made anew at each start.
var unusable = []string{"/proc", "/sys", "/dev", "/run", staging}

// check completes r and says what is wrong with it.
func (r *Recipe) check() error {
	c := &complaints{r: r}
	r.Builder.InstanceType = cmp.Or(r.Builder.InstanceType, "stream.standard.medium")
	r.Base = cmp.Or(r.Base, "oriel-debian-12")
	c.must(baseForm.MatchString(r.Base), "base", "%.150q is neither the name nor the ARN of an image", r.Base)
	r.checkPackages(c)
	r.checkEnvironment(c)
	r.checkImage(c)
	c.must(typeForm.MatchString(r.Builder.InstanceType), "builder.instance_type", "%.150q is not an instance type; for example stream.standard.large", r.Builder.InstanceType)
	c.must(r.Builder.Subnet == "" || subnetForm.MatchString(r.Builder.Subnet), "builder.subnet", "%.150q does not match %s", r.Builder.Subnet, subnetForm)
	r.checkFiles(c)
	r.checkCommands(c)
	r.checkApplications(c)
	r.checkTest(c)
	if len(c.list) == 0 {
		n := len(r.steps(nil))
		c.must(n <= agentapi.MaxJobSteps, "file", "files, commands, applications and tests make %d steps; %d are possible. Put several files into an archive (unpack = true), "+
			"or several commands into one", n, agentapi.MaxJobSteps)
	}
	return c.err()
}

func (r *Recipe) checkPackages(c *complaints) {
	c.must(len(r.Packages) <= maxPackages, "packages", "there are %d; %d are possible", len(r.Packages), maxPackages)
	seen := map[string]bool{}
	for n, p := range r.Packages[:min(len(r.Packages), maxPackages)] {
		key := entry("packages", n)
		if isLocal(p) {
			c.must(isPath(p) && filepath.Ext(p) == ".deb", key, "%.150q is not the path of a .deb file", p)
		} else {
			c.must(len(p) <= maxText && packageForm.MatchString(p), key, "%.150q is not the name of a package; for example geany, geany=1.38-1 or ./mine.deb", p)
		}
		c.must(!seen[p], key, "%.150s is there twice", p)
		seen[p] = true
	}
}

func (r *Recipe) checkEnvironment(c *complaints) {
	n := len(r.Env) + len(r.Environment)
	c.must(n <= maxVariables, "env", "there are %d variables with those of [environment]; %d are possible", n, maxVariables)
	seen := map[string]bool{}
	for n, name := range r.Env {
		key := entry("env", n)
		c.must(variableForm.MatchString(name), key, "%.150q is not the name of a variable; values are not written here, they come from the environment of whoever builds", name)
		c.must(!seen[name], key, "%.150s is there twice", name)
		_, both := r.Environment[name]
		c.must(!both, key, "%.150s is also in [environment]; keep one", name)
		seen[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(r.Environment)) {
		key := "environment." + name
		c.must(variableForm.MatchString(name), key, "%.150q is not the name of a variable", name)
		c.must(len(r.Environment[name]) <= agentapi.MaxJobVariable && isText(r.Environment[name]), key, "the value is not text of at most %d bytes", agentapi.MaxJobVariable)
	}
}

func (r *Recipe) checkImage(c *complaints) {
	i := r.Image
	c.must(i.Name != "", "image.name", "name the image; for example \"writer\", or \"writer-%s\" for a new name whenever the recipe has changed", digestPlace)
	if i.Name != "" {
		if err := CheckName(i.Name); err != nil {
			c.must(false, "image.name", "%s", err)
		}
	}
	c.must(isShort(i.DisplayName), "image.display_name", "it is not text of at most %d characters", maxText)
	c.must(isShort(i.Description), "image.description", "it is not text of at most %d characters", maxText)
	c.must(len(i.Tags) <= maxUserTags, "image.tags", "there are %d; %d are possible", len(i.Tags), maxUserTags)
	for _, k := range slices.Sorted(maps.Keys(i.Tags)) {
		v, key := i.Tags[k], "image.tags."+k
		lower := strings.ToLower(k)
		c.must(k != "" && utf8.RuneCountInString(k) <= 128 && tagForm.MatchString(k), key, "%.150q is not the key of a tag: 1 to 128 letters, digits, spaces and _.:/=+-@", k)
		c.must(!strings.HasPrefix(lower, "aws:") && !strings.HasPrefix(lower, tagPrefix), key, "keys that begin with aws: or %s are reserved", tagPrefix)
		c.must(utf8.RuneCountInString(v) <= 256 && tagForm.MatchString(v), key, "the value is not at most 256 letters, digits, spaces and _.:/=+-@")
	}
}

// CheckName checks an image's name, in which {digest} may stand.
func CheckName(name string) error {
	full := strings.Replace(name, digestPlace, strings.Repeat("0", digestDigits), 1)
	if !nameForm.MatchString(full) {
		return fmt.Errorf("%.150q is not an image's name: 1 to 100 letters, digits, _, - and ., beginning with a letter or digit; %s counts %d", name, digestPlace, digestDigits)
	}
	for _, prefix := range []string{"aws", "amazon", "appstream"} {
		if strings.HasPrefix(strings.ToLower(name), prefix) {
			return fmt.Errorf("names that begin with %s are reserved", prefix)
		}
	}
	return nil
}

func (r *Recipe) checkFiles(c *complaints) {
	c.must(len(r.Files) <= maxFiles, "file", "there are %d; %d are possible. Put them into an archive (unpack = true)", len(r.Files), maxFiles)
	seen := map[string]bool{}
	for n := range r.Files[:min(len(r.Files), maxFiles)] {
		f, at := &r.Files[n], entry("file", n)
		f.Owner = cmp.Or(f.Owner, "root:root")
		c.must(isInside(f.Path), at+".path", "%.150q is not an absolute path in the image, without . and .. in it", f.Path)
		for _, dir := range unusable {
			c.must(f.Path != dir && !strings.HasPrefix(f.Path, dir+"/"), at+".path", "what is in %s does not become part of an image", dir)
		}
		c.must(!seen[f.Path] || f.Unpack, at+".path", "%.150s is there twice", f.Path)
		seen[f.Path] = !f.Unpack
		c.must((f.From == "") != (f.Content == nil), at, "set either from, a file here, or content")
		c.must(f.From == "" || isPath(f.From), at+".from", "%.150q is not a path", f.From)
		c.must(f.Content == nil || len(*f.Content) <= maxContent, at+".content", "it has more than %d bytes; put it into a file of its own (from)", maxContent)
		c.must(!f.Unpack || f.From != "", at+".unpack", "only what comes from a file here can be unpacked")
		c.must(!f.Unpack || f.Mode == "", at+".mode", "what is unpacked has the modes that the archive gives it")
		f.Mode = cmp.Or(f.Mode, "0644")
		c.must(modeForm.MatchString(f.Mode), at+".mode", "%.20q is not a mode; for example \"0755\"", f.Mode)
		c.must(ownerForm.MatchString(f.Owner), at+".owner", "%.150q is not USER or USER:GROUP", f.Owner)
	}
}

func (r *Recipe) checkCommands(c *complaints) {
	c.must(len(r.Commands) <= maxCommands, "command", "there are %d; %d are possible", len(r.Commands), maxCommands)
	for n := range r.Commands[:min(len(r.Commands), maxCommands)] {
		x, at := r.Commands[n], entry("command", n)
		c.must(isCommand(x.Run), at+".run", "write what /bin/sh shall do, in at most %d bytes", agentapi.MaxJobCommand)
		c.must(isShort(x.Name) && !strings.ContainsFunc(x.Name, unicode.IsControl), at+".name", "it is not a line of at most %d characters", maxText)
		c.must(isTime(x.Timeout), at+".timeout", "it is not between 1s and %s", agentapi.MaxJobTime)
	}
}

func (r *Recipe) checkApplications(c *complaints) {
	c.must(len(r.Applications) <= agentapi.MaxApplications, "application", "there are %d; a catalogue has at most %d", len(r.Applications), agentapi.MaxApplications)
	seen := map[string]bool{}
	for n, a := range r.Applications[:min(len(r.Applications), agentapi.MaxApplications)] {
		at := entry("application", n)
		c.must(a.Name != "" && isShort(a.Name) && !strings.ContainsFunc(a.Name, notInName), at+".name", "%.150q is not a name: 1 to %d characters without white space", a.Name, maxText)
		c.must(!seen[a.Name], at+".name", "%.150s is there twice", a.Name)
		seen[a.Name] = true
		c.must(isShort(a.DisplayName), at+".display_name", "it is not text of at most %d characters", maxText)
		c.must(isInside(a.Path), at+".path", "%.150q is not the absolute path of a program in the image, without . and .. in it", a.Path)
		c.must(a.Icon == "" || isPath(a.Icon), at+".icon", "%.150q is not a path", a.Icon)
		c.must(a.Icon == "" || slices.Contains(iconExtensions, strings.ToLower(filepath.Ext(a.Icon))), at+".icon", "%.150q is none of %s", a.Icon, strings.Join(iconExtensions, ", "))
		c.must(utf8.RuneCountInString(a.LaunchParameters) <= maxLaunch && isText(a.LaunchParameters), at+".launch_parameters", "it is not text of at most %d characters", maxLaunch)
		c.must(a.WorkingDirectory == "" || a.WorkingDirectory == "/" || isInside(a.WorkingDirectory), at+".working_directory",
			"%.150q is not an absolute path in the image, without . and .. in it", a.WorkingDirectory)
	}
}

func (r *Recipe) checkTest(c *complaints) {
	if r.Test.Launch != nil {
		c.must(len(*r.Test.Launch) <= agentapi.MaxApplications, "test.launch", "there are %d; a catalogue has at most %d", len(*r.Test.Launch), agentapi.MaxApplications)
		for n, name := range *r.Test.Launch {
			c.must(name != "" && isShort(name), entry("test.launch", n), "%.150q is not the name of an application", name)
		}
	}
	c.must(len(r.Test.Commands) <= maxTests, "test.commands", "there are %d; %d are possible", len(r.Test.Commands), maxTests)
	for n, run := range r.Test.Commands {
		c.must(isCommand(run), entry("test.commands", n), "write what /bin/sh shall do, in at most %d bytes", agentapi.MaxJobCommand)
	}
	c.must(isTime(r.Test.Timeout), "test.timeout", "it is not between 1s and %s", agentapi.MaxJobTime)
}

func entry(list string, n int) string { return fmt.Sprintf("%s[%d]", list, n) }

// isText tells whether s can be an argument of a program.
func isText(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

func isShort(s string) bool { return utf8.RuneCountInString(s) <= maxText && isText(s) }

func notInName(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }

func isCommand(s string) bool {
	return strings.TrimSpace(s) != "" && len(s) <= agentapi.MaxJobCommand && isText(s)
}

// isPath tells whether p can be a path here.
func isPath(p string) bool {
	return p != "" && len(p) <= maxPath && isText(p) && !strings.ContainsFunc(p, unicode.IsControl)
}

// isInside tells whether p can be the path of something in an image.
func isInside(p string) bool { return isPath(p) && p[0] == '/' && path.Clean(p) == p && p != "/" }

func isTime(d tomlfile.Duration) bool {
	return d.Duration == 0 || d.Duration >= time.Second && d.Duration <= agentapi.MaxJobTime
}
