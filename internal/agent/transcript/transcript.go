// Package transcript keeps the end of what a program writes, as plain text: what
// a person would read on a terminal after it.
package transcript

import (
	"bytes"
	"sync"
	"unicode"
	"unicode/utf8"
)

// maxLine is how many characters one line has at most; a longer one is broken.
const maxLine = 4096

// Transcript is the end of what was written to it. Carriage returns and
// backspaces have what follows overwrite the line, so that of a progress bar its
// last state is kept; escape sequences do nothing, but for those that erase in
// the line. The zero value keeps nothing; use New.
type Transcript struct {
	max int

	mu     sync.Mutex
	done   []byte // whole lines
	line   []rune // the one that is written
	column int    // in line
	part   []byte // the beginning of a character
	escape escape
	number int // of an escape sequence
}

// escape is where in an escape sequence the text is.
type escape int

const (
	none      escape = iota
	begun            // after ESC
	charset          // one character more
	control          // ESC [ up to a letter
	command          // ESC ] and others, up to BEL or ESC \
	commanded        // after an ESC in these
)

// New returns a transcript of the last max bytes.
func New(max int) *Transcript { return &Transcript{max: max} }

// Write adds to the transcript. It never fails.
func (t *Transcript) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(b)
	if len(t.part) > 0 {
		b = append(t.part, b...)
		t.part = nil
	}
	for len(b) > 0 {
		if !utf8.FullRune(b) {
			t.part = bytes.Clone(b)
			break
		}
		r, size := utf8.DecodeRune(b)
		b = b[size:]
		t.add(r)
	}
	return n, nil
}

func (t *Transcript) add(r rune) {
	switch t.escape {
	case none:
		t.put(r)
	case begun:
		t.escape = none
		switch {
		case r == '[':
			t.escape, t.number = control, 0
		case r == ']' || r == 'P' || r == 'X' || r == '^' || r == '_':
			t.escape = command
		case r >= ' ' && r <= '/':
			t.escape = charset
		case r < ' ':
			t.put(r)
		}
	case charset:
		if t.escape = none; r < ' ' {
			t.put(r)
		}
	case control:
		switch {
		case r >= '0' && r <= '9':
			t.number = min(10*t.number+int(r-'0'), maxLine)
		case r >= '@' && r <= '~':
			t.escape = none
			if r == 'K' {
				t.erase(t.number)
			}
		case r < ' ':
			// A terminal does these in the midst of a sequence; what is no
			// sequence at all ends here.
			t.escape = none
			t.put(r)
		}
	case command:
		switch r {
		case '\a', '\n': // the second of which is none's part, should its end be lost
			t.escape = none
			if r == '\n' {
				t.put(r)
			}
		case '\x1b':
			t.escape = commanded
		}
	case commanded:
		t.escape = none
		if r != '\\' {
			t.escape = begun
			t.add(r)
		}
	}
}

// put writes a character that is in no escape sequence.
func (t *Transcript) put(r rune) {
	switch {
	case r == '\n':
		t.end(true)
	case r == '\r':
		t.column = 0
	case r == '\b':
		t.column = max(0, t.column-1)
	case r == '\x1b':
		t.escape = begun
	case r != '\t' && unicode.IsControl(r):
	default:
		if t.column >= maxLine {
			t.end(false)
		}
		if t.column == len(t.line) {
			t.line = append(t.line, r)
		} else {
			t.line[t.column] = r
		}
		t.column++
	}
}

// erase erases in the line: 0 from here on, 1 up to here, 2 all.
func (t *Transcript) erase(what int) {
	switch what {
	case 0:
		t.line = t.line[:t.column]
	case 1, 2:
		for n := range t.line {
			if what == 2 || n <= t.column {
				t.line[n] = ' '
			}
		}
	}
}

// end ends the line.
func (t *Transcript) end(feed bool) {
	t.done = appendLine(t.done, t.line)
	if feed {
		t.done = append(t.done, '\n')
	}
	t.line, t.column = t.line[:0], 0
	if len(t.done) > 2*t.max+utf8.UTFMax*maxLine {
		t.done = append(t.done[:0], t.done[len(t.done)-t.max:]...)
	}
}

// appendLine adds a line without the spaces at its end.
func appendLine(text []byte, line []rune) []byte {
	for len(line) > 0 && line[len(line)-1] == ' ' {
		line = line[:len(line)-1]
	}
	for _, r := range line {
		text = utf8.AppendRune(text, r)
	}
	return text
}

// String is the end of the text: at most max bytes of UTF-8, with no control
// characters but line feeds and tabs.
func (t *Transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := appendLine(bytes.Clone(t.done), t.line)
	text = text[max(0, len(text)-t.max):]
	for len(text) > 0 && !utf8.RuneStart(text[0]) {
		text = text[1:]
	}
	return string(text)
}

// LastLine is the last line that is not empty.
func (t *Transcript) LastLine() string {
	text := bytes.TrimSpace([]byte(t.String()))
	return string(bytes.TrimSpace(text[bytes.LastIndexByte(text, '\n')+1:]))
}
