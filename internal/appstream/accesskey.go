package appstream

import "time"

// An AccessKey signs requests: it says who asks, and what he may do. Its name is the access key's ID; it is of an account and of no region.
//
//	CreateAccessKey ──▶ ACTIVE ◀──UpdateAccessKey──▶ INACTIVE ──DeleteAccessKey──▶ (gone)
//
// The secret is kept as it is: whoever verifies a signature needs it. The database is for the server's own user alone, as is its signing key there.
type AccessKey struct {
	Meta
	Secret    string    // never to be logged
	Principal string    // ARN of the user or role
	Policy    string    // IAM policy
	Expires   time.Time `json:",omitzero"` // it is of no use from then on; zero: for ever
}

// The states of an access key.
const (
	AccessKeyActive   = "ACTIVE"
	AccessKeyInactive = "INACTIVE"
)

var accessKeyTransitions = []Transition{
	{"", AccessKeyActive, "CreateAccessKey, RotateAccessKey"},
	{AccessKeyActive, AccessKeyInactive, "UpdateAccessKey, RotateAccessKey"},
	{AccessKeyInactive, AccessKeyActive, "UpdateAccessKey"},
	{AccessKeyActive, "", "DeleteAccessKey"},
	{AccessKeyInactive, "", "DeleteAccessKey"},
}
