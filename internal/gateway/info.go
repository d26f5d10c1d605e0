package gateway

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json/v2"
	"errors"
	"io"
	"mime"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
	"uuid"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/blob"
	"github.com/oriel-project/oriel/internal/picture"
	"github.com/oriel-project/oriel/internal/store"
)

// infoWait is how long a question for news is held.
const infoWait = 25 * time.Second

// What /info tells about.
const (
	kindBuilder         = "image-builder"
	kindAppBlockBuilder = "app-block-builder"
	kindSession         = "session"
)

// info tells what is known about the subject. With after it waits until there is something else to tell, so that a page
// learns of a change at once and need not ask again and again.
func (g *Gateway) info(w http.ResponseWriter, r *http.Request, v visit) {
	switch s := v.subject.(type) {
	case builder:
		g.builderInfo(w, r, v, s.ImageBuilder)
	case appBlockBuilder:
		g.packagerInfo(w, r, v, s.AppBlockBuilder)
	case seat:
		g.sessionInfo(w, r, v, s.Session)
	}
}

// extend moves the deadline of an answer that is waited for. Not every server allows it, and then its own limits hold.
func extend(w http.ResponseWriter, wait time.Duration) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(wait + 10*time.Second))
}

// infoBody is the JSON of /info for an image builder.
type infoBody struct {
	Version      string     `json:"version"` // changes with anything below
	Kind         string     `json:"kind"`    // kindBuilder
	Name         string     `json:"name"`
	ARN          string     `json:"arn"`
	State        string     `json:"state"`
	Reason       string     `json:"reason,omitzero"`
	BaseImage    string     `json:"baseImage"`
	Platform     string     `json:"platform"`
	InstanceType string     `json:"instanceType"`
	Agent        string     `json:"agent"`
	Address      string     `json:"address,omitzero"` // of the machine in its own network
	Streams      bool       `json:"streams"`          // there is a display to be seen when State is RUNNING
	Expires      time.Time  `json:"expires"`          // until when the browser may stay
	Image        *imageInfo `json:"image,omitempty"`  // the image that is being made, or that was asked for and is of this builder
}

type imageInfo struct {
	Name   string `json:"name"`
	State  string `json:"state"`
	Reason string `json:"reason,omitzero"`
}

// version names what the info of a record says, and of others that it tells about.
func version(of ...int64) string {
	var v []byte
	for _, n := range of {
		v = strconv.AppendInt(append(v, '.'), n, 10)
	}
	return string(v[1:])
}

// A finding is what is known at one moment.
type finding struct {
	version string
	body    any                     // what the browser is told
	about   func(store.Change) bool // may a change make something else of it?
}

// tellNews answers with what look finds, and with after waits until that is of another version.
func (g *Gateway) tellNews(w http.ResponseWriter, r *http.Request, what string, look func(context.Context) (finding, error)) {
	after := r.URL.Query().Get("after")
	ctx, cancel := context.WithTimeout(r.Context(), infoWait)
	defer cancel()
	defer context.AfterFunc(g.closed, cancel)()
	var changes <-chan store.Change
	if after != "" {
		extend(w, infoWait)
		changes = g.Store.Watch(ctx) // before the first look, so that nothing is missed
	}
	for {
		found, err := look(r.Context())
		switch {
		case errors.Is(err, store.ErrNotFound):
			g.refuse(w, r, noticeDeleted)
			return
		case err != nil:
			g.fault(w, r, what, err)
			return
		}
		if changes == nil || found.version != after || !await(changes, found.about) {
			g.answer(w, r, http.StatusOK, found.body)
			return
		}
	}
}

// await waits for a change that is about something; false when the time is over.
func await(changes <-chan store.Change, about func(store.Change) bool) bool {
	for c := range changes {
		if c.Lagged || about(c) {
			return true
		}
	}
	return false
}

// imageName is what the Image Assistant allows.
var imageName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,99}$`)

// builderInfo tells what is known about a builder, and with after waits for news of it and of its image.
func (g *Gateway) builderInfo(w http.ResponseWriter, r *http.Request, v visit, b *appstream.ImageBuilder) {
	id, wanted := b.ID, r.URL.Query().Get("image")
	if wanted != "" && !imageName.MatchString(wanted) {
		g.deny(w, r, http.StatusBadRequest, problem{Code: "name", Message: say("not_image_name")})
		return
	}
	g.tellNews(w, r, "read the image builder", func(ctx context.Context) (finding, error) {
		b, i, err := g.look(ctx, id, wanted)
		body := g.describe(&b, i, v.claims.Expires)
		return finding{body.Version, body, func(c store.Change) bool {
			return c.ID == b.ID || c.Noun == appstream.NounImage && c.Account == b.Account && c.Region == b.Region && (c.Name == wanted || c.Name == b.Capturing)
		}}, err
	})
}

// look reads the builder, and the image that is being made of it or, if there is none, the wanted one if it was made of it.
func (g *Gateway) look(ctx context.Context, id, wanted string) (b appstream.ImageBuilder, image *appstream.Image, err error) {
	err = g.Store.View(ctx, func(tx store.Tx) error {
		if err := tx.Find(id, &b); err != nil {
			return err
		}
		name := b.Capturing
		if name == "" {
			name = wanted
		}
		if name == "" {
			return nil
		}
		var i appstream.Image
		switch err := tx.Get(appstream.Key{Account: b.Account, Region: b.Region, Noun: appstream.NounImage, Name: name}, &i); {
		case errors.Is(err, store.ErrNotFound):
			return nil
		case err != nil:
			return err
		}
		if i.BuilderID == id {
			image = &i
		}
		return nil
	})
	return b, image, err
}

func (g *Gateway) describe(b *appstream.ImageBuilder, i *appstream.Image, expires time.Time) infoBody {
	body := infoBody{Version: version(b.Version), Kind: kindBuilder, Name: b.Name, ARN: b.ARN(), State: b.State, Reason: reason(b), Platform: string(b.View.Platform),
		InstanceType: deref(b.View.InstanceType), Agent: deref(b.View.AppstreamAgentVersion), Streams: g.Dialer != nil, Expires: expires}
	if arn := deref(b.View.ImageArn); arn != "" {
		body.BaseImage = arn[strings.LastIndexByte(arn, '/')+1:]
	}
	if n := b.View.NetworkAccessConfiguration; n != nil {
		body.Address = deref(n.EniPrivateIpAddress)
	}
	if i != nil {
		body.Version = version(b.Version, i.Version)
		body.Image = &imageInfo{Name: i.Name, State: i.State}
		switch r := i.View.StateChangeReason; {
		case i.Problem != nil:
			body.Image.Reason = i.Problem.Message
		case r != nil && i.State != appstream.ImagePending: // until then it is the step that the page names itself
			body.Image.Reason = deref(r.Message)
		}
	}
	return body
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// Bounds of what is shown of a catalogue, which comes from inside the machine.
const (
	maxApplications = 50
	maxLabel        = 256
	maxIcon         = 64 << 10
)

var pngMagic = []byte("\x89PNG\r\n\x1a\n")

type applicationInfo struct {
	Name        string `json:"name"`
	DisplayName string `json:"displayName"`
	Icon        string `json:"icon,omitzero"` // a data: address
}

// applications asks the machine for its catalogue.
func (g *Gateway) applications(w http.ResponseWriter, r *http.Request, v visit, b *appstream.ImageBuilder) {
	if g.Dialer == nil || b.State != appstream.BuilderRunning {
		g.deny(w, r, http.StatusConflict, problem{Code: "state", Message: say("builder_not_running")})
		return
	}
	agent := g.agent(b.ID)
	defer agent.Close()
	list, err := agent.Applications(r.Context())
	if err != nil {
		if r.Context().Err() == nil {
			g.Log.WarnContext(r.Context(), "gateway: ask for the applications", "builder", b.ARN(), "err", err)
			g.deny(w, r, http.StatusBadGateway, problem{Code: "unreachable", Message: say("builder_silent")})
		}
		return
	}
	out := make([]applicationInfo, 0, min(len(list), maxApplications))
	for _, a := range list[:min(len(list), maxApplications)] {
		one := applicationInfo{Name: label(a.Name), DisplayName: label(a.DisplayName)}
		if one.DisplayName == "" {
			one.DisplayName = one.Name
		}
		if len(a.IconPNG) <= maxIcon && bytes.HasPrefix(a.IconPNG, pngMagic) {
			one.Icon = "data:image/png;base64," + base64.StdEncoding.EncodeToString(a.IconPNG)
		}
		out = append(out, one)
	}
	g.answer(w, r, http.StatusOK, struct {
		Applications []applicationInfo `json:"applications"`
	}{out})
}

// label makes a text from inside a machine fit to be shown: valid UTF-8 of a bounded length.
func label(s string) string {
	s = strings.ToValidUTF8(s, "�")
	if len(s) <= maxLabel {
		return s
	}
	s = s[:maxLabel]
	for len(s) > 0 && !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s
}

// Bounds of the form for an image.
const (
	maxForm        = 16 << 10 // bytes of the body
	maxDisplayName = 100      // characters, as of the next
	maxDescription = 256
)

// createImage has an image made of the builder. The streams end by themselves when the builder leaves RUNNING.
func (g *Gateway) createImage(w http.ResponseWriter, r *http.Request, v visit, b *appstream.ImageBuilder) {
	if !g.ours(w, r) {
		return
	}
	var in struct {
		Name                  string `json:"name"`
		DisplayName           string `json:"displayName"`
		Description           string `json:"description"`
		UseLatestAgentVersion bool   `json:"useLatestAgentVersion"`
	}
	if !g.form(w, r, &in) {
		return
	}
	switch {
	case !imageName.MatchString(in.Name):
		g.deny(w, r, http.StatusBadRequest, problem{"form", "name", say("image_name_wrong")})
		return
	case utf8.RuneCountInString(in.DisplayName) > maxDisplayName:
		g.deny(w, r, http.StatusBadRequest, problem{"form", "displayName", say("too_long", maxDisplayName)})
		return
	case utf8.RuneCountInString(in.Description) > maxDescription:
		g.deny(w, r, http.StatusBadRequest, problem{"form", "description", say("too_long", maxDescription)})
		return
	case b.State != appstream.BuilderRunning:
		g.deny(w, r, http.StatusConflict, problem{"state", "", say("builder_not_ready", b.State)})
		return
	}
	ctx := appstream.WithCaller(r.Context(), appstream.Caller{
		Account: b.Account, Region: b.Region, Principal: b.ARN() + "/" + v.claims.UserID,
		Source: v.source, BaseURL: g.TrustedProxies.BaseURL(r), RequestID: uuid.New().String(),
	})
	err := g.CreateImage(ctx, NewImage{Builder: b.Name, BuilderID: b.ID, Name: in.Name,
		DisplayName: in.DisplayName, Description: in.Description, UseLatestAgentVersion: in.UseLatestAgentVersion})
	if err == nil {
		g.answer(w, r, http.StatusAccepted, imageInfo{Name: in.Name, State: appstream.ImagePending})
		return
	}
	g.refuseAction(w, r, err, "create an image", b.ARN(), "name")
}

// refuseAction answers the error of an operation that was asked for in the viewer. field is where the form for an image names it; "" for others.
func (g *Gateway) refuseAction(w http.ResponseWriter, r *http.Request, err error, what, arn, field string) {
	known, ok := errors.AsType[*appstream.Error](err)
	if !ok || known.Kind == appstream.Internal {
		g.Log.ErrorContext(r.Context(), "gateway: "+what, "builder", arn, "err", err)
		g.deny(w, r, http.StatusInternalServerError, problem{Code: "fault", Message: say("not_done")})
		return
	}
	p := problem{Code: string(known.Kind), Message: quote(known.Message)}
	status := http.StatusBadRequest
	switch known.Kind {
	case appstream.ResourceAlreadyExists:
		status = http.StatusConflict
		if field != "" {
			p.Field, p.Message = field, say("image_name_taken")
		}
	case appstream.OperationNotPermitted, appstream.ResourceNotAvailable, appstream.ResourceInUse, appstream.ConcurrentModification:
		status = http.StatusConflict
	case appstream.AccessDenied:
		status = http.StatusForbidden
	case appstream.ResourceNotFound:
		status = http.StatusNotFound
	case appstream.Unavailable:
		status = http.StatusServiceUnavailable
	}
	g.deny(w, r, status, p)
}

// form reads the JSON of a request into in, and answers one that is not understood.
func (g *Gateway) form(w http.ResponseWriter, r *http.Request, in any) bool {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		g.deny(w, r, http.StatusUnsupportedMediaType, problem{Code: "type", Message: say("not_json")})
		return false
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	if err == nil {
		err = json.Unmarshal(text, in, json.RejectUnknownMembers(true))
	}
	if err != nil {
		g.badRequest(w, r, say("not_understood"))
		return false
	}
	return true
}

var iconName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)

// icon serves an application's icon, or a picture of a theme. Its name is made from its content and cannot be guessed, and never stands for
// another one.
func (g *Gateway) icon(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if g.Icons == nil || !iconName.MatchString(name) {
		g.refuse(w, r, noticeUnknown)
		return
	}
	data, err := g.Icons.Get(name)
	switch {
	case errors.Is(err, blob.ErrNotFound):
		g.refuse(w, r, noticeUnknown)
		return
	case err != nil:
		g.fault(w, r, "read an icon", err)
		return
	}
	kind := picture.Detect(data).ContentType()
	if kind == "" {
		g.refuse(w, r, noticeUnknown)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	w.Header().Set("Cross-Origin-Resource-Policy", "cross-origin") // consoles elsewhere show it
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.Write(data)
}
