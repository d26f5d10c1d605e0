package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/aws/smithy-go"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/awsclient"
	"github.com/oriel-project/oriel/internal/config"
	"github.com/oriel-project/oriel/internal/keys"
	"github.com/oriel-project/oriel/internal/store"
)

// simConfig is a server without machines, on a port of its own.
func simConfig(t testing.TB, data string) Config {
	t.Helper()
	c := config.Default()
	c.Listen, c.Data, c.Provider, c.SimDelay = "127.0.0.1:0", data, config.Sim, config.Duration{Duration: 20 * time.Millisecond}
	return Config{Config: c, Version: "test", Log: slog.New(slog.DiscardHandler)}
}

// start runs a server until the test ends, or until the function that it gives is called.
func start(t testing.TB, cfg Config) (s *Server, stop func()) {
	t.Helper()
	if err := cfg.Check(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.drain = 10 * patience // so that a server that waits for it is told from one on a busy machine
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- errors.Join(s.Run(ctx), s.Close()) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the server ended with: %v", err)
		}
	}
	t.Cleanup(stop)
	return s, stop
}

// connect gives AWS's SDK as a user would set it up, with the server's own key.
func connect(t testing.TB, data, url string) *sdk.Client {
	t.Helper()
	key, err := keys.Read(CredentialsFile(data))
	if err != nil {
		t.Fatal(err)
	}
	return awsclient.New(url, "us-east-1", key)
}

func clientWith(url, id, secret, region string) *sdk.Client {
	return awsclient.New(url, region, keys.Key{ID: id, Secret: secret})
}

const image = "oriel-debian-12" // of sim, when nothing is configured

func newBuilder(name string) *sdk.CreateImageBuilderInput {
	return &sdk.CreateImageBuilderInput{Name: &name, ImageName: new(image), InstanceType: new("stream.standard.medium")}
}

// patience is how long a test waits for what must come at last. It is not a measure of anything: a busy machine may stand still for seconds.
const patience = time.Minute

// eventually asks until done says so.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// await waits for a state of an image builder; "" is its absence.
func await(t testing.TB, c *sdk.Client, name string, want types.ImageBuilderState) (b types.ImageBuilder) {
	t.Helper()
	eventually(t, name+" is "+string(want), func() bool {
		out, err := c.DescribeImageBuilders(t.Context(), &sdk.DescribeImageBuildersInput{Names: []string{name}})
		if _, missing := errors.AsType[*types.ResourceNotFoundException](err); missing {
			return want == ""
		}
		if err != nil || len(out.ImageBuilders) != 1 {
			t.Fatalf("%v, %v", out, err)
		}
		b = out.ImageBuilders[0]
		return b.State == want
	})
	return b
}

func awaitImage(t testing.TB, c *sdk.Client, name string, want types.ImageState) (i types.Image) {
	t.Helper()
	eventually(t, name+" is "+string(want), func() bool {
		out, err := c.DescribeImages(t.Context(), &sdk.DescribeImagesInput{Names: []string{name}})
		if _, missing := errors.AsType[*types.ResourceNotFoundException](err); missing {
			return want == ""
		}
		if err != nil || len(out.Images) != 1 {
			t.Fatalf("%v, %v", out, err)
		}
		i = out.Images[0]
		return i.State == want
	})
	return i
}

// withImage starts a server that has an image, with a tag, of the image builder hello.
func withImage(t testing.TB, cfg Config, name string) (*Server, *sdk.Client) {
	t.Helper()
	s, _ := start(t, cfg)
	c := connect(t, s.cfg.Data, s.URL())
	must(c.CreateImageBuilder(t.Context(), newBuilder("hello")))(t)
	await(t, c, "hello", types.ImageBuilderStateRunning)
	if status, answer := call(t, s, "us-east-1", "Oriel.CreateImage", false, map[string]any{"ImageBuilderName": "hello", "Name": name, "Tags": map[string]string{"team": "red"}}); status != 200 {
		t.Fatalf("CreateImage: %d %s", status, answer)
	}
	awaitImage(t, c, name, types.ImageStateAvailable)
	return s, c
}

// must fails the test for an error and gives the value on.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// TestLife leads an image builder through its life, with AWS's SDK, and makes an image on the way.
func TestLife(t *testing.T) {
	s, _ := start(t, simConfig(t, t.TempDir()))
	c, ctx := connect(t, s.cfg.Data, s.URL()), t.Context()

	images := must(c.DescribeImages(ctx, &sdk.DescribeImagesInput{}))(t).Images
	if len(images) != 1 || *images[0].Name != image || images[0].Visibility != types.VisibilityTypePublic {
		t.Fatalf("a new server has the images %+v", images)
	}
	in := newBuilder("hello")
	in.Tags = map[string]string{"team": "blue"}
	made := must(c.CreateImageBuilder(ctx, in))(t).ImageBuilder
	if made.State != types.ImageBuilderStatePending || *made.Arn != "arn:aws:appstream:us-east-1:123456789012:image-builder/hello" {
		t.Errorf("created: %s, %s", made.State, *made.Arn)
	}
	b := await(t, c, "hello", types.ImageBuilderStateRunning)
	if n := b.NetworkAccessConfiguration; n == nil || n.EniPrivateIpAddress == nil || len(n.EniIpv6Addresses) == 0 || n.EniId == nil {
		t.Errorf("a running builder has the network %+v", n)
	}
	if tags := must(c.ListTagsForResource(ctx, &sdk.ListTagsForResourceInput{ResourceArn: b.Arn}))(t).Tags; tags["team"] != "blue" {
		t.Errorf("tags are %v", tags)
	}

	must(c.StopImageBuilder(ctx, &sdk.StopImageBuilderInput{Name: b.Name}))(t)
	await(t, c, "hello", types.ImageBuilderStateStopped)
	must(c.StartImageBuilder(ctx, &sdk.StartImageBuilderInput{Name: b.Name}))(t)
	await(t, c, "hello", types.ImageBuilderStateRunning)

	asked := time.Now().Truncate(time.Second) // the API's times are of whole seconds
	url := must(c.CreateImageBuilderStreamingURL(ctx, &sdk.CreateImageBuilderStreamingURLInput{Name: b.Name, Validity: new(int64(600))}))(t)
	if !strings.HasPrefix(*url.StreamingURL, s.URL()+"/authenticate?parameters=") || url.Expires.Before(asked.Add(10*time.Minute)) || url.Expires.After(time.Now().Add(10*time.Minute+time.Second)) {
		t.Errorf("a streaming URL that begins with %.40s and expires in %s", *url.StreamingURL, time.Until(*url.Expires))
	}
	noRedirect := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp := must(noRedirect.Get(*url.StreamingURL))(t)
	resp.Body.Close()
	if resp.StatusCode != http.StatusSeeOther || !strings.HasPrefix(resp.Header.Get("Location"), "/stream/ib-") || len(resp.Cookies()) != 1 {
		t.Errorf("the streaming URL answers %d, to %s", resp.StatusCode, resp.Header.Get("Location"))
	}

	status, answer := call(t, s, "us-east-1", "Oriel.CreateImage", false, map[string]any{"ImageBuilderName": "hello", "Name": "mine", "DisplayName": "Mine"})
	if status != 200 || !strings.Contains(string(answer), `"State":"PENDING"`) {
		t.Fatalf("Oriel.CreateImage: %d %s", status, answer)
	}
	await(t, c, "hello", types.ImageBuilderStateStopped)
	mine := awaitImage(t, c, "mine", types.ImageStateAvailable)
	if *mine.DisplayName != "Mine" || *mine.ImageBuilderName != "hello" || mine.Visibility != types.VisibilityTypePrivate {
		t.Errorf("the image is %+v", mine)
	}

	second := newBuilder("second")
	second.ImageName, second.ImageArn = nil, mine.Arn
	must(c.CreateImageBuilder(ctx, second))(t)
	await(t, c, "second", types.ImageBuilderStateRunning)
	for _, name := range []string{"hello", "second"} {
		must(c.DeleteImageBuilder(ctx, &sdk.DeleteImageBuilderInput{Name: &name}))(t)
		await(t, c, name, "")
	}
	must(c.DeleteImage(ctx, &sdk.DeleteImageInput{Name: mine.Name}))(t)
	awaitImage(t, c, "mine", "")
	if left, err := s.provider.List(ctx); err != nil || len(left) > 0 {
		t.Errorf("machines are left: %v, %v", left, err)
	}
}

// TestRefusals has what the API must not accept, each with the error that AWS's clients switch on and a word of the message.
func TestRefusals(t *testing.T) {
	cfg := simConfig(t, t.TempDir())
	cfg.Quotas.ImageBuilders = 2
	cfg.Images = []config.Image{{Name: image}, {Name: "Old", State: "DEPRECATED"}, {Name: "Broken", State: "FAILED"}}
	s, _ := start(t, cfg)
	c, ctx := connect(t, cfg.Data, s.URL()), t.Context()
	must(c.CreateImageBuilder(ctx, newBuilder("runs")))(t)
	await(t, c, "runs", types.ImageBuilderStateRunning)
	must(c.CreateImageBuilder(ctx, newBuilder("rests")))(t)
	await(t, c, "rests", types.ImageBuilderStateRunning)
	must(c.StopImageBuilder(ctx, &sdk.StopImageBuilderInput{Name: new("rests")}))(t)
	await(t, c, "rests", types.ImageBuilderStateStopped)

	create := func(change func(*sdk.CreateImageBuilderInput)) error {
		in := newBuilder("third")
		change(in)
		_, err := c.CreateImageBuilder(ctx, in)
		return err
	}
	for _, test := range []struct {
		name string
		err  error
		code string
		says string
	}{
		{"invalid name", create(func(in *sdk.CreateImageBuilderInput) { in.Name = new("no good") }), "ValidationException", "name"},
		{"long name", create(func(in *sdk.CreateImageBuilderInput) { in.Name = new(strings.Repeat("x", 200)) }), "ValidationException", "name"},
		{"both images", create(func(in *sdk.CreateImageBuilderInput) {
			in.ImageArn = new("arn:aws:appstream:us-east-1::image/" + image)
		}), "InvalidParameterCombinationException", "exactly one of ImageName and ImageArn"},
		{"neither image", create(func(in *sdk.CreateImageBuilderInput) { in.ImageName = nil }), "InvalidParameterCombinationException", "exactly one of ImageName and ImageArn"},
		{"missing image", create(func(in *sdk.CreateImageBuilderInput) { in.ImageName = new("nowhere") }), "ResourceNotFoundException", "nowhere"},
		{"deprecated image", create(func(in *sdk.CreateImageBuilderInput) { in.ImageName = new("Old") }), "ResourceNotAvailableException", "The image Old is DEPRECATED. The image must be in an AVAILABLE state"},
		{"failed image", create(func(in *sdk.CreateImageBuilderInput) { in.ImageName = new("Broken") }), "ResourceNotAvailableException", "FAILED"},
		{"two subnets", create(func(in *sdk.CreateImageBuilderInput) {
			in.VpcConfig = &types.VpcConfig{SubnetIds: []string{"subnet-1", "subnet-2"}}
		}), "InvalidParameterCombinationException", "only one subnet"},
		{"unknown type", create(func(in *sdk.CreateImageBuilderInput) { in.InstanceType = new("stream.nothing.small") }), "InvalidParameterCombinationException", "stream.nothing.small"},
		{"over the quota", create(func(*sdk.CreateImageBuilderInput) {}), "LimitExceededException", "Limit: 2"},
		{"duplicate", func() error {
			must(c.DeleteImageBuilder(ctx, &sdk.DeleteImageBuilderInput{Name: new("rests")}))(t)
			await(t, c, "rests", "")
			_, err := c.CreateImageBuilder(ctx, newBuilder("runs"))
			return err
		}(), "ResourceAlreadyExistsException", "runs"},
		{"start what runs", func() error {
			_, err := c.StartImageBuilder(ctx, &sdk.StartImageBuilderInput{Name: new("runs")})
			return err
		}(), "ResourceNotAvailableException", "is RUNNING"},
		{"stop what is not there", func() error {
			_, err := c.StopImageBuilder(ctx, &sdk.StopImageBuilderInput{Name: new("nobody")})
			return err
		}(), "ResourceNotFoundException", "nobody"},
		{"validity", func() error {
			_, err := c.CreateImageBuilderStreamingURL(ctx, &sdk.CreateImageBuilderStreamingURLInput{Name: new("runs"), Validity: new(int64(604801))})
			return err
		}(), "ValidationException", "604800"},
		{"url of what rests", func() error {
			must(c.StopImageBuilder(ctx, &sdk.StopImageBuilderInput{Name: new("runs")}))(t)
			await(t, c, "runs", types.ImageBuilderStateStopped)
			_, err := c.CreateImageBuilderStreamingURL(ctx, &sdk.CreateImageBuilderStreamingURLInput{Name: new("runs")})
			return err
		}(), "OperationNotPermittedException", "is STOPPED"},
		{"stop what rests", func() error {
			_, err := c.StopImageBuilder(ctx, &sdk.StopImageBuilderInput{Name: new("runs")})
			return err
		}(), "OperationNotPermittedException", "is STOPPED"},
		{"other region", func() error {
			_, err := clientWith(s.URL(), s.root.ID, s.root.Secret, "eu-west-1").DescribeImages(ctx, &sdk.DescribeImagesInput{})
			return err
		}(), "InvalidSignatureException", "eu-west-1"},
		{"wrong secret", func() error {
			_, err := clientWith(s.URL(), s.root.ID, "wrong", "us-east-1").DescribeImages(ctx, &sdk.DescribeImagesInput{})
			return err
		}(), "InvalidSignatureException", ""},
		{"unknown key", func() error {
			_, err := clientWith(s.URL(), "NOBODY", "wrong", "us-east-1").DescribeImages(ctx, &sdk.DescribeImagesInput{})
			return err
		}(), "UnrecognizedClientException", ""},
		{"token", func() error {
			_, err := c.DescribeImageBuilders(ctx, &sdk.DescribeImageBuildersInput{NextToken: new("forged")})
			return err
		}(), "ValidationException", "oken"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e, ok := errors.AsType[smithy.APIError](test.err)
			if !ok {
				t.Fatalf("the error is %v", test.err)
			}
			if e.ErrorCode() != test.code || !strings.Contains(e.ErrorMessage(), test.says) {
				t.Errorf("%s: %s\nwant %s and %q", e.ErrorCode(), e.ErrorMessage(), test.code, test.says)
			}
		})
	}
}

// TestMalformed sends what no SDK sends, in both protocols, and an extension's operation under AWS's prefix.
func TestMalformed(t *testing.T) {
	s, _ := start(t, simConfig(t, t.TempDir()))
	const aws = "PhotonAdminProxyService."
	for _, test := range []struct {
		name, target string
		cbor         bool
		body         any
		status       int
		says         string
	}{
		{"good json", aws + "DescribeImages", false, map[string]any{}, 200, image},
		{"good cbor", aws + "DescribeImages", true, map[string]any{}, 200, image},
		{"broken json", aws + "DescribeImages", false, raw(`{"Names":`), 400, "SerializationException"},
		{"broken cbor", aws + "DescribeImages", true, raw("\xbf\x61"), 400, "SerializationException"},
		{"wrong type", aws + "DescribeImages", false, raw(`{"Names":"x"}`), 400, "SerializationException"},
		{"wrong type in cbor", aws + "DescribeImages", true, map[string]any{"Names": 1}, 400, "SerializationException"},
		{"too long", aws + "DescribeImages", false, raw(strings.Repeat(" ", 1<<20+1)), 413, "RequestEntityTooLarge"},
		{"too long in cbor", aws + "DescribeImages", true, raw(strings.Repeat(" ", 1<<20+1)), 413, "RequestEntityTooLarge"},
		{"no such operation", aws + "DescribeNothing", false, map[string]any{}, 400, "UnknownOperationException"},
		{"extension under aws", aws + "CreateImage", false, map[string]any{}, 400, "UnknownOperationException"},
		{"aws under extension", "Oriel.DescribeImages", false, map[string]any{}, 400, "UnknownOperationException"},
		{"extension in cbor", "Oriel.CreateImage", true, map[string]any{"ImageBuilderName": "nobody", "Name": "x"}, 404, "nobody"},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, answer := call(t, s, "us-east-1", test.target, test.cbor, test.body)
			if status != test.status || !strings.Contains(string(answer), test.says) {
				t.Errorf("%d %s\nwant %d and %s", status, answer, test.status, test.says)
			}
		})
	}
	resp := must(http.Post(s.URL()+"/", "application/x-amz-json-1.1", strings.NewReader("{}")))(t)
	defer resp.Body.Close()
	if text := must(io.ReadAll(resp.Body))(t); resp.StatusCode != 400 || !strings.Contains(string(text), "MissingAuthenticationToken") {
		t.Errorf("not signed: %d %s", resp.StatusCode, text)
	}
}

// TestKeys: the keys of the configuration do what their policies say, in their own account.
func TestKeys(t *testing.T) {
	cfg := simConfig(t, t.TempDir())
	cfg.Keys = []config.Key{
		{ID: "ORIELREADER000000", Secret: "reader-secret-0123", Policy: `{"Statement":{"Effect":"Allow","Action":"appstream:Describe*","Resource":"*"}}`},
		{ID: "ORIELOTHER0000000", Secret: "other-secret-01234", Account: "210987654321", Policy: `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`},
	}
	s, _ := start(t, cfg)
	ctx := t.Context()
	must(connect(t, cfg.Data, s.URL()).CreateImageBuilder(ctx, newBuilder("hello")))(t)

	reader := clientWith(s.URL(), cfg.Keys[0].ID, cfg.Keys[0].Secret, "us-east-1")
	if n := len(must(reader.DescribeImageBuilders(ctx, &sdk.DescribeImageBuildersInput{}))(t).ImageBuilders); n != 1 {
		t.Errorf("the reader sees %d image builders", n)
	}
	_, err := reader.DeleteImageBuilder(ctx, &sdk.DeleteImageBuilderInput{Name: new("hello")})
	if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != "AccessDeniedException" || !strings.Contains(e.ErrorMessage(), "user/ORIELREADER000000") {
		t.Errorf("the reader deletes: %v", err)
	}
	other := clientWith(s.URL(), cfg.Keys[1].ID, cfg.Keys[1].Secret, "us-east-1")
	if n := len(must(other.DescribeImageBuilders(ctx, &sdk.DescribeImageBuildersInput{}))(t).ImageBuilders); n != 0 {
		t.Errorf("another account sees %d image builders", n)
	}

	// The audit log has what was changed and what was refused, and not what was looked at or never signed.
	clientWith(s.URL(), "NOBODY", "x", "us-east-1").DescribeImages(ctx, &sdk.DescribeImagesInput{})
	var lines []store.Audit
	if err := s.store.View(ctx, func(tx store.Tx) (err error) { lines, err = tx.Audits(store.LogQuery{Limit: 10}); return err }); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range lines {
		if l.RequestID == "" || l.Source != "127.0.0.1" || l.At.IsZero() {
			t.Errorf("an incomplete line: %+v", l)
		}
		got = append(got, l.Principal[len("arn:aws:iam::"):]+" "+l.Operation+" "+l.Result)
	}
	want := "123456789012:user/ORIELREADER000000 appstream:DeleteImageBuilder AccessDeniedException\n123456789012:root appstream:CreateImageBuilder "
	if strings.Join(got, "\n") != want {
		t.Errorf("the audit log has\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
}

// TestRestart: what was given out holds, and what was going on goes on.
func TestRestart(t *testing.T) {
	cfg := simConfig(t, t.TempDir())
	s, stop := start(t, cfg)
	key := s.root
	c := connect(t, cfg.Data, s.URL())
	must(c.CreateImageBuilder(t.Context(), newBuilder("hello")))(t)
	await(t, c, "hello", types.ImageBuilderStateRunning)
	url := must(c.CreateImageBuilderStreamingURL(t.Context(), &sdk.CreateImageBuilderStreamingURLInput{Name: new("hello")}))(t)
	must(c.CreateImageBuilder(t.Context(), newBuilder("late")))(t)
	_, query, _ := strings.Cut(*url.StreamingURL, "?")
	begin := time.Now()
	stop()
	if d := time.Since(begin); d > patience {
		t.Errorf("an idle server took %s to end", d)
	}

	s, _ = start(t, cfg)
	if s.root != key {
		t.Error("the access key is another one")
	}
	c = connect(t, cfg.Data, s.URL())
	await(t, c, "hello", types.ImageBuilderStateRunning)
	await(t, c, "late", types.ImageBuilderStateRunning)
	noRedirect := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp := must(noRedirect.Get(s.URL() + "/authenticate?" + query))(t)
	resp.Body.Close()
	if resp.StatusCode != http.StatusSeeOther {
		t.Errorf("a streaming URL from before the restart answers %d", resp.StatusCode)
	}
}

// TestInTheWay: what keeps a server from starting is said so that one knows what to do.
func TestInTheWay(t *testing.T) {
	cfg := simConfig(t, t.TempDir())
	s, _ := start(t, cfg)
	open := func(change func(*Config)) error {
		other := simConfig(t, t.TempDir())
		change(&other)
		second, err := Open(t.Context(), other)
		if err == nil {
			second.Close()
		}
		return err
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		err  error
		says string
	}{
		{"data directory in use", open(func(c *Config) { c.Data = cfg.Data }), "is in use by process"},
		{"port in use", open(func(c *Config) { c.Listen = s.Addr().String() }), "another program uses " + s.Addr().String() + " already: stop it, or choose another address with --listen"},
		{"metrics port in use", open(func(c *Config) { c.Metrics = s.Addr().String() }), "--metrics"},
		{"data directory is a file", open(func(c *Config) { c.Data = file }), "data directory"},
		{"no certificate", open(func(c *Config) { c.TLSCert, c.TLSKey = file, file }), "read the certificate"},
		{"broken credentials", open(func(c *Config) {
			if err := os.WriteFile(CredentialsFile(c.Data), []byte("[default]"), 0o600); err != nil {
				t.Fatal(err)
			}
		}), "aws_access_key_id"},
		{"no agent", open(func(c *Config) { c.Provider = config.Docker }), "oriel-agent"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.err == nil || !strings.Contains(test.err.Error(), test.says) {
				t.Errorf("%v\ndoes not say: %s", test.err, test.says)
			}
		})
	}
}

// TestPrivate: nobody else can read what the server keeps.
func TestPrivate(t *testing.T) {
	cfg := simConfig(t, filepath.Join(t.TempDir(), "data"))
	_, stop := start(t, cfg)
	stop()
	for name, want := range map[string]os.FileMode{"": 0o700, "credentials": 0o600, "oriel.db": 0o600} {
		info, err := os.Stat(filepath.Join(cfg.Data, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%q: %v, %v; want %v", name, info.Mode(), err, want)
		}
	}
	// A directory that was open before is closed.
	if err := os.Chmod(cfg.Data, 0o755); err != nil {
		t.Fatal(err)
	}
	start(t, cfg)
	if info, err := os.Stat(cfg.Data); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// settled tells whether a state is one that nothing moves on by itself.
func settled(state string) bool {
	return state == appstream.BuilderRunning || state == appstream.BuilderStopped || state == appstream.BuilderFailed
}
