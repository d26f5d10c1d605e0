package keyring

import (
	"context"
	"encoding/base64"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/oriel-project/oriel/internal/api/iam"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/keys"
	"github.com/oriel-project/oriel/internal/service"
	"github.com/oriel-project/oriel/internal/store"
)

// Operations are those that clients call, under the target prefix "Oriel". They are named after IAM's, and the resource that a policy is asked about
// is, as there, the user: arn:aws:iam::ACCOUNT:user/NAME.
type Operations interface {
	CreateAccessKey(context.Context, *CreateAccessKeyInput) (*CreateAccessKeyOutput, error)
	ListAccessKeys(context.Context, *ListAccessKeysInput) (*ListAccessKeysOutput, error)
	RotateAccessKey(context.Context, *RotateAccessKeyInput) (*RotateAccessKeyOutput, error)
	UpdateAccessKey(context.Context, *UpdateAccessKeyInput) (*UpdateAccessKeyOutput, error)
	DeleteAccessKey(context.Context, *DeleteAccessKeyInput) (*DeleteAccessKeyOutput, error)
}

var _ Operations = (*Ring)(nil)

// Limits are the constraints of the inputs, in the form of api.Service.Limits.
const Limits = `
string OrielAccessKeyId 16 128 plain ^[\w]+$
string OrielUserName 1 64 plain ^[\w+=,.@-]+$
string OrielPrincipal 20 1024 plain ^arn:aws:(iam::\d{12}:(user|role)|sts::\d{12}:assumed-role)/[\w+=,.@/-]+$
string OrielAccount - - plain ^\d{12}$
string OrielPolicy 1 10240 plain
string OrielToken 1 512 plain
enum OrielKeyStatus Active Inactive
integer OrielGrace 0 2592000
integer OrielPageSize 1 100
structure CreateAccessKeyInput UserName:OrielUserName Principal:OrielPrincipal Account:OrielAccount PolicyDocument!:OrielPolicy
structure ListAccessKeysInput Account:OrielAccount AllAccounts: MaxResults:OrielPageSize NextToken:OrielToken
structure RotateAccessKeyInput AccessKeyId!:OrielAccessKeyId GraceSeconds:OrielGrace
structure UpdateAccessKeyInput AccessKeyId!:OrielAccessKeyId Status!:OrielKeyStatus
structure DeleteAccessKeyInput AccessKeyId!:OrielAccessKeyId
`

// CreateAccessKeyInput asks for a new key, of a user or of a principal.
type CreateAccessKeyInput struct {
	UserName       *string // makes the principal arn:aws:iam::ACCOUNT:user/UserName
	Principal      *string // or its ARN; exactly one of the two
	Account        *string // default: the principal's, else the caller's. Another one than his own only for the server's own key
	PolicyDocument *string // required: what it may do, at most 10,240 characters
}

// CreateAccessKeyOutput has the new key.
type CreateAccessKeyOutput struct {
	AccessKey *AccessKey
	// SecretAccessKey is shown here and nowhere else.
	SecretAccessKey *string
	Warnings        []string // what in the policy is probably not meant
}

// AccessKey is what clients see of a key.
type AccessKey struct {
	AccessKeyId    *string
	Account        *string
	Principal      *string
	Status         *string // Active or Inactive; one that has expired is Inactive
	Origin         *string // SERVER, CONFIGURATION or API
	CreateDate     *time.Time
	ExpirationDate *time.Time
	PolicyDocument *string // absent: it may do everything
}

// ListAccessKeysInput asks for the keys of the caller's account, in the order of their IDs.
type ListAccessKeysInput struct {
	Account     *string // of another account; for the server's own key
	AllAccounts *bool   // of every account; for the server's own key
	MaxResults  *int32  // default 50
	NextToken   *string
}

// ListAccessKeysOutput has a page of keys.
type ListAccessKeysOutput struct {
	AccessKeys []AccessKey
	NextToken  *string
}

// RotateAccessKeyInput asks for a new key in place of another.
type RotateAccessKeyInput struct {
	AccessKeyId  *string
	GraceSeconds *int32 // how long the old one still works, at most 30 days; default 0: not any more
}

// RotateAccessKeyOutput has the new key, and the old one as it is now.
type RotateAccessKeyOutput struct {
	AccessKey       *AccessKey
	SecretAccessKey *string // as in CreateAccessKeyOutput
	Replaced        *AccessKey
}

// UpdateAccessKeyInput enables or disables a key.
type UpdateAccessKeyInput struct {
	AccessKeyId *string
	Status      *string // Active or Inactive
}

// UpdateAccessKeyOutput has the key as it is now.
type UpdateAccessKeyOutput struct{ AccessKey *AccessKey }

// DeleteAccessKeyInput removes a key.
type DeleteAccessKeyInput struct{ AccessKeyId *string }

// DeleteAccessKeyOutput is empty.
type DeleteAccessKeyOutput struct{}

// Bounds of the keys that are made.
const (
	maxKeys     = 100 // of one account
	defaultPage = 50
)

// The values of Status.
const (
	active   = "Active"
	inactive = "Inactive"
)

// view gives what clients see of a key.
func (k *Key) view() *AccessKey {
	v := &AccessKey{AccessKeyId: &k.ID, Account: &k.Account, Principal: &k.Principal, Status: new(active), Origin: new(string(k.Origin)),
		PolicyDocument: appstream.Optional(k.Document)}
	if !k.usable(time.Now()) {
		v.Status = new(inactive)
	}
	if !k.Created.IsZero() {
		v.CreateDate = new(k.Created)
	}
	if !k.Expires.IsZero() {
		v.ExpirationDate = new(k.Expires)
	}
	return v
}

// Administers tells whether the caller sees what all accounts have, and changes their keys: whether he signs with the server's own.
func (r *Ring) Administers(c appstream.Caller) bool {
	k, ok := (*r.keys.Load())[c.AccessKeyID]
	return ok && k.Origin == OwnKey
}

// find gives a key that the caller may see.
func (r *Ring) find(c appstream.Caller, id string) (Key, bool) {
	k, ok := (*r.keys.Load())[id]
	return k, ok && (k.Account == c.Account || r.Administers(c))
}

// principalOf gives the ARN of a user.
func principalOf(account, user string) string { return "arn:aws:iam::" + account + ":user/" + user }

// Resources names what an operation is about: the principal of the key.
func (r *Ring) Resources(_ string, c appstream.Caller, in any) []string {
	id := ""
	switch in := in.(type) {
	case *CreateAccessKeyInput:
		principal, _, err := principal(c, in)
		if err == nil {
			return []string{principal}
		}
	case *ListAccessKeysInput:
		return []string{principalOf(value(in.Account, c.Account), "*")}
	case *RotateAccessKeyInput:
		id = value(in.AccessKeyId, "")
	case *UpdateAccessKeyInput:
		id = value(in.AccessKeyId, "")
	case *DeleteAccessKeyInput:
		id = value(in.AccessKeyId, "")
	}
	if k, ok := r.find(c, id); ok {
		return []string{k.Principal}
	}
	return []string{principalOf(c.Account, "*")} // one that he may not know of is about nobody in particular
}

// DependentActions gives what a policy must allow beside an operation. Who rotates another key than the one that he signs with gets the secret of one that may do
// more than he, perhaps, as if he had made it.
func (r *Ring) DependentActions(_ string, c appstream.Caller, in any) []appstream.DependentAction {
	rotate, ok := in.(*RotateAccessKeyInput)
	if !ok || value(rotate.AccessKeyId, "") == c.AccessKeyID {
		return nil
	}
	return []appstream.DependentAction{{Action: "oriel:CreateAccessKey", Resource: r.Resources("", c, in)[0]}}
}

func value[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

var accountOf = regexp.MustCompile(`^arn:aws:(?:iam|sts)::(\d{12}):`)

// principal gives the ARN and the account that a new key is for.
func principal(c appstream.Caller, in *CreateAccessKeyInput) (arn, account string, err error) {
	if (in.UserName == nil) == (in.Principal == nil) {
		return "", "", appstream.Errorf(appstream.InvalidParameterCombination, "You must specify exactly one of UserName and Principal.")
	}
	if in.UserName != nil {
		account = value(in.Account, c.Account)
		return principalOf(account, *in.UserName), account, nil
	}
	m := accountOf.FindStringSubmatch(*in.Principal)
	if m == nil || m[1] != value(in.Account, m[1]) {
		return "", "", appstream.Errorf(appstream.InvalidParameterCombination, "The Principal %s is not of the account %s.", *in.Principal, value(in.Account, c.Account))
	}
	return *in.Principal, m[1], nil
}

// CreateAccessKey makes a key.
func (r *Ring) CreateAccessKey(ctx context.Context, in *CreateAccessKeyInput) (*CreateAccessKeyOutput, error) {
	c := appstream.CallerFrom(ctx)
	arn, account, err := principal(c, in)
	if err != nil {
		return nil, err
	}
	if account != c.Account && !r.Administers(c) {
		return nil, appstream.Errorf(appstream.OperationNotPermitted, "Only the server's own access key makes keys of other accounts than its own.")
	}
	document := value(in.PolicyDocument, "")
	policy, err := iam.Parse([]byte(document))
	if err != nil {
		return nil, appstream.Errorf(appstream.InvalidParameterValue, "PolicyDocument: %w", err)
	}
	rec := newRecord(account, arn, document)
	err = r.change(ctx, "oriel:CreateAccessKey", func(tx store.Tx, now time.Time) error { return insert(tx, rec, now, "CreateAccessKey") }, rec)
	if err != nil {
		return nil, err
	}
	return &CreateAccessKeyOutput{AccessKey: r.see(rec), SecretAccessKey: &rec.Secret, Warnings: policy.Warnings(r.actions)}, nil
}

// newRecord makes the record of a new key.
func newRecord(account, principal, policy string) *appstream.AccessKey {
	key := keys.New()
	return &appstream.AccessKey{
		Meta:   appstream.Meta{Key: appstream.Key{Account: account, Noun: appstream.NounAccessKey, Name: key.ID}, ID: key.ID},
		Secret: key.Secret, Principal: principal, Policy: policy,
	}
}

// insert writes a new key, if the account may have one more.
func insert(tx store.Tx, rec *appstream.AccessKey, now time.Time, why string) error {
	n := 0
	err := tx.Scan(store.Query{Noun: appstream.NounAccessKey, Accounts: []string{rec.Account}}, func(appstream.Meta, func(appstream.Record) error) error {
		n++
		return nil
	})
	if err != nil {
		return err
	}
	if n >= maxKeys {
		return appstream.Errorf(appstream.LimitExceeded, "Cannot exceed quota for access keys of an account: %d. Remove some that are not used any more.", maxKeys)
	}
	rec.Created = now
	rec.Enter(appstream.AccessKeyActive, now, 0)
	if err := tx.Insert(rec); err != nil {
		return err
	}
	return tx.AddEvent(store.Event{At: now, ID: rec.ID, Key: rec.Key, To: rec.State, Why: why})
}

// change runs fn in one transaction with the operation's audit line about rec, and then has requests find the keys as rec and also are: one without a
// state is gone.
func (r *Ring) change(ctx context.Context, operation string, fn func(tx store.Tx, now time.Time) error, rec *appstream.AccessKey, also ...*appstream.AccessKey) error {
	r.changing.Lock()
	defer r.changing.Unlock()
	now := time.Now().UTC()
	err := r.cfg.Store.Update(ctx, func(tx store.Tx) error {
		if err := fn(tx, now); err != nil {
			return err
		}
		return tx.AddAudit(service.AuditLine(ctx, now, operation, rec.Principal+" "+rec.ARN(), ""))
	})
	if err != nil {
		return err
	}
	all := maps.Clone(*r.keys.Load())
	for _, rec := range append(also, rec) {
		if rec.State == "" {
			delete(all, rec.Name)
			continue
		}
		if all[rec.Name], err = keyOf(rec); err != nil {
			return err
		}
	}
	r.keys.Store(&all)
	return nil
}

// see gives what clients see of a record's key.
func (r *Ring) see(rec *appstream.AccessKey) *AccessKey {
	k := (*r.keys.Load())[rec.Name]
	return k.view()
}

// made gives the record to change of a key that the caller may see, with what find knows of it: enough to read it.
func (r *Ring) made(ctx context.Context, id string) (*appstream.AccessKey, error) {
	k, ok := r.find(appstream.CallerFrom(ctx), id)
	if !ok {
		return nil, missing(id)
	}
	switch k.Origin {
	case OwnKey:
		return nil, appstream.Errorf(appstream.OperationNotPermitted, "The access key %s is the server's own. To get another, remove its credentials file and restart the server.", id)
	case Configuration:
		return nil, appstream.Errorf(appstream.OperationNotPermitted, "The access key %s is in the server's settings file. Change it there, and restart the server.", id)
	}
	return &appstream.AccessKey{Meta: appstream.Meta{Key: appstream.Key{Account: k.Account, Noun: appstream.NounAccessKey, Name: id}}, Principal: k.Principal}, nil
}

func missing(id string) error {
	return appstream.Errorf(appstream.ResourceNotFound, "The Access Key with id %s cannot be found.", id)
}

// read reads the record of a key.
func read(tx store.Tx, rec *appstream.AccessKey) error {
	err := tx.Get(rec.Key, rec)
	if errors.Is(err, store.ErrNotFound) {
		return missing(rec.Name)
	}
	return err
}

// enter moves a key to a state, if it is in another, with the event.
func enter(tx store.Tx, rec *appstream.AccessKey, state string, now time.Time, why string) error {
	if rec.State == state {
		return nil
	}
	from := rec.State
	rec.Enter(state, now, 0)
	return tx.AddEvent(store.Event{At: now, ID: rec.ID, Key: rec.Key, From: from, To: state, Why: why})
}

// RotateAccessKey makes a key that may do what another may, and ends that one, at once or after a while.
func (r *Ring) RotateAccessKey(ctx context.Context, in *RotateAccessKeyInput) (*RotateAccessKeyOutput, error) {
	old, err := r.made(ctx, value(in.AccessKeyId, ""))
	if err != nil {
		return nil, err
	}
	fresh := newRecord(old.Account, old.Principal, "")
	err = r.change(ctx, "oriel:RotateAccessKey", func(tx store.Tx, now time.Time) error {
		if err := read(tx, old); err != nil {
			return err
		}
		if old.State != appstream.AccessKeyActive || !old.Expires.IsZero() && !now.Before(old.Expires) {
			return appstream.Errorf(appstream.OperationNotPermitted, "The access key %s is Inactive. Enable it first, or make a new one.", old.Name)
		}
		fresh.Policy = old.Policy
		if grace := time.Duration(value(in.GraceSeconds, 0)) * time.Second; grace == 0 {
			if err := enter(tx, old, appstream.AccessKeyInactive, now, "RotateAccessKey "+fresh.Name); err != nil {
				return err
			}
		} else if end := now.Add(grace); old.Expires.IsZero() || end.Before(old.Expires) {
			old.Expires = end
		}
		if err := tx.Put(old); err != nil {
			return err
		}
		return insert(tx, fresh, now, "RotateAccessKey "+old.Name)
	}, fresh, old)
	if err != nil {
		return nil, err
	}
	return &RotateAccessKeyOutput{AccessKey: r.see(fresh), SecretAccessKey: &fresh.Secret, Replaced: r.see(old)}, nil
}

// UpdateAccessKey enables or disables a key. One that is enabled does not expire any more.
func (r *Ring) UpdateAccessKey(ctx context.Context, in *UpdateAccessKeyInput) (*UpdateAccessKeyOutput, error) {
	rec, err := r.made(ctx, value(in.AccessKeyId, ""))
	if err != nil {
		return nil, err
	}
	state := appstream.AccessKeyActive
	if value(in.Status, "") == inactive {
		state = appstream.AccessKeyInactive
	}
	err = r.change(ctx, "oriel:UpdateAccessKey", func(tx store.Tx, now time.Time) error {
		if err := read(tx, rec); err != nil {
			return err
		}
		if state == appstream.AccessKeyActive {
			rec.Expires = time.Time{}
		}
		if err := enter(tx, rec, state, now, "UpdateAccessKey"); err != nil {
			return err
		}
		return tx.Put(rec)
	}, rec)
	if err != nil {
		return nil, err
	}
	return &UpdateAccessKeyOutput{AccessKey: r.see(rec)}, nil
}

// DeleteAccessKey removes a key for ever.
func (r *Ring) DeleteAccessKey(ctx context.Context, in *DeleteAccessKeyInput) (*DeleteAccessKeyOutput, error) {
	rec, err := r.made(ctx, value(in.AccessKeyId, ""))
	if err != nil {
		return nil, err
	}
	err = r.change(ctx, "oriel:DeleteAccessKey", func(tx store.Tx, now time.Time) error {
		if err := read(tx, rec); err != nil {
			return err
		}
		if err := tx.Delete(rec); err != nil {
			return err
		}
		return enter(tx, rec, "", now, "DeleteAccessKey")
	}, rec)
	if err != nil {
		return nil, err
	}
	return &DeleteAccessKeyOutput{}, nil
}

// ListAccessKeys gives a page of the keys of an account, or of all.
func (r *Ring) ListAccessKeys(ctx context.Context, in *ListAccessKeysInput) (*ListAccessKeysOutput, error) {
	c := appstream.CallerFrom(ctx)
	account, all := value(in.Account, c.Account), value(in.AllAccounts, false)
	if all && in.Account != nil {
		return nil, appstream.Errorf(appstream.InvalidParameterCombination, "You must specify at most one of Account and AllAccounts.")
	}
	if (all || account != c.Account) && !r.Administers(c) {
		return nil, appstream.Errorf(appstream.OperationNotPermitted, "Only the server's own access key sees keys of other accounts than its own.")
	}
	after, err := base64.RawURLEncoding.DecodeString(value(in.NextToken, ""))
	if err != nil {
		return nil, appstream.Errorf(appstream.Validation, "The NextToken is not one that ListAccessKeys returned. Leave it out to begin with the first page.")
	}
	var list []Key
	for _, k := range *r.keys.Load() {
		if (all || k.Account == account) && k.ID > string(after) {
			list = append(list, k)
		}
	}
	slices.SortFunc(list, func(a, b Key) int { return strings.Compare(a.ID, b.ID) })
	out := &ListAccessKeysOutput{AccessKeys: []AccessKey{}}
	size := int(value(in.MaxResults, defaultPage))
	for i := range list {
		if len(out.AccessKeys) == size {
			out.NextToken = new(base64.RawURLEncoding.EncodeToString([]byte(list[i-1].ID)))
			break
		}
		out.AccessKeys = append(out.AccessKeys, *list[i].view())
	}
	return out, nil
}
