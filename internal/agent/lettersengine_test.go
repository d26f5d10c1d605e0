package agent

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oriel-project/oriel/internal/agentapi"
)

// TestLetters: a session takes more different letters than a keyboard has keys, as people type who write in several scripts.
func TestLetters(t *testing.T) {
	i := newEngine(t).startFor(agentapi.RoleFleet, 1)
	i.ready()
	p := i.begin(agentapi.Session{ID: "anna", UserID: "anna", Stack: "s", AccessMode: "custom"})
	p.must(`nohup xterm -u8 -T letters -e sh -c 'stty -echo; touch ~/there; cat >~/typed' >/dev/null 2>&1 & :`)
	until := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(patience); !ok(); time.Sleep(100 * time.Millisecond) {
			if time.Now().After(end) {
				out, _ := p.run("cat ~/typed")
				t.Fatalf("%s: %q", what, out)
			}
		}
	}
	until("the terminal", func() bool { _, ok := p.run("test -e ~/there"); return ok })

	display, err := p.Display(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer display.Close()
	display.SetDeadline(time.Now().Add(5 * patience))
	read := func(n int) []byte {
		t.Helper()
		b := make([]byte, n)
		if _, err := io.ReadFull(display, b); err != nil {
			t.Fatal(err)
		}
		return b
	}
	write := func(b ...byte) {
		t.Helper()
		if _, err := display.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	write(read(12)...)                                // the version
	read(int(read(1)[0]))                             // kinds of security
	write(1)                                          // none
	read(4)                                           // all right
	write(1)                                          // shared
	read(int(binary.BigEndian.Uint32(read(24)[20:]))) // the name
	key := func(keysym uint32) {
		for _, down := range []byte{1, 0} {
			write(binary.BigEndian.AppendUint32([]byte{4, down, 0, 0}, keysym)...)
			time.Sleep(5 * time.Millisecond)
		}
	}
	const letters = "абвгдежзийклмнопрстуфхцчшщъыьэюяАБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯαβγδεζηθικλμνξοπρστυφχψω"
	// A line at a time, as a program takes them: one that is far behind finds a key with its next letter.
	line := func(letters ...rune) {
		for _, r := range letters {
			key(0x1000000 + uint32(r))
		}
		key(0xff0d) // Return
	}
	// A program may miss the very first letter that its keyboard did not have: it hears of the new key too late.
	line('ж')
	until("the first line", func() bool { _, ok := p.run("test -s ~/typed"); return ok })
	want := ""
	for some := range slices.Chunk([]rune(letters), 16) {
		line(some...)
		want += "\n" + string(some)
		until(fmt.Sprintf("the line %q", string(some)), func() bool { out, _ := p.run("echo .; cat ~/typed"); return strings.HasSuffix(out, want) })
	}
}
