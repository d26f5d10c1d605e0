// Package cmdline splits a command line that people wrote into its words, for
// programs that are started without a shell.
package cmdline

import (
	"errors"
	"strings"
)

// Split gives the words of line. They are parted by white space; within '…'
// everything counts as it is, within "…" a backslash takes the meaning from a
// quote or a backslash that follows, elsewhere from any character.
func Split(line string) ([]string, error) {
	var (
		words  []string
		word   strings.Builder
		inWord bool
		quote  rune
		escape bool
	)
	for _, r := range line {
		switch {
		case r == 0:
			return nil, errors.New("a command line cannot have a NUL")
		case escape:
			if quote == '"' && r != '"' && r != '\\' {
				word.WriteByte('\\')
			}
			word.WriteRune(r)
			escape = false
		case r == '\\' && quote != '\'':
			escape, inWord = true, true
		case quote != 0:
			if r == quote {
				quote = 0
			} else {
				word.WriteRune(r)
			}
		case r == '\'' || r == '"':
			quote, inWord = r, true
		case r == ' ' || r == '\t' || r == '\n' || r == '\r':
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	switch {
	case quote != 0:
		return nil, errors.New("a quote is not closed")
	case escape:
		return nil, errors.New("there is nothing after the last backslash")
	case inWord:
		words = append(words, word.String())
	}
	return words, nil
}
