package sqlite

import (
	"database/sql/driver"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

// Scan implements store.Tx. It selects first and calls fn then, so that fn may use the transaction, and write in it,
// without changing what the scan is going through. The heads have what the columns hold; the rest of the Meta is in
// the document. decode is for use in the call of fn that got it.
func (t *tx) Scan(q store.Query, fn func(head appstream.Meta, decode func(appstream.Record) error) error) error {
	if err := t.ready(); err != nil {
		return err
	}
	if q.Accounts != nil && len(q.Accounts) == 0 && q.GrantedTo == "" {
		return nil
	}
	type found struct {
		head appstream.Meta
		doc  string
	}
	var list []found
	if q.Limit > 0 {
		list = make([]found, 0, min(q.Limit, 100))
	}
	sql, args, known := selection(q)
	err := t.c.query(sql, args, func(row []driver.Value) error {
		h := headOf(row)
		known.fill(&h)
		list = append(list, found{h, text(row[8])})
		return nil
	})
	if err != nil {
		return t.fault(err)
	}
	if q.Found != nil && len(list) > 0 {
		q.Found(len(list))
	}
	var now *found
	decode := func(rec appstream.Record) error {
		if q.Heads {
			return errHeads
		}
		if err := t.s.decoder.decode(now.doc, rec); err != nil {
			return err
		}
		setColumns(rec, &now.head)
		return nil
	}
	for i := range list {
		if err := t.ready(); err != nil {
			return err
		}
		now = &list[i]
		if err := fn(now.head, decode); err != nil {
			return err
		}
	}
	return nil
}

var errHeads = errors.New("sqlite: the query is for heads, so there is nothing to decode")

// shape is what the text of a selection depends on.
type shape struct {
	accounts        int // -1 for all, manyAccounts for more than fit into the text
	granted, region bool
	prefix, linked  bool
	heads           bool
	states          int // 0 for any, 1, or manyStates
}

// oneAccount tells whether all that is selected is of one account.
func (s shape) oneAccount() bool { return s.accounts == 1 && !s.granted }

// known is what all selected records have in common. It is not read from every row: every column costs.
type known struct {
	shape
	account, region string
	noun            appstream.Noun
}

func (k known) fill(h *appstream.Meta) {
	h.Noun = k.noun
	if k.shape.region {
		h.Region = k.region
	}
	if k.oneAccount() {
		h.Account = k.account
	}
}

const (
	manyAccounts = 5
	manyStates   = 2
)

var selections sync.Map // shape → string

// selection gives the statement of a query. It is one SELECT for each account, which an index answers in the order of
// names; SQLite merges them and stops at the limit.
func selection(q store.Query) (sql string, args []any, k known) {
	accounts := q.Accounts
	if len(accounts) > 1 {
		accounts = slices.Compact(slices.Sorted(slices.Values(accounts)))
	}
	s := shape{accounts: len(accounts), granted: q.GrantedTo != "", region: q.Region != "",
		prefix: q.Prefix != "", linked: q.LinksTo != "", heads: q.Heads}
	switch {
	case len(q.States) == 1:
		s.states = 1
	case q.States != nil:
		s.states = manyStates
	}
	switch {
	case q.Accounts == nil && !s.granted:
		s.accounts = -1
	case len(accounts) >= manyAccounts:
		s.accounts = manyAccounts
	}
	k = known{shape: s, region: q.Region, noun: q.Noun}
	if len(accounts) == 1 {
		k.account = accounts[0]
	}
	if text, ok := selections.Load(s); ok {
		sql = text.(string)
	} else {
		sql = s.text()
		selections.Store(s, sql)
	}

	args = make([]any, 0, 16)
	noun, region, name, account := any(string(q.Noun)), any(q.Region), any(q.After.Name), any(q.After.Account)
	first, beyond := any(max(q.After.Name, q.Prefix)), any(after(q.Prefix)) // one lower bound, which an index can begin at
	var states any
	switch s.states {
	case 1:
		states = q.States[0]
	case manyStates:
		text, err := json.Marshal(q.States)
		if err != nil {
			panic(err) // strings
		}
		states = string(text)
	}
	rest := func() {
		if s.linked {
			args = append(args, q.LinksTo)
		}
		args = append(args, noun)
		if s.region {
			args = append(args, region)
		}
		args = append(args, first, name, account)
		if s.prefix {
			args = append(args, beyond)
		}
		if s.states > 0 {
			args = append(args, states)
		}
	}
	var many any
	switch s.accounts {
	case -1:
		rest()
	case manyAccounts:
		text, err := json.Marshal(accounts)
		if err != nil {
			panic(err) // strings
		}
		many = string(text)
		args = append(args, many)
		rest()
	default:
		for _, a := range accounts {
			args = append(args, a)
			rest()
		}
	}
	if s.granted {
		args = append(args, q.GrantedTo)
		if s.accounts == manyAccounts {
			args = append(args, many)
		} else {
			for _, a := range accounts {
				args = append(args, a)
			}
		}
		rest()
	}
	return sql, append(args, atMost(q.Limit)), k
}

// after gives the first text that is behind all that begin with prefix, in SQLite's order of bytes.
func after(prefix string) string {
	b := []byte(prefix)
	for len(b) > 0 && b[len(b)-1] == 0xff { // not in UTF-8
		b = b[:len(b)-1]
	}
	if len(b) > 0 {
		b[len(b)-1]++
	}
	return string(b)
}

// text writes the statement. selection gives its arguments in the same order.
func (s shape) text() string {
	account, region := `record.account`, `region`
	if s.oneAccount() {
		account = `NULL`
	}
	if s.region {
		region = `NULL`
	}
	from := `record`
	if s.linked {
		from = `link CROSS JOIN record ON n = link.record` // from what is linked, which is little, to the records
	} else if s.states == 1 && s.region && s.oneAccount() { // of its own accord, SQLite goes through all names
		from += ` INDEXED BY record_by_state`
	}
	doc := `doc`
	if s.heads {
		doc = `NULL`
	}
	columns := `SELECT id, version, state, due, ` + account + ` AS account, ` + region + `, NULL, name, ` + doc + ` FROM ` // as recordColumns
	listed := columns + from + ` WHERE `
	rest := `noun = ?`
	if s.linked {
		rest = `target = ? AND ` + rest
	}
	if s.region {
		rest += ` AND region = ?`
	}
	rest += ` AND name >= ? AND (name > ? OR record.account > ?)`
	if s.prefix {
		rest += ` AND name < ?`
	}
	switch s.states {
	case 1:
		rest += ` AND state = ?`
	case manyStates:
		rest += ` AND state IN (SELECT value FROM json_each(?))`
	}

	var arms []string
	switch s.accounts {
	case -1:
		arms = append(arms, listed+rest)
	case manyAccounts:
		arms = append(arms, listed+`record.account IN (SELECT value FROM json_each(?)) AND `+rest)
	default:
		for range s.accounts {
			arms = append(arms, listed+`record.account = ? AND `+rest)
		}
	}
	if s.granted {
		not := ``
		switch {
		case s.accounts == manyAccounts:
			not = `record.account NOT IN (SELECT value FROM json_each(?)) AND `
		case s.accounts > 0:
			not = `record.account NOT IN (?` + strings.Repeat(`, ?`, s.accounts-1) + `) AND `
		}
		from := `grants CROSS JOIN record ON n = grants.record`
		if s.linked {
			from += ` CROSS JOIN link ON n = link.record`
		}
		arms = append(arms, columns+from+` WHERE grants.account = ? AND `+not+rest)
	}
	return strings.Join(arms, ` UNION ALL `) + ` ORDER BY name, account LIMIT +?`
}
