package iam

import (
	"net/netip"
	"testing"
	"time"
)

// TestExamples: policies of the kinds that AWS's guides and its service authorization reference have for AppStream, each with requests that it decides.
func TestExamples(t *testing.T) {
	const (
		user    = "arn:aws:iam::123456789012:user/ada"
		fleet   = "arn:aws:appstream:us-west-2:123456789012:fleet/"
		builder = "arn:aws:appstream:us-west-2:123456789012:image-builder/"
		stack   = "arn:aws:appstream:us-west-2:123456789012:stack/"
		public  = "arn:aws:appstream:us-west-2::image/base"
		role    = "arn:aws:iam::123456789012:role/fleet"
	)
	type row struct {
		action, resource string
		change           func(*Request)
		want             Decision
	}
	requestTags := func(tags map[string]string) func(*Request) {
		return func(r *Request) {
			r.RequestTags = tags
			for k := range tags {
				r.TagKeys = append(r.TagKeys, k)
			}
		}
	}
	resourceTags := func(tags map[string]string) func(*Request) {
		return func(r *Request) { r.ResourceTags = tags }
	}
	for name, tt := range map[string]struct {
		policy string
		rows   []row
	}{
		"read only": {`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["appstream:Get*","appstream:List*","appstream:Describe*"],"Resource":"*"}]}`, []row{
			{"appstream:DescribeFleets", fleet + "*", nil, Allow},
			{"appstream:ListTagsForResource", stack + "desk", nil, Allow},
			{"appstream:GetExportImageTask", "*", nil, Allow},
			{"appstream:CreateStreamingURL", stack + "desk", nil, ImplicitDeny},
			{"oriel:ListAccessKeys", user, nil, ImplicitDeny},
		}},
		"everything of AppStream, and roles for it": {`{"Version":"2012-10-17","Statement":[
			{"Effect":"Allow","Action":"appstream:*","Resource":"*"},
			{"Effect":"Allow","Action":"iam:PassRole","Resource":"arn:aws:iam::*:role/fleet*","Condition":{"StringLike":{"iam:PassedToService":"appstream.amazonaws.com"}}}]}`, []row{
			{"appstream:CreateFleet", fleet + "pool", nil, Allow},
			{"appstream:TagResource", fleet + "pool", requestTags(map[string]string{"a": "b"}), Allow},
			{"iam:PassRole", role, func(r *Request) { r.PassedToService = "appstream.amazonaws.com" }, Allow},
			{"iam:PassRole", role, func(r *Request) { r.PassedToService = "ec2.amazonaws.com" }, ImplicitDeny},
			{"iam:PassRole", role, nil, ImplicitDeny},
			{"iam:PassRole", "arn:aws:iam::123456789012:role/admin", func(r *Request) { r.PassedToService = "appstream.amazonaws.com" }, ImplicitDeny},
		}},
		"one fleet and its stack": {`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["appstream:AssociateFleet","appstream:CreateStreamingURL","appstream:ExpireSession"],
			"Resource":["arn:aws:appstream:us-west-2:123456789012:fleet/pool","arn:aws:appstream:us-west-2:123456789012:stack/desk"]}]}`, []row{
			{"appstream:CreateStreamingURL", fleet + "pool", nil, Allow},
			{"appstream:CreateStreamingURL", stack + "desk", nil, Allow},
			{"appstream:CreateStreamingURL", stack + "desk2", nil, ImplicitDeny},
			{"appstream:ExpireSession", "*", nil, ImplicitDeny}, // it knows no resource: only "*" allows it
		}},
		"what is made must be tagged": {`{"Version":"2012-10-17","Statement":[
			{"Effect":"Allow","Action":["appstream:CreateImageBuilder","appstream:TagResource"],"Resource":"*"},
			{"Sid":"Owner","Effect":"Deny","Action":"appstream:Create*","Resource":"arn:aws:appstream:*:*:image-builder/*","Condition":{"Null":{"aws:RequestTag/owner":"true"}}},
			{"Sid":"Known","Effect":"Deny","Action":["appstream:Create*","appstream:TagResource"],"Resource":"*","Condition":{"ForAnyValue:StringNotEquals":{"aws:TagKeys":["owner","stage"]}}},
			{"Sid":"Stage","Effect":"Deny","Action":"appstream:Create*","Resource":"*","Condition":{"StringNotLike":{"aws:RequestTag/stage":["test","prod-*"]},"Null":{"aws:RequestTag/stage":"false"}}}]}`, []row{
			{"appstream:CreateImageBuilder", builder + "b", nil, ExplicitDeny},
			{"appstream:CreateImageBuilder", public, nil, Allow}, // the image that it is made from
			{"appstream:CreateImageBuilder", builder + "b", requestTags(map[string]string{"owner": "ada"}), Allow},
			{"appstream:CreateImageBuilder", builder + "b", requestTags(map[string]string{"owner": "ada", "stage": "prod-1"}), Allow},
			{"appstream:CreateImageBuilder", builder + "b", requestTags(map[string]string{"owner": "ada", "stage": "play"}), ExplicitDeny},
			{"appstream:CreateImageBuilder", builder + "b", requestTags(map[string]string{"owner": "ada", "colour": "red"}), ExplicitDeny},
			{"appstream:TagResource", builder + "b", requestTags(map[string]string{"colour": "red"}), ExplicitDeny},
		}},
		"everybody his own": {`{"Version":"2012-10-17","Statement":[
			{"Effect":"Allow","Action":"appstream:*","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/owner":"${aws:username}"}}},
			{"Effect":"Allow","Action":"appstream:*","Resource":"arn:aws:appstream:*:*:image-builder/${aws:username}-*"},
			{"Effect":"Allow","Action":"oriel:RotateAccessKey","Resource":"arn:aws:iam::*:user/${aws:username}"}]}`, []row{
			{"appstream:StopFleet", fleet + "pool", resourceTags(map[string]string{"Owner": "ada"}), Allow},
			{"appstream:StopFleet", fleet + "pool", resourceTags(map[string]string{"owner": "bob"}), ImplicitDeny},
			{"appstream:StopFleet", fleet + "pool", nil, ImplicitDeny},
			{"appstream:CreateImageBuilder", builder + "ada-1", nil, Allow},
			{"appstream:CreateImageBuilder", builder + "bob-1", nil, ImplicitDeny},
			{"appstream:CreateImageBuilder", builder + "ada-1", func(r *Request) { r.Principal = role }, ImplicitDeny},
			{"oriel:RotateAccessKey", user, nil, Allow},
			{"oriel:RotateAccessKey", "arn:aws:iam::123456789012:user/bob", nil, ImplicitDeny},
		}},
		"hands off production": {`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},
			{"Effect":"Deny","Action":["appstream:Delete*","appstream:Stop*","appstream:*tagResource"],"Resource":"*","Condition":{"StringEqualsIgnoreCase":{"aws:ResourceTag/stage":"production"}}}]}`, []row{
			{"appstream:DeleteFleet", fleet + "pool", resourceTags(map[string]string{"stage": "Production"}), ExplicitDeny},
			{"appstream:UntagResource", fleet + "pool", resourceTags(map[string]string{"stage": "production"}), ExplicitDeny},
			{"appstream:DeleteFleet", fleet + "pool", resourceTags(map[string]string{"stage": "test"}), Allow},
			{"appstream:StartFleet", fleet + "pool", resourceTags(map[string]string{"stage": "production"}), Allow},
		}},
		"some regions, from the office, in time, over HTTPS": {`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},
			{"Effect":"Deny","NotAction":"appstream:Describe*","Resource":"*","Condition":{"StringNotEquals":{"aws:RequestedRegion":["us-west-2","eu-central-1"]}}},
			{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"NotIpAddress":{"aws:SourceIp":["192.0.2.0/24","2001:db8:1::/48"]}}},
			{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}},
			{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"DateGreaterThan":{"aws:CurrentTime":"2026-12-31T23:59:59Z"}}}]}`, []row{
			{"appstream:CreateFleet", fleet + "pool", nil, Allow},
			{"appstream:CreateFleet", fleet + "pool", func(r *Request) { r.Region = "us-east-1" }, ExplicitDeny},
			{"appstream:DescribeFleets", fleet + "*", func(r *Request) { r.Region = "us-east-1" }, Allow},
			{"appstream:CreateFleet", fleet + "pool", func(r *Request) { r.Source = netip.MustParseAddr("198.51.100.7") }, ExplicitDeny},
			{"appstream:CreateFleet", fleet + "pool", func(r *Request) { r.Source = netip.MustParseAddr("2001:db8:1:2::7") }, Allow},
			{"appstream:CreateFleet", fleet + "pool", func(r *Request) { r.Source = netip.Addr{} }, ExplicitDeny},
			{"appstream:CreateFleet", fleet + "pool", func(r *Request) { r.Secure = false }, ExplicitDeny},
			{"appstream:CreateFleet", fleet + "pool", func(r *Request) { r.Time = time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC) }, ExplicitDeny},
		}},
		"only with a second factor": {`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},
			{"Effect":"Deny","Action":"appstream:Delete*","Resource":"*","Condition":{"BoolIfExists":{"aws:MultiFactorAuthPresent":"false"}}}]}`, []row{
			{"appstream:DeleteFleet", fleet + "pool", nil, ExplicitDeny}, // as on AWS with the key of a user
			{"appstream:StopFleet", fleet + "pool", nil, Allow},
		}},
		"streams of federated users": {`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"appstream:Stream","Resource":"arn:aws:appstream:us-west-2:123456789012:stack/desk",
			"Condition":{"StringEquals":{"appstream:userId":"ada@example.com"}}}]}`, []row{
			{"appstream:CreateStreamingURL", stack + "desk", nil, ImplicitDeny},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p := parse(t, tt.policy)
			for _, row := range tt.rows {
				r := &Request{Action: row.action, Resource: row.resource, Principal: user, Account: "123456789012", Region: "us-west-2",
					Source: netip.MustParseAddr("192.0.2.7"), Secure: true, UserAgent: "aws-cli/2.31.0", Time: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
				if row.change != nil {
					row.change(r)
				}
				if got := p.Decide(r); got != row.want {
					t.Errorf("%s on %s: %v, want %v", row.action, row.resource, got, row.want)
				}
			}
		})
	}
}
