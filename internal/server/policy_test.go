package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/smithy-go"
	awscreds "github.com/aws/smithy-go/aws-http-auth/credentials"
	"github.com/aws/smithy-go/aws-http-auth/sigv4"
	v4 "github.com/aws/smithy-go/aws-http-auth/v4"

	"github.com/oriel-project/oriel/internal/config"
	"github.com/oriel-project/oriel/internal/store"
)

// denied gives the message when an error is AWS's refusal by a policy, and fails the test for any other.
func denied(t *testing.T, err error) string {
	t.Helper()
	e, ok := errors.AsType[smithy.APIError](err)
	if !ok || e.ErrorCode() != "AccessDeniedException" {
		t.Errorf("not refused by the policy: %v", err)
		return ""
	}
	return e.ErrorMessage()
}

// TestTeams: policies by tags, as AWS's tutorial on attribute-based access has them. A key may make what it tags with its team, may change what
// has that tag, and may not take the tag away.
func TestTeams(t *testing.T) {
	cfg := simConfig(t, t.TempDir())
	cfg.Keys = []config.Key{{ID: "ORIELBLUE00000000", Secret: "blue-secret-012345", Principal: "arn:aws:iam::123456789012:user/blue", Policy: `{"Version":"2012-10-17","Statement":[
		{"Sid":"Look","Effect":"Allow","Action":["appstream:Describe*","appstream:List*"],"Resource":"*"},
		{"Sid":"From","Effect":"Allow","Action":"appstream:CreateImageBuilder","Resource":"arn:aws:appstream:*::image/*"},
		{"Sid":"Make","Effect":"Allow","Action":["appstream:CreateImageBuilder","appstream:TagResource"],"Resource":"arn:aws:appstream:*:*:image-builder/*",
			"Condition":{"StringEquals":{"aws:RequestTag/team":"${aws:username}"}}},
		{"Sid":"Use","Effect":"Allow","Action":["appstream:St*ImageBuilder","appstream:DeleteImageBuilder","appstream:*tagResource"],"Resource":"*",
			"Condition":{"StringEquals":{"aws:ResourceTag/team":"${aws:username}"}}},
		{"Sid":"Stay","Effect":"Deny","Action":"appstream:UntagResource","Resource":"*","Condition":{"ForAnyValue:StringEqualsIgnoreCase":{"aws:TagKeys":"team"}}}]}`}}
	var log bytes.Buffer
	cfg.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	s, stop := start(t, cfg)
	ctx, root := t.Context(), connect(t, cfg.Data, s.URL())
	blue := clientWith(s.URL(), cfg.Keys[0].ID, cfg.Keys[0].Secret, "us-east-1")
	for name, team := range map[string]string{"ours": "blue", "theirs": "red"} {
		in := newBuilder(name)
		in.Tags = map[string]string{"team": team}
		_, err := blue.CreateImageBuilder(ctx, in)
		if team == "blue" {
			must(0, err)(t)
			continue
		}
		if text := denied(t, err); !strings.Contains(text, "User: arn:aws:iam::123456789012:user/blue is not authorized to perform: appstream:CreateImageBuilder on resource: arn:aws:appstream:us-east-1:123456789012:image-builder/theirs because") {
			t.Errorf("%s", text)
		}
		must(root.CreateImageBuilder(ctx, in))(t)
	}
	_, err := blue.CreateImageBuilder(ctx, newBuilder("nobodys"))
	denied(t, err)
	for _, name := range []string{"ours", "theirs"} {
		await(t, root, name, "RUNNING")
	}
	must(blue.StopImageBuilder(ctx, &sdk.StopImageBuilderInput{Name: new("ours")}))(t)
	_, err = blue.StopImageBuilder(ctx, &sdk.StopImageBuilderInput{Name: new("theirs")})
	denied(t, err)
	const ours = "arn:aws:appstream:us-east-1:123456789012:image-builder/ours"
	_, err = blue.UntagResource(ctx, &sdk.UntagResourceInput{ResourceArn: new(ours), TagKeys: []string{"team"}})
	if text := denied(t, err); !strings.HasSuffix(text, "with an explicit deny in an identity-based policy") {
		t.Errorf("%s", text)
	}
	// A change of the tag counts from the next request on.
	must(root.TagResource(ctx, &sdk.TagResourceInput{ResourceArn: new(ours), Tags: map[string]string{"team": "red"}}))(t)
	_, err = blue.DeleteImageBuilder(ctx, &sdk.DeleteImageBuilderInput{Name: new("ours")})
	denied(t, err)
	stop()
	if log.Len() > 0 {
		t.Errorf("the log has warnings:\n%s", &log)
	}
}

// A policy with something that is probably not meant is taken, with a warning in the log. Every operation of the server is known to it, and nothing else.
func TestPolicyWarnings(t *testing.T) {
	cfg := simConfig(t, t.TempDir())
	cfg.Keys = []config.Key{{ID: "ORIELBLUE00000000", Secret: "blue-secret-012345", Policy: `{"Statement":[
		{"Effect":"Allow","Action":["appstream:DescribeFleets","oriel:CreateImage","oriel:RotateAccessKey","oriel:DescribeEvents","oriel:Describe*"],"Resource":"*","Condition":{"Bool":{"aws:MultiFactorAuthPresent":"true"}}},
		{"Effect":"Deny","Action":["appstream:DescribeFleet","appstream:CreateAccessKey"],"Resource":"*"}]}`}}
	var log bytes.Buffer
	cfg.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	_, stop := start(t, cfg)
	stop()
	if text := log.String(); !strings.Contains(text, "ORIELBLUE00000000") || !strings.Contains(text, "no request has the key aws:MultiFactorAuthPresent") || strings.Contains(text, "blue-secret") ||
		!strings.Contains(text, "statement 2: Action: no operation asks for appstream:DescribeFleet, so it has no effect; did you mean appstream:DescribeFleets?") ||
		!strings.Contains(text, "did you mean oriel:CreateAccessKey?") || strings.Count(text, "warning=") != 3 {
		t.Errorf("the log says %q", text)
	}
}

// TestPolicyBehindProxy: address and HTTPS are the client's when a trusted proxy says so, and the connection's when anybody else does.
func TestPolicyBehindProxy(t *testing.T) {
	for _, trusted := range []bool{false, true} {
		cfg := simConfig(t, t.TempDir())
		if trusted {
			cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		}
		cfg.Keys = []config.Key{{ID: "ORIELBLUE00000000", Secret: "blue-secret-012345", Policy: `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*",
			"Condition":{"IpAddress":{"aws:SourceIp":"192.0.2.0/24"},"Bool":{"aws:SecureTransport":"true"}}}}`}}
		s, _ := start(t, cfg)
		for from, allowed := range map[[2]string]bool{{"192.0.2.7", "https"}: trusted, {"192.0.2.7", "http"}: false, {"198.51.100.1", "https"}: false, {"", ""}: false} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			r := must(http.NewRequestWithContext(ctx, http.MethodPost, s.URL()+"/", strings.NewReader("{}")))(t)
			r.Header.Set("X-Amz-Target", "PhotonAdminProxyService.DescribeImages")
			sum := sha256.Sum256([]byte("{}"))
			must(0, sigv4.New().SignRequest(&sigv4.SignRequestInput{Request: r, PayloadHash: sum[:], Service: "appstream", Region: "us-east-1",
				SignatureType: v4.SignatureTypeHeader, Credentials: awscreds.Credentials{AccessKeyID: cfg.Keys[0].ID, SecretAccessKey: cfg.Keys[0].Secret}}))(t)
			r.Header.Set("X-Forwarded-For", from[0])
			r.Header.Set("X-Forwarded-Proto", from[1])
			resp := must(http.DefaultClient.Do(r))(t)
			resp.Body.Close()
			cancel()
			if (resp.StatusCode == 200) != allowed {
				t.Errorf("trusted %v, from %q: status %d", trusted, from, resp.StatusCode)
			}
		}
	}
}

// TestRates: the rates of the settings hold, also for the server's own key; the metrics count what was refused, and the audit log is not filled with it.
func TestRates(t *testing.T) {
	cfg := simConfig(t, t.TempDir())
	cfg.Rates = config.Rates{Read: 1e-3, Operations: map[string]float64{"DescribeFleets": 0}}
	s, _ := start(t, cfg)
	c, ctx := connect(t, cfg.Data, s.URL()), t.Context()
	must(c.DescribeStacks(ctx, &sdk.DescribeStacksInput{}))(t)
	for range 3 {
		_, err := c.DescribeStacks(ctx, &sdk.DescribeStacksInput{})
		if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != "ThrottlingException" {
			t.Fatalf("not throttled: %v", err)
		}
	}
	for range 3 {
		must(c.DescribeFleets(ctx, &sdk.DescribeFleetsInput{}))(t)
	}
	if _, _, text := get(t, s.URL()+"/metrics"); !strings.Contains(text, `oriel_requests_total{code="ThrottlingException",operation="DescribeStacks",protocol="json"} 3`) {
		t.Error("the metrics do not count what was throttled")
	}
	if err := s.store.View(ctx, func(tx store.Tx) error {
		lines, err := tx.Audits(store.LogQuery{})
		if len(lines) > 0 {
			t.Errorf("the audit log has %+v", lines)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	cfg = simConfig(t, t.TempDir())
	cfg.Rates.Operations = map[string]float64{"DescribeFleats": 1}
	if err := cfg.Check(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, cfg); err == nil || !strings.Contains(err.Error(), "rates.operations: there is no operation DescribeFleats") {
		t.Errorf("an operation that there is not: %v", err)
	}
}

// TestDenyOfANewImage: a Deny that names the image that comes of an operation holds, also in another region, and nothing that AWS would allow is refused.
func TestDenyOfANewImage(t *testing.T) {
	const arn = "arn:aws:appstream:us-east-1:123456789012:image/"
	cfg := simConfig(t, t.TempDir())
	cfg.Region = []string{"us-east-1", "eu-west-1"}
	copies := `"Action":"appstream:CopyImage"`
	for n, statements := range []string{
		`{"Effect":"Allow",` + copies + `,"Resource":"` + arn + `source"}`,
		`{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny",` + copies + `,"Resource":"` + arn + `golden-*"}`,
		`{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny",` + copies + `,"Resource":"arn:aws:appstream:eu-west-1:123456789012:image/*"}`,
		`{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny",` + copies + `,"NotResource":"` + arn + `source"}`,
		`{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny",` + copies + `,"Resource":"*","Condition":{"StringNotEquals":{"aws:ResourceTag/team":"blue"}}}`,
		`{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":["appstream:CreateImportedImage","appstream:CreateUpdatedImage"],"Resource":"` + arn + `golden-*"}`,
	} {
		cfg.Keys = append(cfg.Keys, config.Key{ID: fmt.Sprint("ORIELKEY00000000", n), Secret: "blue-secret-012345", Policy: `{"Statement":[` + statements + `]}`})
	}
	s, _ := start(t, cfg)
	root, ctx := connect(t, cfg.Data, s.URL()), t.Context()
	must(root.CreateImageBuilder(ctx, newBuilder("hello")))(t)
	await(t, root, "hello", "RUNNING")
	if status, answer := call(t, s, "us-east-1", "Oriel.CreateImage", false, map[string]any{"ImageBuilderName": "hello", "Name": "source", "Applications": []any{}, "Tags": map[string]string{"team": "blue"}}); status != 200 {
		t.Fatalf("%d %s", status, answer)
	}
	await(t, root, "hello", "STOPPED")
	for _, test := range []struct {
		key        int
		to, region string
		denied     bool
	}{
		{0, "golden-1", "us-east-1", false}, // an Allow of the source is enough, as in AWS
		{1, "golden-2", "us-east-1", true}, {1, "golden-2", "eu-west-1", false}, {1, "other-1", "us-east-1", false},
		{2, "other-2", "eu-west-1", true}, {2, "other-2", "us-east-1", false},
		{3, "other-3", "us-east-1", false}, // a NotResource is about the source
		{4, "other-4", "us-east-1", false}, // the new image has no tags, but the source has
	} {
		c := clientWith(s.URL(), cfg.Keys[test.key].ID, cfg.Keys[test.key].Secret, "us-east-1")
		for {
			_, err := c.CopyImage(ctx, &sdk.CopyImageInput{SourceImageName: new("source"), DestinationImageName: &test.to, DestinationRegion: &test.region})
			if e, ok := errors.AsType[smithy.APIError](err); ok && e.ErrorCode() == "LimitExceededException" { // two at a time
				time.Sleep(5 * time.Millisecond)
				continue
			}
			if !test.denied && err != nil {
				t.Errorf("key %d, to %s in %s: %v", test.key, test.to, test.region, err)
			}
			if want := "appstream:CopyImage on resource: arn:aws:appstream:" + test.region + ":123456789012:image/" + test.to + " with an explicit deny"; test.denied && !strings.Contains(denied(t, err), want) {
				t.Errorf("key %d, to %s in %s: %v", test.key, test.to, test.region, err)
			}
			break
		}
	}
	c := clientWith(s.URL(), cfg.Keys[5].ID, cfg.Keys[5].Secret, "us-east-1")
	_, err := c.CreateUpdatedImage(ctx, &sdk.CreateUpdatedImageInput{ExistingImageName: new("source"), NewImageName: new("golden-3")})
	denied(t, err)
	_, err = c.CreateImportedImage(ctx, &sdk.CreateImportedImageInput{Name: new("golden-4"), SourceAmiId: new("ami-0123456789abcdef0"), IamRoleArn: new("arn:aws:iam::123456789012:role/r")})
	denied(t, err)
}
