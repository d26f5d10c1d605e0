package bootstrap

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	// sourcesFile is the recipe's apt sources: those of the build, and those of the finished image.
	sourcesFile = "files/etc/apt/sources.list.d/debian.sources"
	// policyFile keeps packages from starting services. It must be there before the first of them is configured.
	policyFile = "files/usr/sbin/policy-rc.d"
	// defaultMirror is what a recipe's sources name, and what Options.Mirror replaces.
	defaultMirror = "http://deb.debian.org"

	maxRecipe = 64 << 20 // bytes; a recipe is text and a picture
)

var (
	imageName   = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,99}$`)
	platform    = regexp.MustCompile(`^[A-Z0-9_]{1,64}$`)
	suite       = regexp.MustCompile(`^[a-z][a-z-]*$`)
	packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)
)

// Image is what a recipe makes, with all that an engine needs to import it.
type Image struct {
	Name        string    // "oriel-debian-12"; also the tag's name
	Platform    string    // AppStream's platform type, or one of Oriel's own: "DEBIAN_12"
	DisplayName string    // for people
	Description string    // for people
	Released    time.Time // of the recipe, UTC; newer files in the image carry this time
	Recipe      string    // 64 hex digits: changes whenever a file of the recipe, the mirror or the architecture does

	// Tar is the path of the root file system's tar. It is empty in what Describe returns.
	Tar string
	// Changes are the instructions of a Dockerfile (CMD, ENV, LABEL) to apply at the import; labels are in it.
	Changes []string
	// Labels are the labels in Changes once more, under the names LabelName and so on.
	Labels map[string]string
}

// Labels that an imported image carries.
const (
	LabelName        = "oriel.image.name"
	LabelPlatform    = "oriel.image.platform"
	LabelDisplayName = "oriel.image.display-name"
	LabelDescription = "oriel.image.description"
	LabelReleased    = "oriel.image.released" // RFC 3339
	LabelRecipe      = "oriel.image.recipe"   // Image.Recipe: an image that has it need not be built again
)

// recipe is a recipe that has been read and checked.
type recipe struct {
	image    Image
	suite    string
	size     int64 // of the tar, expected, in bytes
	packages []string
	excludes []byte
	sources  []byte // with the mirror in place
	setup    []byte
	files    []file // sorted by path
}

type file struct {
	path string // in the image, with no slash at the beginning
	data []byte
}

// mode is 0755 for a script, else 0644: embedded recipes have no modes to go by.
func (f file) mode() int64 {
	if bytes.HasPrefix(f.data, []byte("#!")) {
		return 0o755
	}
	return 0o644
}

// readRecipe reads the recipe in fsys. Mirror is "" or as checkMirror returned it.
func readRecipe(fsys fs.FS, mirror, arch string) (*recipe, error) {
	all, sum, err := readAll(fsys)
	if err != nil {
		return nil, err
	}
	var head struct {
		Name        string    `json:"name"`
		Platform    string    `json:"platform"`
		DisplayName string    `json:"displayName"`
		Description string    `json:"description"`
		Released    time.Time `json:"released"`
		Suite       string    `json:"suite"`
		SizeMB      int64     `json:"sizeMB"`
		Changes     []string  `json:"changes"`
	}
	need := func(name string) []byte {
		data, ok := all[name]
		if !ok {
			err = errors.Join(err, fmt.Errorf("the recipe has no %s", name))
		}
		return data
	}
	meta := need("image.json")
	r := &recipe{excludes: need("dpkg-excludes"), setup: need("setup"), sources: need(sourcesFile)}
	list := need("packages")
	need(policyFile)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(meta, &head, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("image.json: %w", err)
	}
	switch {
	case !imageName.MatchString(head.Name):
		return nil, fmt.Errorf("image.json: name %q does not match %s", head.Name, imageName)
	case !platform.MatchString(head.Platform):
		return nil, fmt.Errorf("image.json: platform %q does not match %s", head.Platform, platform)
	case !suite.MatchString(head.Suite):
		return nil, fmt.Errorf("image.json: suite %q does not match %s", head.Suite, suite)
	case head.Released.IsZero():
		return nil, errors.New("image.json: released is missing")
	case head.SizeMB <= 0 || head.SizeMB > 1<<20:
		return nil, fmt.Errorf("image.json: sizeMB %d is not between 1 and %d", head.SizeMB, 1<<20)
	}
	for line := range strings.Lines(string(list)) {
		name := strings.TrimSpace(line)
		if name == "" || name[0] == '#' {
			continue
		}
		if !packageName.MatchString(name) {
			return nil, fmt.Errorf("packages: %q is not a package's name", name)
		}
		r.packages = append(r.packages, name)
	}
	if mirror != "" {
		if !bytes.Contains(r.sources, []byte(defaultMirror+"/")) {
			return nil, fmt.Errorf("%s does not use %s, so a mirror cannot take its place", sourcesFile, defaultMirror)
		}
		r.sources = bytes.ReplaceAll(r.sources, []byte(defaultMirror+"/"), []byte(mirror+"/"))
	}
	for name, data := range all {
		if name == sourcesFile {
			data = r.sources
		}
		if path, ok := strings.CutPrefix(name, "files/"); ok {
			r.files = append(r.files, file{path, data})
		}
	}
	slices.SortFunc(r.files, func(a, b file) int { return strings.Compare(a.path, b.path) })

	// The same recipe on another architecture or from another mirror is another image.
	fmt.Fprintf(sum, "\x00%s\x00%s", arch, mirror)
	r.suite = head.Suite
	r.size = head.SizeMB << 20
	r.image = Image{
		Name: head.Name, Platform: head.Platform, DisplayName: head.DisplayName, Description: head.Description,
		Released: head.Released.UTC(), Recipe: hex.EncodeToString(sum.Sum(nil)),
	}
	r.image.Labels = map[string]string{
		LabelName:        r.image.Name,
		LabelPlatform:    r.image.Platform,
		LabelDisplayName: r.image.DisplayName,
		LabelDescription: r.image.Description,
		LabelReleased:    r.image.Released.Format(time.RFC3339),
		LabelRecipe:      r.image.Recipe,
	}
	r.image.Changes = slices.Clone(head.Changes)
	for _, key := range []string{LabelName, LabelPlatform, LabelDisplayName, LabelDescription, LabelReleased, LabelRecipe} {
		r.image.Changes = append(r.image.Changes, "LABEL "+key+"="+quote(r.image.Labels[key]))
	}
	for _, change := range r.image.Changes {
		if strings.ContainsFunc(change, func(c rune) bool { return c < ' ' }) {
			return nil, fmt.Errorf("image.json: %q has a control character", change)
		}
	}
	return r, nil
}

// readAll reads each file of fsys and hashes names and contents.
func readAll(fsys fs.FS) (map[string][]byte, hash.Hash, error) {
	all, sum, total := map[string][]byte{}, sha256.New(), 0
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("%s is not a regular file", name)
		}
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		if total += len(data); total > maxRecipe {
			return fmt.Errorf("it is larger than %d MiB", maxRecipe>>20)
		}
		all[name] = data
		// Lengths first, so that no two recipes make the same bytes. WalkDir's order is lexical.
		var lengths [16]byte
		binary.BigEndian.PutUint64(lengths[:8], uint64(len(name)))
		binary.BigEndian.PutUint64(lengths[8:], uint64(len(data)))
		sum.Write(lengths[:])
		sum.Write([]byte(name))
		sum.Write(data)
		return nil
	})
	return all, sum, err
}

// writeTar writes files as a tar that is the same each time. It has no entries for directories: those that exist in
// the image keep their owners and modes, and new ones get tar's default, 0755.
func writeTar(w io.Writer, files []file, when time.Time) error {
	t := tar.NewWriter(w)
	for _, f := range files {
		header := &tar.Header{
			Typeflag: tar.TypeReg, Name: f.path, Size: int64(len(f.data)), Mode: f.mode(), ModTime: when,
			Uname: "root", Gname: "root",
		}
		if err := t.WriteHeader(header); err != nil {
			return err
		}
		if _, err := t.Write(f.data); err != nil {
			return err
		}
	}
	return t.Close()
}

// checkMirror returns mirror in the form the sources need: with no slash at its end.
func checkMirror(mirror string) (string, error) {
	if mirror == "" {
		return "", nil
	}
	u, err := url.Parse(mirror)
	switch {
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || strings.ContainsAny(mirror, " \t\r\n"):
		return "", fmt.Errorf("mirror %q is not an http or https address such as %s", redact(mirror), defaultMirror)
	case u.User != nil:
		// It would be readable by everyone who uses the image.
		return "", errors.New("a mirror's address with a password in it would become part of the image: use an address without one")
	case u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("mirror %q must not have a query or a fragment", mirror)
	}
	return strings.TrimRight(mirror, "/"), nil
}

// redact cuts what might be a password out of an address that could not be read.
func redact(address string) string {
	if i := strings.LastIndexByte(address, '@'); i >= 0 {
		return "…" + address[i:]
	}
	return address
}

// quote writes s as a value in a Dockerfile's LABEL, where double quotes, backslashes and variables have a meaning.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`).Replace(s) + `"`
}
