package server

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/oriel-project/oriel/internal/config"
	"github.com/oriel-project/oriel/internal/store"
	"github.com/oriel-project/oriel/internal/store/sqlite"
)

// RemoveAll removes what the server of a data directory has made in the container engine: machines, captured images,
// networks. The base image and the data directory stay. The server must not be running, and is kept from starting meanwhile.
func RemoveAll(ctx context.Context, cfg Config) (err error) {
	file := filepath.Join(cfg.Data, "oriel.db")
	if _, err := os.Stat(file); cfg.Provider != config.Docker || errors.Is(err, fs.ErrNotExist) {
		return nil // nothing was ever made
	}
	db, err := sqlite.Open(ctx, file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var installation []byte
	err = db.View(ctx, func(tx store.Tx) error {
		installation, err = tx.Setting(settingInstallation)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	p, err := newDocker(cfg, string(installation))
	if err != nil {
		return err
	}
	defer p.Close()
	return p.RemoveAll(ctx)
}
