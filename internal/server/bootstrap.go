package server

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/moby/moby/client"

	"github.com/oriel-project/oriel/images"
	"github.com/oriel-project/oriel/internal/bootstrap"
	"github.com/oriel-project/oriel/internal/compute/docker"
)

// Base is what came of Bootstrap.
type Base struct {
	Name string // of the public image
	Ref  string // in the engine
	Had  bool   // it was there already
}

// BootstrapOptions says how to make the base image. All fields may be left empty.
type BootstrapOptions struct {
	CacheDir string // keeps the root file system's tar; default: cache in the data directory
	Mirror   string // see bootstrap.Options
	Rebuild  bool   // make it anew although it is there
	Progress func(bootstrap.Progress)
}

// baseImage describes the base image's recipe.
func baseImage(mirror string) (bootstrap.Image, error) {
	return bootstrap.Describe(bootstrap.Options{Recipe: images.Debian12(), Mirror: mirror})
}

// Bootstrap makes the base image of Debian packages and gives it to the container engine, unless that has it. It does not
// need the server; one that runs offers the image within seconds.
func Bootstrap(ctx context.Context, cfg Config, o BootstrapOptions) (Base, error) {
	recipe, err := baseImage(o.Mirror)
	if err != nil {
		return Base{}, err
	}
	base := Base{Name: recipe.Name, Ref: "oriel/base:" + recipe.Name}
	p, err := newDocker(cfg, "bootstrap")
	if err != nil {
		return base, err
	}
	defer p.Close()
	if base.Had, err = hasRecipe(ctx, cfg.Engine, base.Ref, recipe.Recipe); err != nil || base.Had && !o.Rebuild {
		return base, err
	}
	base.Had = false
	if o.CacheDir == "" {
		o.CacheDir = filepath.Join(cfg.Data, "cache")
	}
	image, err := bootstrap.Build(ctx, bootstrap.Options{Recipe: images.Debian12(), CacheDir: o.CacheDir, Mirror: o.Mirror,
		Rebuild: o.Rebuild, Progress: o.Progress})
	if err != nil {
		return base, err
	}
	tar, err := os.Open(image.Tar)
	if err != nil {
		return base, err
	}
	defer tar.Close()
	info, err := tar.Stat()
	if err != nil {
		return base, err
	}
	return base, p.ImportImage(ctx, tar, image.Changes, base.Ref, func(n int64) {
		if o.Progress != nil {
			o.Progress(bootstrap.Progress{Step: "Importing the image", Detail: fmt.Sprintf("%d of %d MB", n/1e6, info.Size()/1e6),
				Percent: 100 * float64(n) / float64(info.Size())})
		}
	})
}

// hasRecipe tells whether the engine's image ref was made of exactly this recipe.
func hasRecipe(ctx context.Context, host, ref, recipe string) (bool, error) {
	if host == "" {
		host = docker.FindHost()
	}
	engine, err := client.New(client.WithHost(host))
	if err != nil {
		return false, fmt.Errorf("the container engine's address %q: %w", host, err)
	}
	defer engine.Close()
	r, err := engine.ImageList(ctx, client.ImageListOptions{Filters: client.Filters{}.
		Add("reference", ref).Add("label", bootstrap.LabelRecipe+"="+recipe)})
	if err != nil {
		return false, fmt.Errorf("ask the container engine for its images: %w; oriel doctor says more", err)
	}
	return len(r.Items) > 0, nil
}
