package docker

import (
	"path/filepath"
	"testing"
)

// Before a server's first start there is no data directory, and its disk is the one on which it will be made.
func TestDiskOfWhatIsNotThereYet(t *testing.T) {
	parent := t.TempDir()
	for _, dir := range []string{parent, filepath.Join(parent, "none"), filepath.Join(parent, "none", "yet")} {
		if got := existing(dir); got != parent {
			t.Errorf("%s is on the disk of %s, not of %s", dir, got, parent)
		}
	}
	if got := existing("none/yet"); got != "." {
		t.Errorf("a relative directory is on the disk of %s", got)
	}
}
