package iam

import (
	"strings"
	"testing"
)

const (
	mine  = "arn:aws:appstream:us-west-2:123456789012:image-builder/mine-1"
	yours = "arn:aws:appstream:us-west-2:123456789012:image-builder/yours"
)

// parse reads a policy that a test is sure of.
func parse(t testing.TB, policy string) *Policy {
	t.Helper()
	p, err := Parse([]byte(policy))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

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
		{"resource", `{"Statement":{"Effect":"Allow","Action":"*","Resource":["arn:x","arn:aws:appstream:*:*:image-builder/mine-*"]}}`, "a:B", mine, Allow},
		{"another resource", `{"Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:appstream:*:*:image-builder/mine-*"}}`, "a:B", yours, ImplicitDeny},
		{"a wildcard that passes colons", `{"Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:appstream:*:image-builder/mine-?"}}`, "a:B", mine, Allow},
		{"case of resources", `{"Statement":{"Effect":"Allow","Action":"*","Resource":"arn:AWS:*"}}`, "a:B", mine, ImplicitDeny},
		{"no particular resource", `{"Statement":{"Effect":"Allow","Action":"*","Resource":"arn:*"}}`, "a:B", "*", ImplicitDeny},
		{"deny wins when last", `{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"a:*","Resource":"*"}]}`, "a:B", mine, ExplicitDeny},
		{"deny wins when first", `{"Statement":[{"Effect":"Deny","Action":"a:*","Resource":"*"},{"Effect":"Allow","Action":"*","Resource":"*"}]}`, "a:B", mine, ExplicitDeny},
		{"deny of another", `{"Statement":[{"Effect":"Deny","Action":"a:C","Resource":"*"},{"Effect":"Allow","Action":"*","Resource":"*"}]}`, "a:B", mine, Allow},
		{"not action", `{"Statement":{"Effect":"Allow","NotAction":"a:Delete*","Resource":"*"}}`, "a:Create", mine, Allow},
		{"not action, named", `{"Statement":{"Effect":"Allow","NotAction":"a:Delete*","Resource":"*"}}`, "a:DeleteX", mine, ImplicitDeny},
		{"not action, of another service", `{"Statement":{"Effect":"Allow","NotAction":"appstream:*","Resource":"*"}}`, "oriel:CreateImage", mine, Allow},
		{"not resource", `{"Statement":{"Effect":"Deny","Action":"*","NotResource":"arn:*mine*"}}`, "a:B", yours, ExplicitDeny},
		{"not resource, named", `{"Statement":{"Effect":"Deny","Action":"*","NotResource":"arn:*mine*"}}`, "a:B", mine, ImplicitDeny},
		{"with names", `{"Version":"2008-10-17","Id":"x","Statement":[{"Sid":"y","Effect":"Allow","Action":"a:B","Resource":"*"}]}`, "a:b", mine, Allow},
		{"without a Sid twice", `{"Statement":[{"Sid":"","Effect":"Allow","Action":"a:B","Resource":"*"},{"Sid":"","Effect":"Allow","Action":"a:C","Resource":"*"}]}`, "a:c", mine, Allow},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := parse(t, tt.policy)
			if got := p.Decide(&Request{Action: tt.action, Resource: tt.resource}); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			if list := p.Warnings(nil); len(list) > 0 {
				t.Errorf("warnings: %q", list)
			}
		})
	}
	if d := (*Policy)(nil).Decide(&Request{Action: "a:B", Resource: mine}); d != ImplicitDeny {
		t.Errorf("no policy: %v", d)
	}
}

func TestParseRefuses(t *testing.T) {
	statement := func(members string) string { return `{"Version":"2012-10-17","Statement":[{` + members + `}]}` }
	allowed := func(members string) string {
		return statement(`"Effect":"Allow","Action":"*","Resource":"*",` + members)
	}
	condition := func(c string) string { return allowed(`"Condition":` + c) }
	for _, tt := range []struct{ name, policy, want string }{
		{"no JSON", `{`, "iam policy"},
		{"null", `null`, "must be an object"},
		{"no statement", `{"Version":"2012-10-17"}`, "Statement is missing"},
		{"version", `{"Version":"2030-01-01","Statement":[]}`, "2012-10-17"},
		{"id", `{"Id":1,"Statement":[]}`, "Id must be a string"},
		{"unknown member", `{"Statement":[],"Statements":[]}`, "Statements is no element of a policy"},
		{"statement of text", `{"Statement":"x"}`, "Statement"},
		{"null statement", `{"Statement":[null]}`, "statement 1: Effect is missing"},
		{"principal", allowed(`"Principal":"*"`), "statement 1: Principal must not be there"},
		{"unknown element", allowed(`"Conditions":{}`), "Conditions is no element of a statement"},
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
		{"wildcard in the service", statement(`"Effect":"Deny","Action":"app*:CreateImage","Resource":"*"`), "service prefix"},
		{"resource without arn", statement(`"Effect":"Deny","Action":"*","Resource":"image/x"`), `must be "*" or an ARN`},
		{"variable too early", statement(`"Effect":"Allow","Action":"*","Resource":"arn:aws:appstream:*:${aws:PrincipalAccount}:image/x"`), "behind the fifth colon"},
		{"variable without end", statement(`"Effect":"Allow","Action":"*","Resource":"arn:aws:appstream:*:*:image/${aws:username"`), "has no end"},
		{"variable without value", statement(`"Effect":"Allow","Action":"*","Resource":"arn:aws:appstream:*:*:image/${aws:PrincipalTag/team}"`), "principals have no tags here"},
		{"unknown variable", statement(`"Effect":"Allow","Action":"*","Resource":"arn:aws:appstream:*:*:image/${saml:sub}"`), "the server does not know it"},
		{"variable of several values", condition(`{"StringEquals":{"aws:username":"${aws:TagKeys}"}}`), "several values"},
		{"default without quotes", condition(`{"StringEquals":{"aws:username":"${aws:username, x}"}}`), "single quotes"},
		{"twice", statement(`"Effect":"Allow","Effect":"Deny","Action":"*","Resource":"*"`), "duplicate"},
		{"Sid", statement(`"Sid":"a b","Effect":"Allow","Action":"*","Resource":"*"`), "letters and digits"},
		{"Sid twice", `{"Statement":[{"Sid":"a","Effect":"Allow","Action":"*","Resource":"*"},{"Sid":"a","Effect":"Deny","Action":"*","Resource":"*"}]}`, "statement 2 (a): Sid"},
		{"condition of text", condition(`"x"`), "Condition must be an object"},
		{"null condition", condition(`null`), "Condition must be an object"},
		{"condition without keys", condition(`{"StringEquals":null}`), "must be an object of keys"},
		{"operator", condition(`{"StringMatches":{"aws:username":"x"}}`), "statement 1: Condition: StringMatches: aws:username: StringMatches is no operator"},
		{"operator without keys", condition(`{"StringMatches":{}}`), "StringMatches is no operator"},
		{"case of the operator", condition(`{"ForAnyValue:stringequalsIfExists":{"aws:TagKeys":"x"}}`), "did you mean StringEquals?"},
		{"case of the set", condition(`{"foranyvalue:StringEquals":{"aws:TagKeys":"x"}}`), "no operator"},
		{"null that may be null", condition(`{"NullIfExists":{"aws:TagKeys":"true"}}`), "takes no IfExists"},
		{"null of all values", condition(`{"ForAllValues:Null":{"aws:TagKeys":"true"}}`), "takes no IfExists"},
		{"empty key", condition(`{"StringEquals":{"":"true"}}`), "must not be empty"},
		{"no value", condition(`{"StringEquals":{"aws:username":[]}}`), "not empty"},
		{"null value", condition(`{"StringEquals":{"aws:username":[null]}}`), "string, number or boolean"},
		{"number without digits", condition(`{"NumericEquals":{"aws:EpochTime":"ten"}}`), `"ten" is not a number`},
		{"infinite number", condition(`{"NumericEquals":{"aws:EpochTime":"1e999"}}`), "is not a number"},
		{"date", condition(`{"DateLessThan":{"aws:CurrentTime":"21.11.2026"}}`), "is not a date"},
		{"boolean", condition(`{"Bool":{"aws:SecureTransport":"yes"}}`), "neither true nor false"},
		{"null of what", condition(`{"Null":{"aws:SecureTransport":1}}`), "neither true nor false"},
		{"network", condition(`{"IpAddress":{"aws:SourceIp":"192.0.2.0/33"}}`), "is not an IP address or network"},
		{"mapped network", condition(`{"IpAddress":{"aws:SourceIp":"::ffff:192.0.2.0/120"}}`), "is not an IP address or network"},
		{"arn", condition(`{"ArnLike":{"aws:PrincipalArn":"user/ci"}}`), "is not an ARN of six parts"},
		{"binary", condition(`{"BinaryEquals":{"aws:username":"*"}}`), "is not base64"},
		{"variable in a date", condition(`{"DateLessThan":{"aws:CurrentTime":"${aws:EpochTime}"}}`), "String and Arn operators"},
		{"large", strings.Repeat(" ", maxPolicyBytes+1), "at most"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Parse([]byte(tt.policy)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("err = %v, want %q in it", err, tt.want)
			}
		})
	}
}

// What IAM takes and what is probably a slip of the pen is said, and not refused.
func TestWarnings(t *testing.T) {
	for _, tt := range []struct{ name, version, resource, condition, want string }{
		{"unknown key", version2012, "*", `{"StringEquals":{"aws:RequestedRegoin":"x"}}`, "aws:RequestedRegoin: the server does not know it"},
		{"absent key", version2012, "*", `{"Bool":{"aws:MultiFactorAuthPresent":"true"}}`, "without a second factor"},
		{"absent tag", version2012, "*", `{"StringEquals":{"aws:PrincipalTag/team":"x"}}`, "principals have no tags"},
		{"tag without a key", version2012, "*", `{"StringEquals":{"aws:ResourceTag/":"x"}}`, "does not know it"},
		{"set of several values", version2012, "*", `{"StringLike":{"aws:TagKeys":"x"}}`, "ForAnyValue:StringLike"},
		{"no effect", version2012, "*", `{"StringLike":{}}`, "no effect"},
		{"variable in an old version", version2008, "arn:aws:appstream:*:*:image/${aws:username}", `{}`, "which means itself"},
		{"of AppStream", version2012, "*", `{"StringEquals":{"appstream:userId":"x"}}`, ""},
		{"all well", version2012, "*", `{"ForAllValues:StringEquals":{"aws:TagKeys":["a","b"]},"Null":{"aws:TagKeys":false}}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := parse(t, `{"Version":"`+tt.version+`","Statement":{"Sid":"one","Effect":"Allow","Action":"*","Resource":"`+tt.resource+`","Condition":`+tt.condition+`}}`)
			got := strings.Join(p.Warnings(nil), "\n")
			if tt.want == "" && got != "" || !strings.Contains(got, tt.want) || got != "" && !strings.HasPrefix(got, "statement 1 (one): ") {
				t.Errorf("warnings %q, want %q in them", got, tt.want)
			}
		})
	}
}

// An action that no operation asks for has no effect, and in a Deny that is a hole: it is said.
func TestUnknownActions(t *testing.T) {
	actions := []string{"appstream:DescribeFleets", "appstream:StopFleet", "oriel:CreateImage"}
	for _, tt := range []struct{ name, elements, want string }{
		{"known", `"Action":["appstream:DescribeFleets","APPSTREAM:stopfleet","oriel:CreateImage"]`, ""},
		{"wildcards that match one", `"Action":["*","appstream:*","oriel:*","appstream:Describe*","appstream:St?pFleet"]`, ""},
		{"other services", `"Action":["iam:PassRole","s3:Get*"]`, ""},
		{"one too few", `"Action":["appstream:StopFleet","appstream:DescribeFleet"]`,
			"Action: no operation asks for appstream:DescribeFleet, so it has no effect; did you mean appstream:DescribeFleets?"},
		{"one too many", `"Action":"appstream:stopFleets"`, "Action: no operation asks for appstream:stopFleets, so it has no effect; did you mean appstream:StopFleet?"},
		{"of the other service", `"Action":"appstream:CreateImage"`, "Action: no operation asks for appstream:CreateImage, so it has no effect; did you mean oriel:CreateImage?"},
		{"invented", `"NotAction":"oriel:Foo"`, "NotAction: no operation asks for oriel:Foo, so it has no effect"},
		{"wildcards that match none", `"Action":["appstream:Descibe*","oriel:?"]`, "Action: no operation asks for appstream:Descibe*, so it has no effect\n" +
			"Action: no operation asks for oriel:?, so it has no effect"},
		{"twice", `"Action":["oriel:Foo","oriel:Foo"]`, "Action: no operation asks for oriel:Foo, so it has no effect"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := parse(t, `{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},{"Sid":"Not","Effect":"Deny","Resource":"*",`+tt.elements+`}]}`)
			got := strings.ReplaceAll(strings.Join(p.Warnings(actions), "\n"), "statement 2 (Not): ", "")
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if list := p.Warnings(nil); len(list) > 0 {
				t.Errorf("nobody has said which actions there are: %q", list)
			}
		})
	}
	p := parse(t, `{"Statement":[{"Sid":"a","Effect":"Deny","Action":"oriel:Foo","Resource":"*","Condition":{"StringLike":{}}},{"Sid":"b","Effect":"Deny","Action":"*","Resource":"*","Condition":{"StringLike":{}}}]}`)
	got := p.Warnings(actions)
	if len(got) != 3 || !strings.HasPrefix(got[0], "statement 1 (a): Condition") || !strings.HasPrefix(got[1], "statement 1 (a): Action") || !strings.HasPrefix(got[2], "statement 2 (b): ") {
		t.Errorf("not in the order of the statements: %q", got)
	}
	if list := (*Policy)(nil).Warnings(actions); list != nil {
		t.Errorf("no policy: %q", list)
	}
}

func TestReadsResourceTags(t *testing.T) {
	for _, tt := range []struct {
		name, policy string
		want         bool
	}{
		{"condition", `{"Statement":{"Effect":"Deny","Action":"a:Stop*","Resource":"*","Condition":{"StringEquals":{"AWS:resourcetag/Team":"x"}}}}`, true},
		{"of another action", `{"Statement":{"Effect":"Deny","Action":"a:Start*","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/Team":"x"}}}}`, false},
		{"not action", `{"Statement":{"Effect":"Deny","NotAction":"a:Start*","Resource":"*","Condition":{"Null":{"aws:ResourceTag/Team":"true"}}}}`, true},
		{"variable in a condition", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:username":"${aws:ResourceTag/owner}"}}}}`, true},
		{"variable in a resource", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:appstream:*:*:image/${aws:ResourceTag/owner}"}}`, true},
		{"the same text in an old policy", `{"Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:appstream:*:*:image/${aws:ResourceTag/owner}"}}`, false},
		{"tags of the request", `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:RequestTag/Team":"x"}}}}`, false},
	} {
		if got := parse(t, tt.policy).ReadsResourceTags("A:StopImageBuilder"); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
	if (*Policy)(nil).ReadsResourceTags("a:B") {
		t.Error("no policy reads tags")
	}
}

// BenchmarkDecide measures a decision by a usual policy, and by one that looks at tags, address and region.
func BenchmarkDecide(b *testing.B) {
	r := &Request{Action: "appstream:StartImageBuilder", Resource: mine, Region: "us-west-2", ResourceTags: map[string]string{"team": "blue"}}
	for name, policy := range map[string]string{
		"plain": `{"Version":"2012-10-17","Statement":[
			{"Effect":"Allow","Action":"appstream:Describe*","Resource":"*"},
			{"Effect":"Allow","Action":"appstream:*","Resource":"arn:aws:appstream:*:*:image-builder/mine-*"},
			{"Effect":"Deny","Action":"appstream:DescribeFleets","Resource":"*"}]}`,
		"conditions": `{"Version":"2012-10-17","Statement":[
			{"Effect":"Allow","Action":"appstream:Describe*","Resource":"*"},
			{"Effect":"Allow","Action":"appstream:*","Resource":"arn:aws:appstream:*:*:image-builder/mine-*","Condition":{"StringEquals":{"aws:ResourceTag/team":["red","blue"]}}},
			{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"StringNotEquals":{"aws:RequestedRegion":["us-west-2"]}}}]}`,
	} {
		p := parse(b, policy)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if p.Decide(r) != Allow {
					b.Fatal("denied")
				}
			}
		})
	}
}
