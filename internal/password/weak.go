package password

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of passwords that people choose, in characters.
const (
	Shortest = 10
	Longest  = 128
)

// A Weakness is why a password cannot be chosen.
type Weakness string

// The weaknesses.
const (
	Short  Weakness = "short"  // fewer characters than Shortest
	Long   Weakness = "long"   // more than Longest
	Plain  Weakness = "plain"  // few different characters
	Known  Weakness = "known"  // it is the person's address, or a part of it, with little more
	Common Weakness = "common" // it is among the first that are tried
	Broken Weakness = "broken" // it is no text
)

// Weak tells why somebody of that e-mail address cannot choose a password; "" when he can. Who guesses has a few attempts an hour, so that only what comes first to
// many minds has to be kept out.
func Weak(password, address string) Weakness {
	if !utf8.ValidString(password) {
		return Broken
	}
	password, address = strings.ToLower(password), strings.ToLower(address)
	different := map[rune]bool{}
	for _, r := range password {
		different[r] = true
	}
	switch n := utf8.RuneCountInString(password); {
	case n < Shortest:
		return Short
	case n > Longest:
		return Long
	case len(different) < 5:
		return Plain
	case password == address, isWord(password, addressWords(address)):
		return Known
	case isWord(password, commonWords), isRow(password):
		return Common
	}
	return ""
}

// commonWords are what most passwords that are guessed are made of, in English and German.
var commonWords = wordList(`
	password passwort passw kennwort geheim secret letmein welcome willkommen hallo hello login admin administrator root master user benutzer guest test testing default changeme start
	qwerty qwertz qwertyuiop qwertzuiop asdfghjkl yxcvbnm zxcvbnm asdf abc abcd abcdef xyz
	1q2w3e4r 1q2w3e4r5t 1qaz2wsx 1qaz2wsx3edc q1w2e3r4 q1w2e3r4t5 1qay2wsx
	iloveyou ichliebedich schatz princess prinzessin sunshine dragon monkey football fussball baseball superman batman starwars pokemon freedom trustno shadow michael jordan
	spring summer autumn winter fruehling frühling sommer herbst monday montag sunday sonntag
	january february march april august september october november december januar februar märz juni juli oktober dezember
	oriel appstream workspace workspaces company firma office`)

func wordList(text string) map[string]bool {
	list := map[string]bool{}
	for word := range strings.FieldsSeq(text) {
		list[word] = true
	}
	return list
}

// addressWords gives the parts of an e-mail address that are words of a kind: whole, without its dots and other signs, and between these.
func addressWords(address string) map[string]bool {
	list := map[string]bool{}
	sign := func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }
	for part := range strings.SplitSeq(address, "@") {
		words := strings.FieldsFunc(part, sign)
		list[part], list[strings.Join(words, "")] = true, true
		for _, word := range words {
			if utf8.RuneCountInString(word) > 2 {
				list[word] = true
			}
		}
	}
	return list
}

// disguises are the signs that are written for letters.
var disguises = strings.NewReplacer("0", "o", "1", "i", "3", "e", "4", "a", "5", "s", "7", "t", "@", "a", "$", "s", "!", "i", "€", "e")

// mostAround is how many digits and signs do not yet make a password of a word. Those in a row never do.
const mostAround = 7

// isWord tells whether a password is one of the words, or that word twice, perhaps disguised, with few digits and signs around.
func isWord(password string, words map[string]bool) bool {
	core := strings.TrimFunc(password, func(r rune) bool { return !unicode.IsLetter(r) })
	before, behind, _ := strings.Cut(password, core)
	if around := before + behind; utf8.RuneCountInString(around) > mostAround && !isRow(around) {
		return false
	}
	for _, text := range []string{password, core, disguises.Replace(core)} {
		if words[text] || len(text)%2 == 0 && text[:len(text)/2] == text[len(text)/2:] && words[text[:len(text)/2]] {
			return true
		}
	}
	return false
}

// rows are the keys that are beside one another.
const rows = "1234567890 qwertyuiop qwertzuiop asdfghjkl zxcvbnm yxcvbnm"

// isRow tells whether a password goes along the keyboard or the alphabet, with few jumps.
func isRow(password string) bool {
	jumps, last := 0, rune(0)
	for n, r := range password {
		if step := r - last; n > 0 && step != 0 && step != 1 && step != -1 && !strings.Contains(rows, string([]rune{last, r})) && !strings.Contains(rows, string([]rune{r, last})) {
			jumps++
		}
		last = r
	}
	return jumps < 3
}
