// Package control is how programs inside an instance (the Image Assistant,
// reboot, poweroff) talk to the agent: HTTP with JSON over a unix socket. The
// agent asks the kernel who is calling, so nothing here carries a credential.
package control

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"time"

	"github.com/oriel-project/oriel/internal/agentapi"
)

// Socket is where the agent listens.
const Socket = "/run/oriel-agent/control.sock"

// The calls, each a POST.
const (
	CreateImagePath   = "/create-image"   // CreateImage → Answer
	CreatePackagePath = "/create-package" // {} → Answer
	PowerPath         = "/power"          // Power → 204
)

// AnswerTimeout bounds how long create-image and create-package wait for the server.
const AnswerTimeout = 60 * time.Second

// Power is a request to start again (KindReboot) or to switch off.
type Power struct {
	Kind agentapi.Kind `json:"kind"`
}

// Error is a call that the agent refused; its message is for the user.
type Error struct {
	Code    agentapi.Code `json:"code,omitzero"`
	Message string        `json:"message"`
}

func (e *Error) Error() string { return e.Message }

// ErrNoAgent means that nothing listens: the program does not run in an
// instance, or the agent is stopping.
var ErrNoAgent = errors.New("the Oriel agent does not answer on this machine")

// CreateImage asks the server, through the agent, for an image of the instance.
func CreateImage(ctx context.Context, socket string, in agentapi.CreateImage) (agentapi.Answer, error) {
	var a agentapi.Answer
	return a, post(ctx, socket, CreateImagePath, in, &a)
}

// CreatePackage asks the server, through the agent, for the package of the instance.
func CreatePackage(ctx context.Context, socket string) (agentapi.Answer, error) {
	var a agentapi.Answer
	return a, post(ctx, socket, CreatePackagePath, struct{}{}, &a)
}

// SetPower reboots the instance or switches it off; it returns when the agent
// has agreed.
func SetPower(ctx context.Context, socket string, kind agentapi.Kind) error {
	return post(ctx, socket, PowerPath, Power{kind}, nil)
}

func post(ctx context.Context, socket, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, AnswerTimeout+5*time.Second)
	defer cancel()
	text, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, "POST", "http://agent"+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return agentapi.DialSocket(socket)(ctx)
	}}
	resp, err := transport.RoundTrip(req)
	var dial *net.OpError
	switch {
	case errors.As(err, &dial) && dial.Op == "dial" || errors.Is(err, fs.ErrNotExist):
		return ErrNoAgent
	case err != nil:
		return fmt.Errorf("ask the Oriel agent: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("ask the Oriel agent: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		refusal := &Error{}
		if json.Unmarshal(body, refusal) != nil || refusal.Message == "" {
			refusal.Message = "the Oriel agent answers " + resp.Status
		}
		return refusal
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("ask the Oriel agent: %w", err)
	}
	return nil
}
