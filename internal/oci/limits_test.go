package oci

import "testing"

// SetLimits lets a test see bounds that are too large to be reached in it.
func SetLimits(t testing.TB, bytes, expansion int64) {
	b, e := maxBytes, anyExpansion
	maxBytes, anyExpansion = bytes, expansion
	t.Cleanup(func() { maxBytes, anyExpansion = b, e })
}
