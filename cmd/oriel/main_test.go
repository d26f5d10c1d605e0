package main

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/oriel-project/oriel/internal/config"
	"github.com/oriel-project/oriel/internal/porttest"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"oriel": main}) }

// TestScripts runs the commands as a user does; the scripts are in testdata/script. $ADDR is a free address, and "ready"
// waits for the server there.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			address, err := porttest.Address()
			e.Setenv("ADDR", address)
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"ready": func(ts *testscript.TestScript, _ bool, _ []string) {
				url := "http://" + ts.Getenv("ADDR") + "/readyz"
				for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
					resp, err := http.Get(url)
					if err == nil {
						resp.Body.Close()
						if resp.StatusCode == http.StatusOK {
							return
						}
					}
					if time.Now().After(deadline) {
						ts.Fatalf("the server is not ready: %v", err)
					}
				}
			},
		},
	})
}

// TestLoad: a flag wins over the file, the file over the default.
func TestLoad(t *testing.T) {
	c, err := load(place{Config: "../../docs/oriel.example.toml", Listen: new("127.0.0.1:1"), Region: []string{"eu-west-1"}},
		machines{}, serving{SimDelay: new(config.Duration{Duration: time.Second})})
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != "127.0.0.1:1" || len(c.Region) != 1 || c.Region[0] != "eu-west-1" || c.SimDelay.Duration != time.Second {
		t.Errorf("a flag has not won: %+v", c.Config)
	}
	if c.Provider != config.Sim || c.Metrics != "127.0.0.1:9090" || len(c.TrustedProxies) != 2 || c.Config.LogLevel != "info" {
		t.Errorf("the file has not won: %+v", c.Config)
	}
	if _, err := load(place{Listen: new("nowhere")}, machines{}, serving{}); err == nil || !strings.HasPrefix(err.Error(), "listen: ") {
		t.Errorf("a wrong flag: %v", err)
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{"/a/b-c.d": "/a/b-c.d", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "$x": "'$x'"} {
		if got := quote(in); got != want {
			t.Errorf("quote(%q) is %s, want %s", in, got, want)
		}
	}
}

func TestStatus(t *testing.T) {
	synctest.Test(t, statusTells) // it tells seconds
}

func statusTells(t *testing.T) {
	var plain bytes.Buffer
	s := newStatus(&plain)
	for n := range 3 {
		s.tell("Unpacking", fmt.Sprint(n), float64(n))
	}
	time.Sleep(61 * time.Second)
	s.tell("Packing", "", 50)
	s.done("ready")
	if got, want := plain.String(), " 0:00  Unpacking\n 1:01  Packing\n 1:01  ready\n"; got != want {
		t.Errorf("plain: %q, want %q", got, want)
	}

	var screen bytes.Buffer
	s = newStatus(&screen)
	s.terminal = true
	s.tell("Unpacking", strings.Repeat("x", 200), 50)
	s.done("ready")
	lines := strings.Split(screen.String(), "\r")
	if len(lines) != 3 || !strings.HasPrefix(lines[1], " 0:00  ██████████░░░░░░░░░░  50 %  Unpacking  xxx") || len([]rune(lines[1])) != 79 {
		t.Errorf("terminal: %q", lines)
	}
	if last := strings.TrimSuffix(lines[2], "\n"); strings.TrimSpace(last) != "0:00  ready" || len([]rune(last)) != 79 {
		t.Errorf("what was longer is not painted over: %q", last)
	}
}
