package service

import (
	"encoding/base64"
	"encoding/json"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

// A page token is the place behind which the next page begins. Places are names, so a token stays good over a restart,
// and over resources that come and go meanwhile.

// pageToken is a token's content. Op keeps a token of one operation from being used with another.
type pageToken struct {
	Op string `json:"o"`
	store.Position
}

func encodeToken(op string, at store.Position) *string {
	text, err := json.Marshal(pageToken{op, at})
	if err != nil {
		panic(err) // two strings can always be written
	}
	return new(base64.RawURLEncoding.EncodeToString(text))
}

// decodeToken reads what encodeToken wrote. A nil token is the beginning.
func decodeToken(op string, token *string) (store.Position, error) {
	if token == nil {
		return store.Position{}, nil
	}
	var t pageToken
	text, err := base64.RawURLEncoding.DecodeString(*token)
	if err == nil {
		err = json.Unmarshal(text, &t)
	}
	if err != nil || t.Op != op || len(*token) > 2048 {
		return store.Position{}, appstream.Errorf(appstream.Validation,
			"The NextToken is not one that %s returned. Leave it out to begin with the first page.", op)
	}
	return t.Position, nil
}

// pageSize gives the size of a page: the wanted one, or max when none (or zero) is wanted.
func pageSize(wanted *int32, max int) (int, error) {
	n := int(value(wanted))
	if n < 0 {
		return 0, appstream.Errorf(appstream.Validation, "MaxResults is %d. It must not be negative.", n)
	}
	if n == 0 || n > max {
		n = max
	}
	return n, nil
}

// cut ends a page: it takes the first size elements, and the token when there are more.
func cut[T any](op string, list []T, size int, at func(T) store.Position) ([]T, *string) {
	if len(list) <= size {
		return list, nil
	}
	list = list[:size]
	return list, encodeToken(op, at(list[size-1]))
}

// listSize is the size of a page of operations whose clients cannot choose one.
const listSize = 100

// named reads the records of the caller that are named, in order, or of all when none is, behind a position; of all, as many as a page
// needs.
func named[T any, P interface {
	*T
	appstream.Record
}](tx store.Tx, c appstream.Caller, noun appstream.Noun, names []string, after store.Position) ([]T, error) {
	if len(names) == 0 {
		return store.List[T, P](tx, store.Query{Noun: noun, Region: c.Region, Accounts: []string{c.Account}, After: after, Limit: listSize + 1})
	}
	var list []T
	for _, name := range namesAfter(names, after.Name) {
		var none T
		list = append(list, none)
		if err := get(tx, key(c, noun, name), P(&list[len(list)-1])); err != nil {
			return nil, err
		}
	}
	return list, nil
}
