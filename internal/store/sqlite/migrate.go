package sqlite

import (
	"database/sql/driver"
	"embed"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/oriel-project/oriel/internal/appstream"
)

// applicationID marks a database file as Oriel's ("ORIL"), so that another program's file is never migrated.
const applicationID = 0x4f52494c

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migration is one numbered file of migrations/. Once released it is never edited: a later file changes what it made.
type migration struct {
	number int // the user_version that the database has afterwards
	name   string
	sql    string
}

// migrations gives the embedded files in order. It panics if they are not numbered 1, 2, 3 …, which a test would find.
func migrations() []migration {
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		panic(err)
	}
	slices.Sort(names)
	list := make([]migration, len(names))
	for i, name := range names {
		text, err := migrationFiles.ReadFile(name)
		if err != nil {
			panic(err)
		}
		number, _, _ := strings.Cut(strings.TrimPrefix(name, "migrations/"), "_")
		if n, err := strconv.Atoi(number); err != nil || n != i+1 {
			panic("sqlite: " + name + " is not migration number " + strconv.Itoa(i+1))
		}
		list[i] = migration{i + 1, name, string(text)}
	}
	return list
}

// migrate brings the schema up to date, each step in a transaction of its own. A file that is not Oriel's, or that a
// newer Oriel has written, is left as it is.
func migrate(c *conn, steps []migration) error {
	id, err := c.int("PRAGMA application_id")
	if err != nil {
		return err
	}
	version, err := c.int("PRAGMA user_version")
	if err != nil {
		return err
	}
	tables, err := c.int("SELECT count(*) FROM sqlite_schema")
	if err != nil {
		return err
	}
	switch {
	case id != applicationID && (id != 0 || version != 0 || tables != 0):
		return fmt.Errorf("the file is another program's SQLite database; choose another data directory")
	case version > int64(len(steps)):
		return fmt.Errorf("the database has schema %d and this Oriel knows only %d: a newer Oriel wrote it; "+
			"install that version again, or restore a backup from before the upgrade", version, len(steps))
	}
	for _, step := range steps[version:] {
		err := c.script(fmt.Sprintf("BEGIN IMMEDIATE; %s; PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT",
			step.sql, applicationID, step.number))
		if err != nil {
			c.rollback()
			return fmt.Errorf("migration %s: %w", step.name, err)
		}
	}
	return nil
}

// edge is one row of the table of transitions.
type edge struct{ noun, from, to string }

// writeTransitions makes the table that the triggers obey the one that this program was built with. Mostly it is that already.
func writeTransitions(c *conn) error {
	want, have := map[edge]bool{}, map[edge]bool{}
	for noun, table := range appstream.Transitions() {
		for _, t := range table {
			want[edge{string(noun), t.From, t.To}] = true
		}
	}
	err := c.query(`SELECT noun, "from", "to" FROM transition`, nil, func(row []driver.Value) error {
		have[edge{text(row[0]), text(row[1]), text(row[2])}] = true
		return nil
	})
	if err != nil || maps.Equal(have, want) {
		return err
	}
	if _, err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	defer c.rollback()
	if _, err := c.exec("DELETE FROM transition"); err != nil {
		return err
	}
	for e := range want {
		if _, err := c.exec(`INSERT INTO transition (noun, "from", "to") VALUES (?, ?, ?)`, e.noun, e.from, e.to); err != nil {
			return err
		}
	}
	_, err = c.exec("COMMIT")
	return err
}
