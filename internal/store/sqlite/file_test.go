package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/google/go-cmp/cmp"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

func builder(name string) *appstream.ImageBuilder {
	return &appstream.ImageBuilder{Meta: appstream.Meta{
		Key: appstream.Key{Account: "123456789012", Region: "us-west-2", Noun: appstream.NounImageBuilder, Name: name},
		ID:  "id-" + name, State: appstream.BuilderPending}}
}

func insert(t testing.TB, s *Store, rec appstream.Record) {
	t.Helper()
	if err := s.Update(t.Context(), func(tx store.Tx) error { return tx.Insert(rec) }); err != nil {
		t.Fatal(err)
	}
}

func count(t testing.TB, s *Store) (n int) {
	t.Helper()
	if err := s.View(t.Context(), func(tx store.Tx) (err error) {
		n, err = tx.Count("123456789012", "us-west-2", appstream.NounImageBuilder)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// raw opens the file as another program would.
func raw(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func execute(t testing.TB, db *sql.DB, query string) {
	t.Helper()
	if _, err := db.Exec(query); err != nil {
		t.Fatal(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	healthy := func(t *testing.T, path string) {
		s, err := Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 200 {
			insert(t, s, builder(fmt.Sprintf("b%03d", n)))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		prepare func(t *testing.T, path string)
		want    string
	}{
		"no directory":      {func(t *testing.T, path string) { os.Remove(filepath.Dir(path)) }, "there is no directory"},
		"a directory":       {func(t *testing.T, path string) { os.Mkdir(path, 0o700) }, "is not a file"},
		"a public place":    {func(t *testing.T, path string) { os.Chmod(filepath.Dir(path), 0o777) }, "chmod o-w"},
		"not a database":    {func(t *testing.T, path string) { os.WriteFile(path, []byte(strings.Repeat("hello ", 1000)), 0o600) }, "is damaged"},
		"another program's": {func(t *testing.T, path string) { execute(t, raw(t, path), "CREATE TABLE mine (a)") }, "another program's"},
		"a newer schema": {func(t *testing.T, path string) {
			healthy(t, path)
			execute(t, raw(t, path), "PRAGMA user_version = 999")
		}, "a newer Oriel wrote it"},
		"overwritten pages": {func(t *testing.T, path string) {
			healthy(t, path)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for i := len(data) / 4; i < len(data); i++ {
				data[i] ^= 0xa5
			}
			os.WriteFile(path, data, 0o600)
		}, "is damaged"},
		"cut short": {func(t *testing.T, path string) {
			healthy(t, path)
			if err := os.Truncate(path, 8192); err != nil {
				t.Fatal(err)
			}
		}, "is damaged"},
		"in use": {func(t *testing.T, path string) {
			s, err := Open(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
		}, fmt.Sprintf("in use by process %d", os.Getpid())},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "data", "oriel.db")
			if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			test.prepare(t, path)
			s, err := Open(t.Context(), path)
			if err == nil {
				s.Close()
				t.Fatal("Open succeeds")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %q, want %q in it", err, test.want)
			}
		})
	}
}

func TestOpenOddPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b?c#d%20e&_journal_mode=off'\"é")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "oriel.db")
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	insert(t, s, builder("one"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		t.Errorf("the file is not where it should be: %v", err)
	}
}

func TestFilesArePrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "oriel.db")
	if err := os.WriteFile(path, nil, 0o644); err != nil { // as an earlier program may have left it
		t.Fatal(err)
	}
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	insert(t, s, builder("one"))
	names, err := filepath.Glob(path + "*")
	if err != nil || len(names) != 4 { // the file, -wal, -shm, .lock
		t.Errorf("the files are %v, %v", names, err)
	}
	for _, name := range names {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
		}
	}
}

func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "oriel.db")
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for round := range 3 {
		s, err := Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if n := count(t, s); n != round {
			t.Errorf("round %d: %d records", round, n)
		}
		// The leases of the process before are over, its wakes are not lost.
		heads, err := s.Claim(t.Context(), now, now.Add(time.Hour), 10)
		if err != nil || len(heads) != round {
			t.Errorf("round %d: claimed %d, %v", round, len(heads), err)
		}
		b := builder(fmt.Sprint("b", round))
		b.Due = now
		insert(t, s, b)
		if _, err := s.Claim(t.Context(), now, now.Add(time.Hour), 10); err != nil {
			t.Error(err)
		}
		err = s.Update(t.Context(), func(tx store.Tx) error {
			if err := tx.Wake(b.Key, now); err != nil {
				return err
			}
			b.Due = now.Add(time.Hour)
			return tx.Put(b)
		})
		if err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if left, _ := filepath.Glob(path + "-*"); len(left) != 0 {
			t.Errorf("Close leaves %v", left)
		}
	}
}

// TestLogsOnlyGrow goes behind the store's back: the schema itself protects the logs.
func TestLogsOnlyGrow(t *testing.T) {
	s := open(t, WithoutSync())
	err := s.Update(t.Context(), func(tx store.Tx) error {
		return errors.Join(tx.AddEvent(store.Event{ID: "a"}), tx.AddAudit(store.Audit{RequestID: "b"}))
	})
	if err != nil {
		t.Fatal(err)
	}
	db := raw(t, s.path)
	for _, query := range []string{"UPDATE event SET why = 'x'", "DELETE FROM event", "UPDATE audit SET result = 'x'", "DELETE FROM audit"} {
		if _, err := db.Exec(query); err == nil || !strings.Contains(err.Error(), "append-only") {
			t.Errorf("%s: error %v", query, err)
		}
	}
}

func TestTransitionTable(t *testing.T) {
	s := open(t, WithoutSync())
	want := map[[3]string]bool{}
	for noun, table := range appstream.Transitions() {
		for _, edge := range table {
			want[[3]string{string(noun), edge.From, edge.To}] = true
		}
	}
	rows, err := raw(t, s.path).Query(`SELECT noun, "from", "to" FROM transition`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	got := map[[3]string]bool{}
	for rows.Next() {
		var e [3]string
		if err := rows.Scan(&e[0], &e[1], &e[2]); err != nil {
			t.Fatal(err)
		}
		got[e] = true
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestMigrationFails checks that a migration happens as a whole or not at all.
func TestMigrationFails(t *testing.T) {
	c, err := connect(filepath.Join(t.TempDir(), "x.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	steps := []migration{{1, "one", "CREATE TABLE a (x)"}, {2, "two", "CREATE TABLE b (x); INSERT INTO nowhere VALUES (1)"}}
	if err := migrate(c, steps); err == nil || !strings.Contains(err.Error(), "migration two") {
		t.Fatalf("error %v", err)
	}
	tables, err := c.int("SELECT count(*) FROM sqlite_schema")
	version, err2 := c.int("PRAGMA user_version")
	if err := errors.Join(err, err2); err != nil || tables != 1 || version != 1 {
		t.Errorf("%d tables, version %d, %v, want those of the first step", tables, version, err)
	}
	steps[1].sql = "CREATE TABLE b (x)"
	if err := migrate(c, steps); err != nil {
		t.Error(err)
	}
}

// TestDiskFull lets the database hit its size limit in the middle of a transaction.
func TestDiskFull(t *testing.T) {
	s := open(t, WithoutSync())
	insert(t, s, builder("before"))
	limit := func(pages int) {
		t.Helper()
		if err := s.writer.script(fmt.Sprintf("PRAGMA max_page_count = %d", pages)); err != nil {
			t.Fatal(err)
		}
	}
	pages, err := s.writer.int("PRAGMA page_count")
	if err != nil {
		t.Fatal(err)
	}
	changes := s.Watch(t.Context())
	limit(int(pages) + 2)
	err = s.Update(t.Context(), func(tx store.Tx) error {
		if err := tx.Insert(builder("small")); err != nil {
			t.Errorf("a small record: %v", err)
		}
		big := builder("big")
		big.ImageRef = strings.Repeat("x", 1<<20)
		if err := tx.Insert(big); err == nil || !strings.Contains(err.Error(), "disk is full") {
			t.Errorf("a big record: %v", err)
		}
		// SQLite has undone the transaction. What fn does now must not be committed by itself, whatever it thinks.
		if err := tx.Insert(builder("after")); err == nil {
			t.Error("the transaction goes on")
		}
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "disk is full") {
		t.Errorf("Update gives %v", err)
	}
	if n := count(t, s); n != 1 {
		t.Errorf("%d records, want the one from before", n)
	}
	select {
	case c := <-changes:
		t.Errorf("a change was published: %+v", c)
	default:
	}
	limit(1 << 20)
	insert(t, s, builder("small")) // there is room again
	if n := count(t, s); n != 2 {
		t.Errorf("%d records, want 2", n)
	}
}

// deadConn is a connection that has come into a state in which nothing works.
type deadConn struct{ driver.Conn }

func (deadConn) Prepare(string) (driver.Stmt, error) { return nil, errors.New("dead") }

// TestWriterLost checks that the store gets over a connection that a fault has made useless.
func TestWriterLost(t *testing.T) {
	s := open(t)
	insert(t, s, builder("one"))
	err := s.Update(t.Context(), func(tx store.Tx) error {
		if err := tx.Insert(builder("undone")); err != nil {
			t.Error(err)
		}
		for text, stmt := range s.writer.stmts {
			stmt.Close()
			delete(s.writer.stmts, text)
		}
		s.writer.db = deadConn{s.writer.db}
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "dead") {
		t.Errorf("error %v", err)
	}
	insert(t, s, builder("two"))
	if n := count(t, s); n != 2 {
		t.Errorf("%d records, want 2", n)
	}
}

// TestSynchronous checks which commits wait for the disk: those of Update do, also after a lease did not.
func TestSynchronous(t *testing.T) {
	for _, test := range []struct {
		opts          []Option
		update, claim int64 // the levels of PRAGMA synchronous: 0 OFF, 1 NORMAL, 2 FULL
	}{{nil, 2, 1}, {[]Option{WithoutSync()}, 0, 0}} {
		s := open(t, test.opts...)
		level := func() int64 {
			n, err := s.writer.int("PRAGMA synchronous")
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		for round := range 2 {
			insert(t, s, builder(fmt.Sprint("b", round)))
			if got := level(); got != test.update {
				t.Errorf("Update commits at level %d, want %d", got, test.update)
			}
			if _, err := s.Claim(t.Context(), time.Now(), time.Now(), 1); err != nil {
				t.Fatal(err)
			}
			if got := level(); got != test.claim {
				t.Errorf("Claim commits at level %d, want %d", got, test.claim)
			}
		}
	}
}

// TestWatchOneCommit checks that a record which one commit writes several times is one change.
func TestWatchOneCommit(t *testing.T) {
	s := open(t, WithoutSync())
	changes := s.Watch(t.Context())
	b := builder("one")
	due := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	err := s.Update(t.Context(), func(tx store.Tx) error {
		return errors.Join(tx.Insert(b), tx.Put(b), tx.Insert(builder("two")), tx.Wake(b.Key, due))
	})
	if err != nil {
		t.Fatal(err)
	}
	want := store.Change{Key: b.Key, ID: b.ID, Version: 2, State: b.State, Due: due}
	if got := <-changes; got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := <-changes; got.Name != "two" || len(changes) != 0 {
		t.Errorf("got %+v and %d more", got, len(changes))
	}
}

// TestIndexes checks that no statement of the hot paths goes through the whole table or sorts it.
func TestIndexes(t *testing.T) {
	s := open(t, WithoutSync())
	db := raw(t, s.path)
	one := shape{accounts: 1, region: true}.text()
	visible := shape{accounts: 2, granted: true, region: true}.text()
	linked := shape{accounts: 1, linked: true, region: true, states: 1}.text()
	for name, query := range map[string]string{
		"Claim": claimSQL, "NextDue": nextDueSQL, "Wake": wakeSQL,
		"Scan of an account": one, "Scan of what is visible": visible, "Scan of what is linked": linked, "Scan of all accounts": shape{accounts: -1, region: true}.text(),
	} {
		rows, err := db.Query("EXPLAIN QUERY PLAN "+query, make([]any, strings.Count(query, "?"))...)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			sorts := strings.Contains(detail, "TEMP B-TREE") && name != "Scan of what is visible" && name != "Scan of what is linked" // sorts what is granted or linked
			if strings.HasPrefix(detail, "SCAN record") && !strings.Contains(detail, "USING COVERING INDEX record_by_ready") || sorts {
				t.Errorf("%s: %s", name, detail)
			}
		}
		rows.Close()
	}
}

// TestSynctest runs a store within a bubble: it neither keeps the bubble's clock from moving nor outlives Close.
func TestSynctest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "oriel.db")
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		changes := s.Watch(t.Context())
		got := make(chan store.Change)
		go func() { got <- <-changes }()
		synctest.Wait()
		b := builder("one")
		b.Due = start.Add(time.Hour)
		insert(t, s, b)
		if c := <-got; c.ID != b.ID {
			t.Errorf("got %+v", c)
		}
		for {
			due, err := s.NextDue(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if heads, err := s.Claim(t.Context(), time.Now(), time.Now().Add(time.Minute), 1); err != nil {
				t.Fatal(err)
			} else if len(heads) == 1 {
				break
			}
			time.Sleep(time.Until(due))
		}
		if d := time.Since(start); d != time.Hour {
			t.Errorf("claimed after %v, want 1h", d)
		}

		// A second writer waits durably: the bubble's clock moves on and ends its patience.
		err = s.Update(t.Context(), func(store.Tx) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			return s.Update(ctx, func(store.Tx) error { return nil })
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the second writer gives %v", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, ok := <-changes; ok {
			t.Error("the watch has not ended")
		}
	})
	if _, err := os.Stat(path + "-wal"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Close leaves the WAL: %v", err)
	}
}

// older makes a file as an older Oriel did that knew the first migrations only.
func older(t *testing.T, path string, known int) *conn {
	t.Helper()
	c, err := connect(path, nil)
	if err == nil {
		err = migrate(c, migrations()[:known])
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestMigrationOfLinks: what an older Oriel wrote is counted, and linked, as if it were written now.
func TestMigrationOfLinks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "oriel.db")
	c := older(t, path, 2)
	if err := writeTransitions(c); err != nil {
		t.Fatal(err)
	}
	key := func(noun appstream.Noun, name string) appstream.Meta {
		return appstream.Meta{ID: string(noun) + name, Key: appstream.Key{Account: "123456789012", Region: "us-west-2", Noun: noun, Name: name}}
	}
	join := &types.DomainJoinInfo{DirectoryName: new("corp.example.com")}
	image := new("arn:aws:appstream:us-west-2::image/base")
	records := []appstream.Record{
		&appstream.Fleet{Meta: key(appstream.NounFleet, "f"), Stacks: []string{"a", "b"}, View: types.Fleet{ImageArn: image, DomainJoinInfo: join}},
		&appstream.Fleet{Meta: key(appstream.NounFleet, "bare")},
		&appstream.ImageBuilder{Meta: key(appstream.NounImageBuilder, "b"), View: types.ImageBuilder{ImageArn: image, DomainJoinInfo: join}},
		&appstream.ImageBuilder{Meta: key(appstream.NounImageBuilder, "bare"), View: types.ImageBuilder{DomainJoinInfo: &types.DomainJoinInfo{}}},
		&appstream.User{Meta: key(appstream.NounUser, "u@example.com"), Stacks: []appstream.UserStack{{Name: "a"}, {Name: "b"}}},
		&appstream.User{Meta: key(appstream.NounUser, "bare@example.com")},
		&appstream.Image{Meta: key(appstream.NounImage, "copy"), CopyOf: "ref"},
		&appstream.Image{Meta: key(appstream.NounImage, "update"), UpdateOf: "ref"},
	}
	want := map[string][]string{}
	for _, rec := range records {
		doc, err := encode(rec)
		if err != nil {
			t.Fatal(err)
		}
		state := ""
		for _, edge := range appstream.Transitions()[rec.Head().Noun] {
			if edge.From == "" {
				state = edge.To
			}
		}
		h := rec.Head()
		if _, err := c.exec(`INSERT INTO record (id, account, region, noun, name, version, state, doc) VALUES (?, ?, ?, ?, ?, 1, ?, ?)`,
			h.ID, h.Account, h.Region, string(h.Noun), h.Name, state, doc); err != nil {
			t.Fatal(err)
		}
		for _, target := range rec.(interface{ Links() []string }).Links() {
			want[target] = append(want[target], h.ID)
		}
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got := map[string][]string{}
	err = s.View(t.Context(), func(tx store.Tx) error {
		for _, noun := range []appstream.Noun{appstream.NounFleet, appstream.NounImageBuilder, appstream.NounUser, appstream.NounImage} {
			if n, err := tx.Count("123456789012", "us-west-2", noun); err != nil || n != 2 {
				t.Errorf("%d records of %s, %v", n, noun, err)
			}
			for target := range want {
				if err := tx.Scan(store.Query{Noun: noun, LinksTo: target}, func(head appstream.Meta, _ func(appstream.Record) error) error {
					got[target] = append(got[target], head.ID)
					return nil
				}); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	if n, err := raw(t, path).Query("SELECT target FROM link"); err != nil {
		t.Error(err)
	} else {
		rows := 0
		for ; n.Next(); rows++ {
		}
		if n.Close(); rows != 10 {
			t.Errorf("%d links, want 10", rows)
		}
	}
}

// TestMigrationOfAudits: the lines that an older Oriel wrote are found by their account, and the logs are protected as before.
func TestMigrationOfAudits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "oriel.db")
	c := older(t, path, 3)
	const account = "123456789012"
	principals := []string{"arn:aws:iam::" + account + ":root", "arn:aws:sts::" + account + ":assumed-role/r/s", "arn:aws:iam::" + account + ":user/a::b",
		"arn:aws:appstream:us-west-2:" + account + ":user/a@example.com", "arn:aws:appstream:us-west-2:" + account + ":image-builder/b/ImageBuilderAdmin"}
	for _, p := range append(principals, "arn:aws:iam::210987654321:root", "nobody", "") {
		if _, err := c.exec(`INSERT INTO audit (at, principal, source, operation, resource, result, request) VALUES (1, ?, '', '', '', '', '')`, p); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var got []string
	err = s.View(t.Context(), func(tx store.Tx) error {
		lines, err := tx.Audits(store.LogQuery{Account: new(account), Forward: true})
		for _, l := range lines {
			if got = append(got, l.Principal); l.Account() != account {
				t.Errorf("%s is of the account %q", l.Principal, l.Account())
			}
		}
		return err
	})
	if d := cmp.Diff(principals, got); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	if _, err := raw(t, path).Exec("UPDATE audit SET account = ''"); err == nil || !strings.Contains(err.Error(), "append-only") {
		t.Errorf("a line can be changed: %v", err)
	}
	if _, err := raw(t, path).Exec("DELETE FROM audit WHERE n > 2"); err == nil || !strings.Contains(err.Error(), "append-only") {
		t.Errorf("a line in the middle can be removed: %v", err)
	}
}

// TestLogsByIndex: no reader of a log goes through all of it, or sorts it, to find the lines of a resource or of an account.
func TestLogsByIndex(t *testing.T) {
	s := open(t, WithoutSync())
	db := raw(t, s.path)
	for _, test := range []struct{ query, index string }{
		{`SELECT why FROM event WHERE account = ? AND name = ? AND region = ? ORDER BY n DESC LIMIT 9`, "event_by_name"},
		{`SELECT why FROM event WHERE account = ? AND name = ? AND n > ? ORDER BY n LIMIT 9`, "event_by_name"},
		{`SELECT why FROM event WHERE account = ? AND region = ? AND n < ? ORDER BY n DESC LIMIT 9`, "event_by_account"},
		{`SELECT why FROM event WHERE id = ? ORDER BY n DESC LIMIT 9`, "event_by_id"},
		{`SELECT request FROM audit WHERE account = ? AND n > ? ORDER BY n LIMIT 9`, "audit_by_account"},
	} {
		rows, err := db.Query("EXPLAIN QUERY PLAN "+test.query, make([]any, strings.Count(test.query, "?"))...)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(detail, "USING INDEX "+test.index) {
				t.Errorf("%s: %s", test.query, detail)
			}
		}
		rows.Close()
	}
}
