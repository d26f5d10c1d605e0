package blob

import "testing"

// SetPartSize makes the parts of uploads so small that a test has many.
func SetPartSize(t testing.TB, size int) {
	before := partSize
	partSize = size
	t.Cleanup(func() { partSize = before })
}
