// Package iam reads and evaluates IAM policies: which actions on which resources a key may use. It knows
// identity-based policies of Effect, Action or NotAction and Resource or NotResource; it refuses a policy with
// anything else, because a rule that is read and not applied would be a hole.
package iam

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"strings"
)

// Bounds of a policy; AWS allows at most 10,240 characters for the largest kind of policy.
const (
	maxPolicyBytes = 64 << 10
	maxPatterns    = 10_000
)

// Policy is a parsed policy. A nil *Policy allows nothing.
type Policy struct {
	statements []statement
}

// Decision is what a policy says of one action on one resource.
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

// statement is one rule. Exactly one of the action lists and one of the resource lists is set.
type statement struct {
	deny         bool
	actions      []string // lower case: actions have no case
	notActions   []string
	resources    []string
	notResources []string
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
	for name, value := range raw {
		switch name {
		case "Statement", "Id":
		case "Version":
			var v string
			if err := json.Unmarshal(value, &v); err != nil || v != "2012-10-17" && v != "2008-10-17" {
				return nil, fmt.Errorf(`iam policy: Version must be "2012-10-17", not %s`, value)
			}
		default:
			return nil, unsupported(name)
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
	for i, m := range list {
		st, err := parseStatement(m)
		if err != nil {
			return nil, fmt.Errorf("iam policy: statement %d: %w", i+1, err)
		}
		p.statements = append(p.statements, st)
	}
	return p, nil
}

func unsupported(name string) error {
	return fmt.Errorf("iam policy: %s is not supported yet; remove it, or use Effect, Action, NotAction, Resource and NotResource only", name)
}

func parseStatement(m map[string]jsontext.Value) (st statement, err error) {
	for name, value := range m {
		switch name {
		case "Sid":
		case "Effect":
			var effect string
			if err := json.Unmarshal(value, &effect); err != nil || effect != "Allow" && effect != "Deny" {
				return st, fmt.Errorf(`Effect must be "Allow" or "Deny", not %s`, value)
			}
			st.deny = effect == "Deny"
		case "Action":
			st.actions, err = patterns(name, value)
		case "NotAction":
			st.notActions, err = patterns(name, value)
		case "Resource":
			st.resources, err = patterns(name, value)
		case "NotResource":
			st.notResources, err = patterns(name, value)
		default:
			return st, unsupported(name)
		}
		if err != nil {
			return st, err
		}
	}
	switch {
	case m["Effect"] == nil:
		return st, errors.New("Effect is missing")
	case (st.actions == nil) == (st.notActions == nil):
		return st, errors.New("one of Action and NotAction must be given")
	case (st.resources == nil) == (st.notResources == nil):
		return st, errors.New("one of Resource and NotResource must be given")
	}
	for _, list := range [][]string{st.actions, st.notActions} {
		for i, a := range list {
			if a != "*" && !strings.Contains(a, ":") {
				return st, fmt.Errorf(`action %q must be "*" or have a service prefix, for example appstream:Describe*`, a)
			}
			list[i] = strings.ToLower(a)
		}
	}
	return st, nil
}

// patterns reads a string or a list of strings.
func patterns(name string, value jsontext.Value) ([]string, error) {
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
	for _, p := range list {
		if p == "" {
			return nil, fmt.Errorf("%s has an empty entry", name)
		}
		// A policy variable would be matched letter by letter, which is not what it says.
		if strings.Contains(p, "${") {
			return nil, fmt.Errorf("%s %q has a policy variable, which is not supported yet; write the value", name, p)
		}
	}
	return list, nil
}

// Decide says what the policy says of action (for example appstream:DescribeImages) on resource (an ARN or "*").
// The resource "*" stands for "no particular one" and is only matched by patterns that match everything.
func (p *Policy) Decide(action, resource string) Decision {
	if p == nil {
		return ImplicitDeny
	}
	action = strings.ToLower(action)
	d := ImplicitDeny
	for i := range p.statements {
		st := &p.statements[i]
		if d == Allow && !st.deny || !st.matches(action, resource) {
			continue
		}
		if st.deny {
			return ExplicitDeny
		}
		d = Allow
	}
	return d
}

func (st *statement) matches(action, resource string) bool {
	return (anyMatch(st.actions, action) || st.notActions != nil && !anyMatch(st.notActions, action)) &&
		(anyMatch(st.resources, resource) || st.notResources != nil && !anyMatch(st.notResources, resource))
}

func anyMatch(patterns []string, s string) bool {
	for _, p := range patterns {
		if match(p, s) {
			return true
		}
	}
	return false
}

// match reports whether s matches a pattern in which * stands for any text and ? for any one byte. It
// takes at most len(p)·len(s) steps.
func match(p, s string) bool {
	star, mark := -1, 0 // the last * and where its text ended
	i := 0
	for j := 0; j < len(s); {
		switch {
		case i < len(p) && p[i] == '*':
			star, mark = i, j
			i++
		case i < len(p) && (p[i] == '?' || p[i] == s[j]):
			i++
			j++
		case star >= 0: // let the last * take one byte more
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(p[i:], "*") == ""
}
