package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/oriel-project/oriel/internal/objects"
)

// OpenObjects opens the objects of a data directory, for the administrator's commands: they and a running server may use them at
// the same time. It refuses to work for root in another user's directory, whose server could not read what root has put there.
func OpenObjects(cfg Config) (*objects.Dir, error) {
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
	return objects.OpenDir(objectsDir(cfg.Data))
}

func objectsDir(data string) string { return filepath.Join(data, "objects") }
