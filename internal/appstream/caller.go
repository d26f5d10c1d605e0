package appstream

import (
	"context"
	"net/netip"
)

// Caller is who made a request and where it reached Oriel. internal/api puts it into the context after it
// has verified the signature; operations read it from there.
type Caller struct {
	Account     string     // twelve digits; the access key decides it
	Region      string     // the region of the credential scope, for example us-west-2
	AccessKeyID string     // the key that signed
	Principal   string     // the ARN that policies and the audit log name
	Source      netip.Addr // the client's address
	BaseURL     string     // scheme and host by which the caller reached Oriel, without a path: https://oriel.example:8443
	RequestID   string     // what x-amzn-RequestId carries
}

type callerKey struct{}

// WithCaller returns a context that carries c.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerFrom gives the caller that the context carries; the zero Caller when there is none.
func CallerFrom(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}

// DependentAction is an action that a policy must allow beside an operation's own. AWS's reference of actions calls it so.
type DependentAction struct {
	Action   string // for example iam:PassRole
	Resource string // ARN
	// DenyOnly: no policy needs to allow it, but one that names the resource in a Deny is obeyed. The resource has the tags of the one that the operation is about.
	DenyOnly bool
}
