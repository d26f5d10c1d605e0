package scripts

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// The member names of AppStream's two examples differ in their case.
func TestParse(t *testing.T) {
	for _, text := range []string{
		`{"SessionStart": {"executables": [{"context": "system", "filename": "/opt/a", "arguments": "x 'y z'", "s3LogEnabled": true},
			{"context": "user", "filename": "/opt/b", "arguments": ""}], "waitingTime": 30},
		  "SessionTermination": {"executables": [], "waitingTime": 0}, "other": 1}`,
		`{"sessionStart": {"Executables": [{"Context": "System", "Filename": "/opt/a", "Arguments": "x 'y z'", "S3LogEnabled": true},
			{"Context": "User", "Filename": "/opt/b"}], "WaitingTime": 30}, "SESSIONTERMINATION": {"WaitingTime": 0}}`,
	} {
		want := Config{Start: Event{Wait: 30 * time.Second, Executables: []Executable{
			{Context: System, Path: "/opt/a", Arguments: []string{"x", "y z"}, Log: true}, {Context: User, Path: "/opt/b"},
		}}}
		if got, err := Parse([]byte(text)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if c, err := Parse([]byte(`{}`)); err != nil || c.Start.Wait != MaxWait || c.Start.Executables != nil {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestParseRefuses(t *testing.T) {
	one := func(member string) string {
		return `{"SessionStart": {"executables": [{"context": "user", "filename": "/x", ` + member + `}]}}`
	}
	for text, want := range map[string]string{
		`[]`:                                                                     "not understood",
		`{"SessionStart": {"waitingTime": 61}}`:                                  "waitingTime is 61",
		`{"SessionStart": {"waitingTime": -1}}`:                                  "waitingTime is -1",
		`{"SessionStart": {}, "sessionstart": {}}`:                               "not understood",
		`{"SessionTermination": {"executables": [{}, {}, {}]}}`:                  "it may have 2",
		`{"SessionTermination": {"executables": [{"context": "root"}]}}`:         "SessionTermination.executables[0].context",
		`{"SessionStart": {"executables": [{"context":"user","filename":"x"}]}}`: "begins with /",
		one(`"arguments": "'"`):                                                  "not closed",
		one(`"arguments": "` + strings.Repeat("x", 1001) + `"`):                  "longer than 1000",
		strings.Repeat(" ", maxFile+1):                                           "longer than",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %q", text, err, want)
		}
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	os.Chmod(dir, 0o755)
	os.Chmod(filepath.Dir(dir), 0o755)
	file := filepath.Join(dir, "config.json")
	if c, err := Read(file); err != nil || c.Start.Executables != nil {
		t.Errorf("%+v, %v", c, err)
	}
	os.WriteFile(file, []byte(`{"SessionStart": {"executables": [{"context": "user", "filename": "/x"}]}}`), 0o600)
	if c, err := Read(file); err != nil || len(c.Start.Executables) != 1 {
		t.Errorf("%+v, %v", c, err)
	}
	for _, p := range []string{file, dir} {
		os.Chmod(p, 0o777)
		if _, err := Read(file); err == nil || !strings.Contains(err.Error(), "chmod go-w "+p) {
			t.Errorf("%s that all may write: %v", p, err)
		}
		os.Chmod(p, 0o700)
	}
	// A link is as safe as what it leads to.
	link := filepath.Join(t.TempDir(), "link")
	os.Symlink(file, link)
	os.Chmod(file, 0o666)
	if err := Safe(link); err == nil {
		t.Error("a link to what all may write is taken")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"SessionStart": {"executables": [{"context": "system", "filename": "/opt/a", "arguments": "x 'y z'", "s3LogEnabled": true}], "waitingTime": 30}}`))
	f.Add([]byte(`{"SESSIONTERMINATION": {"WaitingTime": 1e1, "Executables": null}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse(text)
		if err != nil {
			return
		}
		for _, e := range []Event{c.Start, c.Termination} {
			if e.Wait < 0 || e.Wait > MaxWait || len(e.Executables) > MaxExecutables {
				t.Errorf("%+v", e)
			}
			for _, x := range e.Executables {
				if !filepath.IsAbs(x.Path) || x.Context != System && x.Context != User {
					t.Errorf("%+v", x)
				}
			}
		}
	})
}
