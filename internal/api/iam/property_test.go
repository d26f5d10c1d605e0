package iam

import (
	"encoding/json/v2"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// rule is a statement as a policy writes it.
type rule map[string]any

var (
	genActions   = rapid.SliceOfN(rapid.SampledFrom([]string{"*", "a:*", "a:Start*", "A:stopX", "a:St?rtX", "b:*"}), 1, 3)
	genResources = rapid.SliceOfN(rapid.SampledFrom([]string{"*", "arn:aws:appstream:*", mine, "arn:aws:appstream:*:*:image-builder/${aws:username}-*", "arn:*:yours"}), 1, 3)
	genCondition = rapid.Custom(func(t *rapid.T) map[string]map[string][]string {
		set := rapid.SampledFrom([]string{"", "", "ForAllValues:", "ForAnyValue:"}).Draw(t, "set")
		suffix := rapid.SampledFrom([]string{"", "", "IfExists"}).Draw(t, "suffix")
		kind := rapid.SampledFrom([]struct {
			operators, keys, values []string
		}{
			{[]string{"StringEquals", "StringNotEquals", "StringLike", "StringNotLike", "StringEqualsIgnoreCase"},
				[]string{"aws:username", "aws:RequestTag/team", "aws:ResourceTag/team", "aws:TagKeys", "aws:RequestedRegion", "aws:PrincipalTag/x"},
				[]string{"blue", "BLUE", "b*", "mine", "team", "${aws:username}", "us-west-2"}},
			{[]string{"DateLessThan", "DateGreaterThanEquals"}, []string{"aws:CurrentTime", "aws:EpochTime"}, []string{"2026-11-21T00:00:00Z", "1795264215"}},
			{[]string{"IpAddress", "NotIpAddress"}, []string{"aws:SourceIp"}, []string{"192.0.2.0/24", "2001:db8::/32", "198.51.100.1"}},
			{[]string{"Bool"}, []string{"aws:SecureTransport", "aws:ViaAWSService"}, []string{"true", "false"}},
			{[]string{"ArnLike", "ArnNotEquals"}, []string{"aws:PrincipalArn"}, []string{"arn:aws:iam::*:user/*", "arn:aws:iam::*:root"}},
		}).Draw(t, "kind")
		return map[string]map[string][]string{set + rapid.SampledFrom(kind.operators).Draw(t, "operator") + suffix: {
			rapid.SampledFrom(kind.keys).Draw(t, "key"): rapid.SliceOfN(rapid.SampledFrom(kind.values), 1, 3).Draw(t, "values"),
		}}
	})
	genRule = rapid.Custom(func(t *rapid.T) rule {
		r := rule{"Effect": rapid.SampledFrom([]string{"Allow", "Deny"}).Draw(t, "effect")}
		r[rapid.SampledFrom([]string{"Action", "Action", "NotAction"}).Draw(t, "a")] = genActions.Draw(t, "actions")
		r[rapid.SampledFrom([]string{"Resource", "Resource", "NotResource"}).Draw(t, "r")] = genResources.Draw(t, "resources")
		if rapid.Bool().Draw(t, "conditional") {
			r["Condition"] = genCondition.Draw(t, "condition")
		}
		return r
	})
	genTags    = rapid.MapOfN(rapid.SampledFrom([]string{"team", "Team", "stage"}), rapid.SampledFrom([]string{"blue", "red", ""}), 0, 3)
	genRequest = rapid.Custom(func(t *rapid.T) *Request {
		r := &Request{
			Action:    rapid.SampledFrom([]string{"a:StartX", "a:StopX", "b:StartX"}).Draw(t, "action"),
			Resource:  rapid.SampledFrom([]string{"*", mine, yours}).Draw(t, "resource"),
			Principal: rapid.SampledFrom([]string{"arn:aws:iam::123456789012:user/mine", "arn:aws:iam::123456789012:root", ""}).Draw(t, "principal"),
			Account:   "123456789012", Region: rapid.SampledFrom([]string{"us-west-2", "eu-west-1"}).Draw(t, "region"),
			Secure: rapid.Bool().Draw(t, "secure"), Time: time.Unix(rapid.Int64Range(1795000000, 1796000000).Draw(t, "time"), 0),
			RequestTags: genTags.Draw(t, "tags of the request"), ResourceTags: genTags.Draw(t, "tags of the resource"),
		}
		for k := range r.RequestTags {
			r.TagKeys = append(r.TagKeys, k)
		}
		if rapid.Bool().Draw(t, "from somewhere") {
			r.Source = rapid.SampledFrom([]netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}).Draw(t, "source")
		}
		return r
	})
)

func policyOf(t *rapid.T, rules []rule) *Policy {
	doc, err := json.Marshal(map[string]any{"Version": version2012, "Statement": append([]rule{}, rules...)})
	if err != nil {
		t.Fatal(err)
	}
	p, err := Parse(doc)
	if err != nil {
		t.Fatalf("%s: %v", doc, err)
	}
	return p
}

// A Deny never allows more, an Allow never denies more, and the order of statements does not matter.
func TestStatementsAdd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := rapid.SliceOfN(genRule, 0, 5).Draw(t, "rules")
		more := genRule.Draw(t, "more")
		r := genRequest.Draw(t, "request")
		before := policyOf(t, rules).Decide(r)
		after := policyOf(t, append(slices.Clone(rules), more)).Decide(r)
		switch {
		case more["Effect"] == "Deny" && after == Allow && before != Allow:
			t.Errorf("a Deny made %v into %v", before, after)
		case more["Effect"] == "Allow" && before == Allow && after != Allow:
			t.Errorf("an Allow made %v into %v", before, after)
		case before == ExplicitDeny && after != ExplicitDeny:
			t.Errorf("something made %v into %v", before, after)
		}
		shuffled := append(slices.Clone(rules), more)
		seed := rapid.Uint64().Draw(t, "seed")
		rand.New(rand.NewPCG(seed, 0)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if got := policyOf(t, shuffled).Decide(r); got != after {
			t.Errorf("in another order: %v, before %v", got, after)
		}
	})
}

// An action is one of a list or none of it, and so is a resource: of two statements that differ in the Not, one applies.
func TestNotIsTheComplement(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := genRequest.Draw(t, "request")
		r.Principal = "arn:aws:iam::123456789012:user/mine" // else a variable has no value, which is TestVariableWithoutValue's
		actions, resources := genActions.Draw(t, "actions"), genResources.Draw(t, "resources")
		decide := func(action, resource string) Decision {
			return policyOf(t, []rule{{"Effect": "Allow", action: actions, resource: resources}}).Decide(r)
		}
		allowed := 0
		for _, action := range []string{"Action", "NotAction"} {
			for _, resource := range []string{"Resource", "NotResource"} {
				if decide(action, resource) == Allow {
					allowed++
				}
			}
		}
		if allowed != 1 {
			t.Errorf("%d of the four statements apply", allowed)
		}
	})
}

// An operator and its negation are never both true of a key with one value, nor both false.
func TestNegation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pair := rapid.SampledFrom([][2]string{{"StringEquals", "StringNotEquals"}, {"StringLike", "StringNotLike"}, {"StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase"}}).Draw(t, "operators")
		key := rapid.SampledFrom([]string{"aws:username", "aws:RequestTag/team", "aws:ResourceTag/team", "aws:RequestedRegion"}).Draw(t, "key")
		values := rapid.SliceOfN(rapid.SampledFrom([]string{"blue", "b*", "mine", "${aws:username}", "us-west-2"}), 1, 3).Draw(t, "values")
		r := genRequest.Draw(t, "request")
		holds := func(operator string) bool {
			return policyOf(t, []rule{{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": map[string]any{operator: map[string]any{key: values}}}}).Decide(r) == Allow
		}
		if holds(pair[0]) == holds(pair[1]) {
			t.Errorf("%s and %s are both %v", pair[0], pair[1], holds(pair[0]))
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`,
		`{"Version":"2012-10-17","Statement":[{"Sid":"a","Effect":"Deny","NotAction":["a:b"],"NotResource":["arn:c"]}]}`,
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:appstream:*:*:image/${aws:username, 'x'}${*}","Condition":{"ForAnyValue:StringLikeIfExists":{"aws:TagKeys":["a*"]}}}}`,
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"DateLessThan":{"aws:CurrentTime":1e9},"Null":{"aws:RequestTag/x":true},"IpAddress":{"aws:SourceIp":"::/0"}}}}`,
		`{}`, `[`,
	} {
		f.Add(s, "a:b", mine, "ci")
	}
	f.Fuzz(func(t *testing.T, doc, action, resource, user string) {
		p, err := Parse([]byte(doc))
		if err != nil {
			return
		}
		r := request()
		r.Action, r.Resource, r.Principal = action, resource, "arn:aws:iam::123456789012:user/"+user
		if d, again := p.Decide(r), p.Decide(r); d != again {
			t.Errorf("%q: %v, and then %v", doc, d, again)
		}
		// Whatever was read, a Deny of everything wins over it.
		deny := parse(t, `{"Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}`)
		p.statements = append(p.statements, deny.statements...)
		if d := p.Decide(r); d != ExplicitDeny {
			t.Errorf("%q with a Deny of everything: %v of %q on %q", doc, d, action, resource)
		}
	})
}
