package e2e

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/oriel-project/oriel/e2e/stage"
	"github.com/oriel-project/oriel/internal/keys"
)

// TestPython runs python/sdk.py: the SDK for Python with its paginators, waiters and classes of errors, in JSON and CBOR.
func TestPython(t *testing.T) {
	if err := exec.Command("python3", "-c", "import boto3").Run(); err != nil {
		t.Skip("skipped: boto3 is not installed")
	}
	w := simulated(t, "--sim-delay=10ms", "--region=us-east-1,eu-central-1")
	key := must(keys.Read(w.Credentials()))(t)
	for protocol, region := range map[string]string{"json": "us-east-1", "cbor": "eu-central-1"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			python := exec.CommandContext(limit(t), "python3", "python/sdk.py", w.URL, region, protocol)
			python.Env = append(stage.Clean(), "AWS_ACCESS_KEY_ID="+key.ID, "AWS_SECRET_ACCESS_KEY="+key.Secret)
			out, err := python.CombinedOutput()
			switch text := string(out); {
			case strings.HasPrefix(text, "skipped: "):
				t.Skip(text)
			case err != nil:
				t.Fatalf("%v\n%s", err, text)
			}
		})
	}
}
