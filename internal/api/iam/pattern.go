package iam

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// In a pattern, the wildcards are bytes that UTF-8 does not have, so that an asterisk which stands for itself (it came out of ${*} or of
// the value of a variable) cannot be taken for one.
const (
	anyText = '\xff' // *: any text, also none
	anyOne  = '\xfe' // ?: any one character
)

var wildcards = strings.NewReplacer("*", string([]byte{anyText}), "?", string([]byte{anyOne}))

// pattern is a text that others are compared with: with wildcards, perhaps with policy variables.
type pattern struct {
	text  string // without variables
	parts []part // with variables; the first and every second is text, those between are variables
}

// part is a piece of text or a variable.
type part struct {
	text string // of a variable: what it is when the request has no value
	key  key    // of a variable
	or   bool   // of a variable: text is its default
}

// pattern reads a text of the policy. wild says whether * and ? are wildcards.
func (c *compiler) pattern(text string, wild bool) (p pattern, err error) {
	plain := func(s string) string {
		if wild {
			return wildcards.Replace(s)
		}
		return s
	}
	before, rest, found := strings.Cut(text, "${")
	if !c.variables && found {
		c.warn("%q has a policy variable, which means itself in a policy of version %s; set Version to %s", text, version2008, version2012)
	}
	if !c.variables || !found {
		return pattern{text: plain(text)}, nil
	}
	current := plain(before)
	for found {
		inside, after, closed := strings.Cut(rest, "}")
		if !closed {
			return p, fmt.Errorf("the policy variable ${%s has no end; write ${$}{ for the characters ${", rest)
		}
		switch inside {
		case "*", "?", "$":
			current += inside
		default:
			v, err := c.variable(inside)
			if err != nil {
				return p, err
			}
			p.parts = append(p.parts, part{text: current}, v)
			current = ""
		}
		before, rest, found = strings.Cut(after, "${")
		current += plain(before)
	}
	if p.parts == nil {
		return pattern{text: current}, nil
	}
	p.parts = append(p.parts, part{text: current})
	return p, nil
}

// variable reads what is between ${ and }: a key, and perhaps a default in single quotes.
func (c *compiler) variable(inside string) (v part, err error) {
	name, fallback, or := strings.Cut(inside, ",")
	if or {
		fallback = strings.TrimSpace(fallback)
		if len(fallback) < 2 || fallback[0] != '\'' || fallback[len(fallback)-1] != '\'' {
			return v, fmt.Errorf("the default of the policy variable ${%s} must be in single quotes, as in ${aws:username, 'nobody'}", inside)
		}
		v.text, v.or = fallback[1:len(fallback)-1], true
	}
	v.key = keyOf(strings.TrimSpace(name))
	switch {
	case !v.key.present():
		return v, fmt.Errorf("the policy variable ${%s} has never a value on this server (%s); write the value itself", inside, v.key.absence())
	case v.key.id == tagKeys:
		return v, fmt.Errorf("the policy variable ${%s} has several values, and a variable must have one", inside)
	}
	return v, nil
}

// resolve puts the values of variables in; false when one has none.
func (p *pattern) resolve(r *Request) (string, bool) {
	if p.parts == nil {
		return p.text, true
	}
	var b strings.Builder
	for i := range p.parts {
		part := &p.parts[i]
		if i%2 == 0 {
			b.WriteString(part.text)
			continue
		}
		var one [1]string
		values := part.key.values(r, one[:0])
		switch {
		case len(values) == 1 && utf8.ValidString(values[0]):
			b.WriteString(values[0])
		case part.or:
			b.WriteString(part.text)
		default:
			return "", false
		}
	}
	return b.String(), true
}

// uses tells whether a variable of the pattern is one that is asked for.
func (p *pattern) uses(asks func(key) bool) bool {
	for i := 1; i < len(p.parts); i += 2 {
		if asks(p.parts[i].key) {
			return true
		}
	}
	return false
}

// match reports whether s matches a pattern's resolved text. It takes at most len(p)·len(s) steps.
func match(p, s string) bool {
	star, mark := -1, 0 // the last anyText and where its text ended
	i, j := 0, 0
	for j < len(s) {
		if i < len(p) {
			switch c := p[i]; {
			case c == anyText:
				star, mark = i, j
				i++
				continue
			case c == anyOne:
				i++
				j += width(s[j:])
				continue
			case c == s[j]:
				i++
				j++
				continue
			}
		}
		if star < 0 {
			return false
		}
		mark += width(s[mark:]) // let the last anyText take one character more
		i, j = star+1, mark
		if i < len(p) && p[i] < utf8.RuneSelf { // or up to where what follows it can begin
			n := strings.IndexByte(s[j:], p[i])
			if n < 0 {
				return false
			}
			mark, j = mark+n, j+n
		}
	}
	for i < len(p) && p[i] == anyText {
		i++
	}
	return i == len(p)
}

// width is the number of bytes of the first character.
func width(s string) int {
	if s[0] < utf8.RuneSelf {
		return 1
	}
	_, n := utf8.DecodeRuneInString(s)
	return n
}

// matchARN compares ARNs part by part: the first five of the six parts end at a colon, which no wildcard passes.
func matchARN(p, s string) bool {
	for range 5 {
		head, tail, ok := strings.Cut(p, ":")
		part, rest, has := strings.Cut(s, ":")
		if !ok || !has || !match(head, part) {
			return false
		}
		p, s = tail, rest
	}
	return match(p, s)
}
