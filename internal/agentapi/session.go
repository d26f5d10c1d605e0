package agentapi

import (
	"errors"
	"fmt"
	"regexp"
	"time"
	"unicode/utf8"
)

// View is what a session shows.
type View string

const (
	// ViewDesktop is a whole desktop.
	ViewDesktop View = "DESKTOP"
	// ViewApp is the windows of the applications of the catalogue, each as
	// large as the display, and nothing else.
	ViewApp View = "APP"
)

// MaxSessions is the most people on one instance, from AppStream.
const MaxSessions = 50

// Session is what the server tells the agent about a person who comes.
type Session struct {
	ID          string    `json:"id"` // of the session; ≤ 64 letters, digits and - _ .
	UserID      string    `json:"userId"`
	Stack       string    `json:"stack"`
	AccessMode  string    `json:"accessMode"` // custom, userpool or saml
	View        View      `json:"view"`
	Application string    `json:"application,omitzero"` // of the catalogue: started at once
	Context     string    `json:"context,omitzero"`     // APPSTREAM_SESSION_CONTEXT
	Locale      string    `json:"locale,omitzero"`      // like de_DE.UTF-8; without effect if the image does not have it
	Reserved    time.Time `json:"reserved"`             // when the instance was dedicated to the session
	// Print gives the session a printer, whose output is offered to the person.
	Print bool `json:"print,omitzero"`
}

var properID = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// IsID tells whether id can be that of a session or of a job.
func IsID(id string) bool { return properID.MatchString(id) }

// Check tells what is wrong with s.
func (s Session) Check() error {
	switch {
	case !IsID(s.ID):
		return errors.New("the session has no proper id")
	case s.View != ViewDesktop && s.View != ViewApp:
		return fmt.Errorf("view %.32q is not one of %q, %q", s.View, ViewDesktop, ViewApp)
	case len(s.UserID) > 512 || len(s.Context) > 4000 || len(s.Application) > 512 || len(s.Locale) > 64 || len(s.Stack) > 256:
		return errors.New("the session has a member that is too long")
	case !utf8.ValidString(s.UserID + s.Context + s.Application + s.Locale + s.Stack):
		return errors.New("the session has a member that is not UTF-8")
	}
	return nil
}

// The events of session scripts.
const (
	SessionStart       = "SessionStart"
	SessionTermination = "SessionTermination"
)

// MaxScriptLog is how much is kept of what one executable writes, in bytes.
const MaxScriptLog = 1 << 20

// ScriptLog is what an executable of a session's scripts has written.
type ScriptLog struct {
	Event  string `json:"event"`
	Number int    `json:"number"` // of the event's executables: 1 or 2
	Text   []byte `json:"text"`   // its beginning
}

// SessionStatus is how a session is. One that is ending is not Ready any more;
// it is there until nothing is left of it.
type SessionStatus struct {
	ID string `json:"id"`
	// Ready means that its display is up and has drawn.
	Ready bool `json:"ready"`
	// Problem says in words what keeps it from being ready.
	Problem string `json:"problem,omitzero"`
	// Scripts are what failed and does not end the session, in words for the
	// person: session scripts, and the Application that could not be started.
	Scripts []string `json:"scripts,omitzero"`
}

// ErrNoSession means that the instance does not have the session (any more).
var ErrNoSession = errors.New("the instance has no such session")

// Window is one window of a session that its person can switch to.
type Window struct {
	ID          uint32 `json:"id"`
	Title       string `json:"title"`
	Application string `json:"application,omitzero"` // the catalogue's name, when it is known
	Class       string `json:"class,omitzero"`       // WM_CLASS
	Active      bool   `json:"active,omitzero"`
}

// Windows is the answer to a question for the windows. Version changes with
// them.
type Windows struct {
	Version string   `json:"version"`
	Windows []Window `json:"windows"`
}

// WindowAction is what can be done to a window.
type WindowAction string

// The actions.
const (
	WindowActivate WindowAction = "activate"
	WindowClose    WindowAction = "close"
)

// Limits of a person's files.
const (
	// MaxFile is the longest file that can be sent to or from a session, in
	// bytes.
	MaxFile = 2 << 30
	// MaxFileName is the longest name of a file, and MaxFilePath the longest
	// path in the session's folder, in bytes.
	MaxFileName = 255
	MaxFilePath = 1024
	// MaxFolder is how many entries of a folder are listed.
	MaxFolder = 2000
)

// File is one entry of a folder.
type File struct {
	Name     string    `json:"name"`
	Folder   bool      `json:"folder,omitzero"`
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
}

// Folder is what is in a folder, in the order of names, folders first.
type Folder struct {
	Path  string `json:"path"` // in the session's folder, with slashes; "" for that itself
	Files []File `json:"files"`
	More  bool   `json:"more,omitzero"` // there are more than MaxFolder
	Free  int64  `json:"free"`          // bytes left on the disk
}

// Print is a document that a program of the session has printed: a PDF.
type Print struct {
	ID      string    `json:"id"`
	Title   string    `json:"title"`
	Size    int64     `json:"size"`
	Printed time.Time `json:"printed"`
}

// Prints is the answer to a question for printed documents. Version changes
// with them.
type Prints struct {
	Version string  `json:"version"`
	Prints  []Print `json:"prints"`
}

// The sound of a session is Opus: 48 kHz, two channels, SoundFrame to a
// packet. The agent sends each packet with its length before it, two bytes,
// big endian; nothing is sent while nothing is heard.
const (
	SoundRate  = 48000
	SoundFrame = 20 * time.Millisecond
	MaxPacket  = 1500 // bytes
)
