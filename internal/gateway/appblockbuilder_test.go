package gateway

import (
	"context"
	"encoding/json/v2"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/oriel-project/oriel/internal/appstream"
)

const packagerID = "abb-1"

// putPackager writes the app block builder "maker" of the app block "suite" after change, RUNNING at first.
func (w *world) putPackager(change func(*appstream.AppBlockBuilder)) {
	w.store.mu.Lock()
	var b appstream.AppBlockBuilder
	if w.store.packager != nil {
		b = *w.store.packager
	} else {
		b = appstream.AppBlockBuilder{Meta: appstream.Meta{Key: appstream.Key{Account: testAccount, Region: testRegion, Noun: appstream.NounAppBlockBuilder, Name: "maker"},
			ID: packagerID, State: appstream.AppBlockBuilderRunning}, AppBlock: "suite", ImageARN: "arn:aws:appstream:us-west-2::image/oriel-debian-12", AgentVersion: "11-21-2026"}
		b.View = types.AppBlockBuilder{InstanceType: new("stream.standard.medium"), Platform: "DEBIAN_12"}
	}
	w.store.mu.Unlock()
	if change != nil {
		change(&b)
	}
	w.store.put(&b, nil)
}

func (w *world) putBlock(state, key string) {
	b := appstream.AppBlock{Meta: appstream.Meta{Key: appstream.Key{Account: testAccount, Region: testRegion, Noun: appstream.NounAppBlock, Name: "suite"}, ID: "ab-1", State: state}}
	b.View.SourceS3Location = &types.S3Location{S3Bucket: new("brand"), S3Key: appstream.Optional(key)}
	w.store.mu.Lock()
	if w.store.block != nil {
		b.Version = w.store.block.Version
	}
	w.store.mu.Unlock()
	w.store.put(&b, nil)
}

// atPackager gives a client that may see the app block builder.
func (w *world) atPackager() *http.Client {
	w.t.Helper()
	w.putPackager(nil)
	w.putBlock(appstream.AppBlockInactive, "")
	c := w.claims()
	c.Builder, c.RecordID = "maker", packagerID
	client := w.browser()
	if status, _, _ := w.get(client, w.url(c)); status != http.StatusSeeOther {
		w.t.Fatalf("the streaming URL was answered with %d", status)
	}
	return client
}

func TestPagesOfAnAppBlockBuilder(t *testing.T) {
	w := newWorld(t, agentFunc(echo), nil)
	client := w.atPackager()
	for _, test := range []struct {
		state string
		pack  bool
		want  []string
	}{
		{"RUNNING", false, []string{"/assets/packager.js", "Create package", "The package of <b>suite</b>", `id="package-form"`}},
		{"STARTING", false, []string{"maker is starting", `data-code="starting"`}},
		{"STOPPING", false, []string{"maker is stopping", `data-code="stopped"`}},
		{"STOPPING", true, []string{"The package of suite is being made", `data-code="imaging"`}},
		{"STOPPED", false, []string{"maker is stopped", "StartAppBlockBuilder"}},
	} {
		w.putPackager(func(b *appstream.AppBlockBuilder) {
			b.State, b.Packaging = test.state, nil
			if test.pack {
				b.Packaging = &appstream.Packaging{}
			}
		})
		status, _, body := w.get(client, "/stream/"+packagerID)
		for _, want := range test.want {
			if status != http.StatusOK || !strings.Contains(body, want) {
				t.Errorf("%s: %d, the page has no %s", test.state, status, want)
			}
		}
		if strings.Contains(body, "Create image") || strings.Contains(body, "image-form") {
			t.Errorf("%s: the page offers an image", test.state)
		}
	}
	if status, _, _ := w.get(client, "/stream/"+packagerID+"/applications"); status != http.StatusNotFound {
		t.Errorf("the catalogue of an app block builder is answered with %d", status)
	}
}

func (w *world) packagerInfo(client *http.Client, query string) packagerInfoBody {
	w.t.Helper()
	status, _, body := w.get(client, "/stream/"+packagerID+"/info"+query)
	var info packagerInfoBody
	if err := json.Unmarshal([]byte(body), &info); err != nil || status != http.StatusOK {
		w.t.Fatalf("info%s was answered with %d %s: %v", query, status, body, err)
	}
	return info
}

func TestInfoOfAnAppBlockBuilder(t *testing.T) {
	w := newWorld(t, agentFunc(echo), nil)
	client := w.atPackager()
	got := w.packagerInfo(client, "")
	got.Expires = time.Time{}
	want := packagerInfoBody{Version: "1.1", Kind: "app-block-builder", Name: "maker", ARN: "arn:aws:appstream:us-west-2:123456789012:app-block-builder/maker", State: "RUNNING",
		BaseImage: "oriel-debian-12", Platform: "DEBIAN_12", InstanceType: "stream.standard.medium", Agent: "11-21-2026", Streams: true, AppBlock: &appBlockInfo{Name: "suite", State: "INACTIVE"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	news := make(chan packagerInfoBody, 1)
	asked := time.Now()
	go func() { news <- w.packagerInfo(client, "?after=1.1") }()
	w.putBlock(appstream.AppBlockActive, "suite-1.tar")
	if got := <-news; time.Since(asked) >= infoWait {
		t.Error("what has changed was told only at the end of the wait")
	} else if got.AppBlock.State != "ACTIVE" || got.AppBlock.Package != "brand/suite-1.tar" {
		t.Errorf("the news are %+v", got.AppBlock)
	}
	w.putPackager(func(b *appstream.AppBlockBuilder) {
		b.State, b.Packaging, b.Problem = "STOPPING", &appstream.Packaging{}, &appstream.Problem{Message: "the bucket is away"}
	})
	if got := w.packagerInfo(client, ""); !got.Packaging || got.Reason != "the bucket is away" || got.State != "STOPPING" {
		t.Errorf("%+v", got)
	}
}

func TestCreatePackage(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*http.Request)
		err    error
		on     string // the record
		status int
		says   string
		calls  int
	}{
		{name: "good", status: http.StatusAccepted, calls: 1},
		{name: "another site", change: func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, status: http.StatusForbidden},
		{name: "no cookie", change: func(r *http.Request) { r.Header.Set("Cookie", "x=y") }, status: http.StatusUnauthorized},
		{name: "of an image builder", on: testID, status: http.StatusUnauthorized},
		{name: "state", err: appstream.Errorf(appstream.OperationNotPermitted, "It stops."), status: http.StatusConflict, says: "It stops.", calls: 1},
		{name: "fault", err: errors.New("secret detail"), status: http.StatusInternalServerError, says: "log says why", calls: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			var calls int
			var caller appstream.Caller
			w := newWorld(t, agentFunc(echo), func(c *Config) {
				c.CreatePackage = func(ctx context.Context, name string) error {
					if calls++; name != "maker" {
						t.Errorf("the package of %s is asked for", name)
					}
					caller = appstream.CallerFrom(ctx)
					return test.err
				}
			})
			cookie := w.cookiesFor(w.atPackager(), packagerID)
			on := packagerID
			if test.on != "" {
				on = test.on
			}
			r, err := http.NewRequest("POST", w.on("/stream/"+on+"/package"), nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header = http.Header{"Cookie": {cookie}, "Accept": {"application/json"}, "Sec-Fetch-Site": {"same-origin"}}
			if test.change != nil {
				test.change(r)
			}
			status, _, body := w.do(w.browser(), r)
			if status != test.status || !strings.Contains(body, test.says) || strings.Contains(body, "secret") || calls != test.calls {
				t.Errorf("answered %d %s, %d calls", status, body, calls)
			}
			if calls > 0 && (caller.Account != testAccount || caller.Principal != "arn:aws:appstream:us-west-2:123456789012:app-block-builder/maker/admin") {
				t.Errorf("the caller is %+v", caller)
			}
		})
	}
	w := newWorld(t, agentFunc(echo), nil) // a builder of images makes no packages
	r, err := http.NewRequest("POST", w.on("/stream/"+testID+"/package"), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = http.Header{"Cookie": {w.cookies(w.signedIn())}, "Sec-Fetch-Site": {"same-origin"}}
	if status, _, _ := w.do(w.browser(), r); status != http.StatusNotFound {
		t.Errorf("answered %d", status)
	}
}

// A stream of an app block builder is relayed, and ends when its package is made.
func TestStreamOfAnAppBlockBuilder(t *testing.T) {
	w := newWorld(t, agentFunc(echo), nil)
	client := w.atPackager()
	ws, _, err := websocket.Dial(t.Context(), w.server.URL+"/stream/"+packagerID+"/ws", &websocket.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{}},
		HTTPHeader: http.Header{"Cookie": {w.cookiesFor(client, packagerID)}, "Origin": {w.server.URL}}, Subprotocols: []string{"binary"}})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	if err := ws.Write(t.Context(), websocket.MessageBinary, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, ws, 5); string(got) != "hello" {
		t.Errorf("%q came back", got)
	}
	w.putPackager(func(b *appstream.AppBlockBuilder) { b.State, b.Packaging = "STOPPING", &appstream.Packaging{} })
	wantEnd(t, ws, endImaging)
	if end := <-w.closed; end.reason != endImaging.reason {
		t.Errorf("the stream ended: %+v", end)
	}
}
