package server

import (
	"encoding/json/v2"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/internal/store"
)

// TestJobsOnTheWire calls the operations on jobs and files in both protocols: each succeeds, and each bound is kept.
func TestJobsOnTheWire(t *testing.T) {
	s, _ := start(t, simConfig(t, t.TempDir()))
	c := connect(t, s.cfg.Data, s.URL())
	must(c.CreateImageBuilder(t.Context(), newBuilder("hello")))(t)
	await(t, c, "hello", types.ImageBuilderStateRunning)

	const sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	step := map[string]any{"Name": "try", "Command": "echo s3cret-command", "TimeoutInSeconds": 60}
	inputs := map[string]map[string]any{
		"StartImageBuilderJob":    {"ImageBuilderName": "hello", "JobId": "one", "Steps": []any{step}, "Environment": map[string]string{"TOKEN": "s3cret-value"}},
		"DescribeImageBuilderJob": {"ImageBuilderName": "hello", "JobId": "one", "WaitInSeconds": 20},
		"StopImageBuilderJob":     {"ImageBuilderName": "hello", "JobId": "one"},
		"PutImageBuilderFile":     {"ImageBuilderName": "hello", "Path": "/opt/x", "Mode": "0755", "SizeInBytes": 3, "Sha256": sum, "Data": []byte("abc")},
	}
	with := func(op, member string, v any) map[string]any {
		in := maps.Clone(inputs[op])
		if in[member] = v; v == nil {
			delete(in, member)
		}
		return in
	}
	for _, inCBOR := range []bool{false, true} {
		for op, want := range map[string]string{
			"StartImageBuilderJob":    "map[JobId:one]",
			"DescribeImageBuilderJob": "map[Job:map[JobId:one State:SUCCEEDED StepIndex:0]]",
			"StopImageBuilderJob":     "map[]",
			"PutImageBuilderFile":     "map[Complete:true ReceivedBytes:3]",
		} {
			status, answer := call(t, s, "us-east-1", "Oriel."+op, inCBOR, inputs[op])
			var got map[string]any
			err := json.Unmarshal(answer, &got)
			if text := fmt.Sprint(got); err != nil || status != 200 || text != want {
				t.Errorf("%s (CBOR: %v) answers %d %s, %v; want %s", op, inCBOR, status, text, err, want)
			}
			for member := range inputs[op] {
				if member == "Mode" || member == "Data" || member == "Environment" || member == "WaitInSeconds" || op == "StartImageBuilderJob" && member == "JobId" {
					continue
				}
				if status, answer := call(t, s, "us-east-1", "Oriel."+op, inCBOR, with(op, member, nil)); status != 400 || !strings.Contains(string(answer), "ValidationException") {
					t.Errorf("%s without %s answers %d %s", op, member, status, answer)
				}
			}
		}
		for _, test := range []struct {
			op, member string
			value      any
		}{
			{"StartImageBuilderJob", "ImageBuilderName", "a b"},
			{"StartImageBuilderJob", "JobId", "../x"},
			{"StartImageBuilderJob", "JobId", strings.Repeat("x", 65)},
			{"StartImageBuilderJob", "Steps", []any{}},
			{"StartImageBuilderJob", "Steps", slices.Repeat([]any{step}, 201)},
			{"StartImageBuilderJob", "Steps", []any{map[string]any{"Command": "x"}}},
			{"StartImageBuilderJob", "Steps", []any{map[string]any{"Name": "x", "Command": strings.Repeat("x", 65537)}}},
			{"StartImageBuilderJob", "Steps", []any{map[string]any{"Name": "x", "Command": "x", "TimeoutInSeconds": 14401}}},
			{"StartImageBuilderJob", "Environment", map[string]string{"A B": "x"}},
			{"StartImageBuilderJob", "Environment", map[string]string{"A": strings.Repeat("x", 32769)}},
			{"DescribeImageBuilderJob", "WaitInSeconds", 21},
			{"PutImageBuilderFile", "Path", "relative"},
			{"PutImageBuilderFile", "Mode", "rwx"},
			{"PutImageBuilderFile", "SizeInBytes", int64(1)<<34 + 1},
			{"PutImageBuilderFile", "Sha256", strings.ToUpper(sum)},
			{"PutImageBuilderFile", "Offset", -1},
		} {
			if status, answer := call(t, s, "us-east-1", "Oriel."+test.op, inCBOR, with(test.op, test.member, test.value)); status != 400 || !strings.Contains(string(answer), "ValidationException") {
				t.Errorf("%s with %s %.50v answers %d %.300s", test.op, test.member, test.value, status, answer)
			}
		}
	}
	var lines []store.Audit
	err := s.store.View(t.Context(), func(tx store.Tx) (err error) {
		lines, err = tx.Audits(store.LogQuery{})
		return err
	})
	if text := fmt.Sprint(lines); err != nil || strings.Contains(text, "s3cret") || !strings.Contains(text, "oriel:StartImageBuilderJob") {
		t.Errorf("the audit log, %v:\n%s", err, text)
	}
}
