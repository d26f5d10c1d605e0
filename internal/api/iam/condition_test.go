package iam

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// request is one that has everything.
func request() *Request {
	return &Request{
		Action: "appstream:TagResource", Resource: mine, Principal: "arn:aws:iam::123456789012:user/ci", Account: "123456789012", Region: "us-west-2",
		Source: netip.MustParseAddr("192.0.2.7"), Secure: true, UserAgent: "aws-cli/2.13.0", Time: time.Date(2026, 11, 21, 12, 30, 15, 5e8, time.UTC),
		RequestTags: map[string]string{"team": "blue", "cost": "42", "empty": ""}, TagKeys: []string{"team", "cost", "empty"},
		ResourceTags: map[string]string{"Team": "blue", "team": "red", "owner": "ci"}, PassedToService: "appstream.amazonaws.com",
	}
}

func TestConditions(t *testing.T) {
	for _, tt := range []struct {
		condition string
		want      bool
	}{
		{`{}`, true},
		{`{"StringEquals":{}}`, true},

		// Text.
		{`{"StringEquals":{"aws:username":"ci"}}`, true},
		{`{"StringEquals":{"aws:username":"CI"}}`, false},
		{`{"StringEquals":{"aws:username":"c*"}}`, false},
		{`{"StringEquals":{"aws:username":["cd","ci"]}}`, true},
		{`{"StringNotEquals":{"aws:username":"cd"}}`, true},
		{`{"StringNotEquals":{"aws:username":["cd","ci"]}}`, false},
		{`{"StringEqualsIgnoreCase":{"aws:username":"CI"}}`, true},
		{`{"StringNotEqualsIgnoreCase":{"aws:username":"CI"}}`, false},
		{`{"StringLike":{"aws:UserAgent":"aws-cli/2.*"}}`, true},
		{`{"StringLike":{"aws:UserAgent":"AWS-cli/2.*"}}`, false},
		{`{"StringLike":{"aws:UserAgent":["*boto*","aws-cli/?.13.0"]}}`, true},
		{`{"StringNotLike":{"aws:UserAgent":"aws-cli/2.*"}}`, false},
		{`{"StringEquals":{"aws:ResourceTag/owner":"${aws:username}"}}`, true},
		{`{"StringLike":{"aws:ResourceTag/owner":"${aws:PrincipalAccount}*"}}`, false},
		{`{"StringEquals":{"aws:RequestTag/cost":42}}`, true},
		{`{"StringEquals":{"aws:SecureTransport":true}}`, true},
		{`{"BinaryEquals":{"aws:username":"Y2k="}}`, true},
		{`{"BinaryEquals":{"aws:username":"Y2Q="}}`, false},

		// Keys without case; several operators and keys must all hold.
		{`{"StringEquals":{"AWS:USERNAME":"ci","aws:RequestedRegion":"us-west-2"},"Bool":{"aws:SecureTransport":"true"}}`, true},
		{`{"StringEquals":{"aws:username":"ci","aws:RequestedRegion":"eu-west-1"}}`, false},
		{`{"StringEquals":{"aws:username":"ci"},"Bool":{"aws:SecureTransport":"false"}}`, false},

		// Tags: the case of the key does not matter, but of two that differ in nothing else the one counts that is written alike.
		{`{"StringEquals":{"aws:ResourceTag/Team":"blue"}}`, true},
		{`{"StringEquals":{"aws:ResourceTag/team":"blue"}}`, false},
		{`{"StringEquals":{"aws:ResourceTag/TEAM":"blue"}}`, true},
		{`{"StringEquals":{"aws:ResourceTag/Owner":"ci"}}`, true},
		{`{"StringEquals":{"aws:ResourceTag/owner":"CI"}}`, false},
		{`{"StringEquals":{"aws:RequestTag/team":["red","blue"]}}`, true},
		{`{"StringEquals":{"aws:RequestTag/empty":""}}`, true},
		{`{"Null":{"aws:RequestTag/empty":"false"}}`, true},
		{`{"StringEquals":{"appstream:ResourceTag/owner":"ci"}}`, false},

		// ARNs.
		{`{"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::123456789012:user/*"}}`, true},
		{`{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:user/c?"}}`, true},
		{`{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam:*:user/ci:*"}}`, false},
		{`{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::${aws:PrincipalAccount}:user/${aws:username}"}}`, true},
		{`{"ArnNotLike":{"aws:PrincipalArn":"arn:aws:iam::*:user/c?"}}`, false},
		{`{"ArnNotEquals":{"aws:PrincipalArn":["arn:aws:iam::*:role/*","arn:aws:iam::*:root"]}}`, true},

		// Booleans.
		{`{"Bool":{"aws:SecureTransport":"true"}}`, true},
		{`{"Bool":{"aws:SecureTransport":true}}`, true},
		{`{"Bool":{"aws:SecureTransport":"false"}}`, false},
		{`{"Bool":{"aws:ViaAWSService":"False"}}`, true},
		{`{"Bool":{"aws:username":"true"}}`, false},

		// Numbers and dates.
		{`{"NumericEquals":{"aws:RequestTag/cost":"42.0"}}`, true},
		{`{"NumericNotEquals":{"aws:RequestTag/cost":"42"}}`, false},
		{`{"NumericLessThan":{"aws:RequestTag/cost":42}}`, false},
		{`{"NumericLessThanEquals":{"aws:RequestTag/cost":42}}`, true},
		{`{"NumericGreaterThan":{"aws:RequestTag/cost":["50","41.9"]}}`, true},
		{`{"NumericGreaterThanEquals":{"aws:RequestTag/cost":"42.1"}}`, false},
		{`{"NumericEquals":{"aws:RequestTag/team":"42"}}`, false},
		{`{"NumericNotEquals":{"aws:RequestTag/team":"42"}}`, true},
		{`{"NumericGreaterThan":{"aws:EpochTime":"1795000000"}}`, true},
		{`{"DateGreaterThan":{"aws:CurrentTime":"2026-11-21T12:30:14Z"},"DateLessThan":{"aws:CurrentTime":"2026-11-21T12:30:16Z"}}`, true},
		{`{"DateGreaterThan":{"aws:CurrentTime":"2026-11-21T12:30:15Z"}}`, false},
		{`{"DateGreaterThanEquals":{"aws:CurrentTime":"2026-11-21T12:30:15Z"}}`, true},
		{`{"DateLessThanEquals":{"aws:CurrentTime":"2026-11-21T13:30:15+01:00"}}`, true},
		{`{"DateEquals":{"aws:CurrentTime":"2026-11-21T12:30:15Z"}}`, true},
		{`{"DateNotEquals":{"aws:CurrentTime":"2026-11-21T12:30:15Z"}}`, false},
		{`{"DateLessThan":{"aws:CurrentTime":"2026-11-21T12:31Z"}}`, true},
		{`{"DateGreaterThan":{"aws:CurrentTime":"2026-11-21"}}`, true},
		{`{"DateGreaterThan":{"aws:CurrentTime":"2026-12"}}`, false},
		{`{"DateGreaterThan":{"aws:CurrentTime":"2026"}}`, true},
		{`{"DateLessThan":{"aws:CurrentTime":"1795264200"}}`, false},
		{`{"DateEquals":{"aws:EpochTime":"2026-11-21T12:30:15Z"}}`, true},

		// Addresses.
		{`{"IpAddress":{"aws:SourceIp":"192.0.2.0/24"}}`, true},
		{`{"IpAddress":{"aws:SourceIp":["2001:db8::/32","192.0.2.99/24"]}}`, true},
		{`{"IpAddress":{"aws:SourceIp":"192.0.2.7"}}`, true},
		{`{"IpAddress":{"aws:SourceIp":"192.0.2.8"}}`, false},
		{`{"IpAddress":{"aws:SourceIp":"::/0"}}`, false},
		{`{"NotIpAddress":{"aws:SourceIp":["198.51.100.0/24","203.0.113.0/24"]}}`, true},
		{`{"NotIpAddress":{"aws:SourceIp":["198.51.100.0/24","192.0.2.0/24"]}}`, false},
		{`{"IpAddress":{"aws:username":"192.0.2.0/24"}}`, false},

		// Whether a key is there.
		{`{"Null":{"aws:RequestTag/team":"false"}}`, true},
		{`{"Null":{"aws:RequestTag/team":"true"}}`, false},
		{`{"Null":{"aws:RequestTag/project":true}}`, true},
		{`{"Null":{"aws:TokenIssueTime":"true"}}`, true},
		{`{"Null":{"aws:RequestTag/team":["true","false"]}}`, true},
		{`{"StringEquals":{"aws:RequestTag/project":"x"}}`, false},
		{`{"StringNotEquals":{"aws:RequestTag/project":"x"}}`, true},
		{`{"ArnNotLike":{"aws:SourceArn":"arn:aws:iam::*:user/x"}}`, true},
		{`{"NotIpAddress":{"aws:VpcSourceIp":"192.0.2.0/24"}}`, true},
		{`{"StringEqualsIfExists":{"aws:RequestTag/project":"x"}}`, true},
		{`{"StringEqualsIfExists":{"aws:RequestTag/team":"x"}}`, false},
		{`{"StringNotEqualsIfExists":{"aws:RequestTag/project":"x"}}`, true},
		{`{"BoolIfExists":{"aws:MultiFactorAuthPresent":"true"}}`, true},
		{`{"Bool":{"aws:MultiFactorAuthPresent":"true"}}`, false},
		{`{"DateLessThanIfExists":{"aws:TokenIssueTime":"2020-01-01"}}`, true},

		// Several values of one key.
		{`{"ForAllValues:StringEquals":{"aws:TagKeys":["team","cost","empty","more"]}}`, true},
		{`{"ForAllValues:StringEquals":{"aws:TagKeys":["team","cost"]}}`, false},
		{`{"ForAllValues:StringEquals":{"aws:TagKeys":["Team","cost","empty"]}}`, false},
		{`{"ForAllValues:StringLike":{"aws:TagKeys":["*e*","cos?"]}}`, true},
		{`{"ForAllValues:StringNotEquals":{"aws:TagKeys":["project","stage"]}}`, true},
		{`{"ForAllValues:StringNotEquals":{"aws:TagKeys":["project","team"]}}`, false},
		{`{"ForAnyValue:StringEquals":{"aws:TagKeys":["project","team"]}}`, true},
		{`{"ForAnyValue:StringEquals":{"aws:TagKeys":["project"]}}`, false},
		{`{"ForAnyValue:StringNotEquals":{"aws:TagKeys":["team","cost"]}}`, true},
		{`{"ForAnyValue:StringNotEquals":{"aws:TagKeys":["team","cost","empty"]}}`, false},
		{`{"ForAllValues:StringEquals":{"aws:RequestTag/project":"x"}}`, true},
		{`{"ForAnyValue:StringEquals":{"aws:RequestTag/project":"x"}}`, false},
		{`{"ForAnyValue:StringNotEquals":{"aws:RequestTag/project":"x"}}`, false},
		{`{"ForAnyValue:StringEqualsIfExists":{"aws:RequestTag/project":"x"}}`, true},
		{`{"StringEquals":{"aws:TagKeys":"team"}}`, true},
		{`{"StringNotEquals":{"aws:TagKeys":"team"}}`, false},

		// A variable without a value matches nothing, so that what must not match does not.
		{`{"StringEquals":{"aws:username":"${aws:RequestTag/project}"}}`, false},
		{`{"StringNotEquals":{"aws:username":"${aws:RequestTag/project}"}}`, true},
		{`{"StringEquals":{"aws:username":["${aws:RequestTag/project}","ci"]}}`, true},
		{`{"StringEquals":{"aws:username":"${aws:RequestTag/project, 'ci'}"}}`, true},
	} {
		p := parse(t, `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":`+tt.condition+`}}`)
		if got := p.Decide(request()) == Allow; got != tt.want {
			t.Errorf("%s holds: %v", tt.condition, got)
		}
	}
}

// TestKeys: each key has the value that AWS gives it.
func TestKeys(t *testing.T) {
	seen := map[string]bool{}
	for _, tt := range []struct {
		key    string
		change func(*Request)
		want   []string
	}{
		{"aws:CurrentTime", nil, []string{"2026-11-21T12:30:15Z"}},
		{"aws:EpochTime", nil, []string{"1795264215"}},
		{"aws:PrincipalAccount", nil, []string{"123456789012"}},
		{"aws:PrincipalArn", nil, []string{"arn:aws:iam::123456789012:user/ci"}},
		{"aws:PrincipalArn", func(r *Request) { r.Principal = "arn:aws:sts::123456789012:assumed-role/deploy/session-1" }, []string{"arn:aws:iam::123456789012:role/deploy"}},
		{"aws:PrincipalArn", func(r *Request) { r.Principal = "" }, nil},
		{"aws:PrincipalIsAWSService", nil, []string{"false"}},
		{"aws:PrincipalType", nil, []string{"User"}},
		{"aws:PrincipalType", func(r *Request) { r.Principal = "arn:aws:iam::123456789012:root" }, []string{"Account"}},
		{"aws:PrincipalType", func(r *Request) { r.Principal = "arn:aws:sts::123456789012:assumed-role/deploy/session-1" }, []string{"AssumedRole"}},
		{"aws:RequestedRegion", nil, []string{"us-west-2"}},
		{"aws:ResourceAccount", nil, []string{"123456789012"}},
		{"aws:ResourceAccount", func(r *Request) { r.Resource = "arn:aws:appstream:us-west-2::image/public" }, nil},
		{"aws:ResourceAccount", func(r *Request) { r.Resource = "*" }, nil},
		{"aws:SecureTransport", nil, []string{"true"}},
		{"aws:SecureTransport", func(r *Request) { r.Secure = false }, []string{"false"}},
		{"aws:SourceIp", nil, []string{"192.0.2.7"}},
		{"aws:SourceIp", func(r *Request) { r.Source = netip.Addr{} }, nil},
		{"aws:TagKeys", nil, []string{"team", "cost", "empty"}},
		{"aws:UserAgent", nil, []string{"aws-cli/2.13.0"}},
		{"aws:username", nil, []string{"ci"}},
		{"aws:username", func(r *Request) { r.Principal = "arn:aws:iam::123456789012:user/a/b/ada" }, []string{"ada"}},
		{"aws:username", func(r *Request) { r.Principal = "arn:aws:iam::123456789012:root" }, nil},
		{"aws:ViaAWSService", nil, []string{"false"}},
		{"iam:PassedToService", nil, []string{"appstream.amazonaws.com"}},
		{"iam:PassedToService", func(r *Request) { r.PassedToService = "" }, nil},
		{"aws:RequestTag/team", nil, []string{"blue"}},
		{"aws:ResourceTag/owner", nil, []string{"ci"}},
		{"aws:ResourceTag/a/b", func(r *Request) { r.ResourceTags = map[string]string{"a/b": "c"} }, []string{"c"}},
	} {
		r := request()
		if tt.change != nil {
			tt.change(r)
		}
		k := keyOf(tt.key)
		if got := k.values(r, nil); !slices.Equal(got, tt.want) || !k.present() {
			t.Errorf("%s is %q, want %q", tt.key, got, tt.want)
		}
		seen[strings.ToLower(tt.key)] = true
	}
	for name := range keyIDs {
		if !seen[name] {
			t.Errorf("%s is not in this table", name)
		}
	}
	for name := range absences {
		if k := keyOf(name + "x"[:len("x")*strings.Count(name, "/")]); k.present() || k.absence() == "the server does not know it" {
			t.Errorf("%s is absent and present", name)
		}
	}
	// Nothing is known of the empty request, and nothing is made up.
	for name := range keyIDs {
		k := keyOf(name)
		if got := k.values(&Request{}, nil); len(got) > 0 && got[0] != "false" {
			t.Errorf("%s of an empty request is %q", name, got)
		}
	}
}
