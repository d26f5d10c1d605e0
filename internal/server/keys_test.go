package server

import (
	"bytes"
	"encoding/json/v2"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/smithy-go"

	"github.com/oriel-project/oriel/internal/config"
	"github.com/oriel-project/oriel/internal/keys"
)

// TestMadeKeys: keys that are made while the server runs sign requests of AWS's SDK at once, do what their policies say, and end when they are
// disabled. Both protocols make them.
func TestMadeKeys(t *testing.T) {
	cfg := simConfig(t, t.TempDir())
	var log bytes.Buffer
	cfg.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	cfg.Keys = []config.Key{{ID: "ORIELFROMTHEFILE0", Secret: "a-secret-of-the-file", Policy: `{"Statement":{"Effect":"Allow","Action":"oriel:*","Resource":"arn:aws:iam::123456789012:user/team-*"}}`}}
	s, stop := start(t, cfg)
	const policy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"appstream:Describe*","Resource":"*"},{"Effect":"Deny","Action":"appstream:DescribeStacks","Resource":"*"}]}`
	var made struct {
		AccessKey       struct{ AccessKeyId, Principal string }
		SecretAccessKey string
	}
	status, answer := call(t, s, "us-east-1", "Oriel.CreateAccessKey", false, map[string]any{"UserName": "ci", "PolicyDocument": policy})
	if err := json.Unmarshal(answer, &made); err != nil || status != 200 {
		t.Fatalf("%d %s", status, answer)
	}
	if status, answer := call(t, s, "us-east-1", "Oriel.ListAccessKeys", true, map[string]any{}); status != 200 || !strings.Contains(string(answer), made.AccessKey.AccessKeyId) || strings.Contains(string(answer), made.SecretAccessKey) {
		t.Errorf("the list in CBOR: %d", status)
	}
	c, ctx := clientWith(s.URL(), made.AccessKey.AccessKeyId, made.SecretAccessKey, "us-east-1"), t.Context()
	must(c.DescribeImages(ctx, &sdk.DescribeImagesInput{}))(t)
	_, err := c.DescribeStacks(ctx, &sdk.DescribeStacksInput{})
	if text := denied(t, err); !strings.Contains(text, "User: "+made.AccessKey.Principal+" is not authorized to perform: appstream:DescribeStacks") {
		t.Errorf("%s", text)
	}
	for _, step := range []struct {
		status string
		code   string
	}{{"Inactive", "UnrecognizedClientException"}, {"Active", ""}} {
		if code, answer := call(t, s, "us-east-1", "Oriel.UpdateAccessKey", false, map[string]any{"AccessKeyId": made.AccessKey.AccessKeyId, "Status": step.status}); code != 200 {
			t.Fatalf("%d %s", code, answer)
		}
		_, err := c.DescribeImages(ctx, &sdk.DescribeImagesInput{})
		e, _ := errors.AsType[smithy.APIError](err)
		if step.code == "" && err != nil || step.code != "" && (e == nil || e.ErrorCode() != step.code) {
			t.Errorf("%s: %v", step.status, err)
		}
	}
	// What is wrong with an input is said as everywhere, and a policy decides who makes whose keys.
	for _, test := range []struct {
		body map[string]any
		says string
	}{
		{map[string]any{"UserName": "a b", "PolicyDocument": policy}, "userName"},
		{map[string]any{"UserName": "x"}, "policyDocument"},
		{map[string]any{"UserName": "x", "PolicyDocument": strings.Repeat(" ", 10241)}, "length less than or equal to 10240"},
		{map[string]any{"Principal": "arn:aws:s3:::x", "PolicyDocument": policy}, "principal"},
	} {
		if status, answer := call(t, s, "us-east-1", "Oriel.CreateAccessKey", false, test.body); status != 400 || !strings.Contains(string(answer), "ValidationException") || !strings.Contains(string(answer), test.says) {
			t.Errorf("%v: %d %s", test.body, status, answer)
		}
	}
	team := keys.Key{ID: cfg.Keys[0].ID, Secret: cfg.Keys[0].Secret}
	for user, want := range map[string]int{"team-1": 200, "boss": 400} {
		body := must(json.Marshal(map[string]any{"UserName": user, "PolicyDocument": policy}))(t)
		resp, answer, err := send(ctx, s.URL(), team, "us-east-1", "Oriel.CreateAccessKey", false, body)
		if err != nil || resp.StatusCode != want || want != 200 && !strings.Contains(string(answer), "on resource: arn:aws:iam::123456789012:user/boss because") {
			t.Errorf("%s: %v, %v", user, resp.Status, err)
		}
	}
	stop()
	if strings.Contains(log.String(), made.SecretAccessKey) {
		t.Error("the log has a secret")
	}
	if info := must(os.Stat(filepath.Join(cfg.Data, "oriel.db")))(t); info.Mode().Perm() != 0o600 {
		t.Errorf("secrets are in a file of mode %v", info.Mode())
	}
}

// TestRotatingAnothersKey: a key may be given the right to rotate the keys of its user. It replaces itself, but not a more powerful key of the same user, whose secret
// it would learn: for that it must be allowed to make keys.
func TestRotatingAnothersKey(t *testing.T) {
	cfg := simConfig(t, t.TempDir())
	s, _ := start(t, cfg)
	add := func(actions string) keys.Key {
		var made struct {
			AccessKey       struct{ AccessKeyId string }
			SecretAccessKey string
		}
		status, answer := call(t, s, "us-east-1", "Oriel.CreateAccessKey", false, map[string]any{"UserName": "ci",
			"PolicyDocument": `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":` + actions + `,"Resource":"arn:aws:iam::*:user/${aws:username}"}}`})
		if err := json.Unmarshal(answer, &made); err != nil || status != 200 {
			t.Fatalf("%d %s", status, answer)
		}
		return keys.Key{ID: made.AccessKey.AccessKeyId, Secret: made.SecretAccessKey}
	}
	weak, maker, strong := add(`"oriel:RotateAccessKey"`), add(`["oriel:RotateAccessKey","oriel:CreateAccessKey"]`), add(`"*"`)
	for _, test := range []struct {
		by   keys.Key
		of   string
		want int
	}{{weak, strong.ID, 400}, {maker, strong.ID, 200}, {weak, weak.ID, 200}} {
		resp, answer, err := send(t.Context(), s.URL(), test.by, "us-east-1", "Oriel.RotateAccessKey", false, must(json.Marshal(map[string]any{"AccessKeyId": test.of}))(t))
		if err != nil || resp.StatusCode != test.want || test.want != 200 && !strings.Contains(string(answer), "is not authorized to perform: oriel:CreateAccessKey on resource: arn:aws:iam::123456789012:user/ci because") {
			t.Errorf("%s rotates %s: %v, %v", test.by.ID, test.of, resp.Status, err)
		}
	}
}
