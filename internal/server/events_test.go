package server

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
)

// TestLogsOnTheWire reads both logs in both protocols, and tries each bound of the inputs.
func TestLogsOnTheWire(t *testing.T) {
	s, _ := start(t, simConfig(t, t.TempDir()))
	c := connect(t, s.cfg.Data, s.URL())
	must(c.CreateImageBuilder(t.Context(), newBuilder("hello")))(t)
	await(t, c, "hello", types.ImageBuilderStateRunning)
	const arn = "arn:aws:appstream:us-east-1:123456789012:image-builder/hello"
	job := map[string]any{"ImageBuilderName": "hello", "JobId": "one", "Steps": []any{map[string]any{"Name": "s3cret-name", "Command": "s3cret-command"}}}
	for _, op := range []string{"StartImageBuilderJob", "DescribeImageBuilderJob"} {
		if status, answer := call(t, s, "us-east-1", "Oriel."+op, false, job); status != 200 {
			t.Fatalf("%s: %d %s", op, status, answer)
		}
		delete(job, "Steps")
	}
	for _, inCBOR := range []bool{false, true} {
		for _, test := range []struct {
			op    string
			in    map[string]any
			wants []string
		}{
			{"DescribeEvents", map[string]any{"ResourceArn": arn}, []string{"PENDING", "RUNNING", "CreateImageBuilder", "begun: job one of 1 steps", "done: job one"}},
			{"DescribeEvents", map[string]any{"ResourceName": "hello", "AllAccounts": true, "AllRegions": true, "After": "0", "WaitInSeconds": 20}, []string{"PENDING", "RUNNING"}},
			{"DescribeAuditLog", map[string]any{"ResourceArn": arn}, []string{"appstream:CreateImageBuilder", "arn:aws:iam::123456789012:root", "127.0.0.1", "oriel:StartImageBuilderJob"}},
			{"DescribeAuditLog", map[string]any{"Account": "123456789012", "MaxResults": 1}, []string{"LineId", "NextToken"}},
		} {
			status, answer := call(t, s, "us-east-1", "Oriel."+test.op, inCBOR, test.in)
			for _, want := range test.wants {
				if text := string(answer); status != 200 || !strings.Contains(text, want) || strings.Contains(text, "s3cret") {
					t.Errorf("%s %v (CBOR: %v) answers %d without %s: %s", test.op, test.in, inCBOR, status, want, answer)
				}
			}
		}
		for _, test := range []struct {
			op, member string
			value      any
		}{
			{"DescribeEvents", "ResourceArn", "hello"}, {"DescribeEvents", "ResourceArn", "arn:aws:appstream:" + strings.Repeat("x", 2048)}, {"DescribeEvents", "ResourceName", ""},
			{"DescribeEvents", "Account", "12"}, {"DescribeEvents", "MaxResults", 0}, {"DescribeEvents", "MaxResults", 1001}, {"DescribeEvents", "NextToken", "x"},
			{"DescribeEvents", "After", "-1"}, {"DescribeEvents", "WaitInSeconds", 21}, {"DescribeAuditLog", "ResourceArn", "a b"}, {"DescribeAuditLog", "WaitInSeconds", -1},
		} {
			if status, answer := call(t, s, "us-east-1", "Oriel."+test.op, inCBOR, map[string]any{test.member: test.value}); status != 400 || !strings.Contains(string(answer), "ValidationException") {
				t.Errorf("%s with %s %.50v answers %d %.300s", test.op, test.member, test.value, status, answer)
			}
		}
	}
}
