package sudo

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		line string
		want invocation
	}{
		{"apt install -y x", invocation{Argv: []string{"apt", "install", "-y", "x"}}},
		{"-- -x", invocation{Argv: []string{"-x"}}},
		{"-nEH id", invocation{KeepAll: true, Home: true, Argv: []string{"id"}}},
		{"-u me id", invocation{User: "me", Argv: []string{"id"}}},
		{"-ume id", invocation{User: "me", Argv: []string{"id"}}},
		{"-nu me id", invocation{User: "me", Argv: []string{"id"}}},
		{"--user=me --group g id", invocation{User: "me", Group: "g", Argv: []string{"id"}}},
		{"-u #1000 -D /tmp id", invocation{User: "#1000", Dir: "/tmp", Argv: []string{"id"}}},
		{"A=1 B= cmd C=3", invocation{Set: []string{"A=1", "B="}, Argv: []string{"cmd", "C=3"}}},
		{"A=1 -E cmd", invocation{Set: []string{"A=1"}, KeepAll: true, Argv: []string{"cmd"}}},
		{"-- A=1 cmd", invocation{Set: []string{"A=1"}, Argv: []string{"cmd"}}},
		{"1A=1 cmd", invocation{Argv: []string{"1A=1", "cmd"}}},
		{"--preserve-env=A,B cmd", invocation{Keep: []string{"A", "B"}, Argv: []string{"cmd"}}},
		{"--preserve-env cmd", invocation{KeepAll: true, Argv: []string{"cmd"}}},
		{"-i", invocation{Login: true}},
		{"-i cmd x", invocation{Login: true, Argv: []string{"cmd", "x"}}},
		{"-s", invocation{Shell: true}},
		{"-S -p pass cmd", invocation{Argv: []string{"cmd"}}},
		{"-b cmd", invocation{inBackground: true, Argv: []string{"cmd"}}},
		{"-v", invocation{Check: true}},
		{"-l", invocation{action: actionList}},
		{"-k", invocation{action: actionNothing}},
		{"-k cmd", invocation{Argv: []string{"cmd"}}},
		{"-V", invocation{action: actionVersion}},
		{"-h", invocation{action: actionHelp}},
	} {
		got, err := parse(strings.Fields(c.line))
		if err != nil {
			t.Errorf("%s: %v", c.line, err)
			continue
		}
		if diff := cmp.Diff(&c.want, got, cmp.AllowUnexported(invocation{}), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: %s", c.line, diff)
		}
	}
	for line, want := range map[string]string{
		"":              "usage:",
		"A=1":           "usage:",
		"-u":            "requires an argument",
		"--user":        "requires an argument",
		"-x cmd":        "invalid option -- 'x'",
		"--xyz cmd":     "unrecognized option '--xyz'",
		"--login=1 cmd": "doesn't allow an argument",
		"-i -s":         "both",
	} {
		if _, err := parse(strings.Fields(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"-u me A=1 -- cmd", "--preserve-env=A,B -nEi", "-", "--", "--=", "-u"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, " ")
		v, err := parse(args)
		if err != nil {
			return
		}
		// What is run is the end of what was typed.
		if n := len(v.Argv); n > len(args) || !slices.Equal(v.Argv, args[len(args)-n:]) {
			t.Errorf("%q runs %q", args, v.Argv)
		}
	})
}

// A real shell is the judge of what it is given.
func TestShellCommandKeepsWords(t *testing.T) {
	word := rapid.StringMatching(`[^\x00$\\"]{0,12}|[ *?'"\\\n;&|<>~#!(){}\[\]a-c\t]{0,12}`)
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(word, 1, 4).Draw(t, "words")
		out, err := exec.Command("/bin/sh", "-c", "printf '%s\\000' "+shellCommand(words)).Output()
		if err != nil {
			t.Fatalf("%q: %v", words, err)
		}
		if got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"); !slices.Equal(got, words) {
			t.Fatalf("%q became %q", words, got)
		}
	})
	if got := shellCommand([]string{"echo", "$HOME", "a b"}); got != `echo $HOME a\ b` {
		t.Error(got)
	}
}

func TestWords(t *testing.T) {
	for _, list := range [][]string{nil, {""}, {"a", "", "\xff\n"}, {"", ""}} {
		if got := makeWords(list...).list(); !slices.Equal(got, list) {
			t.Errorf("%q became %q", list, got)
		}
	}
}

func TestFrames(t *testing.T) {
	var b bytes.Buffer
	in := request{Argv: makeWords("a\xff"), Invocation: invocation{User: "u", Login: true}, TTY: true, Umask: 0o22}
	if err := send(&b, in); err != nil {
		t.Fatal(err)
	}
	var out request
	if err := receive(&b, &out); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(in, out, cmp.AllowUnexported(invocation{}), cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
	if err := receive(strings.NewReader("\xff\xff\xff\xff"), &out); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Error(err)
	}
	if err := receive(strings.NewReader("\x00\x00\x00\x09{}"), &out); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	if err := send(io.Discard, request{Env: make(words, maxFrame)}); err == nil {
		t.Error("an endless request was sent")
	}
}

func FuzzReceive(f *testing.F) {
	var b bytes.Buffer
	send(&b, request{Argv: makeWords("id"), Env: makeWords("A=1")})
	f.Add(b.Bytes())
	f.Add([]byte("\x00\x00\x00\x02{}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var r request
		if receive(bytes.NewReader(text), &r) == nil {
			environment(&r, target{name: "root", home: "/root", shell: "/bin/sh"}, "me")
			commandLine(&r, target{shell: "/bin/sh"}, nil)
		}
	})
}

func TestEnvironment(t *testing.T) {
	root := target{name: "root", home: "/root", shell: "/bin/bash"}
	caller := []string{"HOME=/home/me", "PATH=/home/me/bin", "TERM=xterm", "LC_ALL=C", "LD_PRELOAD=/evil", "SHELL=/bin/zsh", "EDITOR=vi", "DISPLAY=:0", "odd"}
	for _, c := range []struct {
		name string
		v    invocation
		set  []string
		want map[string]string
	}{
		{"plain", invocation{}, nil, map[string]string{"HOME": "/root", "PATH": SecurePath, "TERM": "xterm", "LC_ALL": "C", "DISPLAY": ":0", "SHELL": "/bin/bash", "USER": "root", "LOGNAME": "root", "SUDO_USER": "nobody-here", "EDITOR": "", "LD_PRELOAD": ""}},
		{"-E", invocation{KeepAll: true}, nil, map[string]string{"HOME": "/home/me", "PATH": SecurePath, "EDITOR": "vi", "SHELL": "/bin/bash"}},
		{"-EH", invocation{KeepAll: true, Home: true}, nil, map[string]string{"HOME": "/root", "EDITOR": "vi"}},
		{"--preserve-env", invocation{Keep: []string{"EDITOR"}}, nil, map[string]string{"EDITOR": "vi", "HOME": "/root"}},
		{"set", invocation{}, []string{"PATH=/x", "A=b=c"}, map[string]string{"PATH": "/x", "A": "b=c"}},
		{"-s -E", invocation{Shell: true, KeepAll: true}, nil, map[string]string{"SHELL": "/bin/zsh"}},
	} {
		env := environment(&request{Invocation: c.v, Env: makeWords(caller...), Set: makeWords(c.set...)}, root, "nobody-here")
		for name, want := range c.want {
			if got := value(env, name); got != want {
				t.Errorf("%s: %s=%q, want %q", c.name, name, got, want)
			}
		}
	}
}

func TestCommandLine(t *testing.T) {
	root := target{shell: "/bin/bash"}
	t.Setenv("PATH", "/usr/bin:/bin")
	for _, c := range []struct {
		v    invocation
		argv []string
		env  []string
		path string
		want []string
		err  string
	}{
		{invocation{}, []string{"/bin/true", "x"}, nil, "/bin/true", []string{"/bin/true", "x"}, ""},
		{invocation{}, []string{"/etc/passwd"}, nil, "", nil, "permission denied"},
		{invocation{}, []string{"no-such-command"}, nil, "", nil, "no-such-command: command not found"},
		{invocation{}, nil, nil, "", nil, "usage"},
		{invocation{Login: true}, nil, nil, "/bin/bash", []string{"-bash"}, ""},
		{invocation{Login: true}, []string{"echo", "a b"}, nil, "/bin/bash", []string{"-bash", "-c", `echo a\ b`}, ""},
		{invocation{Shell: true}, nil, []string{"SHELL=/bin/zsh"}, "/bin/zsh", []string{"/bin/zsh"}, ""},
	} {
		path, argv, err := commandLine(&request{Invocation: c.v, Argv: makeWords(c.argv...), Env: makeWords(c.env...)}, root, nil)
		if path != c.path || !slices.Equal(argv, c.want) || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: %s %q %v", c.argv, path, argv, err)
		}
	}
}

func TestLoginShell(t *testing.T) {
	file := filepath.Join(t.TempDir(), "passwd")
	os.WriteFile(file, []byte("root:x:0:0::/root:/bin/bash\nno:x:1:1::/:\nshort:x\nlast:x:2:2::/:/bin/last"), 0o600)
	for name, want := range map[string]string{"root": "/bin/bash", "no": "/bin/sh", "short": "/bin/sh", "last": "/bin/last", "none": "/bin/sh"} {
		if got := loginShell(file, name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if _, err := lookupTarget("no-such-user", ""); err == nil {
		t.Error("an unknown user was found")
	}
	if _, err := lookupTarget("#x", ""); err == nil {
		t.Error("an unknown user was found")
	}
	if got, err := lookupTarget("#54321", "#12"); err != nil || got.uid != 54321 || got.gid != 12 {
		t.Error(got, err)
	}
}

func TestFilesArePassedExactly(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, n := range []int{0, 1, 3, 4} {
		a, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		b, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		null, _ := os.Open(os.DevNull)
		if err := sendFiles(a.(*net.UnixConn), slices.Repeat([]*os.File{null}, n)...); err != nil {
			t.Fatal(err)
		}
		got, err := receiveFiles(b.(*net.UnixConn), 3)
		if (err == nil) != (n == 3) || n == 3 && len(got) != 3 {
			t.Errorf("%d files: %v, %v", n, got, err)
		}
		for _, f := range got {
			f.Close()
		}
		a.Close()
		b.Close()
	}
}
