package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
	lib "modernc.org/sqlite/lib"
)

// tx implements store.Tx on a connection that is in a transaction.
type tx struct {
	s      *Store
	c      *conn // nil when the transaction is over
	ctx    context.Context
	writes bool

	// err is the first fault of the database itself. SQLite may have undone the transaction with it and be out of
	// any; what came then would be committed at once and alone. Hence nothing is done after it.
	err     error
	changes []store.Change
}

// end makes the Tx unusable for who kept it.
func (t *tx) end() { t.c = nil }

// ready tells whether the transaction can go on.
func (t *tx) ready() error {
	switch {
	case t.c == nil:
		return errOver
	case t.err != nil:
		return t.err
	}
	return t.ctx.Err()
}

func (t *tx) readyToWrite() error {
	if !t.writes {
		return errReadOnly
	}
	return t.ready()
}

// fault keeps an error of the database.
func (t *tx) fault(err error) error {
	if err != nil {
		t.err = explain(t.s.path, err)
	}
	return t.err
}

// refused translates the schema's refusals, which undo only their own statement.
func (t *tx) refused(key appstream.Key, err error) error {
	switch code(err) {
	case lib.SQLITE_CONSTRAINT_UNIQUE:
		return fmt.Errorf("%w: %s %s", store.ErrExists, key.Noun, key.Name)
	case lib.SQLITE_CONSTRAINT_TRIGGER:
		return fmt.Errorf("%w: %s %s: %v", store.ErrTransition, key.Noun, key.Name, err)
	}
	return t.fault(err)
}

// The columns of a head, in the order in which headOf reads them, and then the document.
const (
	headColumns   = `id, version, state, due, account, region, noun, name`
	recordColumns = headColumns + `, doc`
)

func headOf(row []driver.Value) (h appstream.Meta) {
	h.ID = text(row[0])
	h.Version, _ = row[1].(int64)
	h.State = text(row[2])
	h.Due = timeOf(row[3])
	h.Account, h.Region, h.Noun, h.Name = text(row[4]), text(row[5]), appstream.Noun(text(row[6])), text(row[7])
	return h
}

// setColumns gives a record that was read from its document the part of its head that the columns hold.
func setColumns(rec appstream.Record, h *appstream.Meta) {
	to := rec.Head()
	to.Key, to.ID, to.Version, to.State, to.Due = h.Key, h.ID, h.Version, h.State, h.Due
}

const keyIs = `account = ? AND region = ? AND noun = ? AND name = ?`

// Get implements store.Tx.
func (t *tx) Get(key appstream.Key, rec appstream.Record) error {
	if err := t.ready(); err != nil {
		return err
	}
	found := false
	var h appstream.Meta
	var doc string
	// The key is known, and every column costs.
	err := t.c.query(`SELECT id, version, state, due, doc FROM record WHERE `+keyIs,
		[]any{key.Account, key.Region, string(key.Noun), key.Name}, func(row []driver.Value) error {
			found = true
			h.ID = text(row[0])
			h.Version, _ = row[1].(int64)
			h.State = text(row[2])
			h.Due = timeOf(row[3])
			doc = text(row[4])
			return nil
		})
	if err != nil {
		return t.fault(err)
	}
	if !found {
		return fmt.Errorf("%w: %s %s", store.ErrNotFound, key.Noun, key.Name)
	}
	if err := t.s.decoder.decode(doc, rec); err != nil {
		return err
	}
	h.Key = key
	setColumns(rec, &h)
	return nil
}

// Find implements store.Tx.
func (t *tx) Find(id string, rec appstream.Record) error {
	if err := t.ready(); err != nil {
		return err
	}
	found := false
	var h appstream.Meta
	var doc string
	err := t.c.query(`SELECT `+recordColumns+` FROM record WHERE id = ?`, []any{id}, func(row []driver.Value) error {
		found, h, doc = true, headOf(row), text(row[8])
		return nil
	})
	if err != nil {
		return t.fault(err)
	}
	if !found {
		return fmt.Errorf("%w: record %s", store.ErrNotFound, id)
	}
	if err := t.s.decoder.decode(doc, rec); err != nil {
		return err
	}
	setColumns(rec, &h)
	return nil
}

// Count implements store.Tx.
func (t *tx) Count(account, region string, noun appstream.Noun) (int, error) {
	if err := t.ready(); err != nil {
		return 0, err
	}
	n, err := t.c.int(`SELECT records FROM tally WHERE account = ? AND region = ? AND noun = ?`, account, region, string(noun))
	return int(n), t.fault(err)
}

// Insert implements store.Tx.
func (t *tx) Insert(rec appstream.Record) error {
	if err := t.readyToWrite(); err != nil {
		return err
	}
	doc, err := encode(rec)
	if err != nil {
		return err
	}
	h := rec.Head()
	if h.ID == "" || h.Name == "" {
		return errors.New("sqlite: a record needs an ID and a name")
	}
	_, err = t.c.exec(`INSERT INTO record (id, account, region, noun, name, version, state, due, doc) VALUES (?, ?, ?, ?, ?, 1, ?, ?, ?)`,
		h.ID, h.Account, h.Region, string(h.Noun), h.Name, h.State, dueMicros(h.Due), doc)
	if err != nil {
		return t.refused(h.Key, err)
	}
	if err := t.writeRelated(rec, false); err != nil {
		return err
	}
	h.Version = 1
	t.changed(h, false)
	return nil
}

// Put implements store.Tx.
func (t *tx) Put(rec appstream.Record) error {
	if err := t.readyToWrite(); err != nil {
		return err
	}
	doc, err := encode(rec)
	if err != nil {
		return err
	}
	h := rec.Head()
	n, err := t.c.exec(`UPDATE record SET version = version + 1, state = ?, due = ?, doc = ? WHERE id = ? AND version = ? AND `+keyIs,
		h.State, dueMicros(h.Due), doc, h.ID, h.Version, h.Account, h.Region, string(h.Noun), h.Name)
	if err != nil {
		return t.refused(h.Key, err)
	}
	if n == 0 {
		return conflict(h)
	}
	if err := t.writeRelated(rec, true); err != nil {
		return err
	}
	h.Version++
	t.changed(h, false)
	return nil
}

// Delete implements store.Tx.
func (t *tx) Delete(rec appstream.Record) error {
	if err := t.readyToWrite(); err != nil {
		return err
	}
	h := rec.Head()
	n, err := t.c.exec(`DELETE FROM record WHERE id = ? AND version = ? AND `+keyIs,
		h.ID, h.Version, h.Account, h.Region, string(h.Noun), h.Name)
	if err != nil {
		return t.refused(h.Key, err)
	}
	if n == 0 {
		return conflict(h)
	}
	t.changed(h, true)
	return nil
}

func conflict(h *appstream.Meta) error {
	return fmt.Errorf("%w: %s %s is not at version %d", store.ErrConflict, h.Noun, h.Name, h.Version)
}

// writeRelated keeps whom the record is shared with and what it is linked to, for Query.GrantedTo and Query.LinksTo.
func (t *tx) writeRelated(rec appstream.Record, replace bool) error {
	id := rec.Head().ID
	if g, ok := rec.(interface{ Grants() []string }); ok {
		if err := t.relate(id, g.Grants(), replace, &grantSQL); err != nil {
			return err
		}
	}
	if l, ok := rec.(interface{ Links() []string }); ok {
		return t.relate(id, l.Links(), replace, &linkSQL)
	}
	return nil
}

// relation has the statements about one of the two tables beside the records.
type relation struct{ read, clear, add string }

var (
	grantSQL = relation{
		`SELECT account FROM grants WHERE record = (SELECT n FROM record WHERE id = ?)`,
		`DELETE FROM grants WHERE record = (SELECT n FROM record WHERE id = ?)`,
		`INSERT OR IGNORE INTO grants (account, record) SELECT ?, n FROM record WHERE id = ?`}
	linkSQL = relation{
		`SELECT target FROM link WHERE record = (SELECT n FROM record WHERE id = ?)`,
		`DELETE FROM link WHERE record = (SELECT n FROM record WHERE id = ?)`,
		`INSERT OR IGNORE INTO link (target, record) SELECT ?, n FROM record WHERE id = ?`}
)

// relate writes what a record is related to. Mostly it is what it was: reading costs less than writing.
func (t *tx) relate(id string, to []string, replace bool, r *relation) error {
	if replace {
		var have []string
		err := t.c.query(r.read, []any{id}, func(row []driver.Value) error {
			have = append(have, text(row[0]))
			return nil
		})
		if err != nil {
			return t.fault(err)
		}
		slices.Sort(have)
		if slices.Equal(have, slices.Compact(slices.Sorted(slices.Values(to)))) {
			return nil
		}
		if _, err := t.c.exec(r.clear, id); err != nil {
			return t.fault(err)
		}
	}
	for _, target := range to {
		if _, err := t.c.exec(r.add, target, id); err != nil {
			return t.fault(err)
		}
	}
	return nil
}

// Wake implements store.Tx. The holder of a lease may be about to write a later due time over this one. The time is
// therefore kept apart too, and counts again when the lease ends.
func (t *tx) Wake(key appstream.Key, at time.Time) error {
	if err := t.readyToWrite(); err != nil {
		return err
	}
	if at.IsZero() {
		return errors.New("sqlite: wake needs a time")
	}
	var h appstream.Meta
	woken, due := false, at.UnixMicro()
	err := t.c.query(wakeSQL, []any{due, due, due, due, key.Account, key.Region, string(key.Noun), key.Name, due, due}, func(row []driver.Value) error {
		woken, h = true, headOf(row)
		return nil
	})
	if err != nil {
		return t.fault(err)
	}
	if woken {
		t.changed(&h, false)
	}
	return nil
}

const wakeSQL = `UPDATE record SET
		due = min(ifnull(due, ?), ?),
		woken = CASE WHEN lease IS NOT NULL THEN min(ifnull(woken, ?), ?) END
	WHERE ` + keyIs + ` AND (due IS NULL OR due > ? OR (lease IS NOT NULL AND (woken IS NULL OR woken > ?)))
	RETURNING ` + headColumns

// changed notes a change for the watchers, instead of an earlier one of the same record.
func (t *tx) changed(h *appstream.Meta, removed bool) {
	c := store.Change{Key: h.Key, ID: h.ID, Version: h.Version, State: h.State, Due: h.Due, Removed: removed}
	for i := range t.changes {
		if t.changes[i].ID == h.ID {
			t.changes[i] = c
			return
		}
	}
	t.changes = append(t.changes, c)
}

// AddEvent implements store.Tx.
func (t *tx) AddEvent(e store.Event) error {
	if err := t.readyToWrite(); err != nil {
		return err
	}
	_, err := t.c.exec(`INSERT INTO event (at, id, account, region, noun, name, "from", "to", why) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		micros(e.At), e.ID, e.Key.Account, e.Key.Region, string(e.Key.Noun), e.Key.Name, e.From, e.To, e.Short())
	return t.fault(err)
}

// AddAudit implements store.Tx.
func (t *tx) AddAudit(a store.Audit) error {
	if err := t.readyToWrite(); err != nil {
		return err
	}
	_, err := t.c.exec(`INSERT INTO audit (at, account, principal, source, operation, resource, result, request) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		micros(a.At), a.Account(), a.Principal, a.Source, a.Operation, a.Resource, a.Result, a.RequestID)
	return t.fault(err)
}

// Events implements store.Tx.
func (t *tx) Events(q store.LogQuery) ([]store.Event, error) {
	if err := t.ready(); err != nil {
		return nil, err
	}
	var w where
	w.account(q.Account)
	w.equal("name", q.Name)
	w.equal("id", q.ID)
	w.equal("region", q.Region)
	w.equal("noun", string(q.Noun))
	var list []store.Event
	err := t.c.query(`SELECT at, account, region, noun, name, "from", "to", why, id, n FROM event`+w.ending(q), w.args, func(row []driver.Value) error {
		key := appstream.Key{Account: text(row[1]), Region: text(row[2]), Noun: appstream.Noun(text(row[3])), Name: text(row[4])}
		n, _ := row[9].(int64)
		list = append(list, store.Event{N: n, At: timeOf(row[0]), ID: text(row[8]), Key: key, From: text(row[5]), To: text(row[6]), Why: text(row[7])})
		return nil
	})
	return list, t.fault(err)
}

// Audits implements store.Tx.
func (t *tx) Audits(q store.LogQuery) ([]store.Audit, error) {
	if err := t.ready(); err != nil {
		return nil, err
	}
	var w where
	w.account(q.Account)
	if q.Resource != "" {
		w.add("instr(' ' || resource || ' ', ' ' || ? || ' ') > 0", q.Resource)
	}
	var list []store.Audit
	err := t.c.query(`SELECT at, principal, source, operation, resource, result, request, n FROM audit`+w.ending(q), w.args, func(row []driver.Value) error {
		n, _ := row[7].(int64)
		list = append(list, store.Audit{N: n, At: timeOf(row[0]), Principal: text(row[1]), Source: text(row[2]), Operation: text(row[3]),
			Resource: text(row[4]), Result: text(row[5]), RequestID: text(row[6])})
		return nil
	})
	return list, t.fault(err)
}

// where is a condition of a query of a log.
type where struct {
	terms []string
	args  []any
}

func (w *where) add(term string, arg any) {
	w.terms, w.args = append(w.terms, term), append(w.args, arg)
}

func (w *where) account(a *string) {
	if a != nil {
		w.add("account = ?", *a)
	}
}

func (w *where) equal(column, value string) {
	if value != "" {
		w.add(column+" = ?", value)
	}
}

// ending gives what follows the table in the query.
func (w *where) ending(q store.LogQuery) string {
	if q.Before > 0 {
		w.add("n < ?", q.Before)
	}
	order := " ORDER BY n DESC"
	if q.Forward {
		w.add("n > ?", q.After)
		order = " ORDER BY n"
	}
	condition := ""
	if len(w.terms) > 0 {
		condition = " WHERE " + strings.Join(w.terms, " AND ")
	}
	w.args = append(w.args, atMost(q.Limit))
	return condition + order + " LIMIT +?"
}

// Trim implements store.Tx.
func (t *tx) Trim(log store.Log, before time.Time, most int64, limit int) (int, error) {
	if err := t.readyToWrite(); err != nil {
		return 0, err
	}
	if log != store.EventLog && log != store.AuditLog {
		return 0, fmt.Errorf("sqlite: there is no log %q", log)
	}
	table := string(log)
	// What is to go is the beginning of the log: up to the last line of the first so many that is too old or too many.
	var first, last, newest int64
	err := t.c.query("SELECT ifnull(min(n), 0), ifnull(max(n), 0), (SELECT ifnull(max(n), 0) FROM "+table+") FROM (SELECT n FROM "+table+" ORDER BY n LIMIT +?)",
		[]any{int64(max(limit, 0))}, func(row []driver.Value) error {
			first, _ = row[0].(int64)
			last, _ = row[1].(int64)
			newest, _ = row[2].(int64)
			return nil
		})
	if err != nil || newest == 0 {
		return 0, t.fault(err)
	}
	cut := first // lines before it go
	err = t.c.query("SELECT ifnull(min(n), ?) FROM "+table+" WHERE n <= ? AND n > ? AND at >= ?",
		[]any{last + 1, last, newest - most, before.UnixMicro()}, func(row []driver.Value) error {
			cut, _ = row[0].(int64)
			return nil
		})
	if err != nil {
		return 0, t.fault(err)
	}
	n, err := t.c.exec("DELETE FROM "+table+" WHERE n < ?", min(cut, newest))
	return int(n), t.fault(err)
}

// atMost gives the argument of LIMIT, where -1 is no limit.
func atMost(limit int) int64 {
	if limit <= 0 {
		return -1
	}
	return int64(limit)
}

// Setting implements store.Tx.
func (t *tx) Setting(name string) ([]byte, error) {
	if err := t.ready(); err != nil {
		return nil, err
	}
	var value []byte
	err := t.c.query(`SELECT value FROM setting WHERE name = ?`, []any{name}, func(row []driver.Value) error {
		value, _ = row[0].([]byte)
		if value == nil {
			value = []byte{}
		}
		return nil
	})
	if err != nil {
		return nil, t.fault(err)
	}
	if value == nil {
		return nil, fmt.Errorf("%w: setting %s", store.ErrNotFound, name)
	}
	return value, nil
}

// SetSetting implements store.Tx.
func (t *tx) SetSetting(name string, value []byte) error {
	if err := t.readyToWrite(); err != nil {
		return err
	}
	if value == nil {
		value = []byte{}
	}
	_, err := t.c.exec(`INSERT INTO setting (name, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value`, name, value)
	return t.fault(err)
}
