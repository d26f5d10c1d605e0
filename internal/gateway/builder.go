package gateway

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/appstream"
)

// builder is an image builder as the subject of a visit.
type builder struct{ *appstream.ImageBuilder }

func (b builder) head() *appstream.Meta             { return &b.Meta }
func (b builder) machine() string                   { return b.ID }
func (b builder) endpoints() []types.AccessEndpoint { return b.View.AccessEndpoints }
func (b builder) ancestors() []string               { return nil }
func (b builder) gone() *streamEnd                  { return endDeleted }

func (b builder) display(ctx context.Context, agent *agentapi.Client) (*agentapi.DisplayConn, error) {
	return agent.Display(ctx)
}

func (b builder) page() viewerPage {
	return viewerPage{Kind: kindBuilder, ID: b.ID, Name: b.Name, State: b.State, Account: b.Account, Region: b.Region}
}

// streamable: only a RUNNING builder can be streamed, and a stream of one that is not ends at once: its page waits instead.
func (b builder) streamable(screens bool) (bool, *streamEnd) {
	switch b.State {
	case appstream.BuilderRunning:
		if !screens {
			return false, endSimulated
		}
		return true, nil
	case appstream.BuilderSnapshotting:
		return false, endImaging
	case appstream.BuilderStopping, appstream.BuilderStopped:
		return false, endStopped
	case appstream.BuilderFailed:
		return false, endFailed
	case appstream.BuilderDeleting:
		return false, endDeleted
	}
	return false, endStarting
}

// notice gives the page for a builder that cannot be streamed now.
func (b builder) notice(screens bool) *notice {
	n := notice{Status: 200, Tone: "wait", Icon: "spinner",
		Builder: &about{Name: b.Name, State: b.State, Reason: reason(b.ImageBuilder), Version: version(b.ImageBuilder, nil)}, Wait: "/stream/" + b.ID + "/info"}
	switch b.State {
	case appstream.BuilderRunning:
		if screens {
			return nil
		}
		n.Code, n.Tone, n.Icon, n.Title = "simulated", "good", "desktop", b.Name+" is running, without a screen"
		n.Text = []string{"This server runs the simulated provider: image builders go through all their states, but there are no machines and so there is no desktop to show.",
			"Start the server with the docker provider to work on real ones."}
	case appstream.BuilderPending, appstream.BuilderUpdatingAgent:
		n.Code, n.Title = "starting", b.Name+" is starting"
		n.Text = []string{"The desktop opens by itself as soon as it is ready."}
	case appstream.BuilderRebooting:
		n.Code, n.Title = "starting", b.Name+" is restarting"
		n.Text = []string{"The desktop comes back by itself in a moment."}
	case appstream.BuilderSnapshotting:
		n.Code, n.Title = "imaging", "An image of "+b.Name+" is being made"
		if b.Capturing != "" {
			n.Title = "The image " + b.Capturing + " is being made"
		}
		n.Text = []string{"The desktop is closed while its disk is captured. The image builder is stopped afterwards."}
	case appstream.BuilderStopping:
		n.Code, n.Title = "stopped", b.Name+" is stopping"
		n.Text = []string{"Its disk is kept."}
	case appstream.BuilderStopped:
		n.Code, n.Tone, n.Icon, n.Title = "stopped", "calm", "power", b.Name+" is stopped"
		n.Text = []string{"Start it with StartImageBuilder. This page opens the desktop by itself when it is running."}
	case appstream.BuilderFailed:
		n.Code, n.Tone, n.Icon, n.Title = "failed", "bad", "alert", b.Name+" has failed"
		n.Text = []string{"StartImageBuilder tries to repair it; DeleteImageBuilder removes it. This page opens the desktop by itself when it is running."}
	case appstream.BuilderDeleting:
		n.Code, n.Icon, n.Tone, n.Title = "deleted", "trash", "calm", b.Name+" is being deleted"
		n.Text = []string{"Its machine and everything on it go. Images that were made of it are not affected."}
	default:
		n.Code, n.Title = "busy", b.Name+" is busy"
		n.Text = []string{"The desktop opens by itself when the work on it is done."}
	}
	return &n
}

// reason says in words why a builder is as it is; "" when there is nothing to say.
func reason(b *appstream.ImageBuilder) string {
	switch r := b.View.StateChangeReason; {
	case b.Problem != nil:
		return b.Problem.Message
	case r != nil && r.Message != nil:
		return *r.Message
	}
	return ""
}

// stateWords turns UPDATING_AGENT into "Updating agent".
func stateWords(state string) string {
	words := strings.ToLower(strings.ReplaceAll(state, "_", " "))
	if words == "" {
		return ""
	}
	return strings.ToUpper(words[:1]) + words[1:]
}
