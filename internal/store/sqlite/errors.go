package sqlite

import (
	"errors"
	"fmt"
	"path/filepath"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// ErrClosed is the error of every method of a store that was closed.
var ErrClosed = errors.New("sqlite: the store is closed")

var (
	errReadOnly = errors.New("sqlite: a View does not write; use Update")
	errDamaged  = errors.New("damage found")
	errOver     = errors.New("sqlite: the transaction is over; its Tx must not be kept")
)

// code gives SQLite's extended result code, 0 when err is not SQLite's.
func code(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code()
	}
	return 0
}

// explain says what SQLite's error means for the person who runs the server and what to do about it.
func explain(path string, err error) error {
	if err == nil {
		return nil
	}
	kind := code(err) & 0xff
	if errors.Is(err, errDamaged) {
		kind = lib.SQLITE_CORRUPT
	}
	switch kind {
	case lib.SQLITE_FULL:
		return fmt.Errorf("sqlite: the disk is full: nothing was written; make room in %s: %w", filepath.Dir(path), err)
	case lib.SQLITE_IOERR:
		return fmt.Errorf("sqlite: the disk does not read or write %s: nothing was written; look for disk errors in the system's log: %w", path, err)
	case lib.SQLITE_CORRUPT, lib.SQLITE_NOTADB:
		return fmt.Errorf("sqlite: the database %s is damaged: stop the server and restore the file from a backup (without its -wal and -shm), "+
			"or move it away to start with an empty one: %w", path, err)
	case lib.SQLITE_READONLY, lib.SQLITE_CANTOPEN, lib.SQLITE_PERM:
		return fmt.Errorf("sqlite: %s cannot be written: see that the file and its directory belong to the server's user: %w", path, err)
	case lib.SQLITE_BUSY, lib.SQLITE_LOCKED:
		return fmt.Errorf("sqlite: another program has locked %s: close it (a sqlite3 shell?) and try again: %w", path, err)
	}
	return fmt.Errorf("sqlite: %s: %w", path, err)
}
