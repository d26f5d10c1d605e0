package rules

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const root = "../.."

// source is one Go file of the module.
type source struct {
	file *ast.File
	path string // from the root
	pkg  string // its directory
	test bool
}

// sources parses every Go file of the module.
func sources(t *testing.T) []source {
	t.Helper()
	var list []source
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if base := d.Name(); d.IsDir() && name != root && (strings.HasPrefix(base, ".") || base == "node_modules" || base == "testdata" || base == "bin") {
			return filepath.SkipDir
		}
		rel, err := filepath.Rel(root, name)
		if err != nil || d.IsDir() || path.Ext(name) != ".go" {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		list = append(list, source{file, filepath.ToSlash(rel), path.Dir(filepath.ToSlash(rel)), strings.HasSuffix(name, "_test.go")})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 50 {
		t.Fatalf("only %d files were found", len(list))
	}
	return list
}

func imports(f *ast.File) (list []string) {
	for _, i := range f.Imports {
		p, _ := strconv.Unquote(i.Path.Value)
		list = append(list, p)
	}
	return list
}

// TestDirections: who knows whom is the design; it is kept by a test because a wrong import compiles.
func TestDirections(t *testing.T) {
	used := map[string]bool{}
	for _, s := range sources(t) {
		if s.pkg == "." || s.test { // tests may use the real parts around what they test
			continue
		}
		d, ok := directionOf(s.pkg)
		if !ok {
			t.Errorf("%s: no rule says what it may import: add one to internal/rules", s.pkg)
			continue
		}
		used[d.pkg] = true
		for _, i := range imports(s.file) {
			target, ours := strings.CutPrefix(i, module+"/")
			if ours && !slices.ContainsFunc(d.may, func(p string) bool { return matches(p, target) }) {
				t.Errorf("%s imports %s: %s", s.path, target, d.reason)
			}
		}
	}
	for _, d := range directions {
		if !used[d.pkg] && d.pkg != "e2e/..." {
			t.Errorf("the rule for %s is about nothing", d.pkg)
		}
	}
}

// TestDomain: the domain can be read and tested without knowing any library.
func TestDomain(t *testing.T) {
	for _, s := range sources(t) {
		if s.pkg != "internal/appstream" || s.test {
			continue
		}
		for _, i := range imports(s.file) {
			std := !strings.Contains(strings.Split(i, "/")[0], ".")
			if !std && i != "github.com/aws/aws-sdk-go-v2/service/appstream/types" {
				t.Errorf("%s imports %s: the domain imports the standard library and the SDK's types", s.path, i)
			}
			if slices.Contains([]string{"os", "net/http", "net", "database/sql", "log/slog"}, i) {
				t.Errorf("%s imports %s: the domain has no I/O", s.path, i)
			}
		}
	}
}

// TestPackageComments: a package that cannot say in a sentence what it is for should not be one.
func TestPackageComments(t *testing.T) {
	comments := map[string][]string{}
	for _, s := range sources(t) {
		if s.pkg == "." || s.test {
			continue
		}
		comments[s.pkg] = append(comments[s.pkg], "")
		if s.file.Doc != nil {
			comments[s.pkg] = append(comments[s.pkg], s.file.Doc.Text())
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(comments)) {
		text := strings.Join(comments[pkg], "")
		if !strings.HasPrefix(text, "Package ") && !strings.HasPrefix(text, "Command ") {
			t.Errorf("%s has no package comment", pkg)
		}
	}
}

// TestNoMachinePaths: what names one person's machine helps nobody else.
func TestNoMachinePaths(t *testing.T) {
	files, err := exec.Command("git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		t.Skipf("this is not a checkout: %v", err)
	}
	// In two parts, so that this file does not find itself.
	personal := regexp.MustCompile(`/(work|home/[a-z]+|Users/[A-Za-z]+)` + `/(main|shared|go|src)\b`)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(files), "\x00"), "\x00") {
		info, err := os.Stat(filepath.Join(root, name))
		if err != nil || info.IsDir() || info.Size() > 1<<20 {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if found := personal.Find(text); found != nil {
			t.Errorf("%s names %s", name, found)
		}
	}
}

// TestStates: docs/states.md is what the store enforces.
func TestStates(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "states.md"))
	if err != nil {
		t.Fatalf("%v; write it with make docs", err)
	}
	if diff := cmp.Diff(States(), string(text)); diff != "" {
		t.Errorf("docs/states.md is out of step; write it again with make docs:\n%s", diff)
	}
}

// TestMakefile: a page, and every target explains itself.
func TestMakefile(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n"); n >= 60 {
		t.Errorf("the Makefile has %d lines; what is long belongs into hack/", n)
	}
	for _, m := range regexp.MustCompile(`(?m)^([a-z-]+):(.*)$`).FindAllStringSubmatch(string(text), -1) {
		if !strings.Contains(m[2], "## ") {
			t.Errorf("make %s has no ## help", m[1])
		}
	}
}
