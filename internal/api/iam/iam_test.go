package iam

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const (
	mine  = "arn:aws:appstream:us-west-2:123456789012:image-builder/mine-1"
	yours = "arn:aws:appstream:us-west-2:123456789012:image-builder/yours"
)

func TestDecide(t *testing.T) {
	for _, tt := range []struct {
		name, policy, action, resource string
		want                           Decision
	}{
		{"everything", `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`, "oriel:CreateImage", "*", Allow},
		{"nothing", `{"Version":"2012-10-17","Statement":[]}`, "appstream:DescribeImages", "*", ImplicitDeny},
		{"case of actions", `{"Statement":[{"Effect":"Allow","Action":["APPSTREAM:describe*"],"Resource":"*"}]}`, "appstream:DescribeImages", "*", Allow},
		{"another service", `{"Statement":{"Effect":"Allow","Action":"appstream:*","Resource":"*"}}`, "oriel:CreateImage", "*", ImplicitDeny},
		{"one character", `{"Statement":{"Effect":"Allow","Action":"appstream:St?pImageBuilder","Resource":"*"}}`, "appstream:StopImageBuilder", mine, Allow},
		{"resource", `{"Statement":{"Effect":"Allow","Action":"*","Resource":["x","arn:aws:appstream:*:*:image-builder/mine-*"]}}`, "a:B", mine, Allow},
		{"another resource", `{"Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:appstream:*:*:image-builder/mine-*"}}`, "a:B", yours, ImplicitDeny},
		{"case of resources", `{"Statement":{"Effect":"Allow","Action":"*","Resource":"ARN:*"}}`, "a:B", mine, ImplicitDeny},
		{"no particular resource", `{"Statement":{"Effect":"Allow","Action":"*","Resource":"arn:*"}}`, "a:B", "*", ImplicitDeny},
		{"deny wins when last", `{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"a:*","Resource":"*"}]}`, "a:B", mine, ExplicitDeny},
		{"deny wins when first", `{"Statement":[{"Effect":"Deny","Action":"a:*","Resource":"*"},{"Effect":"Allow","Action":"*","Resource":"*"}]}`, "a:B", mine, ExplicitDeny},
		{"deny of another", `{"Statement":[{"Effect":"Deny","Action":"a:C","Resource":"*"},{"Effect":"Allow","Action":"*","Resource":"*"}]}`, "a:B", mine, Allow},
		{"not action", `{"Statement":{"Effect":"Allow","NotAction":"a:Delete*","Resource":"*"}}`, "a:Create", mine, Allow},
		{"not action, named", `{"Statement":{"Effect":"Allow","NotAction":"a:Delete*","Resource":"*"}}`, "a:DeleteX", mine, ImplicitDeny},
		{"not resource", `{"Statement":{"Effect":"Deny","Action":"*","NotResource":"*mine*"}}`, "a:B", yours, ExplicitDeny},
		{"not resource, named", `{"Statement":{"Effect":"Deny","Action":"*","NotResource":"*mine*"}}`, "a:B", mine, ImplicitDeny},
		{"with names", `{"Version":"2008-10-17","Id":"x","Statement":[{"Sid":"y","Effect":"Allow","Action":"a:B","Resource":"*"}]}`, "a:b", mine, Allow},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := Parse([]byte(tt.policy))
			if err != nil {
				t.Fatal(err)
			}
			if got := p.Decide(tt.action, tt.resource); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
	if d := (*Policy)(nil).Decide("a:B", mine); d != ImplicitDeny {
		t.Errorf("no policy: %v", d)
	}
}

func TestParseRefuses(t *testing.T) {
	statement := func(members string) string { return `{"Statement":[{` + members + `}]}` }
	for _, tt := range []struct{ name, policy, want string }{
		{"no JSON", `{`, "iam policy"},
		{"null", `null`, "must be an object"},
		{"no statement", `{"Version":"2012-10-17"}`, "Statement is missing"},
		{"version", `{"Version":"2030-01-01","Statement":[]}`, "2012-10-17"},
		{"unknown member", `{"Statement":[],"Statements":[]}`, "Statements is not supported yet"},
		{"statement of text", `{"Statement":"x"}`, "Statement"},
		{"null statement", `{"Statement":[null]}`, "statement 1: Effect is missing"},
		{"condition", statement(`"Effect":"Allow","Action":"*","Resource":"*","Condition":{}`), "Condition is not supported yet"},
		{"principal", statement(`"Effect":"Allow","Action":"*","Resource":"*","Principal":"*"`), "Principal is not supported yet"},
		{"no effect", statement(`"Action":"*","Resource":"*"`), "Effect is missing"},
		{"effect", statement(`"Effect":"allow","Action":"*","Resource":"*"`), `must be "Allow" or "Deny"`},
		{"no action", statement(`"Effect":"Allow","Resource":"*"`), "one of Action and NotAction"},
		{"both actions", statement(`"Effect":"Allow","Action":"*","NotAction":"*","Resource":"*"`), "one of Action and NotAction"},
		{"no resource", statement(`"Effect":"Allow","Action":"*"`), "one of Resource and NotResource"},
		{"empty list", statement(`"Effect":"Allow","Action":[],"Resource":"*"`), "not empty"},
		{"null action", statement(`"Effect":"Allow","Action":null,"Resource":"*"`), "Action must be"},
		{"empty entry", statement(`"Effect":"Allow","Action":[""],"Resource":"*"`), "empty entry"},
		{"number", statement(`"Effect":"Allow","Action":[1],"Resource":"*"`), "Action must be"},
		{"action without service", statement(`"Effect":"Deny","Action":"CreateImage","Resource":"*"`), "service prefix"},
		{"variable", statement(`"Effect":"Allow","Action":"*","Resource":"arn:*:${aws:username}"`), "policy variable"},
		{"twice", statement(`"Effect":"Allow","Effect":"Deny","Action":"*","Resource":"*"`), "duplicate"},
		{"large", strings.Repeat(" ", maxPolicyBytes+1), "at most"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Parse([]byte(tt.policy)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("err = %v, want %q in it", err, tt.want)
			}
		})
	}
}

// TestMatch compares the wildcard matcher with regular expressions.
func TestMatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.StringMatching(`[ab*?]{0,12}`).Draw(t, "pattern")
		s := rapid.StringMatching(`[ab]{0,12}`).Draw(t, "text")
		re := regexp.MustCompile("^" + strings.NewReplacer("*", ".*", "?", ".").Replace(p) + "$")
		if got, want := match(p, s), re.MatchString(s); got != want {
			t.Errorf("match(%q, %q) = %v", p, s, got)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`, `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","NotAction":["a:b"],"NotResource":["c"]}]}`, `{}`, `[`} {
		f.Add(s, "a:b", mine)
	}
	f.Fuzz(func(t *testing.T, doc, action, resource string) {
		p, err := Parse([]byte(doc))
		if err != nil {
			return
		}
		// Whatever was read, a Deny of everything wins over it.
		p.statements = append(p.statements, statement{deny: true, actions: []string{"*"}, resources: []string{"*"}})
		if d := p.Decide(action, resource); d != ExplicitDeny {
			t.Errorf("%q with a Deny of everything: %v of %q on %q", doc, d, action, resource)
		}
	})
}
