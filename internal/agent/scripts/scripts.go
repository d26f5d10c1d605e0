// Package scripts reads the session scripts of an image: what the maker of the
// image wants done when a session begins and when it ends, as AppStream's
// config.json says it.
package scripts

import (
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/oriel-project/oriel/internal/agent/cmdline"
)

// File is where an image has its session scripts.
const File = "/opt/appstream/SessionScripts/config.json"

// Limits, from AppStream.
const (
	MaxExecutables = 2 // for each event
	MaxWait        = 60 * time.Second
	maxText        = 1000    // characters of a file name, and of arguments
	maxFile        = 1 << 20 // of config.json, in bytes
)

// Context is whose rights an executable has.
type Context string

// The contexts.
const (
	System Context = "system" // root's
	User   Context = "user"   // those of the session's person
)

// Config is what is done at which event.
type Config struct {
	Start       Event
	Termination Event
}

// Event is what is done at an event: one executable after the other.
type Event struct {
	Executables []Executable
	Wait        time.Duration // for all of them
}

// Executable is one program.
type Executable struct {
	Context   Context
	Path      string
	Arguments []string
	Log       bool // what it says is kept
}

// Read reads the file of an image. There is none in most: nothing is to be
// done then. What others than the maker of the image may change is refused.
func Read(file string) (Config, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, nil
	}
	if err != nil {
		return Config{}, fmt.Errorf("read the session scripts: %w", err)
	}
	defer f.Close()
	if err := Safe(file); err != nil {
		return Config{}, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return Config{}, fmt.Errorf("read the session scripts: %w", err)
	}
	c, err := Parse(text)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", file, err)
	}
	return c, nil
}

// Parse decodes a config.json. Names of members are taken in any case:
// AppStream's own examples differ.
func Parse(text []byte) (Config, error) {
	if len(text) > maxFile {
		return Config{}, fmt.Errorf("it is longer than %d bytes", maxFile)
	}
	type event struct {
		Executables []struct {
			Context      string
			Filename     string
			Arguments    string
			S3LogEnabled bool
		}
		WaitingTime *float64
	}
	var doc struct{ SessionStart, SessionTermination event }
	if err := json.Unmarshal(text, &doc, json.MatchCaseInsensitiveNames(true)); err != nil {
		return Config{}, fmt.Errorf("it is not understood: %w", err)
	}
	parse := func(name string, in event) (Event, error) {
		out := Event{Wait: MaxWait}
		if w := in.WaitingTime; w != nil {
			if !(*w >= 0 && *w <= MaxWait.Seconds()) {
				return Event{}, fmt.Errorf("%s.waitingTime is %g; it must be from 0 to %g seconds", name, *w, MaxWait.Seconds())
			}
			out.Wait = time.Duration(*w * float64(time.Second))
		}
		if len(in.Executables) > MaxExecutables {
			return Event{}, fmt.Errorf("%s has %d executables; it may have %d", name, len(in.Executables), MaxExecutables)
		}
		for n, e := range in.Executables {
			where := fmt.Sprintf("%s.executables[%d]", name, n)
			x := Executable{Context: Context(strings.ToLower(e.Context)), Path: e.Filename, Log: e.S3LogEnabled}
			if x.Context != System && x.Context != User {
				return Event{}, fmt.Errorf("%s.context is %.32q; it must be system or user", where, e.Context)
			}
			if !filepath.IsAbs(x.Path) || strings.ContainsRune(x.Path, 0) || utf8.RuneCountInString(x.Path) > maxText {
				return Event{}, fmt.Errorf("%s.filename must be a path that begins with /, of at most %d characters", where, maxText)
			}
			if utf8.RuneCountInString(e.Arguments) > maxText {
				return Event{}, fmt.Errorf("%s.arguments is longer than %d characters", where, maxText)
			}
			var err error
			if x.Arguments, err = cmdline.Split(e.Arguments); err != nil {
				return Event{}, fmt.Errorf("%s.arguments: %w", where, err)
			}
			out.Executables = append(out.Executables, x)
		}
		return out, nil
	}
	start, err := parse("SessionStart", doc.SessionStart)
	if err != nil {
		return Config{}, err
	}
	termination, err := parse("SessionTermination", doc.SessionTermination)
	return Config{Start: start, Termination: termination}, err
}

// Safe tells whether file, and every folder that leads to it, can be changed by
// nobody but its owner and root. A session's account, which is new, owns
// nothing of the image.
func Safe(file string) error {
	path, err := filepath.EvalSymlinks(file)
	if err != nil {
		return err
	}
	for {
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		// In a folder with the sticky bit nobody replaces what is another's.
		shared := info.IsDir() && info.Mode()&fs.ModeSticky != 0 && info.Sys().(*syscall.Stat_t).Uid == 0
		if info.Mode().Perm()&0o022 != 0 && !shared {
			return fmt.Errorf("%s can be changed by others than its owner; in the image builder, chmod go-w %s", path, path)
		}
		if path == "/" {
			return nil
		}
		path = filepath.Dir(path)
	}
}
