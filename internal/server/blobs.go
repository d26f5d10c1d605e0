package server

import (
	"context"
	"time"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/blob"
	"github.com/oriel-project/oriel/internal/store"
)

// sweepBlobsEvery is how often blobs are looked for that belong to no record: pictures of themes that were replaced, icons of images that
// were deleted. They go the second time. No pass and no request takes as long, so that what one has put, or has found in a record that is gone now, is in
// the record that it commits by then.
const sweepBlobsEvery = 3 * time.Hour

// sweepBlobs removes unused blobs until ctx ends.
func (s *Server) sweepBlobs(ctx context.Context) {
	ticker := time.NewTicker(sweepBlobsEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		removed, err := s.sweepBlobsOnce(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			s.log.Warn("unused blobs could not be removed; it will be tried again", "err", err)
		case removed > 0:
			s.log.Info("unused blobs were removed", "count", removed)
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

func (s *Server) sweepBlobsOnce(ctx context.Context) (removed int, err error) {
	used := map[string]bool{}
	err = s.store.View(ctx, func(tx store.Tx) error {
		for noun := range appstream.Transitions() {
			err := tx.Scan(store.Query{Noun: noun}, func(_ appstream.Meta, decode func(appstream.Record) error) error {
				var of mentioned
				err := decode(&of)
				for _, name := range of.blobs {
					used[name] = true
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return s.blobs.Sweep(used)
}

// mentioned are the blobs that a record of any noun names, wherever in its document they are: so no noun that begins to have some can be
// forgotten here.
type mentioned struct {
	appstream.Meta
	blobs []string
}

// UnmarshalJSON looks for names in the whole document.
func (m *mentioned) UnmarshalJSON(document []byte) error {
	for _, name := range blob.Names(document) {
		m.blobs = append(m.blobs, string(name))
	}
	return nil
}
