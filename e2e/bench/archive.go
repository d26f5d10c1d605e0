package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/moby/moby/client"

	"github.com/oriel-project/oriel/e2e/stage"
	"github.com/oriel-project/oriel/internal/compute/docker"
)

// archive compares exports and imports of an image, 180 MB on the base image, with the engine's own save and load, both to and from a file.
// An import is what the provider does for it: everything is verified, and loaded. The image's own layer is not in the engine when it comes back.
func (b *bench) archive(ctx context.Context) error {
	s, end, err := b.server(ctx, "archive", stage.Config{Engine: b.engine})
	if err != nil {
		return err
	}
	defer end()
	c, err := s.Client()
	if err != nil {
		return err
	}
	e, err := stage.OpenEngine(b.engine)
	if err != nil {
		return err
	}
	defer e.Close()
	const name = "archive"
	if err := newBuilder(ctx, c, name); err != nil {
		return err
	}
	if _, err := stage.AwaitBuilder(ctx, c, name, types.ImageBuilderStateRunning); err != nil {
		return err
	}
	m, err := e.Machine(ctx, s, name)
	if err != nil {
		return err
	}
	if out, code, err := e.Exec(ctx, m.ID, "root", changes[1].command); err != nil || code != 0 {
		return fmt.Errorf("change the machine: %d, %w\n%s", code, err, out)
	}
	if err := s.CreateImage(ctx, name, name); err != nil {
		return err
	}
	if _, err := stage.AwaitImage(ctx, c, name, types.ImageStateAvailable); err != nil {
		return err
	}
	ref, err := imageOf(ctx, e, m.Config.Labels["oriel.installation"])
	if err != nil {
		return err
	}
	ours, theirs := filepath.Join(b.dir, "ours.tar"), filepath.Join(b.dir, "theirs.tar")
	var exported, saved, imported, loaded []time.Duration
	for turn := range b.turns(6) {
		err := alternate(turn, func() error {
			took, err := export(ctx, s, c, name, fmt.Sprintf("archive-%d", turn), ours)
			exported = append(exported, took)
			return err
		}, func() error {
			took, err := save(ctx, e, ref, theirs)
			saved = append(saved, took)
			return err
		})
		if err != nil {
			return err
		}
	}
	info, err := os.Stat(ours)
	if err != nil {
		return err
	}
	if err := removeBuilder(ctx, c, name); err != nil {
		return err
	}
	if _, err := c.DeleteImage(ctx, &appstream.DeleteImageInput{Name: new(name)}); err != nil {
		return err
	}
	if _, err := stage.AwaitImage(ctx, c, name, ""); err != nil {
		return err
	}
	p, err := docker.New(docker.Config{Host: b.engine, DataDir: filepath.Join(b.dir, "import"), Installation: "bench-import"})
	if err != nil {
		return err
	}
	defer p.Close()
	for turn := range b.turns(6) {
		err := alternate(turn, func() error {
			took, err := importArchive(ctx, p, ours)
			imported = append(imported, took)
			return err
		}, func() error {
			took, err := loadByHand(ctx, e, theirs, ref)
			loaded = append(loaded, took)
			return err
		})
		if err != nil {
			return err
		}
	}
	size := fmt.Sprintf("%d MB", info.Size()/1_000_000)
	b.add(row{what: "CreateExportImageTask to COMPLETED, " + size, oriel: spread(exported), beside: spread(saved), comparee: "the engine's save into a file", ratio: ratio(exported, saved), goal: "≤ 1.50"})
	b.add(row{what: "import of that archive: verified, and loaded", oriel: spread(imported), beside: spread(loaded), comparee: "the engine's load of a file", ratio: ratio(imported, loaded), goal: "≤ 1.50"})
	return nil
}

// alternate lets neither always be the first.
func alternate(turn int, a, b func() error) error {
	if turn%2 == 1 {
		a, b = b, a
	}
	return errors.Join(a(), b())
}

// imageOf gives what the engine calls the one image of a server.
func imageOf(ctx context.Context, e *stage.Engine, installation string) (string, error) {
	r, err := e.ImageList(ctx, client.ImageListOptions{Filters: client.Filters{}.Add("dangling", "false").Add("label", "oriel.installation="+installation)})
	if err != nil {
		return "", err
	}
	if len(r.Items) != 1 || len(r.Items[0].RepoTags) != 1 {
		return "", fmt.Errorf("the server has %d images, not one", len(r.Items))
	}
	return r.Items[0].RepoTags[0], nil
}

// export exports the image, and moves the archive to file.
func export(ctx context.Context, s *stage.Server, c *appstream.Client, image, name, file string) (time.Duration, error) {
	begin := time.Now()
	task, err := c.CreateExportImageTask(ctx, &appstream.CreateExportImageTaskInput{ImageName: &image, AmiName: &name, IamRoleArn: new("arn:aws:iam::123456789012:role/bench")})
	if err != nil {
		return 0, err
	}
	for {
		t, err := c.GetExportImageTask(ctx, &appstream.GetExportImageTaskInput{TaskId: task.ExportImageTask.TaskId})
		if err != nil {
			return 0, err
		}
		switch state := t.ExportImageTask.State; state {
		case types.ExportImageTaskStateCompleted:
			took := time.Since(begin)
			return took, os.Rename(filepath.Join(s.Data, "exports", "123456789012", *t.ExportImageTask.AmiId+".tar"), file)
		case types.ExportImageTaskStateExporting:
			time.Sleep(10 * time.Millisecond)
		default:
			return 0, fmt.Errorf("the export is %s: %+v", state, t.ExportImageTask.ErrorDetails)
		}
	}
}

// save has the engine save the image, onto the disk as an export is.
func save(ctx context.Context, e *stage.Engine, ref, file string) (time.Duration, error) {
	begin := time.Now()
	f, err := os.Create(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	r, err := e.ImageSave(ctx, []string{ref})
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(f, r)
	err = errors.Join(err, r.Close(), f.Sync())
	return time.Since(begin), err
}

// importArchive imports an archive, and removes the image.
func importArchive(ctx context.Context, p *docker.Provider, file string) (time.Duration, error) {
	const ref = "oriel/image:bench-import"
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	err = p.EnsureImageImported(ctx, io.NewSectionReader(f, 0, info.Size()), ref)
	took := time.Since(begin)
	return took, errors.Join(err, p.EnsureImageGone(ctx, ref))
}

func loadByHand(ctx context.Context, e *stage.Engine, file, ref string) (time.Duration, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	begin := time.Now()
	r, err := e.ImageLoad(ctx, f, client.ImageLoadWithQuiet(true))
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, r)
	took := time.Since(begin)
	_, gone := e.ImageRemove(ctx, ref, client.ImageRemoveOptions{Force: true})
	return took, errors.Join(err, r.Close(), gone)
}
