// Package sqlite keeps records in one SQLite file. It is the default store: one process, one file, no other program to
// install.
//
// The file is in WAL mode. One connection writes, guarded by a lock of the process, so that SQLite never answers that
// it is busy; a few connections read, each in a snapshot of its own that no writer waits for. A commit is on
// the disk when Update returns: neither a killed process nor a power cut undoes it.
//
// What must always hold is held by the schema (migrations/): keys are unique, states change along
// appstream.Transitions, events and audit lines stay as they are.
package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/oriel-project/oriel/internal/store"
)

// Store is a store.Store in a SQLite file.
type Store struct {
	path    string // absolute
	pragmas url.Values
	lock    *os.File
	decoder decoder
	hub     hub

	closing   chan struct{} // closed by Close
	closeOnce sync.Once
	closeErr  error

	// Whoever has the token of writing uses writer. The token is a channel's element and not a mutex so that waiting
	// for it can be given up, and counts as waiting in testing/synctest.
	writing chan struct{}
	writer  *conn // nil after a fault that it did not survive
	relaxed bool  // writer does not wait for the disk now, see lease

	// Whoever has one of the tokens of reading takes an idle reader, or opens one if there is none.
	reading chan struct{}
	idleMu  sync.Mutex
	idle    []*conn // the last used at the end: its cache is warm
}

var _ store.Store = (*Store)(nil)

// Option changes how a store is opened.
type Option func(*Store)

// WithoutSync makes commits not wait for the disk: a power cut can undo the last ones, a killed process cannot. It is
// for tests.
func WithoutSync() Option {
	return func(s *Store) { s.pragmas.Set("_synchronous", "OFF") }
}

// Open opens the store in the file at path, which it creates with mode 0600 if it does not exist; the directory must
// exist. It brings the schema up to date and ends the leases of the process that had the store before. A file that another
// process has open, that a newer Oriel wrote, that is damaged or that is not Oriel's is refused with an error that says
// so.
func Open(ctx context.Context, path string, opts ...Option) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	if err := checkDirectory(path); err != nil {
		return nil, err
	}
	readers := max(4, runtime.GOMAXPROCS(0))
	s := &Store{
		path: path,
		pragmas: url.Values{
			"_busy_timeout": {"5000"}, // for a backup program that reads the file; we never wait for ourselves
			"_foreign_keys": {"on"},
			"_synchronous":  {"FULL"}, // an answer that the API gave is true after a power cut too, for some 0.15 ms on an SSD
			"_defensive":    {"true"},
			"_dqs":          {"false"},
			"_error_rc":     {"true"},
			"_pragma":       {"trusted_schema(off)", "journal_size_limit(67108864)"},
		},
		hub:     hub{watchers: make(map[*watcher]struct{})},
		closing: make(chan struct{}),
		writing: make(chan struct{}, 1),
		reading: make(chan struct{}, readers),
	}
	for _, o := range opts {
		o(s)
	}
	if s.lock, err = guard(path); err != nil {
		return nil, err
	}
	if err := s.prepare(); err != nil {
		if s.writer != nil {
			s.writer.close()
		}
		s.lock.Close()
		return nil, explain(path, err)
	}
	s.writing <- struct{}{}
	for range readers {
		s.reading <- struct{}{}
	}
	return s, nil
}

// prepare opens the writer and makes the file ready for use.
func (s *Store) prepare() (err error) {
	if err := makePrivate(s.path); err != nil {
		return err
	}
	if s.writer, err = connect(s.path, s.pragmas); err != nil {
		return err
	}
	c := s.writer
	if err := migrate(c, migrations()); err != nil {
		return err
	}
	if err := setWAL(c); err != nil {
		return err
	}
	if err := quickCheck(c); err != nil {
		return err
	}
	if err := writeTransitions(c); err != nil {
		return err
	}
	_, err = c.exec("UPDATE record SET lease = NULL, " + wakeUp + " WHERE lease IS NOT NULL")
	return err
}

func setWAL(c *conn) error {
	mode := ""
	err := c.query("PRAGMA journal_mode = WAL", nil, func(row []driver.Value) error {
		mode = text(row[0])
		return nil
	})
	if err == nil && mode != "wal" {
		err = errors.New("the file system cannot share memory, which SQLite's WAL mode needs: put the data directory on a local disk")
	}
	return err
}

// quickCheck looks for damage in the records. The logs may be long, and are left out.
func quickCheck(c *conn) error {
	return c.query("PRAGMA quick_check('record')", nil, func(row []driver.Value) error {
		if found := text(row[0]); found != "ok" {
			return fmt.Errorf("%w: %s", errDamaged, found)
		}
		return nil
	})
}

// acquire takes a token, and fails when ctx ends or the store is closed first.
func (s *Store) acquire(ctx context.Context, tokens chan struct{}) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-s.closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	case <-tokens:
	}
	select {
	case <-s.closing: // both were ready
		tokens <- struct{}{}
		return ErrClosed
	default:
		return nil
	}
}

// View implements store.Store. The snapshot is that of the first read in it.
func (s *Store) View(ctx context.Context, fn func(store.Tx) error) error {
	return s.view(ctx, func(c *conn) error {
		t := &tx{s: s, c: c, ctx: ctx}
		defer t.end()
		if err := fn(t); err != nil {
			return err
		}
		return t.err
	})
}

// view calls fn in a transaction of a connection that only reads.
func (s *Store) view(ctx context.Context, fn func(c *conn) error) error {
	if err := s.acquire(ctx, s.reading); err != nil {
		return err
	}
	defer func() { s.reading <- struct{}{} }()
	c, err := s.takeReader()
	if err != nil {
		return explain(s.path, err)
	}
	defer s.giveReader(c)
	if _, err := c.exec("BEGIN"); err != nil {
		return explain(s.path, err)
	}
	return fn(c)
}

func (s *Store) takeReader() (*conn, error) {
	s.idleMu.Lock()
	if n := len(s.idle); n > 0 {
		c := s.idle[n-1]
		s.idle = s.idle[:n-1]
		s.idleMu.Unlock()
		return c, nil
	}
	s.idleMu.Unlock()
	pragmas := make(url.Values, len(s.pragmas)+1)
	for k, v := range s.pragmas {
		pragmas[k] = v
	}
	pragmas.Set("_query_only", "true")
	return connect(s.path, pragmas)
}

func (s *Store) giveReader(c *conn) {
	if !c.rollback() {
		c.close()
		return
	}
	s.idleMu.Lock()
	defer s.idleMu.Unlock()
	s.idle = append(s.idle, c)
}

// Update implements store.Store. It must not be called in an Update: it would wait for itself until ctx ends. When ctx
// ends before the commit, or the database itself fails in it, everything is undone and that error is returned even if fn
// returns nil.
func (s *Store) Update(ctx context.Context, fn func(store.Tx) error) error {
	return s.write(ctx, true, func(c *conn) error {
		if _, err := c.exec("BEGIN IMMEDIATE"); err != nil {
			return explain(s.path, err)
		}
		t := &tx{s: s, c: c, ctx: ctx, writes: true}
		defer t.end()
		if err := fn(t); err != nil {
			return err
		}
		if t.err != nil {
			return t.err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := c.exec("COMMIT"); err != nil {
			return explain(s.path, err)
		}
		s.hub.publish(t.changes)
		return nil
	})
}

// write calls fn with the writer, alone, and undoes what fn leaves open, by an error or a panic. A commit in it waits for
// the disk if durable is set.
func (s *Store) write(ctx context.Context, durable bool, fn func(c *conn) error) error {
	if err := s.acquire(ctx, s.writing); err != nil {
		return err
	}
	defer func() { s.writing <- struct{}{} }()
	if s.writer == nil {
		c, err := connect(s.path, s.pragmas)
		if err != nil {
			return explain(s.path, err)
		}
		s.writer, s.relaxed = c, false
	}
	c, whole := s.writer, false
	defer func() {
		if !whole && !c.rollback() {
			c.close()
			s.writer = nil
		}
	}()
	if s.pragmas.Get("_synchronous") == "FULL" && s.relaxed == durable {
		level := "FULL"
		if !durable {
			level = "NORMAL"
		}
		if err := c.script("PRAGMA synchronous = " + level); err != nil {
			return explain(s.path, err)
		}
		s.relaxed = !durable
	}
	err := fn(c)
	whole = err == nil
	return err
}

// Watch implements store.Store. The queue of a watcher holds 256 changes. Changes of one record in one commit are given
// as one.
func (s *Store) Watch(ctx context.Context) <-chan store.Change { return s.hub.watch(ctx) }

// Generation implements store.Store.
func (s *Store) Generation() uint64 { return s.hub.generation.Load() }

// Close implements store.Store. Called in a transaction it would wait for ever. All watches end. Calling it again is
// harmless.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		close(s.closing)
		<-s.writing
		for range cap(s.reading) {
			<-s.reading
		}
		s.hub.close()
		var errs []error
		for _, c := range s.idle {
			errs = append(errs, c.close())
		}
		if s.writer != nil { // the last to close writes the WAL into the file and removes it
			errs = append(errs, s.writer.close())
		}
		errs = append(errs, s.lock.Close())
		s.closeErr = explain(s.path, errors.Join(errs...))
	})
	return s.closeErr
}
