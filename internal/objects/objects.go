// Package objects keeps what an S3Location of the API names: files in buckets, under keys that their owners choose. Logos of themes,
// icons, packages and scripts are read from there, usage reports are written there.
//
// A bucket belongs to one account; to another account, one of the same name is another bucket. Store is the contract. Dir implements
// it as DATA/objects/ACCOUNT/BUCKET/KEY, where an administrator can also put files by hand; Bucket keeps them elsewhere.
package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

var (
	// ErrNotFound: there is no such object; also for names that no object can have.
	ErrNotFound = errors.New("there is no such object")
	// ErrTooLarge: the object is larger than its reader allows.
	ErrTooLarge = errors.New("the object is too large")
)

// Location names an object.
type Location struct {
	Account string // twelve digits
	Bucket  string
	Key     string
}

// String gives BUCKET/KEY, for messages: whoever sees them knows his account.
func (l Location) String() string { return l.Bucket + "/" + l.Key }

// Info is what is known about an object without reading it.
type Info struct {
	Key      string
	Size     int64
	Modified time.Time
}

// Store keeps objects. All methods may be called concurrently.
type Store interface {
	// Open opens an object to be read as it is at this moment. Errors: ErrNotFound.
	Open(ctx context.Context, at Location) (io.ReadCloser, Info, error)
	// Stat tells of an object without opening it. Errors: ErrNotFound.
	Stat(ctx context.Context, at Location) (Info, error)
	// Put keeps what r has as an object, in place of the one that was there: whole or not at all, also over a crash. It makes the
	// bucket if needed. Errors: *NameError.
	Put(ctx context.Context, at Location, r io.Reader) error
	// Remove removes an object. One that is not there is no error.
	Remove(ctx context.Context, at Location) error
	// List gives the objects of a bucket whose keys begin with prefix and are behind after, in the order of their keys' bytes, at
	// most limit of them. A bucket that is not there has none.
	List(ctx context.Context, account, bucket, prefix, after string, limit int) ([]Info, error)
	// Buckets gives the names of an account's buckets, in alphabetical order.
	Buckets(ctx context.Context, account string) ([]string, error)
	// Close frees what the store holds.
	Close() error
}

// Read reads a whole object of at most max bytes. Errors: ErrNotFound, ErrTooLarge.
func Read(ctx context.Context, from Store, at Location, max int64) ([]byte, error) {
	r, info, err := from.Open(ctx, at)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if info.Size > max {
		return nil, ErrTooLarge
	}
	data, err := io.ReadAll(io.LimitReader(r, max+1)) // it may have grown
	if err != nil {
		return nil, fmt.Errorf("read the object %s: %w", at, err)
	}
	if int64(len(data)) > max {
		return nil, ErrTooLarge
	}
	return data, nil
}

// NameError says why something cannot be the name of an object.
type NameError struct{ What, Name, Why string }

func (e *NameError) Error() string {
	return fmt.Sprintf("%.80q cannot be %s: %s", e.Name, e.What, e.Why)
}

var (
	accountForm = regexp.MustCompile(`^[0-9]{12}$`)
	bucketForm  = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
)

// The greatest lengths, in bytes: of a key as for S3, and of what is between its slashes as for file systems.
const (
	maxKey  = 1024
	maxPart = 255
)

// Check refuses a name that no object can have here. Keys are S3's, but for those that cannot be paths: with a part that is empty, . or
// .., or longer than 255 bytes, or with control characters. Errors: *NameError.
func (l Location) Check() error {
	if err := checkBucket(l.Account, l.Bucket); err != nil {
		return err
	}
	bad := func(why string) error { return &NameError{"the key of an object", l.Key, why} }
	switch {
	case l.Key == "":
		return bad("it is empty")
	case len(l.Key) > maxKey:
		return bad(fmt.Sprintf("it has more than %d bytes", maxKey))
	case !utf8.ValidString(l.Key), strings.ContainsFunc(l.Key, unicode.IsControl):
		return bad("it has characters that are not text")
	}
	for part := range strings.SplitSeq(l.Key, "/") {
		switch {
		case part == "", part == ".", part == "..":
			return bad("between its slashes there must be names, not nothing, . or ..")
		case len(part) > maxPart:
			return bad(fmt.Sprintf("between its slashes there may be %d bytes", maxPart))
		case strings.HasPrefix(part, unfinished):
			return bad("names that begin with " + unfinished + " are those of objects that are being written")
		}
	}
	return nil
}

func checkBucket(account, bucket string) error {
	switch {
	case !accountForm.MatchString(account):
		return &NameError{"an account", account, "it must have twelve digits"}
	case !bucketForm.MatchString(bucket), strings.Contains(bucket, ".."):
		return &NameError{"the name of a bucket", bucket,
			"it must have 3 to 63 lower-case letters, digits, dots and hyphens, with a letter or digit at both ends"}
	}
	return nil
}
