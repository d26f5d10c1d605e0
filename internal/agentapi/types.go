package agentapi

import (
	"bytes"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Role is what an instance is for. AppStream uses the same words in the
// variable AppStream_Resource_Type.
type Role string

const (
	// RoleImageBuilder is an instance whose user may become root.
	RoleImageBuilder Role = "imagebuilder"
	// RoleAppBlockBuilder is one, too; what is installed on it becomes a package
	// and not an image.
	RoleAppBlockBuilder Role = "appblockbuilder"
	// RoleFleet is an instance that streams applications and allows no
	// administration from inside.
	RoleFleet Role = "fleet"
)

// Builds tells whether the instance has an administrator who installs software.
func (r Role) Builds() bool { return r == RoleImageBuilder || r == RoleAppBlockBuilder }

// Limits of the display's size in pixels, each way.
const (
	MinDisplay = 64
	MaxDisplay = 8192
)

// maxConfig bounds the file with the Config, in bytes.
const maxConfig = 64 << 10

// Config is what the server tells the agent before the instance starts.
type Config struct {
	Role         Role   `json:"role"`
	ResourceName string `json:"resourceName"` // the image builder's or fleet's name
	ImageARN     string `json:"imageArn"`
	InstanceType string `json:"instanceType"`
	Region       string `json:"region"`
	Account      string `json:"account"`
	// SocketUID and SocketGID will own the agent's socket and its directory:
	// the user and group the server runs as, seen from the instance.
	SocketUID int `json:"socketUid"`
	SocketGID int `json:"socketGid"`
	// MaxSessions is how many people a fleet's instance is for at a time, 1 to
	// 50; 0 means 1.
	MaxSessions int `json:"maxSessions,omitzero"`
	// Width and Height are the display's size at start; 0 means 1280×720.
	Width  int `json:"width,omitzero"`
	Height int `json:"height,omitzero"`
}

// ReadConfig reads, completes and checks the Config in file.
func ReadConfig(file string) (Config, error) {
	f, err := os.Open(file)
	if err != nil {
		return Config{}, fmt.Errorf("read the instance's configuration: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return Config{}, fmt.Errorf("read the instance's configuration: %w", err)
	}
	c, err := ParseConfig(text)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", file, err)
	}
	return c, nil
}

// ParseConfig decodes, completes and checks a Config.
func ParseConfig(text []byte) (Config, error) {
	var c Config
	if len(text) > maxConfig {
		return c, fmt.Errorf("the configuration is longer than %d bytes", maxConfig)
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return Config{}, fmt.Errorf("the configuration is not understood: %w", err)
	}
	if c.Width == 0 && c.Height == 0 {
		c.Width, c.Height = 1280, 720
	}
	if c.Role == RoleFleet && c.MaxSessions == 0 {
		c.MaxSessions = 1
	}
	return c, c.check()
}

func (c Config) check() error {
	size := func(n int) bool { return n >= MinDisplay && n <= MaxDisplay }
	switch {
	case !c.Role.Builds() && c.Role != RoleFleet:
		return fmt.Errorf("role %.32q is not one of %q, %q, %q", c.Role, RoleImageBuilder, RoleAppBlockBuilder, RoleFleet)
	case !size(c.Width) || !size(c.Height):
		return fmt.Errorf("display size %d×%d is not within %d…%d", c.Width, c.Height, MinDisplay, MaxDisplay)
	case c.MaxSessions < 0 || c.MaxSessions > MaxSessions:
		return fmt.Errorf("maxSessions is %d; it must be between 0 and %d", c.MaxSessions, MaxSessions)
	case c.SocketUID < 0 || c.SocketGID < 0:
		return errors.New("socketUid and socketGid must not be negative")
	}
	return nil
}

// Write puts c into file (mode 0600), whole or not at all.
func (c Config) Write(file string) error {
	if err := c.check(); err != nil {
		return err
	}
	var text bytes.Buffer
	if err := json.MarshalWrite(&text, c); err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", text.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write the instance's configuration: %w", err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return fmt.Errorf("write the instance's configuration: %w", err)
	}
	return nil
}

// Status is the agent's state. Asking for it is also the heartbeat: an agent
// that does not answer within a few seconds is not well.
type Status struct {
	Version   string    `json:"version"`
	Role      Role      `json:"role"`
	StartedAt time.Time `json:"startedAt"`
	// Ready means of an image builder that the display is up and the desktop
	// has drawn: a viewer that connects now sees it. Of a fleet's instance it
	// means that a session can begin at once: it is false while as many run as
	// the instance is for.
	Ready   bool      `json:"ready"`
	ReadyAt time.Time `json:"readyAt,omitzero"` // when Ready last became true
	// Quiesced means that the desktop was ended by Quiesce.
	Quiesced bool `json:"quiesced,omitzero"`
	// DisplayRestarts counts how often the display or its session died.
	DisplayRestarts  int    `json:"displayRestarts,omitzero"`
	LastDisplayError string `json:"lastDisplayError,omitzero"`
	// Problem says in words why the instance is of no use, and what to do. It
	// is empty when all is well.
	Problem string `json:"problem,omitzero"`
}

// Limits of the catalogue, from AppStream's Image Assistant.
const (
	MaxApplications = 50
	MaxIconSize     = 256 // pixels each way
)

// Application is one entry of the catalogue in an instance, and so of an image
// made from it.
type Application struct {
	Name             string `json:"name"` // unique; no white space; ≤ 256
	DisplayName      string `json:"displayName"`
	AbsoluteAppPath  string `json:"absoluteAppPath"`
	LaunchParameters string `json:"launchParameters,omitzero"`
	WorkingDirectory string `json:"workingDirectory,omitzero"`
	IconPNG          []byte `json:"iconPng,omitzero"` // ≤ MaxIconSize each way
	// Manifest names the files to read ahead before a user comes.
	Manifest []string `json:"manifest,omitzero"`
}

// Kind is what someone inside the instance asks the server for.
type Kind string

const (
	// KindCreateImage asks for an image of the instance: CreateImage is set.
	KindCreateImage Kind = "create-image"
	// KindCreatePackage asks for the package of an app block builder.
	KindCreatePackage Kind = "create-package"
	// KindReboot and KindPowerOff are notices: the agent goes on to stop the
	// instance and exits with ExitReboot or ExitPowerOff. They need no answer.
	KindReboot   Kind = "reboot"
	KindPowerOff Kind = "poweroff"
)

// Request comes from inside the instance. It is handed out once.
type Request struct {
	ID          string       `json:"id"`
	Kind        Kind         `json:"kind"`
	CreateImage *CreateImage `json:"createImage,omitzero"`
}

// CreateImage has the parameters of the Image Assistant's create-image. The
// assistant has checked them; the server must check them again.
type CreateImage struct {
	Name                    string            `json:"name"`
	DisplayName             string            `json:"displayName,omitzero"`
	Description             string            `json:"description,omitzero"`
	Tags                    map[string]string `json:"tags,omitzero"`
	EnableDynamicAppCatalog bool              `json:"enableDynamicAppCatalog,omitzero"`
	UseLatestAgentVersion   bool              `json:"useLatestAgentVersion,omitzero"`
	// DryRun asks for all checks and nothing else.
	DryRun bool `json:"dryRun,omitzero"`
}

// ErrorKind says why a Request was refused.
type ErrorKind string

const (
	// ErrorAlreadyExists: there is an image of that name.
	ErrorAlreadyExists ErrorKind = "already-exists"
	// ErrorInvalid: something in the request can be corrected by its author.
	ErrorInvalid ErrorKind = "invalid"
	// ErrorInternal: not the author's fault; trying again may help.
	ErrorInternal ErrorKind = "internal"
)

// Answer is the server's word on a Request: done (ErrorKind empty), or refused
// with a message for the person who asked.
type Answer struct {
	ErrorKind ErrorKind `json:"errorKind,omitzero"`
	Message   string    `json:"message,omitzero"`
}
