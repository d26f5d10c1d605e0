package iam

import (
	"cmp"
	"encoding/base64"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// condition is one key of one operator of a Condition element. A statement applies when all of its conditions hold.
type condition struct {
	operator
	key      key
	set      quantifier
	ifExists bool                    // it holds when the request does not have the key
	null     bool                    // the operator Null: it looks at nothing but whether the key is there
	values   []pattern               // of the policy, for an operator that compares text
	test     func(value string) bool // whether a value matches one of the policy's, for the others
}

// quantifier says how the values of a key that has several are looked at.
type quantifier int

const (
	single quantifier = iota
	forAll            // each must match; also when there are none
	forAny            // one must match
)

// holds says whether the condition is true of a request.
func (c *condition) holds(r *Request) bool {
	var one [1]string
	values := c.key.values(r, one[:0])
	if c.null {
		return c.test(strconv.FormatBool(len(values) == 0))
	}
	if len(values) == 0 {
		switch {
		case c.ifExists || c.set == forAll:
			return true
		case c.set == forAny:
			return false
		}
		return c.negated
	}
	switch c.set {
	case forAll:
		return !slices.ContainsFunc(values, func(v string) bool { return c.matches(r, v) == c.negated })
	case forAny:
		return slices.ContainsFunc(values, func(v string) bool { return c.matches(r, v) != c.negated })
	}
	return slices.ContainsFunc(values, func(v string) bool { return c.matches(r, v) }) != c.negated
}

// matches tells whether a value of the request matches one of the policy's.
func (c *condition) matches(r *Request, value string) bool {
	if c.test != nil {
		return c.test(value)
	}
	for i := range c.values {
		// A variable without a value matches nothing.
		if text, ok := c.values[i].resolve(r); ok && c.equal(text, value) {
			return true
		}
	}
	return false
}

// uses tells whether the condition looks at a key that is asked for.
func (c *condition) uses(asks func(key) bool) bool {
	return asks(c.key) || slices.ContainsFunc(c.values, func(p pattern) bool { return p.uses(asks) })
}

// operator is a kind of comparison. It has either equal or compile.
type operator struct {
	negated bool
	equal   func(policy, request string) bool // compares text; the policy's may have variables
	wild    bool                              // the policy's text may have wildcards
	arn     bool                              // the policy's text must be an ARN
	compile func(values []string) (test func(value string) bool, err error)
}

func same(policy, request string) bool { return policy == request }

// operators has all of IAM's, without the prefixes and the suffix that any may have.
var operators = map[string]operator{
	"StringEquals":              {equal: same},
	"StringNotEquals":           {equal: same, negated: true},
	"StringEqualsIgnoreCase":    {equal: strings.EqualFold},
	"StringNotEqualsIgnoreCase": {equal: strings.EqualFold, negated: true},
	"StringLike":                {equal: match, wild: true},
	"StringNotLike":             {equal: match, wild: true, negated: true},
	"ArnEquals":                 {equal: matchARN, arn: true, wild: true}, // the same as ArnLike
	"ArnLike":                   {equal: matchARN, arn: true, wild: true},
	"ArnNotEquals":              {equal: matchARN, arn: true, wild: true, negated: true},
	"ArnNotLike":                {equal: matchARN, arn: true, wild: true, negated: true},
	"NumericEquals":             {compile: numbers(func(c int) bool { return c == 0 })},
	"NumericNotEquals":          {compile: numbers(func(c int) bool { return c == 0 }), negated: true},
	"NumericLessThan":           {compile: numbers(func(c int) bool { return c < 0 })},
	"NumericLessThanEquals":     {compile: numbers(func(c int) bool { return c <= 0 })},
	"NumericGreaterThan":        {compile: numbers(func(c int) bool { return c > 0 })},
	"NumericGreaterThanEquals":  {compile: numbers(func(c int) bool { return c >= 0 })},
	"DateEquals":                {compile: dates(func(c int) bool { return c == 0 })},
	"DateNotEquals":             {compile: dates(func(c int) bool { return c == 0 }), negated: true},
	"DateLessThan":              {compile: dates(func(c int) bool { return c < 0 })},
	"DateLessThanEquals":        {compile: dates(func(c int) bool { return c <= 0 })},
	"DateGreaterThan":           {compile: dates(func(c int) bool { return c > 0 })},
	"DateGreaterThanEquals":     {compile: dates(func(c int) bool { return c >= 0 })},
	"IpAddress":                 {compile: networks},
	"NotIpAddress":              {compile: networks, negated: true},
	"BinaryEquals":              {compile: binary},
	"Bool":                      {compile: booleans},
	"Null":                      {compile: booleans},
}

func numbers(is func(c int) bool) func([]string) (func(string) bool, error) {
	return ordered(number, cmp.Compare[float64], is)
}

func dates(is func(c int) bool) func([]string) (func(string) bool, error) {
	return ordered(date, time.Time.Compare, is)
}

// ordered compares values that have an order: the request's with the policy's. A value of the request that cannot be read matches none.
func ordered[T any](parse func(string) (T, error), compare func(a, b T) int, is func(c int) bool) func([]string) (func(string) bool, error) {
	return func(values []string) (func(string) bool, error) {
		list := make([]T, len(values))
		for i, s := range values {
			var err error
			if list[i], err = parse(s); err != nil {
				return nil, err
			}
		}
		return func(value string) bool {
			v, err := parse(value)
			return err == nil && slices.ContainsFunc(list, func(policy T) bool { return is(compare(v, policy)) })
		}, nil
	}
}

func number(s string) (float64, error) {
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(n) || math.IsInf(n, 0) || strings.ContainsAny(s, "xXpP_") {
		return 0, fmt.Errorf("%q is not a number", s)
	}
	return n, nil
}

// dateForms are those that the W3C took from ISO 8601.
var dateForms = []string{"2006-01-02T15:04:05.999999999Z07:00", "2006-01-02T15:04Z07:00", "2006-01-02", "2006-01", "2006"}

// date reads a date, or the seconds since 1970.
func date(s string) (time.Time, error) {
	for _, form := range dateForms {
		if t, err := time.Parse(form, s); err == nil {
			return t, nil
		}
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.Unix(n, 0), nil
	}
	return time.Time{}, fmt.Errorf("%q is not a date; write it like 2026-11-21T09:00:00Z, or as seconds since 1970", s)
}

func networks(values []string) (func(string) bool, error) {
	list := make([]netip.Prefix, len(values))
	for i, s := range values {
		p, err := netip.ParsePrefix(s)
		if a, bare := netip.ParseAddr(s); bare == nil && a.Zone() == "" {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil || p.Addr().Is4In6() {
			return nil, fmt.Errorf("%q is not an IP address or network; write it like 192.0.2.0/24 or 2001:db8::/32", s)
		}
		list[i] = p.Masked()
	}
	return func(value string) bool {
		a, err := netip.ParseAddr(value)
		a = a.Unmap().WithZone("")
		return err == nil && slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
	}, nil
}

func binary(values []string) (func(string) bool, error) {
	list := make([]string, len(values))
	for i, s := range values {
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return nil, fmt.Errorf("%q is not base64", s)
		}
		list[i] = string(b)
	}
	return func(value string) bool { return slices.Contains(list, value) }, nil
}

func booleans(values []string) (func(string) bool, error) {
	for _, s := range values {
		if !strings.EqualFold(s, "true") && !strings.EqualFold(s, "false") {
			return nil, fmt.Errorf("%q is neither true nor false", s)
		}
	}
	return func(value string) bool {
		return slices.ContainsFunc(values, func(s string) bool { return strings.EqualFold(s, value) })
	}, nil
}

// conditions reads a Condition element: operators, each with keys, each with values.
func (c *compiler) conditions(value jsontext.Value) ([]condition, error) {
	var element map[string]map[string]jsontext.Value
	if err := json.Unmarshal(value, &element); err != nil || element == nil {
		return nil, errors.New(`Condition must be an object of operators, each with an object of keys: {"StringEquals": {"aws:RequestedRegion": "us-east-1"}}`)
	}
	var list []condition
	for _, name := range slices.Sorted(maps.Keys(element)) {
		if element[name] == nil {
			return nil, fmt.Errorf("Condition: %s must be an object of keys", name)
		}
		for _, keyName := range slices.Sorted(maps.Keys(element[name])) {
			condition, err := c.condition(name, keyName, element[name][keyName])
			if err != nil {
				return nil, fmt.Errorf("Condition: %s: %s: %w", name, keyName, err)
			}
			list = append(list, condition)
		}
		if len(element[name]) == 0 {
			if _, err := newCondition(name); err != nil {
				return nil, fmt.Errorf("Condition: %w", err)
			}
			c.warn("Condition: %s has no keys and no effect", name)
		}
	}
	return list, nil
}

// newCondition makes the condition of an operator's name, which may begin with a set operator and end in IfExists.
func newCondition(name string) (c condition, err error) {
	rest := name
	if s, ok := strings.CutPrefix(rest, "ForAllValues:"); ok {
		rest, c.set = s, forAll
	} else if s, ok := strings.CutPrefix(rest, "ForAnyValue:"); ok {
		rest, c.set = s, forAny
	}
	rest, c.ifExists = strings.CutSuffix(rest, "IfExists")
	known := false
	if c.operator, known = operators[rest]; !known {
		for other := range operators {
			if strings.EqualFold(other, rest) {
				return c, fmt.Errorf("%s is no operator; did you mean %s?", name, other)
			}
		}
		return c, fmt.Errorf("%s is no operator; there are the String, Numeric, Date and Arn operators, Bool, BinaryEquals, IpAddress, NotIpAddress and Null", name)
	}
	if c.null = rest == "Null"; c.null && rest != name {
		return c, errors.New("Null asks whether the key is there; it takes no IfExists, ForAllValues or ForAnyValue")
	}
	return c, nil
}

// condition reads one key of an operator and its values.
func (c *compiler) condition(name, keyName string, value jsontext.Value) (condition, error) {
	result, err := newCondition(name)
	if err != nil {
		return result, err
	}
	if keyName == "" {
		return result, errors.New("a key must not be empty")
	}
	result.key = keyOf(keyName)
	if !result.key.present() && !result.key.expected() {
		c.warn("Condition: no request has the key %s: %s", keyName, result.key.absence())
	}
	if result.key.id == tagKeys && result.set == single && !result.null {
		c.warn("Condition: %s: the key %s has several values; say ForAllValues:%s or ForAnyValue:%s", name, keyName, name, name)
	}
	values, err := literals(value)
	if err != nil {
		return result, err
	}
	if result.compile != nil {
		if c.variables && slices.ContainsFunc(values, func(s string) bool { return strings.Contains(s, "${") }) {
			return result, errors.New("policy variables are for the String and Arn operators")
		}
		result.test, err = result.compile(values)
		return result, err
	}
	for _, s := range values {
		p, err := c.pattern(s, result.wild)
		if err != nil {
			return result, err
		}
		if result.arn && p.parts == nil && (!strings.HasPrefix(s, "arn:") || strings.Count(s, ":") < 5) {
			return result, fmt.Errorf("%q is not an ARN of six parts; write it like arn:aws:iam::*:user/ci-*", s)
		}
		result.values = append(result.values, p)
	}
	return result, nil
}

// literals reads a value or a list of values: strings, numbers and booleans.
func literals(value jsontext.Value) ([]string, error) {
	wrong := errors.New("the value must be a string, number or boolean, or a list of them that is not empty")
	list := []jsontext.Value{value}
	if value.Kind() == jsontext.KindBeginArray {
		if err := json.Unmarshal(value, &list); err != nil || len(list) == 0 {
			return nil, wrong
		}
	}
	if len(list) > maxPatterns {
		return nil, fmt.Errorf("it has %d values, at most %d are allowed", len(list), maxPatterns)
	}
	texts := make([]string, len(list))
	for i, v := range list {
		switch v.Kind() {
		case jsontext.KindString:
			if err := json.Unmarshal(v, &texts[i]); err != nil {
				return nil, err
			}
		case jsontext.KindNumber, jsontext.KindTrue, jsontext.KindFalse:
			texts[i] = string(v)
		default:
			return nil, wrong
		}
	}
	return texts, nil
}
