package iam

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// matchSlowly is what match does, in the plainest way: the table of which beginning of the pattern fits which beginning of the text.
func matchSlowly(pattern, text string) bool {
	p, s := []rune(pattern), []rune(text)
	fits := make([][]bool, len(p)+1)
	for i := range fits {
		fits[i] = make([]bool, len(s)+1)
	}
	fits[0][0] = true
	for i := 1; i <= len(p); i++ {
		for j := 0; j <= len(s); j++ {
			switch {
			case p[i-1] == '*':
				fits[i][j] = fits[i-1][j] || j > 0 && fits[i][j-1]
			case j > 0 && (p[i-1] == '?' || p[i-1] == s[j-1]):
				fits[i][j] = fits[i-1][j-1]
			}
		}
	}
	return fits[len(p)][len(s)]
}

func TestMatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.StringMatching(`[abé€*?]{0,12}`).Draw(t, "pattern")
		s := rapid.StringMatching(`[abé€*?]{0,12}`).Draw(t, "text")
		if got, want := match(wildcards.Replace(p), s), matchSlowly(p, s); got != want {
			t.Errorf("match(%q, %q) = %v", p, s, got)
		}
	})
}

func FuzzMatch(f *testing.F) {
	for _, s := range [][2]string{{"*", ""}, {"a*b?c", "axxbyc"}, {"??*", "€"}, {"*a*a*a*b", "aaaaaaaaaaaaaaaa"}, {"arn:aws:*:?", mine}, {"", ""}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, p, s string) {
		p, s = strings.ToValidUTF8(p, ""), strings.ToValidUTF8(s, "")
		if len(p)*len(s) > 1<<20 {
			return
		}
		if got, want := match(wildcards.Replace(p), s), matchSlowly(p, s); got != want {
			t.Errorf("match(%q, %q) = %v", p, s, got)
		}
		if strings.Count(p, ":") < 5 {
			return
		}
		// Whatever matches part by part also matches as a whole.
		if matchARN(wildcards.Replace(p), s) && !matchSlowly(p, s) {
			t.Errorf("matchARN(%q, %q)", p, s)
		}
	})
}

// What is not UTF-8 (a header may hold any bytes) is no wildcard.
func TestMatchBytes(t *testing.T) {
	for _, tt := range []struct {
		p, s string
		want bool
	}{{"a", "\xff", false}, {"*", "\xff\xfe", true}, {"?", "\xff", true}, {"a?c", "a\xfec", true}, {"abc", "a\xffc", false}} {
		if got := match(wildcards.Replace(tt.p), tt.s); got != tt.want {
			t.Errorf("match(%q, %q) = %v", tt.p, tt.s, got)
		}
	}
}

func TestMatchARN(t *testing.T) {
	for _, tt := range []struct {
		p, s string
		want bool
	}{
		{"arn:aws:someservice:*:111122223333:finance/*", "arn:aws:someservice:us-east-2:999999999999:store/abc:111122223333:finance/document.txt", false}, // AWS's own example
		{"arn:aws:someservice:*:111122223333:finance/*", "arn:aws:someservice:us-east-2:111122223333:finance/a:b", true},
		{"arn:*:iam::*:user/*", "arn:aws:iam::123456789012:user/path/ci", true},
		{"arn:aws:iam::*:user/c?", "arn:aws:iam::123456789012:user/ci", true},
		{"arn:aws:iam::*:user/CI", "arn:aws:iam::123456789012:user/ci", false},
		{"arn:aws:iam:*:user/ci:x", "arn:aws:iam::123456789012:user/ci", false},
		{"arn:aws:iam::*:*", "ci", false},
	} {
		if got := matchARN(wildcards.Replace(tt.p), tt.s); got != tt.want {
			t.Errorf("matchARN(%q, %q) = %v", tt.p, tt.s, got)
		}
	}
}

// TestVariables: the value of a variable is text, whatever it is; the variables ${*}, ${?} and ${$} are those characters.
func TestVariables(t *testing.T) {
	const user, root = "arn:aws:iam::123456789012:user/team/ci", "arn:aws:iam::123456789012:root"
	for _, tt := range []struct {
		name, version, principal, resource, asked string
		want                                      Decision
	}{
		{"user", version2012, user, "arn:aws:appstream:*:*:image-builder/${aws:username}-*", "arn:aws:appstream:us-west-2:123456789012:image-builder/ci-1", Allow},
		{"another user", version2012, user, "arn:aws:appstream:*:*:image-builder/${aws:username}-*", "arn:aws:appstream:us-west-2:123456789012:image-builder/cd-1", ImplicitDeny},
		{"case of the key", version2012, user, "arn:aws:appstream:*:*:image-builder/${AWS:UserName}", "arn:aws:appstream:us-west-2:123456789012:image-builder/ci", Allow},
		{"no user", version2012, root, "arn:aws:appstream:*:*:image-builder/${aws:username}*", "arn:aws:appstream:us-west-2:123456789012:image-builder/x", ImplicitDeny},
		{"default", version2012, root, "arn:aws:appstream:*:*:image-builder/${aws:username, 'any*'}", "arn:aws:appstream:us-west-2:123456789012:image-builder/any*", Allow},
		{"default is no pattern", version2012, root, "arn:aws:appstream:*:*:image-builder/${aws:username, 'any*'}", "arn:aws:appstream:us-west-2:123456789012:image-builder/anything", ImplicitDeny},
		{"value over default", version2012, user, "arn:aws:appstream:*:*:image-builder/${aws:username,'x'}", "arn:aws:appstream:us-west-2:123456789012:image-builder/ci", Allow},
		{"value is no pattern", version2012, "arn:aws:iam::123456789012:user/*", "arn:aws:appstream:*:*:image-builder/${aws:username}", "arn:aws:appstream:us-west-2:123456789012:image-builder/ci", ImplicitDeny},
		{"characters", version2012, user, "arn:aws:appstream:*:*:image-builder/${*}${?}${$}", "arn:aws:appstream:us-west-2:123456789012:image-builder/*?$", Allow},
		{"characters are no wildcards", version2012, user, "arn:aws:appstream:*:*:image-builder/a${*}", "arn:aws:appstream:us-west-2:123456789012:image-builder/ab", ImplicitDeny},
		{"two variables", version2012, user, "arn:aws:appstream:*:*:image-builder/${aws:username}.${aws:RequestedRegion}${$}", "arn:aws:appstream:us-west-2:123456789012:image-builder/ci.us-west-2$", Allow},
		{"old version", version2008, user, "arn:aws:appstream:*:*:image-builder/${aws:username}", "arn:aws:appstream:us-west-2:123456789012:image-builder/ci", ImplicitDeny},
		{"old version, the text itself", version2008, user, "arn:aws:appstream:*:*:image-builder/${aws:username}", "arn:aws:appstream:us-west-2:123456789012:image-builder/${aws:username}", Allow},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := parse(t, `{"Version":"`+tt.version+`","Statement":{"Effect":"Allow","Action":"*","Resource":"`+tt.resource+`"}}`)
			if got := p.Decide(&Request{Action: "a:B", Resource: tt.asked, Principal: tt.principal, Region: "us-west-2"}); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// A variable without a value names no resource. A statement about all resources but those that it names must not allow more for that, nor deny less.
func TestVariableWithoutValue(t *testing.T) {
	for effect, want := range map[string]Decision{"Allow": ImplicitDeny, "Deny": ExplicitDeny} {
		p := parse(t, `{"Version":"2012-10-17","Statement":{"Effect":"`+effect+`","Action":"*","NotResource":"arn:aws:appstream:*:*:image/${aws:username}"}}`)
		if got := p.Decide(&Request{Action: "a:B", Resource: mine}); got != want {
			t.Errorf("%s: %v", effect, got)
		}
	}
}
