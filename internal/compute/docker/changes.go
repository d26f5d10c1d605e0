package docker

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/oriel-project/oriel/internal/compute"
)

// SaveChanges asks the engine which paths of the machine's disk differ from its image, has it write the whole disk, and lets through what
// belongs to those paths. So nothing is kept but their names, whatever the disk has.
func (p *Provider) SaveChanges(ctx context.Context, id string, w io.Writer) error {
	c, err := p.inspect(ctx, id)
	switch {
	case err != nil:
		return err
	case c == nil:
		return &compute.Fault{Message: "the machine " + id + " does not exist (any more): there is no disk to make a package of"}
	case c.State.Running:
		return fmt.Errorf("the machine %s is not stopped: stop it, and make the package then", id)
	}
	diff, err := p.engine.ContainerDiff(ctx, c.ID, client.ContainerDiffOptions{})
	if err != nil {
		return fail("compare the disk of the machine "+id+" with its image", err)
	}
	changed := map[string]bool{}
	for _, change := range diff.Changes {
		if change.Kind != container.ChangeDelete {
			changed[plain(change.Path)] = true
		}
	}
	disk, err := p.engine.ContainerExport(ctx, c.ID, client.ContainerExportOptions{})
	if err != nil {
		return fail("read the disk of the machine "+id, err)
	}
	defer disk.Close()
	files, err := saveChanged(disk, changed, w, func(name string) (io.ReadCloser, error) {
		r, err := p.engine.CopyFromContainer(ctx, c.ID, client.CopyFromContainerOptions{SourcePath: "/" + name})
		return r.Content, err
	})
	if err == nil {
		err = p.unchanged(ctx, id, c)
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fail("read the disk of the machine "+id, err)
	case files == 0:
		return &compute.Fault{Message: "nothing was installed: the disk has no files beyond those of its image"}
	}
	return nil
}

// plain is a path as compute.Volatile knows it.
func plain(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// saveChanged copies the entries of a disk that have changed and are not volatile, and tells how many of them are no folders. A hard link
// whose file is left out has the file itself instead, which single gives as an archive of its own.
func saveChanged(disk io.Reader, changed map[string]bool, w io.Writer, single func(name string) (io.ReadCloser, error)) (files int, err error) {
	in, out := tar.NewReader(disk), tar.NewWriter(w)
	saved := map[string]bool{}
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return files, out.Close()
		}
		if err != nil {
			return files, err
		}
		name, folder := plain(h.Name), h.Typeflag == tar.TypeDir
		if name == "" || !changed[name] || compute.Volatile(name, folder) {
			continue
		}
		if target := plain(h.Linkname); h.Typeflag == tar.TypeLink && !saved[target] {
			err = saveSingle(out, name, single)
		} else {
			if h.Typeflag == tar.TypeLink {
				h.Linkname = target
			}
			err = save(out, name, h, in)
		}
		if err != nil {
			return files, fmt.Errorf("%s: %w", name, err)
		}
		if saved[name] = true; !folder {
			files++
		}
	}
}

func saveSingle(out *tar.Writer, name string, single func(name string) (io.ReadCloser, error)) error {
	alone, err := single(name)
	if err != nil {
		return err
	}
	defer alone.Close()
	in := tar.NewReader(alone)
	h, err := in.Next()
	if err != nil {
		return err
	}
	return save(out, name, h, in)
}

// save writes one entry under a name.
func save(out *tar.Writer, name string, h *tar.Header, content io.Reader) error {
	h.Name, h.Format, h.AccessTime, h.ChangeTime = name, tar.FormatPAX, time.Time{}, time.Time{}
	if h.Typeflag == tar.TypeDir {
		h.Name += "/"
	}
	if err := out.WriteHeader(h); err != nil {
		return err
	}
	if h.Size == 0 {
		return nil
	}
	_, err := io.Copy(out, content)
	return err
}
