// Package iam reads and evaluates IAM policies: which requests an access key may make. It knows identity-based policies with all of their elements
// (Effect, Action or NotAction, Resource or NotResource, Condition), and refuses a policy with anything else, because a rule that is read and
// not applied would be a hole.
//
// A request is denied unless a statement allows it, and a statement that denies it wins over every one that allows it. A statement
// applies when its action, its resource and all of its conditions match.
//
// The files: iam.go the policy and the decision, pattern.go wildcards and policy variables, condition.go the operators of conditions,
// keys.go what conditions and variables can ask of a request.
package iam

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Bounds of a policy; AWS allows at most 10,240 characters for the largest kind of policy.
const (
	maxPolicyBytes = 64 << 10
	maxPatterns    = 10_000
)

// The versions of the policy language. Policy variables came with the second.
const (
	version2008 = "2008-10-17"
	version2012 = "2012-10-17"
)

// Policy is a parsed policy. A nil *Policy allows nothing.
type Policy struct {
	statements []statement
}

// Decision is what a policy says of a request.
type Decision int

const (
	ImplicitDeny Decision = iota // no statement allows it
	ExplicitDeny                 // a Deny statement matches, which wins over every Allow
	Allow
)

// String gives the name of the decision.
func (d Decision) String() string {
	switch d {
	case Allow:
		return "allow"
	case ExplicitDeny:
		return "explicit deny"
	}
	return "implicit deny"
}

// statement is one rule.
type statement struct {
	at          string // which one it is, for people
	warnings    []string
	written     []string // the actions as they were written
	deny        bool
	actions     []pattern // in lower case: actions have no case
	notAction   bool      // it is about all actions but these
	resources   []pattern
	notResource bool // it is about all resources but these
	conditions  []condition
}

// Warnings says what in the policy is allowed and probably not meant: a condition key that no request has, or an action that no operation asks for. Each names
// its statement. actions are those that operations ask for, such as appstream:DescribeFleets; nothing is said of services that have none of them.
func (p *Policy) Warnings(actions []string) (list []string) {
	if p == nil {
		return nil
	}
	for i := range p.statements {
		st := &p.statements[i]
		for _, w := range slices.Concat(st.warnings, st.unknown(actions)) {
			list = append(list, st.at+": "+w)
		}
	}
	return list
}

// unknown says which actions of the statement are none of those that operations ask for. In a Deny that would be a hole that nobody sees.
func (st *statement) unknown(actions []string) (list []string) {
	element := "Action"
	if st.notAction {
		element = "NotAction"
	}
	for i, written := range st.written {
		service, name, _ := strings.Cut(strings.ToLower(written), ":")
		ours, asked, meant := false, written == "*", ""
		for _, a := range actions {
			lower := strings.ToLower(a)
			s, n, _ := strings.Cut(lower, ":")
			ours = ours || s == service
			asked = asked || match(st.actions[i].text, lower)
			// The names of AWS differ most often in the plural, and those of Oriel in the service.
			if strings.TrimSuffix(n, "s") == strings.TrimSuffix(name, "s") {
				meant = "; did you mean " + a + "?"
			}
		}
		w := fmt.Sprintf("%s: no operation asks for %s, so it has no effect%s", element, written, meant)
		if ours && !asked && !slices.Contains(list, w) {
			list = append(list, w)
		}
	}
	return list
}

// ReadsResourceTags tells whether the decision about action depends on Request.ResourceTags.
func (p *Policy) ReadsResourceTags(action string) bool {
	if p == nil {
		return false
	}
	action = strings.ToLower(action)
	return slices.ContainsFunc(p.statements, func(st statement) bool {
		asks := func(k key) bool { return k.id == resourceTag }
		return st.hasAction(action) && (slices.ContainsFunc(st.resources, func(p pattern) bool { return p.uses(asks) }) ||
			slices.ContainsFunc(st.conditions, func(c condition) bool { return c.uses(asks) }))
	})
}

// Decide says what the policy says of a request.
func (p *Policy) Decide(r *Request) Decision {
	if p == nil {
		return ImplicitDeny
	}
	action := strings.ToLower(r.Action)
	d := ImplicitDeny
	for i := range p.statements {
		st := &p.statements[i]
		if d == Allow && !st.deny || !st.applies(action, r) {
			continue
		}
		if st.deny {
			return ExplicitDeny
		}
		d = Allow
	}
	return d
}

// Denies tells whether a Deny statement whose Resource names r's resource matches the request. Those with NotResource do not count: they are about what a
// request is allowed on, and this asks about more than that.
func (p *Policy) Denies(r *Request) bool {
	if p == nil {
		return false
	}
	action := strings.ToLower(r.Action)
	return slices.ContainsFunc(p.statements, func(st statement) bool { return st.deny && !st.notResource && st.applies(action, r) })
}

func (st *statement) applies(action string, r *Request) bool {
	if !st.hasAction(action) || !st.hasResource(r) {
		return false
	}
	for i := range st.conditions {
		if !st.conditions[i].holds(r) {
			return false
		}
	}
	return true
}

// hasAction tells whether the statement is about an action, which is in lower case.
func (st *statement) hasAction(action string) bool {
	for i := range st.actions {
		if match(st.actions[i].text, action) {
			return !st.notAction
		}
	}
	return st.notAction
}

func (st *statement) hasResource(r *Request) bool {
	for i := range st.resources {
		text, ok := st.resources[i].resolve(r)
		if !ok {
			// A variable without a value: the pattern names no resource. "All but none" would allow more than was meant.
			if st.notResource && !st.deny {
				return false
			}
			continue
		}
		if match(text, r.Resource) {
			return !st.notResource
		}
	}
	return st.notResource
}

// Parse reads a policy document. The error says which statement is wrong and how.
func Parse(doc []byte) (*Policy, error) {
	if len(doc) > maxPolicyBytes {
		return nil, fmt.Errorf("iam policy: it has %d bytes, at most %d are allowed", len(doc), maxPolicyBytes)
	}
	var raw map[string]jsontext.Value
	if err := json.Unmarshal(doc, &raw); err != nil {
		return nil, fmt.Errorf("iam policy: %w", err)
	}
	if raw == nil {
		return nil, errors.New("iam policy: it must be an object")
	}
	version := version2008 // what holds when a policy does not say it
	for name, value := range raw {
		switch name {
		case "Statement":
		case "Id":
			if value.Kind() != jsontext.KindString {
				return nil, fmt.Errorf("iam policy: Id must be a string, not %s", value)
			}
		case "Version":
			if err := json.Unmarshal(value, &version); err != nil || version != version2012 && version != version2008 {
				return nil, fmt.Errorf(`iam policy: Version must be %q, not %s`, version2012, value)
			}
		default:
			return nil, fmt.Errorf("iam policy: %s is no element of a policy; it has Version, Id and Statement", name)
		}
	}
	var list []map[string]jsontext.Value
	switch st := raw["Statement"]; {
	case st == nil:
		return nil, errors.New("iam policy: Statement is missing")
	case st.Kind() == jsontext.KindBeginArray:
		if err := json.Unmarshal(st, &list); err != nil {
			return nil, fmt.Errorf("iam policy: Statement: %w", err)
		}
	default:
		var one map[string]jsontext.Value
		if err := json.Unmarshal(st, &one); err != nil {
			return nil, fmt.Errorf("iam policy: Statement: %w", err)
		}
		list = append(list, one)
	}
	p := &Policy{}
	sids := map[string]bool{}
	for i, m := range list {
		at := fmt.Sprintf("statement %d", i+1)
		sid, err := parseSid(m["Sid"])
		if sid != "" {
			at += fmt.Sprintf(" (%s)", sid)
		}
		if err == nil && sids[sid] {
			err = errors.New("Sid is that of another statement; each must have its own")
		}
		if err != nil {
			return nil, fmt.Errorf("iam policy: %s: %w", at, err)
		}
		sids[sid] = sid != ""
		c := compiler{variables: version == version2012}
		st, err := c.statement(m)
		if err != nil {
			return nil, fmt.Errorf("iam policy: %s: %w", at, err)
		}
		st.at, st.warnings = at, c.warnings
		p.statements = append(p.statements, st)
	}
	return p, nil
}

var sidForm = regexp.MustCompile(`^[A-Za-z0-9]*$`)

func parseSid(value jsontext.Value) (sid string, err error) {
	if value == nil {
		return "", nil
	}
	if err := json.Unmarshal(value, &sid); err != nil || value.Kind() != jsontext.KindString || !sidForm.MatchString(sid) {
		return "", fmt.Errorf("Sid must be letters and digits, not %s", value)
	}
	return sid, nil
}

// compiler reads one statement.
type compiler struct {
	variables bool // the policy's version has policy variables
	warnings  []string
}

func (c *compiler) warn(format string, args ...any) {
	if w := fmt.Sprintf(format, args...); !slices.Contains(c.warnings, w) {
		c.warnings = append(c.warnings, w)
	}
}

func (c *compiler) statement(m map[string]jsontext.Value) (st statement, err error) {
	for _, name := range slices.Sorted(maps.Keys(m)) { // in one order, so that the same policy is always refused alike
		value := m[name]
		switch name {
		case "Sid":
		case "Effect":
			var effect string
			if err := json.Unmarshal(value, &effect); err != nil || effect != "Allow" && effect != "Deny" {
				return st, fmt.Errorf(`Effect must be "Allow" or "Deny", not %s`, value)
			}
			st.deny = effect == "Deny"
		case "Action", "NotAction":
			st.notAction = name == "NotAction"
			st.written, st.actions, err = actions(name, value)
		case "Resource", "NotResource":
			st.notResource = name == "NotResource"
			st.resources, err = c.resources(name, value)
		case "Condition":
			st.conditions, err = c.conditions(value)
		case "Principal", "NotPrincipal":
			return st, fmt.Errorf("%s must not be there: the policy is about the access key that has it", name)
		default:
			return st, fmt.Errorf("%s is no element of a statement; it has Sid, Effect, Action or NotAction, Resource or NotResource, and Condition", name)
		}
		if err != nil {
			return st, err
		}
	}
	switch {
	case m["Effect"] == nil:
		return st, errors.New("Effect is missing")
	case (m["Action"] == nil) == (m["NotAction"] == nil):
		return st, errors.New("one of Action and NotAction must be given")
	case (m["Resource"] == nil) == (m["NotResource"] == nil):
		return st, errors.New("one of Resource and NotResource must be given")
	}
	return st, nil
}

// actionForm is a service and an action. AWS allows wildcards in the action only.
var actionForm = regexp.MustCompile(`^[A-Za-z0-9-]+:[A-Za-z0-9*?]+$`)

// actions reads actions, as they are written and as patterns.
func actions(name string, value jsontext.Value) (list []string, patterns []pattern, err error) {
	if list, err = texts(name, value); err != nil {
		return nil, nil, err
	}
	patterns = make([]pattern, len(list))
	for i, a := range list {
		if a != "*" && !actionForm.MatchString(a) {
			return nil, nil, fmt.Errorf(`%s: %q must be "*", or a service prefix and an action, for example appstream:Describe*`, name, a)
		}
		patterns[i] = pattern{text: wildcards.Replace(strings.ToLower(a))}
	}
	return list, patterns, nil
}

func (c *compiler) resources(name string, value jsontext.Value) ([]pattern, error) {
	list, err := texts(name, value)
	if err != nil {
		return nil, err
	}
	patterns := make([]pattern, len(list))
	for i, text := range list {
		if text != "*" && !strings.HasPrefix(text, "arn:") {
			return nil, fmt.Errorf(`%s: %q must be "*" or an ARN, for example arn:aws:appstream:*:*:image-builder/lab-*`, name, text)
		}
		if patterns[i], err = c.pattern(text, true); err != nil {
			return nil, fmt.Errorf("%s: %q: %w", name, text, err)
		}
		if p := &patterns[i]; p.parts != nil && strings.Count(p.parts[0].text, ":") < 5 {
			return nil, fmt.Errorf("%s: %q: a policy variable must be behind the fifth colon of the ARN", name, text)
		}
	}
	return patterns, nil
}

// texts reads a string or a list of strings that are not empty.
func texts(name string, value jsontext.Value) ([]string, error) {
	list := make([]string, 1)
	var err error
	if value.Kind() == jsontext.KindBeginArray {
		err = json.Unmarshal(value, &list)
	} else {
		err = json.Unmarshal(value, &list[0])
	}
	if err != nil || len(list) == 0 || value.Kind() == jsontext.KindNull {
		return nil, fmt.Errorf("%s must be a string or a list of strings that is not empty", name)
	}
	if len(list) > maxPatterns {
		return nil, fmt.Errorf("%s has %d entries, at most %d are allowed", name, len(list), maxPatterns)
	}
	if slices.Contains(list, "") {
		return nil, fmt.Errorf("%s has an empty entry", name)
	}
	return list, nil
}
