package agentapi

import (
	"cmp"
	"fmt"
	"regexp"
	"time"
)

// Version is this agent's version in AppStream's form, MM-DD-YYYY.
const Version = "11-21-2026"

var versionForm = regexp.MustCompile(`^\d\d-\d\d-\d{4}$`)

// ParseVersion gives the day that a version (MM-DD-YYYY) stands for.
func ParseVersion(v string) (time.Time, error) {
	if !versionForm.MatchString(v) {
		return time.Time{}, fmt.Errorf("agent version %.32q is not of the form MM-DD-YYYY", v)
	}
	t, err := time.Parse("01-02-2006", v)
	if err != nil {
		return time.Time{}, fmt.Errorf("agent version %q is not a date of the form MM-DD-YYYY", v)
	}
	return t, nil
}

// CompareVersions orders two agent versions by their day: -1 when a is older
// than b, 0 when they are equal, +1 when a is newer. A text that is not a
// version is older than every version; two such texts are in the order of
// their bytes.
func CompareVersions(a, b string) int {
	ta, ea := ParseVersion(a)
	tb, eb := ParseVersion(b)
	switch {
	case ea != nil && eb != nil:
		return cmp.Compare(a, b)
	case ea != nil:
		return -1
	case eb != nil:
		return +1
	}
	return ta.Compare(tb)
}
