package docker

import (
	"cmp"
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/client"

	"github.com/oriel-project/oriel/internal/compute"
)

// EnsureCaptured commits the stopped machine's container. The engine makes an image without a name first, which only gets
// the name ref when it is whole; what an interrupted capture has left is removed.
func (p *Provider) EnsureCaptured(ctx context.Context, id, ref string) error {
	if err := checkRef(ref); err != nil {
		return err
	}
	return p.captures.finish(ctx, ref, func(ctx context.Context) error {
		if has, err := p.HasImage(ctx, ref); has || err != nil {
			return err
		}
		return p.machines.finish(ctx, id, func(ctx context.Context) error { return p.capture(ctx, id, ref) })
	})
}

func (p *Provider) capture(ctx context.Context, id, ref string) error {
	c, err := p.inspect(ctx, id)
	switch {
	case err != nil:
		return err
	case c == nil:
		return &compute.Fault{Message: "the machine " + id + " does not exist (any more): there is no disk to make an image of"}
	case c.State.Running:
		return fmt.Errorf("the machine %s is not stopped: stop it, and make the image then", id)
	}
	if err := p.removeHalf(ctx, ref); err != nil {
		return err
	}
	r, err := p.engine.ContainerCommit(ctx, c.ID, client.ContainerCommitOptions{
		Config: &container.Config{}, // Podman does without everything but this and Changes
		Changes: []string{
			label(labelInstallation, p.config.Installation),
			label(labelRef, ref),
			label(labelParent, c.Image),
			label(labelImageName, ""), // it is made from a public image, but is none
		},
	})
	if err == nil {
		err = p.unchanged(ctx, id, c)
	}
	if err == nil {
		_, err = p.engine.ImageTag(ctx, client.ImageTagOptions{Source: r.ID, Target: ref})
	}
	if err != nil {
		return errors.Join(fail("make the image of the machine "+id, err), p.removeHalf(ctx, ref))
	}
	return nil
}

// unchanged refuses a disk that was read while somebody had started the machine, which was stopped when it was inspected as c: it may be half what it
// was and half what it became. If the machine was removed since, its disk was read before that.
func (p *Provider) unchanged(ctx context.Context, id string, c *container.InspectResponse) error {
	now, err := p.inspect(ctx, id)
	if err == nil && now != nil && (now.State.Running || now.State.StartedAt != c.State.StartedAt) {
		err = errors.New("it was started while its disk was read; it is tried again")
	}
	return err
}

// label gives the Dockerfile instruction that sets a label.
func label(key, value string) string { return "LABEL " + key + "=" + strconv.Quote(value) }

// checkRef accepts NAME:TAG, as the engine will understand it.
func checkRef(ref string) error {
	named, err := reference.ParseNormalizedNamed(ref)
	if err == nil {
		if _, tagged := named.(reference.Tagged); !tagged || len(ref) > 255 {
			err = errors.New("it is not of the form NAME:TAG")
		}
	}
	if err != nil {
		return &compute.Fault{Message: fmt.Sprintf("%.60q cannot name an image: %s", ref, err), Cause: err}
	}
	return nil
}

// removeHalf removes images that were captured as ref and have no name (yet).
func (p *Provider) removeHalf(ctx context.Context, ref string) error {
	r, err := p.engine.ImageList(ctx, client.ImageListOptions{Filters: client.Filters{}.
		Add("dangling", "true").Add("label", labelInstallation+"="+p.config.Installation, labelRef+"="+ref)})
	if err != nil {
		return fail("look for what is left of an image", err)
	}
	var errs []error
	for _, i := range r.Items {
		if i.Labels[labelRef] == ref {
			errs = append(errs, p.removeUnused(ctx, i.ID))
		}
	}
	return errors.Join(errs...)
}

// EnsureImageCopied gives the image from a second name. An image in an engine is not changed any more, so the two need no
// data of their own: EnsureImageGone takes one name away and leaves the data to the other.
func (p *Provider) EnsureImageCopied(ctx context.Context, from, to string) error {
	if err := errors.Join(checkRef(from), checkRef(to)); err != nil {
		return &compute.Fault{Message: err.Error(), Cause: err}
	}
	return p.captures.finish(ctx, to, func(ctx context.Context) error {
		if has, err := p.HasImage(ctx, to); has || err != nil {
			return err
		}
		r, err := p.engine.ImageInspect(ctx, from)
		if err == nil && (r.Config == nil || r.Config.Labels[labelInstallation] != p.config.Installation) {
			return &compute.Fault{Message: "the image " + from + " was not made by this server: it is not copied"}
		}
		if err == nil {
			_, err = p.engine.ImageTag(ctx, client.ImageTagOptions{Source: r.ID, Target: to})
		}
		switch {
		case cerrdefs.IsNotFound(err):
			return &compute.Fault{Message: "the image " + from + " does not exist (any more): there is nothing to copy", Cause: err}
		case err != nil:
			return fail("copy the image "+from, err)
		}
		return nil
	})
}

// HasImage tells whether there is an image of that name.
func (p *Provider) HasImage(ctx context.Context, ref string) (bool, error) {
	_, err := p.engine.ImageInspect(ctx, ref)
	switch {
	case cerrdefs.IsNotFound(err), cerrdefs.IsInvalidArgument(err):
		return false, nil
	case err != nil:
		return false, fail("look for the image "+ref, err)
	}
	return true, nil
}

// EnsureImageGone takes the image's name away, and removes the image when no machine and no other image is made from it.
// One that is still used goes with its last user.
func (p *Provider) EnsureImageGone(ctx context.Context, ref string) error {
	if checkRef(ref) != nil {
		return nil // such an image cannot have been made
	}
	return p.captures.finish(ctx, ref, func(ctx context.Context) error {
		r, err := p.engine.ImageInspect(ctx, ref)
		switch {
		case cerrdefs.IsNotFound(err):
			return errors.Join(p.removeHalf(ctx, ref), p.removeForgotten(ctx)) // the name may be gone and the data not, if we were ended then
		case err != nil:
			return fail("look for the image "+ref, err)
		case r.Config == nil || r.Config.Labels[labelInstallation] != p.config.Installation:
			return &compute.Fault{Message: "the image " + ref + " was not made by this server: it is not removed"}
		}
		// With a second name, the engine only takes this one away, whoever uses the image. Without that it would refuse;
		// and if it were forced to, Podman would remove the machines too.
		_, err = p.engine.ImageTag(ctx, client.ImageTagOptions{Source: r.ID, Target: aside(r.ID)})
		if err == nil {
			_, err = p.engine.ImageRemove(ctx, ref, client.ImageRemoveOptions{})
		}
		if err != nil && !cerrdefs.IsNotFound(err) {
			return fail("remove the image "+ref, err)
		}
		return errors.Join(p.removeUnused(ctx, r.ID), p.removeHalf(ctx, ref))
	})
}

// removed names images that are to go as soon as nobody uses them.
const removed = "oriel/removed"

func aside(imageID string) string {
	id := strings.TrimPrefix(imageID, "sha256:")
	return removed + ":" + id[:min(len(id), 32)]
}

// removeUnused removes an image that this installation has made, is called nothing and not used, and then those that it
// was made from and that are so too.
func (p *Provider) removeUnused(ctx context.Context, imageID string) error {
	for imageID != "" {
		r, err := p.engine.ImageInspect(ctx, imageID)
		switch {
		case cerrdefs.IsNotFound(err):
			return nil
		case err != nil:
			return fail("look for unused images", err)
		case r.Config == nil || r.Config.Labels[labelInstallation] != p.config.Installation,
			slices.ContainsFunc(r.RepoTags, func(tag string) bool { return familiar(tag) != aside(r.ID) }):
			return nil
		}
		_, err = p.engine.ImageRemove(ctx, r.ID, client.ImageRemoveOptions{})
		switch {
		case cerrdefs.IsConflict(err), cerrdefs.IsNotFound(err):
			return nil
		case err != nil:
			return fail("remove an unused image", err)
		}
		imageID = r.Config.Labels[labelParent]
	}
	return nil
}

// removeForgotten removes all images of this installation that are to go as soon as nobody uses them and that nobody uses: their last user went without
// our doing.
func (p *Provider) removeForgotten(ctx context.Context) error {
	r, err := p.engine.ImageList(ctx, client.ImageListOptions{Filters: client.Filters{}.
		Add("dangling", "false").Add("label", labelInstallation+"="+p.config.Installation)})
	if err != nil {
		return fail("look for unused images", err)
	}
	var errs []error
	for _, i := range r.Items {
		if slices.ContainsFunc(i.RepoTags, func(tag string) bool { return familiar(tag) == aside(i.ID) }) {
			errs = append(errs, p.removeUnused(ctx, i.ID))
		}
	}
	return errors.Join(errs...)
}

// ListImages gives the refs of the captured images and of their copies, with one call to the engine. All have the repository of
// the first name, which the label keeps also when that name is gone; names that somebody else gave them are not Oriel's.
func (p *Provider) ListImages(ctx context.Context) ([]string, error) {
	r, err := p.engine.ImageList(ctx, client.ImageListOptions{Filters: client.Filters{}.
		Add("dangling", "false").Add("label", labelInstallation+"="+p.config.Installation)})
	if err != nil {
		return nil, fail("list images", err)
	}
	var refs []string
	for _, i := range r.Items {
		ours := repository(i.Labels[labelRef])
		for _, tag := range i.RepoTags {
			if ours != "" && repository(tag) == ours {
				refs = append(refs, familiar(tag))
			}
		}
	}
	return refs, nil
}

// repository gives what comes before the tag of a name, in the same form for all engines; "" for what is no name.
func repository(ref string) string {
	if named, err := reference.ParseNormalizedNamed(ref); err == nil {
		return named.Name()
	}
	return ""
}

// PublicImages gives the images with a label oriel.image.name and a name in the engine, with one call to it. Of several with
// the same label it is the newest.
func (p *Provider) PublicImages(ctx context.Context) ([]compute.PublicImage, error) {
	r, err := p.engine.ImageList(ctx, client.ImageListOptions{Filters: client.Filters{}.Add("dangling", "false").Add("label", labelImageName)})
	if err != nil {
		return nil, fail("list public images", err)
	}
	slices.SortStableFunc(r.Items, func(a, b image.Summary) int { return cmp.Compare(b.Created, a.Created) })
	var images []compute.PublicImage
	for _, i := range r.Items {
		name := i.Labels[labelImageName]
		if slices.ContainsFunc(images, func(other compute.PublicImage) bool { return other.Name == name }) {
			continue
		}
		if name == "" || i.Labels[labelRef] != "" || len(i.RepoTags) == 0 || i.RepoTags[0] == "<none>:<none>" {
			continue
		}
		images = append(images, compute.PublicImage{
			Name: name, Ref: familiar(i.RepoTags[0]), Platform: i.Labels[labelImagePlatform],
			DisplayName: i.Labels[labelImageDisplayName], Description: i.Labels[labelImageDescription],
			Released: released(i.Labels[labelImageReleased], time.Unix(i.Created, 0).UTC()),
		})
	}
	return images, nil
}

// familiar shortens a name as Docker does, so that both engines give the same.
func familiar(tag string) string {
	if named, err := reference.ParseNormalizedNamed(tag); err == nil {
		return reference.FamiliarString(named)
	}
	return tag
}

func released(text string, otherwise time.Time) time.Time {
	for _, form := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(form, text); err == nil {
			return t
		}
	}
	return otherwise
}

// ImportImage makes the image ref of a tar archive with a root file system. changes are Dockerfile instructions such as
// LABEL, see the label constants for what makes an image public. progress, if set, is called with the number of bytes that
// the engine has taken. Either the whole image is there afterwards, and the one that was called ref before is gone or has
// lost the name, or nothing has changed.
func (p *Provider) ImportImage(ctx context.Context, tar io.Reader, changes []string, ref string, progress func(bytes int64)) error {
	if err := checkRef(ref); err != nil {
		return err
	}
	var before string
	if r, err := p.engine.ImageInspect(ctx, ref); err == nil {
		before = r.ID
	} else if !cerrdefs.IsNotFound(err) {
		return fail("look for the image "+ref, err)
	}
	source := client.ImageImportSource{Source: &counter{tar, 0, progress}, SourceName: "-"}
	r, err := p.engine.ImageImport(ctx, source, ref, client.ImageImportOptions{Changes: changes}) // Podman does not know Tag
	if err != nil {
		return fail("import the image "+ref, err)
	}
	defer r.Close()
	if err := importOutcome(r); err != nil {
		return fail("import the image "+ref, err)
	}
	if before != "" { // also when it is the same: then it still has a name, and stays
		_, err = p.engine.ImageRemove(ctx, before, client.ImageRemoveOptions{})
		if err != nil && !cerrdefs.IsNotFound(err) && !cerrdefs.IsConflict(err) {
			return fail("remove the image that was replaced", err)
		}
	}
	return nil
}

// importOutcome reads the messages that an engine sends while it imports, of which any may be the error.
func importOutcome(r io.Reader) error {
	in := jsontext.NewDecoder(io.LimitReader(r, 1<<20))
	for {
		var message struct {
			Error string `json:"error"`
		}
		switch err := json.UnmarshalDecode(in, &message); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case message.Error != "":
			return errors.New(message.Error)
		}
	}
}

// counter tells how much was read.
type counter struct {
	io.Reader
	n    int64
	tell func(int64)
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	if c.n += int64(n); n > 0 && c.tell != nil {
		c.tell(c.n)
	}
	return n, err
}
