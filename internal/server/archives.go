package server

import (
	"context"
	"path/filepath"
	"time"

	"github.com/oriel-project/oriel/internal/blob"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/config"
	"github.com/oriel-project/oriel/internal/reconcile"
)

// archives is where exported images are: a directory, or a bucket.
type archives interface {
	reconcile.Archives
	Has(ctx context.Context, name string) (bool, error)
	Count(ctx context.Context, account string) (int, error)
}

// openArchives does not need a bucket to be within reach.
func openArchives(ctx context.Context, c config.Config) (archives, error) {
	if c.Archives.Bucket == "" {
		return blob.OpenArchives(filepath.Join(c.Data, "exports"))
	}
	return blob.OpenBucket(ctx, blob.BucketConfig(c.Archives))
}

// bucketTime is how long doctor waits for a bucket.
const bucketTime = 20 * time.Second

// checkArchives tells whether exported images can be kept. The data directory is another finding's.
func checkArchives(ctx context.Context, c config.Config) []compute.Finding {
	if c.Archives.Bucket == "" {
		return nil
	}
	f := compute.Finding{OK: true, What: "bucket of the archives"}
	ctx, cancel := context.WithTimeout(ctx, bucketTime)
	defer cancel()
	b, err := blob.OpenBucket(ctx, blob.BucketConfig(c.Archives))
	if err == nil {
		f.Info = b.String()
		err = b.Check(ctx)
	}
	if err != nil {
		f.OK, f.Info, f.Hint = false, err.Error(), "correct [archives]: the key needs to list, read, write and delete objects of the bucket, and to list and abort uploads"
	}
	return []compute.Finding{f}
}
