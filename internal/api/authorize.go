package api

import (
	"maps"
	"reflect"
	"slices"

	"github.com/oriel-project/oriel/internal/api/iam"
	"github.com/oriel-project/oriel/internal/appstream"
)

// passRole is the action that gives a role to a service.
const passRole = "iam:PassRole"

// authorize asks the key's policy about each resource of the request, and then about the actions that depend on it.
func (x *exchange) authorize(h *handler) error {
	s, input := x.op.service, x.input.Interface()
	if s.Resources != nil {
		x.resources = s.Resources(x.op.name, x.caller, input)
	}
	if x.key.Policy == nil {
		return nil
	}
	r := x.policyRequest(h)
	r.Action = s.action(x.op.name)
	resources := x.resources
	if len(resources) == 0 {
		resources = []string{"*"}
	}
	for _, r.Resource = range resources {
		if err := x.ask(&r); err != nil {
			return err
		}
	}
	if s.Dependent == nil {
		return nil
	}
	for _, d := range s.Dependent(x.op.name, x.caller, input) {
		r.Action, r.Resource = d.Action, d.Resource
		if d.DenyOnly {
			if x.key.Policy.Denies(&r) {
				return x.denied(&r, explicitDeny)
			}
			continue
		}
		if r.Action == passRole {
			r.PassedToService = s.IAM + ".amazonaws.com"
		}
		if err := x.ask(&r); err != nil {
			return err
		}
		r.PassedToService = ""
	}
	return nil
}

// policyRequest gives what a policy can ask of this request, whatever the action and the resource.
func (x *exchange) policyRequest(h *handler) iam.Request {
	r := iam.Request{Principal: x.key.Principal, Account: x.key.Account, Region: x.caller.Region, Source: x.caller.Source,
		UserAgent: x.r.UserAgent(), Time: x.start, Secure: x.r.TLS != nil}
	if h.cfg.Secure != nil {
		r.Secure = h.cfg.Secure(x.r)
	}
	in := x.input.Elem()
	if x.op.tags >= 0 {
		r.RequestTags, _ = reflect.TypeAssert[map[string]string](in.Field(x.op.tags))
		r.TagKeys = slices.Collect(maps.Keys(r.RequestTags))
	}
	if x.op.tagKeys >= 0 {
		keys, _ := reflect.TypeAssert[[]string](in.Field(x.op.tagKeys))
		r.TagKeys = append(r.TagKeys, keys...)
	}
	return r
}

// ask asks the policy about one action on one resource.
func (x *exchange) ask(r *iam.Request) (err error) {
	if tags := x.op.service.Tags; tags != nil && x.key.Policy.ReadsResourceTags(r.Action) {
		if r.ResourceTags, err = tags(x.r.Context(), x.caller, r.Resource); err != nil {
			return err
		}
	}
	why := "because no identity-based policy allows the " + r.Action + " action"
	switch x.key.Policy.Decide(r) {
	case iam.Allow:
		return nil
	case iam.ExplicitDeny:
		why = explicitDeny
	}
	return x.denied(r, why)
}

const explicitDeny = "with an explicit deny in an identity-based policy"

func (x *exchange) denied(r *iam.Request, why string) error {
	return appstream.Errorf(appstream.AccessDenied, "User: %s is not authorized to perform: %s on resource: %s %s",
		x.key.Principal, r.Action, r.Resource, why)
}

// fieldOf finds a field by its name and type; -1 when there is none.
func fieldOf(t reflect.Type, name string, of reflect.Type) int {
	if f, ok := t.FieldByName(name); ok && f.Type == of && len(f.Index) == 1 {
		return f.Index[0]
	}
	return -1
}
