package password

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestOnlyThePasswordHasItsHash(t *testing.T) {
	h := New(Advised, 2)
	hash, err := h.Hash(t.Context(), "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	again, _ := h.Hash(t.Context(), "correct horse")
	if hash == again || !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("hashes: %s, %s", hash, again)
	}
	for password, want := range map[string]bool{"correct horse": true, "correct hors": false, "": false, "Correct horse": false, "correct horse ": false} {
		if ok, err := h.Check(t.Context(), hash, password); err != nil || ok != want {
			t.Errorf("Check of %q: %v, %v", password, ok, err)
		}
	}
	composed, err := h.Hash(t.Context(), "schöner Gruß")
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := h.Check(t.Context(), composed, "scho\u0308ner Gruß"); !ok || err != nil {
		t.Errorf("the same letters of another keyboard: %v, %v", ok, err)
	}
	for _, broken := range []string{"x", strings.Replace(hash, "m=19456", "m=999999999", 1), strings.Replace(hash, "p=1", "p=0", 1), strings.Replace(hash, "argon2id", "argon2i", 1), hash + "$", strings.Replace(hash, "t=2", "t=02", 1)} {
		if _, err := h.Check(t.Context(), broken, "correct horse"); !errors.Is(err, ErrInvalid) {
			t.Errorf("Check against %q: %v", broken, err)
		}
	}
}

// Somebody who does not exist has no password, not even an empty one, and the question costs what any other does.
func TestNobodyHasNoPassword(t *testing.T) {
	h := New(Advised, 1)
	for _, password := range []string{"", "x", strings.Repeat("\x00", keySize)} {
		if ok, err := h.Check(t.Context(), "", password); ok || err != nil {
			t.Errorf("Check of %q: %v, %v", password, ok, err)
		}
	}
	c, err := decode(h.decoy)
	if err != nil || c.Cost != Advised {
		t.Errorf("the decoy costs %+v, %v", c, err)
	}
}

// However many ask at once, only so many are checked at a time; those that cannot even wait are told so at once, the others after a while.
func TestMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(Advised, 2)
		leave := make([]func(), 2)
		for n := range leave {
			leave[n], _ = h.enter(t.Context())
		}
		start := time.Now()
		var wg sync.WaitGroup
		for range cap(h.queue) - 2 {
			wg.Go(func() {
				if _, err := h.Check(t.Context(), "", "x"); !errors.Is(err, ErrBusy) || time.Since(start) != h.patient {
					t.Errorf("after %s: %v", time.Since(start), err)
				}
			})
		}
		synctest.Wait()
		if _, err := h.Hash(t.Context(), "x"); !errors.Is(err, ErrBusy) || time.Since(start) != 0 {
			t.Errorf("one too many, after %s: %v", time.Since(start), err)
		}
		wg.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := h.Hash(ctx, "x"); !errors.Is(err, context.Canceled) {
			t.Errorf("somebody who has left: %v", err)
		}
		for _, leave := range leave {
			leave()
		}
		if len(h.slots)+len(h.queue) != 0 {
			t.Errorf("%d at work and %d waiting when nobody is there", len(h.slots), len(h.queue))
		}
	})
}

func TestWeakPasswords(t *testing.T) {
	for password, want := range map[string]Weakness{
		"correct horse": "", strings.Repeat("ü", 3) + "bermorgen": "", "пароль для меня": "", strings.Repeat("abcde", 26)[:Longest]: "", "short": Short, "123456789": Short, strings.Repeat("abcde", 26): Long,
		"aaaaaaaaaaaa": Plain, "abababABABAB": Plain, "Jane.Roe.Long@example.com": Known, "JANE.ROE.LONG": Known, "example.com": Known, "correct\xff horse": Broken,
		"jane.roe.long123": Known, "Example2026!": Known, "JaneRoeLong1!": Known, "!!example.com!!": Known,
		"password123": Common, "password123456789": Common, "Passw0rd2026!": Common, "P@$$w0rd!!": Common, "qwertyuiop": Common, "1234567890": Common, "0987654321": Common, "abcdefghijk": Common, "qwerty12345": Common,
		"Summer2026!!": Common, "1q2w3e4r5t": Common, "letmeinletmein": Common, "123456abcdef": Common, "hallo12345": Common, "asdfghjkl;1": Common, "Willkommen1": Common,
		"Summer in Rome": "", "passwords are dull": "", "hello48291038471": "", "my jane is here": "", "tr0ub4dor&3x": "", "k7wq-3mzp-x9fd-2hbt": "", "12345 potatoes": "",
	} {
		if got := Weak(password, "jane.roe.long@example.com"); got != want {
			t.Errorf("Weak(%q) = %q, want %q", password, got, want)
		}
	}
}

func TestTemporaryPasswords(t *testing.T) {
	seen := map[string]bool{}
	form := regexp.MustCompile(`^[a-z2-9]{4}(-[a-z2-9]{4}){3}$`)
	for range 200 {
		p := Temporary()
		if !form.MatchString(p) || seen[p] || strings.ContainsAny(p, "lo01") || Weak(p, "jane@example.com") != "" {
			t.Errorf("a temporary password: %s", p)
		}
		seen[p] = true
	}
}

func FuzzDecode(f *testing.F) {
	h := New(Advised, 1)
	f.Add(h.decoy)
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$$")
	f.Add("$argon2id$v=19$m=-1,t=2,p=1$AAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := decode(text); err == nil && (c.Memory > maxMemory || c.Passes > maxPasses || len(c.key) < 16) {
			t.Errorf("%q costs %+v", text, c)
		}
	})
}

func FuzzWeak(f *testing.F) {
	f.Add("Passw0rd2026!", "jane@example.com")
	f.Add("\xff", "@")
	f.Fuzz(func(t *testing.T, password, address string) { Weak(password, address) })
}
