package attend

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// What an agent says is bounded and made text before it is kept: it comes from inside an instance.
func TestWordsOfAnAgent(t *testing.T) {
	long := strings.Repeat("ä", 1000)
	got := notes([]string{"SessionStart: exit status 3", "two\nlines\x1b[31m", long, "4", "5", "6"})
	if len(got) != maxNotes || got[0] != "SessionStart: exit status 3" || got[1] != "two lines [31m" || len(got[2]) > maxText || !utf8.ValidString(got[2]) {
		t.Errorf("%q", got)
	}
}
