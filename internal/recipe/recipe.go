// Package recipe is images as code: a file says what an image shall have, and this package what is wrong with the file, which steps make the image,
// and whether an image that is there was made of the same file. It talks to nobody; docs/images-as-code.md explains the form.
package recipe

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/oriel-project/oriel/internal/tomlfile"
)

// Recipe is what a file says. Load makes one that is complete and correct.
type Recipe struct {
	Base         string            `toml:"base"`        // name or ARN of the image to begin with
	Packages     []string          `toml:"packages"`    // of Debian, or local files *.deb
	Recommends   *bool             `toml:"recommends"`  // what the packages recommend comes too; default true
	Env          []string          `toml:"env"`         // variables of whoever builds that commands see, and nothing keeps
	Environment  map[string]string `toml:"environment"` // variables that commands see
	Image        Image             `toml:"image"`
	Builder      Builder           `toml:"builder"`
	Files        []File            `toml:"file"`
	Commands     []Command         `toml:"command"`
	Applications []Application     `toml:"application"`
	Test         Test              `toml:"test"`

	name  string // of the file, for messages
	lines tomlfile.Lines

	// What Load finds, in the order of Packages, Files and Applications; nil for what is no local file.
	debs, files, icons []*Source
}

// Image is what the image shall be called.
type Image struct {
	Name           string            `toml:"name"` // {digest} in it stands for the beginning of the digest
	DisplayName    string            `toml:"display_name"`
	Description    string            `toml:"description"`
	Tags           map[string]string `toml:"tags"`
	UseLatestAgent bool              `toml:"use_latest_agent"`
}

// Builder is the image builder that the image is made in.
type Builder struct {
	InstanceType string `toml:"instance_type"` // default stream.standard.medium
	Subnet       string `toml:"subnet"`
	Internet     *bool  `toml:"internet"` // default: unless it has a subnet, which decides
}

// File is a file in the image. Exactly one of From and Content is set.
type File struct {
	Path    string  `toml:"path"`    // in the image
	From    string  `toml:"from"`    // here
	Content *string `toml:"content"` // or what is in it
	Mode    string  `toml:"mode"`    // default 0644
	Owner   string  `toml:"owner"`   // USER or USER:GROUP; default root:root
	Unpack  bool    `toml:"unpack"`  // From is an archive, Path the directory to unpack it in
}

// Command is done by root.
type Command struct {
	Run     string            `toml:"run"`
	Name    string            `toml:"name"`    // for messages; default: its first line
	Timeout tomlfile.Duration `toml:"timeout"` // default 1h
}

// Application is one that people can start.
type Application struct {
	Name             string `toml:"name"`
	DisplayName      string `toml:"display_name"`
	Path             string `toml:"path"` // of the program
	Icon             string `toml:"icon"` // here; default: the one that desktops show
	LaunchParameters string `toml:"launch_parameters"`
	WorkingDirectory string `toml:"working_directory"`
}

// Test is what must be so before an image is made.
type Test struct {
	Launch   *[]string         `toml:"launch"`   // applications that must draw a window; default: all of the catalogue
	Commands []string          `toml:"commands"` // that must succeed
	Timeout  tomlfile.Duration `toml:"timeout"`  // of each; default 1m
}

// maxFile is the size of the largest file that is read, in bytes.
const maxFile = 512 << 10

// Invalid says what is wrong with a file. Each line of the message is a complaint with its place.
type Invalid struct{ error }

// Unwrap gives what the file system or the parser said.
func (e *Invalid) Unwrap() error { return e.error }

// Load reads a file, checks it, and reads the local files that it names. What is wrong is an *Invalid.
func Load(file string) (*Recipe, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, &Invalid{err}
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", file, maxFile)
	}
	if err != nil {
		return nil, &Invalid{err}
	}
	r, err := Parse(text, file)
	if err != nil {
		return nil, err
	}
	return r, r.readFiles(filepath.Dir(file))
}

// Parse reads and checks the text of a file. name is for messages. Local files are not looked at.
func Parse(text []byte, name string) (*Recipe, error) {
	r := &Recipe{name: name}
	if err := tomlfile.Decode(text, name, r); err != nil {
		return nil, &Invalid{err}
	}
	r.lines = tomlfile.NewLines(text)
	return r, r.check()
}

// Place gives FILE:LINE of a part of the recipe, or the file's name alone.
func (r *Recipe) Place(line int) string {
	if line == 0 {
		return r.name
	}
	return fmt.Sprintf("%s:%d", r.name, line)
}

// complaints collects what is wrong.
type complaints struct {
	r    *Recipe
	list []complaint
}

type complaint struct {
	line int
	text string
}

// must complains about what the key is about, unless ok.
func (c *complaints) must(ok bool, key, format string, args ...any) {
	if !ok {
		c.list = append(c.list, complaint{c.r.lines.Of(key), fmt.Sprintf("%s: %s", key, fmt.Sprintf(format, args...))})
	}
}

// err gives the complaints in the order of the file.
func (c *complaints) err() error {
	if len(c.list) == 0 {
		return nil
	}
	slices.SortStableFunc(c.list, func(a, b complaint) int { return a.line - b.line })
	var list []string
	for _, x := range c.list[:min(len(c.list), maxComplaints)] {
		list = append(list, c.r.Place(x.line)+": "+x.text)
	}
	return &Invalid{errors.New(strings.Join(list, "\n"))}
}

// maxComplaints is how many are told at once.
const maxComplaints = 50

// Internet tells whether the image builder shall have a way to the internet of its own.
func (r *Recipe) Internet() bool {
	if r.Builder.Internet == nil {
		return r.Builder.Subnet == ""
	}
	return *r.Builder.Internet
}

// recommends tells whether recommended packages are installed.
func (r *Recipe) recommends() bool { return r.Recommends == nil || *r.Recommends }

// isLocal tells whether a package is a file here. APT too tells it by the slash.
func isLocal(pkg string) bool { return strings.Contains(pkg, "/") }

// InstanceTypeLine is the line that names the instance type of the image builder; 0 when none does.
func (r *Recipe) InstanceTypeLine() int { return r.lines.Of("builder.instance_type") }

// BaseLine is the line that names the base image; 0 when none does.
func (r *Recipe) BaseLine() int { return r.lines.Of("base") }
