package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/oriel-project/oriel/internal/blob"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/config"
	"github.com/oriel-project/oriel/internal/objects"
)

// OpenObjects opens the objects of a server for the administrator's commands: they and the server may use them at the same time. It refuses
// to work for root in another user's directory, whose server could not read what root has put there.
func OpenObjects(ctx context.Context, cfg Config) (objects.Store, error) {
	if cfg.Objects.Bucket != "" {
		return openObjects(ctx, cfg.Config)
	}
	info, err := os.Stat(cfg.Data)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no data directory %s: the server makes it at its first start; name another with --data", cfg.Data)
	case err != nil:
		return nil, err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && int(owner.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("the data directory %s belongs to the user %d: run this as the user who runs the server", cfg.Data, owner.Uid)
	}
	return openObjects(ctx, cfg.Config)
}

// openObjects does not need a bucket to be within reach.
func openObjects(ctx context.Context, c config.Config) (objects.Store, error) {
	if c.Objects.Bucket != "" {
		return objects.OpenBucket(ctx, blob.BucketConfig(c.Objects))
	}
	return objects.OpenDir(filepath.Join(c.Data, "objects"))
}

// checkObjects tells whether objects can be kept. The data directory is another finding's.
func checkObjects(ctx context.Context, c config.Config) []compute.Finding {
	if c.Objects.Bucket == "" {
		return nil
	}
	f := compute.Finding{OK: true, What: "bucket of the objects"}
	ctx, cancel := context.WithTimeout(ctx, bucketTime)
	defer cancel()
	b, err := objects.OpenBucket(ctx, blob.BucketConfig(c.Objects))
	if err == nil {
		f.Info = blob.BucketConfig(c.Objects).String()
		err = b.Check(ctx)
	}
	if err != nil {
		f.OK, f.Info, f.Hint = false, err.Error(), "correct [objects]: the key needs to list, read, write and delete objects of the bucket"
	}
	return []compute.Finding{f}
}
