package ticket

import (
	"bytes"
	"encoding/base64"
	"encoding/json/v2"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var now = time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)

func newSigner(t testing.TB, fill byte) *Signer {
	t.Helper()
	s, err := NewSigner(bytes.Repeat([]byte{fill}, KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func claims() Claims {
	return Claims{Type: TypeAdmin, Account: "123456789012", Region: "us-west-2", Builder: "hello", RecordID: "ib-1",
		UserID: UserAdmin, Expires: now.Add(time.Hour), Nonce: "n"}
}

// parts takes the two values out of a streaming URL.
func parts(t interface{ Fatal(...any) }, address string) (parameters, signature string) {
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query().Get("parameters"), u.Query().Get("signature")
}

func TestURL(t *testing.T) {
	s := newSigner(t, 1)
	for _, base := range []string{"https://oriel.example:8443", "https://oriel.example:8443/"} {
		got, err := s.URL(base, claims())
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(got, "https://oriel.example:8443/authenticate?parameters=") {
			t.Errorf("URL(%q) = %s", base, got)
		}
		parameters, signature := parts(t, got)
		back, err := s.Parse(parameters, signature, now)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(claims(), back); diff != "" {
			t.Error(diff)
		}
		text, err := base64.RawURLEncoding.DecodeString(parameters)
		if err != nil {
			t.Fatal(err)
		}
		var members map[string]string // all of AppStream's members are strings
		if err := json.Unmarshal(text, &members); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{"type": "ADMIN", "expires": "1795255200", "awsAccountId": "123456789012", "userId": "admin"} {
			if members[name] != want {
				t.Errorf("member %s = %q, want %q", name, members[name], want)
			}
		}
	}
}

func TestNonceMakesTicketsDiffer(t *testing.T) {
	s, c := newSigner(t, 1), claims()
	c.Nonce = ""
	one, err1 := s.URL("https://x", c)
	two, err2 := s.URL("https://x", c)
	if err1 != nil || err2 != nil || one == two {
		t.Errorf("two tickets for the same claims: equal %v, errors %v, %v", one == two, err1, err2)
	}
}

func TestNewSignerRefusesShortKeys(t *testing.T) {
	if _, err := NewSigner(make([]byte, KeySize-1)); err == nil {
		t.Error("a key of 31 bytes was accepted")
	}
}

func TestTooLong(t *testing.T) {
	c := claims()
	c.Builder = strings.Repeat("x", maxParameters)
	if _, err := newSigner(t, 1).URL("https://x", c); err == nil {
		t.Error("a ticket that Parse would refuse was made")
	}
}

func TestParseRefuses(t *testing.T) {
	s := newSigner(t, 1)
	address, err := s.URL("https://x", claims())
	if err != nil {
		t.Fatal(err)
	}
	parameters, signature := parts(t, address)
	session, err := s.Session(claims())
	if err != nil {
		t.Fatal(err)
	}
	sessionParameters, sessionSignature, _ := strings.Cut(session, ".")
	// Genuine signatures under texts that are no tickets.
	signed := func(text string) (string, string) {
		p := base64.RawURLEncoding.EncodeToString([]byte(text))
		return p, s.sign(purposeTicket, p)
	}
	for _, tt := range []struct {
		name       string
		parameters string
		signature  string
		at         time.Time
		want       error
	}{
		{"genuine", parameters, signature, now, nil},
		{"last second", parameters, signature, now.Add(time.Hour - time.Second), nil},
		{"expired", parameters, signature, now.Add(time.Hour), ErrExpired},
		{"nothing", "", "", now, ErrInvalid},
		{"no signature", parameters, "", now, ErrInvalid},
		{"upper case", parameters, strings.ToUpper(signature), now, ErrInvalid},
		{"padded", parameters + "=", signature, now, ErrInvalid},
		{"a session's", sessionParameters, sessionSignature, now, ErrInvalid},
		{"too long", strings.Repeat("A", maxParameters+1), signature, now, ErrInvalid},
	} {
		_, err := s.Parse(tt.parameters, tt.signature, tt.at)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	for _, text := range []string{
		"", "null", "{}", "[]", "not JSON",
		`{"type":"ADMIN","expires":"x","recordId":"r"}`,
		`{"type":"END_USER","expires":"9999999999","recordId":"r"}`,
		`{"type":"ADMIN","expires":"9999999999","recordId":""}`,
		`{"type":"ADMIN","expires":"9999999999","recordId":"r","extra":1}`,
		`{"type":"ADMIN","type":"ADMIN","expires":"9999999999","recordId":"r"}`,
	} {
		p, sig := signed(text)
		if _, err := s.Parse(p, sig, now); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", text, err)
		}
	}
	if _, err := newSigner(t, 2).Parse(parameters, signature, now); !errors.Is(err, ErrInvalid) {
		t.Errorf("another server's ticket: %v", err)
	}
	if _, err := s.ParseSession(parameters+"."+signature, now); !errors.Is(err, ErrInvalid) {
		t.Errorf("a ticket as a session: %v", err)
	}
	if c, err := s.ParseSession(session, now.Add(2*time.Hour)); !errors.Is(err, ErrExpired) || c.Builder != "hello" {
		t.Errorf("an old session: %v, %v", c, err)
	}
}

// Whatever is signed comes back, and no text that differs from it in one bit is accepted.
func TestAnyAlteredBitIsRefused(t *testing.T) {
	s := newSigner(t, 1)
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[ -~äß✓]{0,60}`)
		c := Claims{Type: TypeAdmin, Account: text.Draw(t, "account"), Region: text.Draw(t, "region"), Builder: text.Draw(t, "builder"),
			RecordID: text.Draw(t, "id") + "r", UserID: UserAdmin, Nonce: text.Draw(t, "nonce") + "n",
			Expires: now.Add(time.Duration(rapid.IntRange(1, 604800).Draw(t, "validity")) * time.Second)}
		address, err := s.URL("https://x", c)
		if err != nil {
			t.Fatal(err)
		}
		parameters, signature := parts(t, address)
		back, err := s.Parse(parameters, signature, now)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c, back); diff != "" {
			t.Fatal(diff)
		}
		whole := []byte(parameters + signature)
		at := rapid.IntRange(0, len(whole)-1).Draw(t, "byte")
		whole[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, err := s.Parse(string(whole[:len(parameters)]), string(whole[len(parameters):]), now); !errors.Is(err, ErrInvalid) {
			t.Fatalf("altered at byte %d: %v", at, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	s := newSigner(f, 1)
	address, err := s.URL("https://x", claims())
	if err != nil {
		f.Fatal(err)
	}
	parameters, signature := parts(f, address)
	session, err := s.Session(claims())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(parameters, signature)
	f.Add(parameters, strings.ToUpper(signature))
	f.Add(session, "")
	f.Add("", "")
	f.Add(strings.Repeat("e30", 2000), strings.Repeat("0", signatureSize))
	f.Fuzz(func(t *testing.T, p, sig string) {
		c, err := s.Parse(p, sig, now)
		if err == nil && (p != parameters || sig != signature) {
			t.Errorf("accepted %q, %q as %v", p, sig, c)
		}
		if _, err := s.ParseSession(p, now); err == nil && p != session {
			t.Errorf("accepted the session %q", p)
		}
		// What is behind the signature must not be able to hurt either.
		if c, err := s.Parse(p, s.sign(purposeTicket, p), now); err == nil && (c.Type != TypeAdmin || c.RecordID == "" || !c.Expires.After(now)) {
			t.Errorf("a signed ticket became %v", c)
		}
	})
}
