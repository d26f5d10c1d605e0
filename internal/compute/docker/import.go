package docker

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/moby/client"

	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/oci"
)

// need is something that a machine cannot do without, in one of several places.
type need struct {
	what  string // for people
	paths []string
	ok    func(oci.File) bool // nil: that it is there is enough
}

// needs is what the agent finds in every image that was made from Oriel's base image (see images/debian-12).
var needs = []need{
	{"a shell, /bin/sh", []string{"bin/sh", "usr/bin/sh"}, nil},
	{"an X server that speaks VNC, /usr/bin/Xvnc (Debian's package tigervnc-standalone-server)", []string{"usr/bin/Xvnc"}, nil},
	{"Oriel's desktop, /etc/oriel/session", []string{"etc/oriel/session"}, nil},
	{"sudo by Oriel's agent, a link /usr/local/bin/sudo to " + agentapi.Binary, []string{"usr/local/bin/sudo"},
		func(f oci.File) bool { return f.Link == agentapi.Binary }},
	{"the user with the number 1000, ImageBuilderAdmin, in /etc/passwd", []string{"etc/passwd"}, hasAdministrator},
}

var administrator = regexp.MustCompile(`(?m)^[^:\n]+:[^:\n]*:1000:`)

func hasAdministrator(passwd oci.File) bool { return administrator.Match(passwd.Text) }

// The files that say which distribution an image is of. The first is often a link to the second.
var releases = []string{"etc/os-release", "usr/lib/os-release"}

// maxEnvironment is how much an image's variables may have: with more, a kernel would start no program.
const maxEnvironment = 64 << 10

// InspectArchive verifies the archive's digests and looks whether the image can be a machine here.
func (p *Provider) InspectArchive(ctx context.Context, archive *io.SectionReader) (appstream.ArchiveFacts, error) {
	if err := ctx.Err(); err != nil {
		return appstream.ArchiveFacts{}, err
	}
	h, err := p.about(ctx)
	if err != nil {
		return appstream.ArchiveFacts{}, err
	}
	return inspectArchive(archive, h.architecture)
}

// lasting makes a fault of what is wrong with an archive.
func lasting(err error) error {
	if wrong, ok := errors.AsType[*oci.Error](err); ok {
		return &compute.Fault{Message: wrong.Message, Cause: err}
	}
	return err
}

func inspectArchive(archive *io.SectionReader, architecture string) (appstream.ArchiveFacts, error) {
	image, runtime, err := openArchive(archive, architecture)
	if err != nil {
		return appstream.ArchiveFacts{}, err
	}
	contents, err := image.Inspect(paths...)
	if err == nil {
		err = complete(contents)
	}
	if err != nil {
		return appstream.ArchiveFacts{}, lasting(err)
	}
	facts := appstream.ArchiveFacts{Size: contents.Size, Created: image.Created, Platform: runtime.Labels[labelImagePlatform],
		Title: image.Annotations["org.opencontainers.image.title"], Description: image.Annotations["org.opencontainers.image.description"]}
	if !platformForm.MatchString(facts.Platform) {
		facts.Platform = distribution(contents.Files)
	}
	return facts, nil
}

func openArchive(archive *io.SectionReader, architecture string) (*oci.Archive, imageRuntime, error) {
	image, err := oci.Open(archive, archive.Size(), architecture)
	if err != nil {
		return nil, imageRuntime{}, lasting(err)
	}
	runtime, err := runtimeOf(image.Config)
	return image, runtime, lasting(err)
}

// paths is what we look for in an image.
var paths = func() []string {
	list := slices.Clone(releases)
	for _, n := range needs {
		list = append(list, n.paths...)
	}
	return list
}()

// complete refuses an image that lacks something.
func complete(contents oci.Contents) error {
	if missing := missingIn(contents.Files); len(missing) > 0 {
		return &oci.Error{Message: "the image cannot be a machine: it lacks " + strings.Join(missing, "; ") +
			". Make it from Oriel's base image, or export it from an image of Oriel"}
	}
	return nil
}

// missingIn lists what an image lacks to be a machine.
func missingIn(files map[string]oci.File) (missing []string) {
	for _, n := range needs {
		if !slices.ContainsFunc(n.paths, func(p string) bool {
			f, there := files[p]
			return there && !f.Dir && (n.ok == nil || n.ok(f))
		}) {
			missing = append(missing, n.what)
		}
	}
	return missing
}

var (
	platformForm  = regexp.MustCompile(`^[A-Z0-9_]{1,64}$`)
	releaseLine   = regexp.MustCompile(`(?m)^(ID|VERSION_ID)=["']?([A-Za-z0-9._-]{1,24})["']?\s*$`)
	notInPlatform = regexp.MustCompile(`[^A-Z0-9]+`)
)

// distribution gives the platform that an image is of by its os-release, such as DEBIAN_12; LINUX when that does not say it.
func distribution(files map[string]oci.File) string {
	for _, name := range releases {
		said := map[string]string{}
		for _, line := range releaseLine.FindAllSubmatch(files[name].Text, 100) {
			said[string(line[1])] = string(line[2])
		}
		if said["ID"] != "" {
			return strings.Trim(notInPlatform.ReplaceAllString(strings.ToUpper(said["ID"]+"_"+said["VERSION_ID"]), "_"), "_")
		}
	}
	return "LINUX"
}

// imageRuntime is what we take over of how programs of an image are started.
type imageRuntime struct {
	Env    []string
	Labels map[string]string
}

func runtimeOf(text []byte) (imageRuntime, error) {
	var conf struct {
		Config imageRuntime `json:"config"`
	}
	if err := json.Unmarshal(text, &conf); err != nil {
		return imageRuntime{}, &oci.Error{Message: fmt.Sprintf("the image's configuration is not what it should be: %.300v", err)}
	}
	size := 0
	for _, v := range conf.Config.Env {
		if name, _, ok := strings.Cut(v, "="); !ok || name == "" || strings.Contains(v, "\x00") {
			return imageRuntime{}, &oci.Error{Message: fmt.Sprintf("the image's configuration sets the variable %.60q, which is not NAME=VALUE", v)}
		}
		size += len(v) + 1
	}
	if size > maxEnvironment {
		return imageRuntime{}, &oci.Error{Message: fmt.Sprintf("the image's configuration sets variables of %d bytes, at most %d are possible", size, maxEnvironment)}
	}
	return conf.Config, nil
}

// step is how a layer came about, for those who look at the image with the engine's own commands.
type step struct {
	Created    time.Time `json:"created,omitzero"`
	CreatedBy  string    `json:"created_by,omitempty"`
	Author     string    `json:"author,omitempty"`
	Comment    string    `json:"comment,omitempty"`
	EmptyLayer bool      `json:"empty_layer,omitempty"`
}

// importedConfig gives the configuration that the engine gets: of the archive's, what programs find and people read, and nothing that an
// engine would act upon (volumes, health checks, ports, another user).
func importedConfig(archived *oci.Archive, layers []oci.Layer, env []string, labels map[string]string) ([]byte, error) {
	ids := []string{}
	for _, l := range layers {
		ids = append(ids, l.Digest)
	}
	config := map[string]any{"Cmd": []string{agentapi.Binary}, "Labels": labels}
	if len(env) > 0 {
		config["Env"] = env
	}
	whole := map[string]any{"architecture": archived.Platform.Architecture, "os": archived.Platform.OS, "config": config,
		"rootfs": map[string]any{"type": "layers", "diff_ids": ids}}
	if !archived.Created.IsZero() {
		whole["created"] = archived.Created.UTC()
	}
	var past struct {
		History []step `json:"history"`
	}
	if json.Unmarshal(archived.Config, &past) == nil {
		made := 0
		for _, s := range past.History {
			if !s.EmptyLayer {
				made++
			}
		}
		if made == len(ids) { // otherwise it is of something else
			whole["history"] = past.History
		}
	}
	return json.Marshal(whole, json.Deterministic(true))
}

// EnsureImageImported has the engine load an archive of our own making: with the layers of the given one, which are inspected on the way, and with
// a configuration and the one name that we have chosen. An engine makes nothing of an archive that breaks off, and gives an image its name when it
// has all of it.
func (p *Provider) EnsureImageImported(ctx context.Context, archive *io.SectionReader, ref string) error {
	if err := checkRef(ref); err != nil {
		return err
	}
	return p.captures.finish(ctx, ref, func(ctx context.Context) error {
		if has, err := p.HasImage(ctx, ref); has || err != nil {
			return err
		}
		h, err := p.about(ctx)
		if err != nil {
			return err
		}
		image, runtime, err := openArchive(archive, h.architecture)
		if err != nil {
			return err
		}
		return p.load(ctx, image, runtime, ref)
	})
}

// load gives the engine an image as it is to be called.
func (p *Provider) load(ctx context.Context, archived *oci.Archive, runtime imageRuntime, ref string) error {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return err
	}
	image := oci.Image{Name: named.String(), Platform: archived.Platform} // whole: Podman takes a short one for another
	if image.Layers, err = archived.Inspected(complete, paths...); err != nil {
		return lasting(err)
	}
	labels := map[string]string{labelInstallation: p.config.Installation, labelRef: ref}
	if platform := runtime.Labels[labelImagePlatform]; platformForm.MatchString(platform) {
		labels[labelImagePlatform] = platform
	}
	if image.Config, err = importedConfig(archived, image.Layers, runtime.Env, labels); err != nil {
		return err
	}
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := oci.WriteSaved(w, image)
		w.CloseWithError(err)
		written <- err
	}()
	err = p.loadFrom(ctx, r)
	r.CloseWithError(io.ErrClosedPipe) // an engine that has refused reads no more
	if wrong := <-written; wrong != nil && !errors.Is(wrong, io.ErrClosedPipe) {
		return lasting(fmt.Errorf("read the archive: %w", wrong))
	}
	if err != nil {
		return errors.Join(fail("import the image "+ref, err), p.removeHalf(ctx, ref))
	}
	if has, err := p.HasImage(ctx, ref); err != nil || has {
		return err
	}
	return fmt.Errorf("import the image %s: the container engine has loaded it, and does not know it", ref)
}

func (p *Provider) loadFrom(ctx context.Context, archive io.Reader) error {
	r, err := p.engine.ImageLoad(ctx, archive, client.ImageLoadWithQuiet(true))
	if err != nil {
		return err
	}
	return errors.Join(importOutcome(r), r.Close())
}
