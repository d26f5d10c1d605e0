package e2e

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/oriel-project/oriel/e2e/stage"
	"github.com/oriel-project/oriel/internal/keys"
)

// TestJavaScript runs js/sdk.mjs: the SDK for JavaScript, in JSON and CBOR.
func TestJavaScript(t *testing.T) {
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("skipped: %s is not installed", program)
		}
	}
	w := simulated(t, "--sim-delay=50ms")
	key := must(keys.Read(w.Credentials()))(t)
	node := must(stage.Node(limit(t), "sdk.mjs", w.URL))(t)
	node.Env = append(node.Env, "AWS_ACCESS_KEY_ID="+key.ID, "AWS_SECRET_ACCESS_KEY="+key.Secret)
	out, err := node.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Log(strings.TrimSpace(string(out)))
}
