package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"io"
	"net/url"

	"modernc.org/sqlite"
)

// conn is one connection with its prepared statements. One goroutine uses it at a time.
//
// It stands on the driver's own interface and not on database/sql, because the store needs none of that package's
// pool, conversions and background goroutine, and has a tighter idea of who may write. Statements get no context: the
// driver would start a goroutine for each to watch it, and none of them runs long. Transactions look at their context
// between statements instead.
type conn struct {
	db    driver.Conn
	stmts map[string]statement
	args  []driver.NamedValue
	row   [maxColumns]driver.Value
}

type statement interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

const maxColumns = 10

// connect opens a connection to the file at path. pragmas are parameters of the driver's data source name.
func connect(path string, pragmas url.Values) (*conn, error) {
	dsn := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: pragmas.Encode()}
	connector, err := sqlite.NewConnector(dsn.String())
	if err != nil {
		return nil, err
	}
	db, err := connector.Connect(context.Background())
	if err != nil {
		return nil, err
	}
	return &conn{db: db, stmts: make(map[string]statement)}, nil
}

func (c *conn) close() error {
	for _, s := range c.stmts {
		s.Close()
	}
	return c.db.Close()
}

// prepare gives the statement of a text, which it compiles once.
func (c *conn) prepare(text string) (statement, error) {
	if s, ok := c.stmts[text]; ok {
		return s, nil
	}
	prepared, err := c.db.Prepare(text)
	if err != nil {
		return nil, err
	}
	s, ok := prepared.(statement)
	if !ok {
		return nil, fmt.Errorf("the SQLite driver's %T has not the methods that it is known for", prepared)
	}
	c.stmts[text] = s
	return s, nil
}

func (c *conn) bind(args []any) []driver.NamedValue {
	c.args = c.args[:0]
	for i, a := range args {
		c.args = append(c.args, driver.NamedValue{Ordinal: i + 1, Value: a})
	}
	return c.args
}

// exec runs a statement without rows and gives the number of rows that it changed. Arguments are nil, int64, string
// or []byte.
func (c *conn) exec(text string, args ...any) (changed int64, err error) {
	s, err := c.prepare(text)
	if err != nil {
		return 0, err
	}
	result, err := s.ExecContext(context.Background(), c.bind(args))
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// query calls fn with each row. The slice is reused, the values in it are not. fn must not use the connection.
func (c *conn) query(text string, args []any, fn func(row []driver.Value) error) error {
	s, err := c.prepare(text)
	if err != nil {
		return err
	}
	rows, err := s.QueryContext(context.Background(), c.bind(args))
	if err != nil {
		return err
	}
	row := c.row[:len(rows.Columns())]
	for {
		if err := rows.Next(row); err == io.EOF {
			return rows.Close()
		} else if err != nil {
			rows.Close()
			return err
		}
		if err := fn(row); err != nil {
			rows.Close()
			return err
		}
	}
}

// int gives the number that a statement answers, 0 for no row or NULL.
func (c *conn) int(text string, args ...any) (n int64, err error) {
	err = c.query(text, args, func(row []driver.Value) error {
		n, _ = row[0].(int64)
		return nil
	})
	return n, err
}

// script runs several statements that are used only once.
func (c *conn) script(text string) error {
	prepared, err := c.db.Prepare(text)
	if err != nil {
		return err
	}
	defer prepared.Close()
	_, err = prepared.(driver.StmtExecContext).ExecContext(context.Background(), nil)
	return err
}

// rollback undoes the open transaction, if there is one: SQLite ends it by itself after some faults. It tells whether
// the connection is fit for another transaction.
func (c *conn) rollback() bool {
	if _, err := c.exec("ROLLBACK"); err == nil {
		return true
	}
	_, err := c.exec("BEGIN")
	if err == nil {
		_, err = c.exec("ROLLBACK")
	}
	return err == nil
}

// text gives a column that is never NULL.
func text(v driver.Value) string {
	s, _ := v.(string)
	return s
}
