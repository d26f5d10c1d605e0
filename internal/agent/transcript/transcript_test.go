package transcript

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestTranscript(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"lines", "one\ntwo\n", "one\ntwo\n"},
		{"no line feed at the end", "one\ntwo", "one\ntwo"},
		{"Windows lines", "one\r\ntwo\r\n", "one\ntwo\n"},
		{"a progress bar", " 5% [      ]\r50% [###   ]\r100% [######]\ndone\n", "100% [######]\ndone\n"},
		{"what is shorter leaves the rest", "12345\rab\n", "ab345\n"},
		{"erased to the end", "12345\rab\x1b[K\n", "ab\n"},
		{"erased, all", "12345\x1b[2K\rab\n", "ab\n"},
		{"erased up to here", "12345\b\b\x1b[1K\n", "    5\n"},
		{"backspaces", "-\b\\\b|\b\b/ ok\n", "/ ok\n"},
		{"colours", "\x1b[1;31merror\x1b[0m: \x1b[38;5;1mx\x1b[m\n", "error: x\n"},
		{"a title", "\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b\x1b]8;;\x1b\\c\n", "abc\n"},
		{"a title without an end", "\x1b]0;title\nnext\n", "\nnext\n"},
		{"a character set", "\x1b(0a\x1b(Bb\x1b=c\n", "abc\n"},
		{"a sequence that is none", "\x1b[12\nnext\n", "\nnext\n"},
		{"control characters", "a\x00b\x01c\u009bd\x7fe\tf\a\n", "abcde\tf\n"},
		{"not UTF-8", "a\xffb\xe2\x82\n", "a\uFFFDb\uFFFD\uFFFD\n"},
		{"letters", "größer 日本\n", "größer 日本\n"},
		{"spaces at the end", "a  \n  b \n", "a\n  b\n"},
		{"more than fits", strings.Repeat("0123456789abcde\n", 100), strings.Repeat("0123456789abcde\n", 4)},
		{"an endless line", strings.Repeat("x", 10*maxLine), strings.Repeat("x", 64)},
		{"an endless progress bar", "first\n" + strings.Repeat("\r1%", 1<<20) + "\n", "first\n1%\n"},
		{"cut in a letter", strings.Repeat("€", 100), strings.Repeat("€", 21)},
	} {
		whole := New(64)
		whole.Write([]byte(c.in))
		if got := whole.String(); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if len(c.in) > 1<<10 {
			continue
		}
		bytewise := New(64)
		for n := range len(c.in) {
			bytewise.Write([]byte{c.in[n]})
		}
		if got := bytewise.String(); got != c.want {
			t.Errorf("%s, byte by byte: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestLastLine(t *testing.T) {
	for in, want := range map[string]string{"": "", "a": "a", "a\nb\n\n \n": "b", "  a b \n": "a b"} {
		text := New(64)
		text.Write([]byte(in))
		if got := text.LastLine(); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzTranscript(f *testing.F) {
	for _, s := range []string{"a\r\nb", "\x1b[1;31mred\x1b[0m", "\x1b]0;t\x07x", "12\b\b\x1b[1K\x1b[K", "\xe2\x82\xac\xff", "\x1b(0\x1bP\x1b\\"} {
		f.Add([]byte(s), 1)
	}
	f.Fuzz(func(t *testing.T, b []byte, at int) {
		const most = 100
		whole, parts := New(most), New(most)
		whole.Write(b)
		if at < 0 || at > len(b) {
			at = len(b)
		}
		parts.Write(b[:at])
		parts.Write(b[at:])
		got := whole.String()
		if got != parts.String() {
			t.Errorf("%q whole, %q in parts", got, parts.String())
		}
		if len(got) > most || !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) {
			t.Errorf("%q", got)
		}
	})
}
