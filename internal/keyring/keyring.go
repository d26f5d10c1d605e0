// Package keyring has the access keys of a server: its own and those of the configuration, which are fixed, and those that are made, rotated, disabled
// and removed while it runs, which are records of the store. A change counts from the next request on.
//
// The files: keyring.go finds keys for requests, operations.go changes them for clients.
package keyring

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oriel-project/oriel/internal/api/iam"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

// Origin says where a key comes from, and so who can change it.
type Origin string

const (
	OwnKey        Origin = "SERVER"        // the server's own, in its credentials file
	Configuration Origin = "CONFIGURATION" // an entry of the settings file
	Made          Origin = "API"           // made by CreateAccessKey
)

// Key is an access key.
type Key struct {
	ID        string
	Secret    string // never to be logged
	Account   string // twelve digits
	Principal string // ARN of the user or role
	Policy    *iam.Policy
	Document  string // the policy as it was written; "" allows everything
	Origin    Origin
	Created   time.Time // zero: not known
	Expires   time.Time // zero: never
	Disabled  bool
}

// usable tells whether requests may be signed with the key.
func (k *Key) usable(now time.Time) bool {
	return !k.Disabled && (k.Expires.IsZero() || now.Before(k.Expires))
}

// Config is what a ring is made of.
type Config struct {
	Store store.Store
	Fixed []Key // of the configuration and the server; the server's own sees and changes the keys of all accounts
	Log   *slog.Logger
}

// Ring has the keys. Its methods that have the form of operations are the operations of the API.
type Ring struct {
	cfg  Config
	keys atomic.Pointer[map[string]Key] // by ID; never changed, but replaced: requests look here

	actions []string // of all operations, see Know

	changing sync.Mutex // held over the change of a record and of keys; the store has no other writer of access keys
}

// Open reads the keys of the store and puts the fixed ones beside them. The error names a key that is there twice or cannot be read.
func Open(ctx context.Context, cfg Config) (*Ring, error) {
	r := &Ring{cfg: cfg}
	all := map[string]Key{}
	for _, k := range cfg.Fixed {
		if _, taken := all[k.ID]; taken {
			return nil, fmt.Errorf("the access key %s is there twice; one of them is the server's own: choose another ID", k.ID)
		}
		all[k.ID] = k
	}
	err := cfg.Store.View(ctx, func(tx store.Tx) error {
		records, err := store.List[appstream.AccessKey](tx, store.Query{Noun: appstream.NounAccessKey})
		if err != nil {
			return err
		}
		for i := range records {
			k, err := keyOf(&records[i])
			if err != nil {
				return err
			}
			if _, taken := all[k.ID]; taken {
				return fmt.Errorf("the access key %s of the settings was also made by the server: choose another ID", k.ID)
			}
			all[k.ID] = k
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the access keys: %w", err)
	}
	r.keys.Store(&all)
	return r, nil
}

// Know tells the ring which actions operations ask policies for; its own operations are among them, so that it cannot know before it is open. It warns in the log
// of what is probably not meant in the policies of the keys, and must have returned before the first request.
func (r *Ring) Know(actions []string) {
	r.actions = actions
	for _, k := range *r.keys.Load() {
		for _, w := range k.Policy.Warnings(actions) {
			r.cfg.Log.Warn("in the policy of an access key", "id", k.ID, "warning", w)
		}
	}
}

// keyOf makes a key of its record.
func keyOf(rec *appstream.AccessKey) (Key, error) {
	policy, err := iam.Parse([]byte(rec.Policy))
	if err != nil {
		return Key{}, fmt.Errorf("the access key %s: %w", rec.Name, err)
	}
	return Key{ID: rec.Name, Secret: rec.Secret, Account: rec.Account, Principal: rec.Principal, Policy: policy, Document: rec.Policy,
		Origin: Made, Created: rec.Created, Expires: rec.Expires, Disabled: rec.State != appstream.AccessKeyActive}, nil
}

// Find gives the key of an ID, if requests may be signed with it.
func (r *Ring) Find(id string) (Key, bool) {
	k, ok := (*r.keys.Load())[id]
	if !ok || !k.usable(time.Now()) {
		return Key{}, false
	}
	return k, true
}
