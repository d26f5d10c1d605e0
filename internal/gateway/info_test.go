package gateway

import (
	"bytes"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/google/go-cmp/cmp"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/ticket"
)

func newWorldSigner(t *testing.T) *ticket.Signer {
	t.Helper()
	s, err := ticket.NewSigner(bytes.Repeat([]byte{7}, ticket.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (w *world) info(client *http.Client, query string) infoBody {
	w.t.Helper()
	status, _, body := w.get(client, "/stream/"+testID+"/info"+query)
	var info infoBody
	if err := json.Unmarshal([]byte(body), &info); err != nil || status != http.StatusOK {
		w.t.Fatalf("info%s was answered with %d %s: %v", query, status, body, err)
	}
	return info
}

func TestInfo(t *testing.T) {
	w := newWorld(t, agentFunc(echo), nil)
	client := w.signedIn()
	got := w.info(client, "")
	if left := time.Until(got.Expires); left < BuilderVisit-time.Minute || left > BuilderVisit {
		t.Errorf("the session ends in %s", left)
	}
	got.Expires = time.Time{}
	want := infoBody{Version: "1", Kind: "image-builder", Name: "hello", ARN: "arn:aws:appstream:us-west-2:123456789012:image-builder/hello", State: "RUNNING", BaseImage: "oriel-debian-12",
		Platform: "DEBIAN_12", InstanceType: "stream.standard.medium", Agent: "11-21-2026", Address: "10.90.0.2", Streams: true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestInfoTellsOfImagesOfTheBuilderOnly(t *testing.T) {
	w := newWorld(t, agentFunc(echo), nil)
	client := w.signedIn()
	image := func(name, builder, state string) *appstream.Image {
		return &appstream.Image{Meta: appstream.Meta{Key: appstream.Key{Account: testAccount, Region: testRegion, Noun: appstream.NounImage, Name: name}, ID: "img-" + name, State: state}, BuilderID: builder}
	}
	w.store.put(image("mine", testID, appstream.ImageAvailable), nil)
	w.store.put(image("other", "ib-2", appstream.ImageAvailable), nil)
	broken := image("broken", testID, appstream.ImagePending)
	broken.Problem = &appstream.Problem{Message: "The disk is full."}
	w.store.put(broken, nil)
	captured := image("captured", testID, appstream.ImagePending)
	captured.View.StateChangeReason = &types.ImageStateChangeReason{Message: new("capturing the disk")}
	w.store.put(captured, nil)
	failed := image("failed", testID, appstream.ImageFailed)
	failed.View.StateChangeReason = &types.ImageStateChangeReason{Message: new("The disk is full.")}
	w.store.put(failed, nil)
	for query, want := range map[string]*imageInfo{
		"?image=mine": {Name: "mine", State: "AVAILABLE"}, "?image=other": nil, "?image=none": nil, "": nil,
		"?image=broken": {Name: "broken", State: "PENDING", Reason: "The disk is full."}, "?image=captured": {Name: "captured", State: "PENDING"},
		"?image=failed": {Name: "failed", State: "FAILED", Reason: "The disk is full."},
	} {
		if diff := cmp.Diff(want, w.info(client, query).Image); diff != "" {
			t.Errorf("%s: %s", query, diff)
		}
	}
	if status, _, _ := w.get(client, "/stream/"+testID+"/info?image=a%20b"); status != http.StatusBadRequest {
		t.Errorf("a bad name was answered with %d", status)
	}
	w.put(func(b *appstream.ImageBuilder) { b.State, b.Capturing = appstream.BuilderSnapshotting, "broken" })
	if got := w.info(client, "?image=mine").Image; got == nil || got.Name != "broken" {
		t.Errorf("while an image is made the info tells of %v", got)
	}
}

func TestInfoWaitsForNews(t *testing.T) {
	w := newWorld(t, agentFunc(echo), nil)
	client := w.signedIn()
	first := w.info(client, "")
	if again := w.info(client, "?after=old"); again.Version != first.Version {
		t.Errorf("another version was answered with %s", again.Version)
	}
	answer := make(chan infoBody)
	go func() { answer <- w.info(client, "?after="+first.Version) }()
	w.store.put(&appstream.ImageBuilder{Meta: appstream.Meta{ID: "ib-2"}}, nil) // not the news
	select {
	case early := <-answer:
		t.Fatalf("answered %+v without news", early)
	case <-time.After(50 * time.Millisecond):
	}
	w.setState(appstream.BuilderStopping)
	if news := <-answer; news.State != appstream.BuilderStopping || news.Version == first.Version {
		t.Errorf("the news are %+v", news)
	}
	// The end of the server is not waited for either.
	go func() { answer <- w.info(client, "?after=2") }()
	w.gate.closeWith(endRestart)
	if last := <-answer; last.Version != "2" {
		t.Errorf("at the end answered %+v", last)
	}
}

func TestApplications(t *testing.T) {
	w := newWorld(t, agentFunc(echo), nil)
	client := w.signedIn()
	status, _, body := w.get(client, "/stream/"+testID+"/applications")
	var got struct{ Applications []applicationInfo }
	if err := json.Unmarshal([]byte(body), &got, json.MatchCaseInsensitiveNames(true)); err != nil || status != http.StatusOK {
		t.Fatalf("answered %d %s: %v", status, body, err)
	}
	want := []applicationInfo{
		{Name: "mousepad", DisplayName: "Mousepad", Icon: "data:image/png;base64,iVBORw0KGgo="},
		{Name: "x", DisplayName: strings.Repeat("é", 128)}, // cut, and without an icon that is none
	}
	if diff := cmp.Diff(want, got.Applications); diff != "" {
		t.Error(diff)
	}
	w.setState(appstream.BuilderStopped)
	if status, _, _ := w.get(client, "/stream/"+testID+"/applications"); status != http.StatusConflict {
		t.Errorf("for a stopped builder answered %d", status)
	}
	lost := newWorld(t, unreachable{}, nil)
	if status, _, _ := lost.get(lost.signedIn(), "/stream/"+testID+"/applications"); status != http.StatusBadGateway {
		t.Errorf("for an unreachable machine answered %d", status)
	}
}

func TestLabel(t *testing.T) {
	for in, want := range map[string]string{
		"Mousepad": "Mousepad", "a\xff": "a�", strings.Repeat("€", 100): strings.Repeat("€", 85),
	} {
		if got := label(in); got != want {
			t.Errorf("label(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestCreateImage(t *testing.T) {
	const form = `{"name":"office","displayName":"Office","description":"d","useLatestAgentVersion":true}`
	for _, tt := range []struct {
		name, body string
		change     func(*http.Request)
		err        error
		state      string
		status     int
		field      string
		says       string
		calls      int
	}{
		{name: "good", body: form, status: http.StatusAccepted, says: `{"name":"office","state":"PENDING"}`, calls: 1},
		{name: "charset", body: form, change: func(r *http.Request) { r.Header.Set("Content-Type", "application/json; charset=utf-8") }, status: http.StatusAccepted, calls: 1},
		{name: "another site", body: form, change: func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, status: http.StatusForbidden},
		{name: "another origin", body: form, change: func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, status: http.StatusForbidden},
		{name: "a plain form", body: form, change: func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, status: http.StatusUnsupportedMediaType},
		{name: "no session", body: form, change: func(r *http.Request) { r.Header.Set("Cookie", "x=y") }, status: http.StatusUnauthorized},
		{name: "no JSON", body: "{", status: http.StatusBadRequest},
		{name: "unknown member", body: `{"name":"a","x":1}`, status: http.StatusBadRequest},
		{name: "too much", body: `{"name":"` + strings.Repeat("a", maxForm) + `"}`, status: http.StatusBadRequest},
		{name: "no name", body: `{}`, status: http.StatusBadRequest, field: "name"},
		{name: "bad name", body: `{"name":"-a"}`, status: http.StatusBadRequest, field: "name"},
		{name: "long name", body: `{"name":"` + strings.Repeat("a", 101) + `"}`, status: http.StatusBadRequest, field: "name"},
		{name: "long display name", body: `{"name":"a","displayName":"` + strings.Repeat("é", 101) + `"}`, status: http.StatusBadRequest, field: "displayName"},
		{name: "longest display name", body: `{"name":"a","displayName":"` + strings.Repeat("é", 100) + `"}`, status: http.StatusAccepted, calls: 1},
		{name: "long description", body: `{"name":"a","description":"` + strings.Repeat("d", 257) + `"}`, status: http.StatusBadRequest, field: "description"},
		{name: "not running", body: form, state: appstream.BuilderRebooting, status: http.StatusConflict, says: "REBOOTING"},
		{name: "exists", body: form, err: appstream.Errorf(appstream.ResourceAlreadyExists, "The image office exists."), status: http.StatusConflict, field: "name", says: "There is an image of that name already.", calls: 1},
		{name: "not allowed", body: form, err: appstream.Errorf(appstream.AccessDenied, "no"), status: http.StatusForbidden, calls: 1},
		{name: "raced", body: form, err: fmt.Errorf("service: %w", appstream.Errorf(appstream.OperationNotPermitted, "It stops.")), status: http.StatusConflict, says: "It stops.", calls: 1},
		{name: "limit", body: form, err: appstream.Errorf(appstream.LimitExceeded, "Too many."), status: http.StatusBadRequest, says: "Too many.", calls: 1},
		{name: "away", body: form, err: appstream.Errorf(appstream.Unavailable, "Busy."), status: http.StatusServiceUnavailable, says: "Busy.", calls: 1},
		{name: "deleted", body: form, err: appstream.Errorf(appstream.ResourceNotFound, "Gone."), status: http.StatusNotFound, says: "Gone.", calls: 1},
		{name: "fault", body: form, err: errors.New("secret detail"), status: http.StatusInternalServerError, says: "log says why", calls: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, agentFunc(echo), nil)
			cookie := w.cookies(w.signedIn())
			if tt.state != "" {
				w.setState(tt.state)
			}
			w.makeErr = tt.err
			r, err := http.NewRequest("POST", w.on("/stream/"+testID+"/image"), io.NopCloser(strings.NewReader(tt.body)))
			if err != nil {
				t.Fatal(err)
			}
			r.Header = http.Header{"Cookie": {cookie}, "Content-Type": {"application/json"}, "Accept": {"application/json"}, "Sec-Fetch-Site": {"same-origin"}}
			if tt.change != nil {
				if tt.name == "another origin" {
					r.Header.Del("Sec-Fetch-Site")
				}
				tt.change(r)
			}
			status, _, body := w.do(w.browser(), r)
			if status != tt.status || !strings.Contains(body, tt.says) || strings.Contains(body, "secret") {
				t.Errorf("answered %d %s", status, body)
			}
			if want := `"field":"` + tt.field + `"`; tt.field != "" && !strings.Contains(body, want) {
				t.Errorf("%s has no %s", body, want)
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if len(w.made) != tt.calls {
				t.Errorf("CreateImage was called %d times, want %d", len(w.made), tt.calls)
			}
			if tt.name != "good" {
				return
			}
			if diff := cmp.Diff(NewImage{Builder: "hello", BuilderID: testID, Name: "office", DisplayName: "Office", Description: "d", UseLatestAgentVersion: true}, w.made[0]); diff != "" {
				t.Error(diff)
			}
			c := w.caller
			if c.Account != testAccount || c.Region != testRegion || c.Source.String() != "127.0.0.1" || c.BaseURL != w.server.URL || c.RequestID == "" ||
				c.Principal != "arn:aws:appstream:us-west-2:123456789012:image-builder/hello/admin" {
				t.Errorf("the caller is %+v", c)
			}
		})
	}
}
