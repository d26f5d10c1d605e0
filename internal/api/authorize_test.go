package api

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/smithy-go"

	"github.com/oriel-project/oriel/internal/appstream"
)

// TagResource and UntagResource keep nothing: what matters is whether they are reached.
func (b *builders) TagResource(context.Context, *sdk.TagResourceInput) (*sdk.TagResourceOutput, error) {
	return &sdk.TagResourceOutput{}, nil
}

func (b *builders) UntagResource(context.Context, *sdk.UntagResourceInput) (*sdk.UntagResourceOutput, error) {
	return &sdk.UntagResourceOutput{}, nil
}

// TestPolicyContext: a policy sees of a request what AWS's would see. The resource mine has the tag team=blue, broken cannot be read.
func TestPolicyContext(t *testing.T) {
	const mine = "arn:aws:appstream:us-west-2:123456789012:image-builder/mine"
	f := newFixture(t)
	cfg := f.config()
	asked := 0
	h, err := New(cfg, Service{Prefix: testTarget, IAM: "appstream", Handler: f.builders,
		Resources: func(op string, c appstream.Caller, in any) []string {
			switch in := in.(type) {
			case *sdk.TagResourceInput:
				return []string{*in.ResourceArn}
			case *sdk.UntagResourceInput:
				return []string{*in.ResourceArn}
			case *sdk.CreateImageBuilderInput:
				return []string{builderARN(c, *in.Name)}
			}
			return nil
		},
		Dependent: func(op string, c appstream.Caller, in any) (list []appstream.DependentAction) {
			if in, ok := in.(*sdk.CreateImageBuilderInput); ok && in.IamRoleArn != nil {
				list = append(list, appstream.DependentAction{Action: "iam:PassRole", Resource: *in.IamRoleArn})
			}
			return list
		},
		Tags: func(ctx context.Context, c appstream.Caller, arn string) (map[string]string, error) {
			asked++
			switch {
			case arn == mine && c.Account == testAccount:
				return map[string]string{"team": "blue"}, nil
			case strings.HasSuffix(arn, "/broken"):
				return nil, errors.New("the disk is full")
			}
			return nil, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	f.Server = httptest.NewServer(h)
	t.Cleanup(f.Close)
	tag := func(arn string, tags map[string]string) func(*sdk.Client) error {
		return func(c *sdk.Client) error {
			_, err := c.TagResource(t.Context(), &sdk.TagResourceInput{ResourceArn: &arn, Tags: tags})
			return err
		}
	}
	untag := func(keys ...string) func(*sdk.Client) error {
		return func(c *sdk.Client) error {
			_, err := c.UntagResource(t.Context(), &sdk.UntagResourceInput{ResourceArn: aws.String(mine), TagKeys: keys})
			return err
		}
	}
	create := func(role string) func(*sdk.Client) error {
		return func(c *sdk.Client) error {
			_, err := c.CreateImageBuilder(t.Context(), &sdk.CreateImageBuilderInput{Name: aws.String(strings.ReplaceAll(t.Name(), "/", "-")), InstanceType: aws.String("i"), IamRoleArn: aws.String(role)})
			if e, ok := errors.AsType[smithy.APIError](err); ok && e.ErrorCode() == "ResourceAlreadyExistsException" {
				return nil
			}
			return err
		}
	}
	update := func(stage string) func(*sdk.Client) error {
		return func(c *sdk.Client) error {
			_, err := c.CreateUpdatedImage(t.Context(), &sdk.CreateUpdatedImageInput{ExistingImageName: aws.String("a"), NewImageName: aws.String("b"), NewImageTags: map[string]string{"stage": stage}})
			return err
		}
	}
	const role = "arn:aws:iam::123456789012:role/fleet"
	for _, tt := range []struct {
		name, condition string
		call            func(*sdk.Client) error
		code, says      string // "" when it is allowed
		reads           int    // how often tags are asked for
	}{
		{"resource tag", `{"StringEquals":{"aws:ResourceTag/team":"blue"}}`, tag(mine, map[string]string{"a": "b"}), "", "", 1},
		{"resource tag of another", `{"StringEquals":{"aws:ResourceTag/team":"blue"}}`, tag("arn:aws:appstream:us-west-2:123456789012:image-builder/yours", map[string]string{"a": "b"}), "AccessDeniedException", "image-builder/yours because no", 1},
		{"resource tag that cannot be read", `{"StringNotEquals":{"aws:ResourceTag/team":"blue"}}`, tag("arn:aws:appstream:us-west-2:123456789012:image-builder/broken", map[string]string{"a": "b"}), "InternalFailure", "", 1},
		{"request tag", `{"StringEquals":{"aws:RequestTag/stage":"test"},"ForAllValues:StringEquals":{"aws:TagKeys":["stage","owner"]}}`, tag(mine, map[string]string{"stage": "test", "owner": "x"}), "", "", 0},
		{"request tag with another key", `{"StringEquals":{"aws:RequestTag/stage":"test"},"ForAllValues:StringEquals":{"aws:TagKeys":["stage","owner"]}}`, tag(mine, map[string]string{"stage": "test", "price": "x"}), "AccessDeniedException", "", 0},
		{"keys to be taken away", `{"ForAllValues:StringEquals":{"aws:TagKeys":["stage"]}}`, untag("stage"), "", "", 0},
		{"another key to be taken away", `{"ForAllValues:StringEquals":{"aws:TagKeys":["stage"]}}`, untag("stage", "owner"), "AccessDeniedException", "", 0},
		{"tags of the image that shall be", `{"StringEquals":{"aws:RequestTag/stage":"test"}}`, update("test"), "", "", 0},
		{"other tags of the image that shall be", `{"StringEquals":{"aws:RequestTag/stage":"test"}}`, update("live"), "AccessDeniedException", "", 0},
		{"account, region and principal", `{"StringEquals":{"aws:PrincipalAccount":"123456789012","aws:RequestedRegion":"us-west-2","aws:username":"ann"},"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:user/a*"}}`, untag("k"), "", "", 0},
		{"address", `{"IpAddress":{"aws:SourceIp":["127.0.0.0/8","::1/128"]}}`, untag("k"), "", "", 0},
		{"plain HTTP", `{"Bool":{"aws:SecureTransport":"true"}}`, untag("k"), "AccessDeniedException", "", 0},
		{"client", `{"StringLike":{"aws:UserAgent":"aws-sdk-go-v2/*"}}`, untag("k"), "", "", 0},
		{"time", `{"DateGreaterThan":{"aws:CurrentTime":"2020-01-01"},"DateLessThan":{"aws:EpochTime":"32503680000"}}`, untag("k"), "", "", 0},
		{"role for the service", `{"StringEqualsIfExists":{"iam:PassedToService":"appstream.amazonaws.com"}}`, create(role), "", "", 0},
		{"role for another service", `{"StringEqualsIfExists":{"iam:PassedToService":"ec2.amazonaws.com"}}`, create(role), "AccessDeniedException",
			"User: arn:aws:iam::123456789012:user/ann is not authorized to perform: iam:PassRole on resource: " + role + " because no identity-based policy allows the iam:PassRole action", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f.keys["AKIAANN"] = Key{ID: "AKIAANN", Secret: "a", Account: testAccount, Principal: "arn:aws:iam::123456789012:user/ann",
				Policy: mustParse(t, `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":`+tt.condition+`}}`)}
			before := asked
			err := tt.call(f.client("AKIAANN"))
			e, ok := errors.AsType[smithy.APIError](err)
			switch {
			case tt.code == "" && err != nil:
				t.Error(err)
			case tt.code != "" && (!ok || e.ErrorCode() != tt.code || !strings.Contains(e.ErrorMessage(), tt.says)):
				t.Errorf("err = %v, want %s", err, tt.code)
			}
			if n := asked - before; n != tt.reads {
				t.Errorf("tags were read %d times, want %d", n, tt.reads)
			}
		})
	}
}

// What tells whether a client speaks HTTPS is asked when there is such a thing: a proxy may do it for us.
func TestPolicySecure(t *testing.T) {
	f := newFixture(t)
	cfg := f.config()
	cfg.Secure = func(r *http.Request) bool { return r.Header.Get("Test-Secure") != "" }
	h, err := New(cfg, Service{Prefix: testTarget, IAM: "appstream", Handler: f.builders})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(h)
	defer server.Close()
	k := Key{ID: "AKIAANN", Secret: "a", Account: testAccount, Policy: mustParse(t, `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"true"}}}}`)}
	f.keys[k.ID] = k
	for value, want := range map[string]int{"": 400, "yes": 200} {
		r := signed(t, server.URL, k, testTarget+".DescribeImageBuilders", false, []byte("{}"), nil)
		r.Header.Set("Test-Secure", value)
		if code, _, body := send(t, r); code != want {
			t.Errorf("secure %q: %d %s", value, code, body)
		}
	}
}
