package service

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"reflect"
	"strings"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

// listSize is the size of a page when the client does not choose one, or cannot.
const listSize = 100

// page is what an operation that lists answers with: so many elements behind a position. The position is a name, so a page begins where
// the one before it ended over a restart, and over resources that come and go meanwhile.
type page struct {
	op    string
	list  []byte // which list it is a page of
	after store.Position
	size  int
}

// pageToken is the content of a NextToken. It has nothing that its holder does not know.
type pageToken struct {
	List []byte `json:"l"`
	store.Position
}

// maxToken is the length of the longest token that is read.
const maxToken = 2048

// openPage gives the page that the input of an operation asks for by NextToken and MaxResults (or Limit). There are usual elements on it when the
// client does not say how many, and never more than most.
func openPage(c appstream.Caller, in any, usual, most int) (page, error) {
	query := reflect.New(reflect.TypeOf(in).Elem()).Elem()
	query.Set(reflect.ValueOf(in).Elem())
	p := page{op: strings.TrimSuffix(query.Type().Name(), "Input"), size: usual}
	for _, member := range []string{"MaxResults", "Limit"} {
		field := query.FieldByName(member)
		if !field.IsValid() || field.IsNil() {
			continue
		}
		n := int(field.Elem().Int())
		if n < 0 {
			return p, appstream.Errorf(appstream.Validation, "%s is %d. It must not be negative.", member, n)
		}
		if n > 0 {
			p.size = min(n, most)
		}
		field.SetZero() // the next page may have another size
	}
	token, _ := reflect.TypeAssert[*string](query.FieldByName("NextToken"))
	query.FieldByName("NextToken").SetZero()
	text, err := json.Marshal(query.Interface())
	if err != nil {
		return p, err
	}
	sum := sha256.Sum256([]byte(p.op + "\n" + c.Account + "\n" + c.Region + "\n" + string(text)))
	p.list = sum[:9] // to tell lists apart, not to keep anything from anybody
	if token != nil {
		p.after, err = p.decode(*token)
	}
	return p, err
}

// encode makes the token of the page that begins behind a position.
func (p page) encode(at store.Position) *string {
	text, err := json.Marshal(pageToken{p.list, at})
	if err != nil {
		panic(err) // strings can always be written
	}
	return new(base64.RawURLEncoding.EncodeToString(text))
}

// decode reads what encode wrote for the same list.
func (p page) decode(token string) (store.Position, error) {
	var t pageToken
	err := errors.New("it is too long")
	if len(token) <= maxToken {
		var text []byte
		if text, err = base64.RawURLEncoding.DecodeString(token); err == nil {
			err = json.Unmarshal(text, &t)
		}
	}
	switch {
	case err != nil:
		return store.Position{}, appstream.Errorf(appstream.Validation,
			"The NextToken is not one that %s returned. Leave it out to begin with the first page.", p.op)
	case !bytes.Equal(t.List, p.list):
		return store.Position{}, appstream.Errorf(appstream.Validation,
			"The NextToken is not one that %s returned for this request. Send the other members as they were, or leave NextToken out to begin with the first page.", p.op)
	}
	return t.Position, nil
}

// cut ends a page: it takes as many of the elements as it holds, and the token of the next page when there are more.
func cut[T any](p page, list []T, at func(T) store.Position) ([]T, *string) {
	if len(list) <= p.size {
		return list, nil
	}
	list = list[:p.size]
	return list, p.encode(at(list[p.size-1]))
}

// place is the position of a record.
func place[T any, P interface {
	*T
	appstream.Record
}](rec T) store.Position {
	head := P(&rec).Head()
	return store.Position{Name: head.Name, Account: head.Account}
}

// chunk is how many records walk reads at a time.
const chunk = 100

// walk calls fn with the records that a query selects until it says that it has enough. However many there are behind that, they are not read. fn must not
// write.
func walk[T any, P interface {
	*T
	appstream.Record
}](tx store.Tx, q store.Query, fn func(P) (more bool)) error {
	q.Limit = chunk
	for {
		read, more := 0, true
		err := tx.Scan(q, func(head appstream.Meta, decode func(appstream.Record) error) error {
			read++
			q.After = store.Position{Name: head.Name, Account: head.Account}
			if !more {
				return nil
			}
			var rec T
			err := decode(P(&rec))
			more = err == nil && fn(&rec)
			return err
		})
		if err != nil || !more || read < q.Limit {
			return err
		}
	}
}

// pick reads those records of a page that keep wants, and one more.
func pick[T any, P interface {
	*T
	appstream.Record
}](tx store.Tx, p page, q store.Query, keep func(P) bool) (list []T, err error) {
	q.After = p.after
	err = walk(tx, q, func(rec P) bool {
		if keep(rec) {
			list = append(list, *rec)
		}
		return len(list) <= p.size
	})
	return list, err
}

// named reads a page of the caller's records of a noun, and one more: of those that are named, in order, or of all when none is.
func named[T any, P interface {
	*T
	appstream.Record
}](tx store.Tx, c appstream.Caller, p page, noun appstream.Noun, names []string) ([]T, error) {
	if len(names) == 0 {
		return store.List[T, P](tx, store.Query{Noun: noun, Region: c.Region, Accounts: []string{c.Account}, After: p.after, Limit: p.size + 1})
	}
	var list []T
	for _, name := range namesAfter(names, p.after.Name) {
		var rec T
		if err := get(tx, key(c, noun, name), P(&rec)); err != nil {
			return nil, err
		}
		if list = append(list, rec); len(list) > p.size {
			break
		}
	}
	return list, nil
}

// records reads a page as named does, and gives it with the token of the next one.
func records[T any, P interface {
	*T
	appstream.Record
}](ctx context.Context, s *Service, c appstream.Caller, p page, noun appstream.Noun, names []string) (list []T, next *string, err error) {
	err = s.cfg.Store.View(ctx, func(tx store.Tx) error {
		list, err = named[T, P](tx, c, p, noun, names)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	list, next = cut(p, list, place[T, P])
	return list, next, nil
}
