package agent

import (
	"testing"
	"time"
)

// eventually waits until cond holds, and fails the test when it does not.
func eventually(tb testing.TB, cond func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(10 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatal("the condition does not come true")
		}
	}
}
