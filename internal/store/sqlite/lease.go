package sqlite

import (
	"cmp"
	"context"
	"database/sql/driver"
	"slices"
	"time"

	"github.com/oriel-project/oriel/internal/appstream"
)

// wakeUp is the part of an UPDATE that lets a wake take effect that came while the record was leased, see tx.Wake.
const wakeUp = "due = coalesce(min(due, woken), due, woken), woken = NULL"

// Claim implements store.Store. It does not wait for the disk: a lease that a power cut undoes belonged to a process
// that is no more.
func (s *Store) Claim(ctx context.Context, now, until time.Time, limit int) ([]appstream.Meta, error) {
	var heads []appstream.Meta
	err := s.write(ctx, false, func(c *conn) error {
		return explain(s.path, c.query(claimSQL, []any{until.UnixMicro(), now.UnixMicro(), int64(max(limit, 0))},
			func(row []driver.Value) error {
				heads = append(heads, headOf(row))
				return nil
			}))
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(heads, func(a, b appstream.Meta) int { // RETURNING has no order
		return cmp.Or(a.Due.Compare(b.Due), cmp.Compare(a.ID, b.ID))
	})
	return heads, nil
}

const claimSQL = `UPDATE record SET lease = ?, ` + wakeUp + `
	WHERE n IN (SELECT n FROM record WHERE ready <= ? ORDER BY ready LIMIT +?)
	RETURNING ` + headColumns

// Release implements store.Store.
func (s *Store) Release(ctx context.Context, id string) error {
	return s.write(ctx, false, func(c *conn) error {
		_, err := c.exec("UPDATE record SET lease = NULL, "+wakeUp+" WHERE id = ? AND lease IS NOT NULL", id)
		return explain(s.path, err)
	})
}

// NextDue implements store.Store.
func (s *Store) NextDue(ctx context.Context) (time.Time, error) {
	var next time.Time
	err := s.view(ctx, func(c *conn) error {
		return explain(s.path, c.query(nextDueSQL, nil, func(row []driver.Value) error {
			next = timeOf(row[0])
			return nil
		}))
	})
	return next, err
}

const nextDueSQL = `SELECT min(ready) FROM record WHERE ready IS NOT NULL`

// micros gives a time as the database keeps it; NULL for the zero time.
func micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

// dueMicros gives a due time as the database keeps it: never earlier than it is, or a claim would find the record before there is anything to do.
func dueMicros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.Add(time.Microsecond - 1).UnixMicro()
}

func timeOf(v driver.Value) time.Time {
	if n, ok := v.(int64); ok {
		return time.UnixMicro(n).UTC()
	}
	return time.Time{}
}
