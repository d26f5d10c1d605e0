package sqlite

import (
	"path/filepath"
	"testing"

	"github.com/oriel-project/oriel/internal/store"
	"github.com/oriel-project/oriel/internal/store/storetest"
)

func open(t testing.TB, opts ...Option) *Store {
	t.Helper()
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "oriel.db"), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t testing.TB) store.Store { return open(t, WithoutSync()) })
}
