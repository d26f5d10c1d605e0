package gateway

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"
	"uuid"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

// appBlockBuilder is an app block builder as the subject of a visit.
type appBlockBuilder struct{ *appstream.AppBlockBuilder }

func (b appBlockBuilder) head() *appstream.Meta             { return &b.Meta }
func (b appBlockBuilder) machine() string                   { return b.ID }
func (b appBlockBuilder) endpoints() []types.AccessEndpoint { return b.View.AccessEndpoints }
func (b appBlockBuilder) ancestors() []string               { return nil }
func (b appBlockBuilder) gone() *streamEnd                  { return endDeleted }

func (b appBlockBuilder) display(ctx context.Context, agent *agentapi.Client) (*agentapi.DisplayConn, error) {
	return agent.Display(ctx)
}

func (b appBlockBuilder) page() viewerPage {
	return viewerPage{Kind: kindAppBlockBuilder, ID: b.ID, Name: b.Name, AppBlock: b.AppBlock, State: b.State, Account: b.Account, Region: b.Region}
}

// streamable: only a RUNNING builder can be streamed, and a stream of one that is not ends at once: its page waits instead.
func (b appBlockBuilder) streamable(screens bool) (bool, *streamEnd) {
	switch {
	case b.State == appstream.AppBlockBuilderRunning && !screens:
		return false, endSimulated
	case b.State == appstream.AppBlockBuilderRunning:
		return true, nil
	case b.Packaging != nil:
		return false, endImaging
	case b.State == appstream.AppBlockBuilderStarting:
		return false, endStarting
	}
	return false, endStopped
}

// notice gives the page for a builder that cannot be streamed now.
func (b appBlockBuilder) notice(screens bool) *notice {
	n := notice{Status: http.StatusOK, Tone: "wait", Icon: "spinner",
		Builder: &about{Name: b.Name, State: b.State, Reason: packagerReason(b.AppBlockBuilder), Version: version(b.Version)}, Wait: "/stream/" + b.ID + "/info"}
	switch b.State {
	case appstream.AppBlockBuilderRunning:
		if screens {
			return nil
		}
		n.Code, n.Tone, n.Icon, n.Title = "simulated", "good", "desktop", say("simulated", b.Name)
		n.Text = []text{say("simulated_packager_text"), say("simulated_more")}
	case appstream.AppBlockBuilderStarting:
		n.Code, n.Title = "starting", say("starting", b.Name)
		n.Text = []text{say("starting_text")}
	case appstream.AppBlockBuilderStopping:
		if b.Packaging != nil {
			n.Code, n.Title = "imaging", say("packaging", b.AppBlock)
			n.Text = []text{say("packaging_text")}
			break
		}
		n.Code, n.Title = "stopped", say("stopping", b.Name)
		n.Text = []text{say("stopping_packager_text")}
	default:
		n.Code, n.Tone, n.Icon, n.Title = "stopped", "calm", "power", say("stopped", b.Name)
		n.Text = []text{say("stopped_packager_text")}
	}
	return &n
}

// packagerReason says in words why a builder is as it is; "" when there is nothing to say.
func packagerReason(b *appstream.AppBlockBuilder) string {
	switch r := b.View.StateChangeReason; {
	case b.Problem != nil:
		return b.Problem.Message
	case r != nil:
		return deref(r.Message)
	}
	return ""
}

// packagerInfoBody is the JSON of /info for an app block builder.
type packagerInfoBody struct {
	Version      string        `json:"version"` // changes with anything below
	Kind         string        `json:"kind"`    // kindAppBlockBuilder
	Name         string        `json:"name"`
	ARN          string        `json:"arn"`
	State        string        `json:"state"`
	Reason       string        `json:"reason,omitzero"`
	BaseImage    string        `json:"baseImage"`
	Platform     string        `json:"platform"`
	InstanceType string        `json:"instanceType"`
	Agent        string        `json:"agent"`
	Streams      bool          `json:"streams"`   // there is a display to be seen when State is RUNNING
	Expires      time.Time     `json:"expires"`   // until when the browser may stay
	Packaging    bool          `json:"packaging"` // a package is being made
	AppBlock     *appBlockInfo `json:"appBlock,omitempty"`
}

type appBlockInfo struct {
	Name    string `json:"name"`
	State   string `json:"state"`
	Package string `json:"package,omitzero"` // where its package is
}

// packagerInfo tells what is known about an app block builder, and with after waits for news of it and of its app block.
func (g *Gateway) packagerInfo(w http.ResponseWriter, r *http.Request, v visit, b *appstream.AppBlockBuilder) {
	id := b.ID
	g.tellNews(w, r, "read the app block builder", func(ctx context.Context) (finding, error) {
		b, block, err := g.lookAtPackager(ctx, id)
		body := g.describePackager(&b, block, v.claims.Expires)
		return finding{body.Version, body, func(c store.Change) bool {
			return c.ID == b.ID || b.AppBlock != "" && c.Key == b.AppBlockKey()
		}}, err
	})
}

func (g *Gateway) lookAtPackager(ctx context.Context, id string) (b appstream.AppBlockBuilder, block *appstream.AppBlock, err error) {
	err = g.Store.View(ctx, func(tx store.Tx) error {
		if err := tx.Find(id, &b); err != nil || b.AppBlock == "" {
			return err
		}
		var found appstream.AppBlock
		err := tx.Get(b.AppBlockKey(), &found)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		block = &found
		return err
	})
	return b, block, err
}

func (g *Gateway) describePackager(b *appstream.AppBlockBuilder, block *appstream.AppBlock, expires time.Time) packagerInfoBody {
	body := packagerInfoBody{Version: version(b.Version), Kind: kindAppBlockBuilder, Name: b.Name, ARN: b.ARN(), State: b.State, Reason: packagerReason(b),
		BaseImage: b.ImageARN[strings.LastIndexByte(b.ImageARN, '/')+1:], Platform: string(b.View.Platform), InstanceType: deref(b.View.InstanceType),
		Agent: b.AgentVersion, Streams: g.Dialer != nil, Expires: expires, Packaging: b.Packaging != nil}
	if block != nil {
		body.Version = version(b.Version, block.Version)
		body.AppBlock = &appBlockInfo{Name: block.Name, State: block.State}
		if at := block.View.SourceS3Location; at != nil && at.S3Key != nil {
			body.AppBlock.Package = deref(at.S3Bucket) + "/" + *at.S3Key
		}
	}
	return body
}

// createPackage has the package of an app block builder made. The streams end by themselves when the builder leaves RUNNING.
func (g *Gateway) createPackage(w http.ResponseWriter, r *http.Request, v visit, b *appstream.AppBlockBuilder) {
	if !g.ours(w, r) {
		return
	}
	ctx := appstream.WithCaller(r.Context(), appstream.Caller{
		Account: b.Account, Region: b.Region, Principal: b.ARN() + "/" + v.claims.UserID,
		Source: v.source, BaseURL: g.TrustedProxies.BaseURL(r), RequestID: uuid.New().String(),
	})
	if err := g.CreatePackage(ctx, b.Name); err != nil {
		g.refuseAction(w, r, err, "create a package", b.ARN(), "")
		return
	}
	g.answer(w, r, http.StatusAccepted, struct{}{})
}
