package gateway

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/gateway/words"
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
		Builder: &about{Name: b.Name, State: b.State, Reason: reason(b.ImageBuilder), Version: version(b.Version)}, Wait: "/stream/" + b.ID + "/info"}
	switch b.State {
	case appstream.BuilderRunning:
		if screens {
			return nil
		}
		n.Code, n.Tone, n.Icon, n.Title = "simulated", "good", "desktop", say("simulated", b.Name)
		n.Text = []text{say("simulated_builder_text"), say("simulated_more")}
	case appstream.BuilderPending, appstream.BuilderUpdatingAgent:
		n.Code, n.Title = "starting", say("starting", b.Name)
		n.Text = []text{say("starting_text")}
	case appstream.BuilderRebooting:
		n.Code, n.Title = "starting", say("restarting", b.Name)
		n.Text = []text{say("restarting_text")}
	case appstream.BuilderSnapshotting:
		n.Code, n.Title = "imaging", say("imaging_builder", b.Name)
		if b.Capturing != "" {
			n.Title = say("imaging", b.Capturing)
		}
		n.Text = []text{say("imaging_text")}
	case appstream.BuilderStopping:
		n.Code, n.Title = "stopped", say("stopping", b.Name)
		n.Text = []text{say("stopping_builder_text")}
	case appstream.BuilderStopped:
		n.Code, n.Tone, n.Icon, n.Title = "stopped", "calm", "power", say("stopped", b.Name)
		n.Text = []text{say("stopped_builder_text")}
	case appstream.BuilderFailed:
		n.Code, n.Tone, n.Icon, n.Title = "failed", "bad", "alert", say("failed", b.Name)
		n.Text = []text{say("failed_text")}
	case appstream.BuilderDeleting:
		n.Code, n.Icon, n.Tone, n.Title = "deleted", "trash", "calm", say("deleting", b.Name)
		n.Text = []text{say("deleting_text")}
	default:
		n.Code, n.Title = "busy", say("busy", b.Name)
		n.Text = []text{say("busy_text")}
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

// stateWords says a state for people.
func stateWords(code, state string) string {
	key := "state_" + strings.ToLower(state)
	if _, known := words.All[code][key]; !known {
		return state
	}
	return words.All.Text(code, key)
}
