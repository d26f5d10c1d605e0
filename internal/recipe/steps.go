package recipe

import (
	"cmp"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// staging is where files wait in the image builder until their step comes. The last step before the tests removes it.
const staging = "/var/tmp/oriel-build"

// Step is one step of making an image. Exactly one of Command and Application is set.
type Step struct {
	Name        string
	Command     string // for /bin/sh -e
	Application string // that must draw a window
	Timeout     time.Duration
	Line        int // of the file; 0 for what is in no line
}

// Upload is a file that must be in the image builder before the first step.
type Upload struct {
	*Source
	Path string // there
	Line int
}

// Steps gives the steps in their order. catalogue has the applications that the base image has already.
func (r *Recipe) Steps(catalogue []string) []Step { return r.steps(catalogue) }

// Uploads gives the files that the steps need.
func (r *Recipe) Uploads() (list []Upload) {
	for n, s := range r.debs {
		if s != nil {
			list = append(list, Upload{s, r.stagedDeb(n), r.lines.Of(entry("packages", n))})
		}
	}
	for n, s := range r.files {
		list = append(list, Upload{s, stagedFile(n), r.lines.Of(entry("file", n))})
	}
	for n, s := range r.icons {
		if s != nil {
			list = append(list, Upload{s, r.stagedIcon(n), r.lines.Of(entry("application", n) + ".icon")})
		}
	}
	return list
}

func (r *Recipe) stagedDeb(n int) string {
	return fmt.Sprintf("%s/packages/%d/%s", staging, n, filepath.Base(r.Packages[n]))
}

func stagedFile(n int) string { return fmt.Sprintf("%s/files/%d", staging, n) }

func (r *Recipe) stagedIcon(n int) string {
	return fmt.Sprintf("%s/icons/%d%s", staging, n, strings.ToLower(filepath.Ext(r.Applications[n].Icon)))
}

func (r *Recipe) steps(catalogue []string) (list []Step) {
	if len(r.Packages) > 0 {
		list = append(list, Step{Name: "install packages", Command: r.install(), Timeout: time.Hour, Line: r.lines.Of("packages")})
	}
	for n, f := range r.Files {
		list = append(list, Step{Name: short("put " + f.Path), Command: f.put(stagedFile(n)), Timeout: 10 * time.Minute, Line: r.lines.Of(entry("file", n))})
	}
	for n, c := range r.Commands {
		name := c.Name
		if name == "" {
			name, _, _ = strings.Cut(strings.TrimSpace(c.Run), "\n")
		}
		list = append(list, Step{Name: short(name), Command: c.Run, Timeout: cmp.Or(c.Timeout.Duration, time.Hour), Line: r.lines.Of(entry("command", n))})
	}
	for n, a := range r.Applications {
		icon := ""
		if a.Icon != "" {
			icon = r.stagedIcon(n)
		}
		list = append(list, Step{Name: short("add the application " + a.Name), Command: a.add(icon), Timeout: time.Minute, Line: r.lines.Of(entry("application", n))})
	}
	tests := r.tests(catalogue)
	before := tidy
	launches := slices.ContainsFunc(tests, func(s Step) bool { return s.Application != "" })
	if launches {
		before += "\n" + listHome
	}
	list = append(list, Step{Name: "tidy up", Command: before, Timeout: 10 * time.Minute})
	list = append(list, tests...)
	if launches {
		list = append(list, Step{Name: "tidy up after the tests", Command: clearHome, Timeout: 10 * time.Minute})
	}
	return list
}

// install gives the command that installs the packages.
func (r *Recipe) install() string {
	words := []string{"apt-get", "-q", "-y", "-o", "Acquire::Retries=3", "-o", "Dpkg::Use-Pty=0"}
	if !r.recommends() {
		words = append(words, "--no-install-recommends")
	}
	words = append(words, "install", "--")
	for n, p := range r.Packages {
		if isLocal(p) {
			p = r.stagedDeb(n)
		}
		words = append(words, quote(p))
	}
	update := "apt-get -q -o Acquire::Retries=3 update\n"
	if !r.Internet() && r.Builder.Subnet == "" && !slices.ContainsFunc(r.Packages, func(p string) bool { return !isLocal(p) }) {
		update = "" // there is nothing that could answer, and perhaps no need of it
	}
	return update + strings.Join(words, " ")
}

// put gives the command that puts a file from where it waits to its place.
func (f File) put(staged string) string {
	owner := f.Owner
	lines := []string{
		"mkdir -p -- " + quote(path.Dir(f.Path)),
		"chown -- " + quote(owner) + " " + quote(staged),
		"chmod -- " + f.Mode + " " + quote(staged),
		"mv -f -T -- " + quote(staged) + " " + quote(f.Path),
	}
	if f.Unpack {
		lines = []string{
			"mkdir -p -- " + quote(f.Path),
			"tar --extract --no-same-owner --file=" + quote(staged) + " --directory=" + quote(f.Path),
			"rm -f -- " + quote(staged),
		}
		if owner != "root:root" && owner != "root" {
			lines = append(lines, "chown -R -h -- "+quote(owner)+" "+quote(f.Path))
		}
	}
	return strings.Join(lines, "\n")
}

// add gives the command that adds an application to the catalogue, in place of one of its name that the base image has.
func (a Application) add(icon string) string {
	words := []string{"AppStreamImageAssistant add-application"}
	flag := func(name, value string) {
		if value != "" {
			words = append(words, "--"+name+"="+quote(value))
		}
	}
	flag("name", a.Name)
	flag("absolute-app-path", a.Path)
	flag("display-name", a.DisplayName)
	flag("absolute-icon-path", icon)
	flag("working-directory", a.WorkingDirectory)
	flag("launch-parameters", escape(a.LaunchParameters))
	return "AppStreamImageAssistant remove-application --name=" + quote(a.Name) + " >/dev/null || true\n" + strings.Join(words, " ")
}

// escape writes launch parameters so that the Image Assistant reads them as they are: in quotation marks, with those inside escaped.
func escape(s string) string {
	if s == "" {
		return ""
	}
	return `"` + strings.ReplaceAll(s, `"`, `\"`) + `"`
}

// tidy leaves nothing of the making in the image. The lists of packages are of no use later, and large.
const tidy = "rm -rf -- " + staging + "\nif command -v apt-get >/dev/null; then apt-get clean; rm -rf /var/lib/apt/lists/*; fi"

// An application that is tested has a home of its own in HOME. One that looks for its home in /etc/passwd writes into the desktop user's all the same, which
// would be in the image: what is new there after the tests goes. The user removes it, and not root, so that no link leads out of what is his.
const (
	userHome  = "home=$(getent passwd 1000 | cut -d: -f6)"
	homeList  = "/var/tmp/oriel-home"
	homeFiles = `find "$home" -xdev -mindepth 1 -print0 | LC_ALL=C sort -z`
	listHome  = userHome + "\n" + homeFiles + " >" + homeList
	asUser    = "setpriv --reuid=1000 --clear-groups"
	clearHome = userHome + "\n" + homeFiles + " | LC_ALL=C comm -z -13 " + homeList + " - | " + asUser + " xargs -0 -r rm -rf -- || true\nrm -f " + homeList
)

func (r *Recipe) tests(catalogue []string) (list []Step) {
	apps := slices.Clone(catalogue)
	var line func(name string) int
	if r.Test.Launch != nil {
		apps = *r.Test.Launch
		line = func(name string) int { return r.lines.Of(entry("test.launch", slices.Index(apps, name))) }
	} else {
		own := map[string]int{}
		for n, a := range r.Applications {
			own[a.Name] = r.lines.Of(entry("application", n))
			if !slices.Contains(apps, a.Name) {
				apps = append(apps, a.Name)
			}
		}
		line = func(name string) int { return own[name] }
	}
	timeout := cmp.Or(r.Test.Timeout.Duration, time.Minute)
	for _, name := range apps {
		list = append(list, Step{Name: short("test that " + name + " draws a window"), Application: name, Timeout: timeout, Line: line(name)})
	}
	for n, run := range r.Test.Commands {
		first, _, _ := strings.Cut(strings.TrimSpace(run), "\n")
		list = append(list, Step{Name: short("test: " + first), Command: run, Timeout: timeout, Line: r.lines.Of(entry("test.commands", n))})
	}
	return list
}

// quote makes a word that a shell reads as it is.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// short makes a name that is a short line.
func short(s string) string {
	const most = 70
	s = strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}
