package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	awscreds "github.com/aws/smithy-go/aws-http-auth/credentials"
	"github.com/aws/smithy-go/aws-http-auth/sigv4"
	v4 "github.com/aws/smithy-go/aws-http-auth/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/oriel-project/oriel/internal/api/iam"
	"github.com/oriel-project/oriel/internal/appstream"
)

const (
	testRegion  = "us-west-2"
	testAccount = "123456789012"
	testTarget  = "PhotonAdminProxyService"
)

// builders is a small service that keeps image builders in memory.
type builders struct {
	mu     sync.Mutex
	byName map[string]types.ImageBuilder
	caller appstream.Caller // of the last call
}

func (b *builders) CreateImageBuilder(ctx context.Context, in *sdk.CreateImageBuilderInput) (*sdk.CreateImageBuilderOutput, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.caller = appstream.CallerFrom(ctx)
	if _, ok := b.byName[*in.Name]; ok {
		return nil, appstream.Errorf(appstream.ResourceAlreadyExists, "The image builder %s already exists.", *in.Name)
	}
	ib := types.ImageBuilder{
		Name:         in.Name,
		Arn:          aws.String(builderARN(b.caller, *in.Name)),
		State:        types.ImageBuilderStatePending,
		InstanceType: in.InstanceType,
		VpcConfig:    in.VpcConfig,
		CreatedTime:  aws.Time(time.UnixMilli(1_790_000_000_250)),
	}
	if b.byName == nil {
		b.byName = map[string]types.ImageBuilder{}
	}
	b.byName[*in.Name] = ib
	return &sdk.CreateImageBuilderOutput{ImageBuilder: &ib}, nil
}

func (b *builders) DescribeImageBuilders(ctx context.Context, in *sdk.DescribeImageBuildersInput) (*sdk.DescribeImageBuildersOutput, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := &sdk.DescribeImageBuildersOutput{ImageBuilders: []types.ImageBuilder{}}
	for _, n := range in.Names {
		ib, ok := b.byName[n]
		if !ok {
			return nil, appstream.Errorf(appstream.ResourceNotFound, "The image builder %s does not exist.", n)
		}
		out.ImageBuilders = append(out.ImageBuilders, ib)
	}
	return out, nil
}

func (b *builders) DescribeImages(ctx context.Context, in *sdk.DescribeImagesInput) (*sdk.DescribeImagesOutput, error) {
	panic("the roof is on fire")
}

func (b *builders) DeleteImage(ctx context.Context, in *sdk.DeleteImageInput) (*sdk.DeleteImageOutput, error) {
	return nil, fmt.Errorf("disk /dev/secret is full")
}

func (b *builders) DescribeFleets(ctx context.Context, in *sdk.DescribeFleetsInput) (*sdk.DescribeFleetsOutput, error) {
	return nil, appstream.Errorf(appstream.Unavailable, "The store is busy.")
}

func (b *builders) CreateUser(ctx context.Context, in *sdk.CreateUserInput) (*sdk.CreateUserOutput, error) {
	return &sdk.CreateUserOutput{}, nil
}

func (b *builders) CreateUpdatedImage(ctx context.Context, in *sdk.CreateUpdatedImageInput) (*sdk.CreateUpdatedImageOutput, error) {
	return &sdk.CreateUpdatedImageOutput{CanUpdateImage: in.DryRun, Image: &types.Image{Name: in.NewImageName}}, nil
}

// Close is exported and no operation.
func (b *builders) Close() error { return nil }

func builderARN(c appstream.Caller, name string) string {
	return "arn:aws:appstream:" + c.Region + ":" + c.Account + ":image-builder/" + name
}

// CreateImageInput and CreateImageOutput are an extension's shapes.
type CreateImageInput struct {
	ImageBuilderName *string
	Tags             map[string]string
	Applications     []types.Application
	DryRun           bool
}

type CreateImageOutput struct {
	Image *types.Image
	Ready bool
}

type extension struct{}

func (extension) CreateImage(ctx context.Context, in *CreateImageInput) (*CreateImageOutput, error) {
	return &CreateImageOutput{Image: &types.Image{Name: in.ImageBuilderName}}, nil
}

// fixture is a running handler and what it has reported.
type fixture struct {
	*httptest.Server
	builders *builders
	log      *bytes.Buffer
	keys     map[string]Key

	mu       sync.Mutex
	audit    []AuditEntry
	observed []string
}

var rootKey = Key{ID: "AKIAROOT", Secret: "root-secret", Account: testAccount, Principal: "arn:aws:iam::" + testAccount + ":root"}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	reader, err := iam.Parse([]byte(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"appstream:Describe*","Resource":"*"},
		{"Effect":"Allow","Action":"appstream:*","Resource":"arn:aws:appstream:*:*:image-builder/mine-*"},
		{"Effect":"Deny","Action":"appstream:DescribeFleets","Resource":"*"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{builders: &builders{}, log: new(bytes.Buffer), keys: map[string]Key{
		rootKey.ID:   rootKey,
		"AKIAREADER": {ID: "AKIAREADER", Secret: "r", Account: testAccount, Principal: "arn:aws:iam::123456789012:user/reader", Policy: reader},
		"AKIAOFF":    {ID: "AKIAOFF", Secret: "o", Account: testAccount, Disabled: true},
		"ASIATEMP":   {ID: "ASIATEMP", Secret: "t", SessionToken: "token", Account: testAccount},
	}}
	h, err := New(f.config(),
		Service{Prefix: testTarget, IAM: "appstream", Handler: f.builders, Resources: func(op string, c appstream.Caller, in any) []string {
			if in, ok := in.(*sdk.CreateImageBuilderInput); ok {
				return []string{builderARN(c, *in.Name)}
			}
			return nil
		}},
		Service{Prefix: "Oriel", IAM: "oriel", Handler: extension{}, Limits: "structure CreateImageInput ImageBuilderName!:Name Tags:Tags"},
	)
	if err != nil {
		t.Fatal(err)
	}
	f.Server = httptest.NewServer(h)
	t.Cleanup(f.Close)
	return f
}

func (f *fixture) config() Config {
	return Config{
		Keys: func(ctx context.Context, id string) (Key, bool, error) {
			k, ok := f.keys[id]
			return k, ok, nil
		},
		Regions: []string{testRegion, "eu-central-1"},
		Audit: func(ctx context.Context, e AuditEntry) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.audit = append(f.audit, e)
		},
		Observe: func(op, protocol, code string, d time.Duration) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.observed = append(f.observed, op+"/"+protocol+"/"+code)
		},
		Log: slog.New(slog.NewTextHandler(&lockedWriter{mu: &f.mu, w: f.log}, nil)),
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func (f *fixture) logged() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.log.String()
}

// client gives an AWS SDK client as a user would make it.
func (f *fixture) client(keyID string) *sdk.Client {
	k := f.keys[keyID]
	return sdk.New(sdk.Options{
		Region:           testRegion,
		BaseEndpoint:     aws.String(f.URL),
		Credentials:      credentials.NewStaticCredentialsProvider(k.ID, k.Secret, k.SessionToken),
		RetryMaxAttempts: 1,
	})
}

// signed makes a signed request; change, when not nil, is called before it is signed.
func signed(t testing.TB, base string, k Key, target string, cbor bool, body []byte, change func(*http.Request)) *http.Request {
	t.Helper()
	url := base + "/"
	if cbor {
		url = base + "/service/" + strings.Replace(target, ".", "/operation/", 1)
	}
	r, err := http.NewRequest("POST", url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if cbor {
		r.Header.Set("Smithy-Protocol", "rpc-v2-cbor")
		r.Header.Set("Content-Type", "application/cbor")
	} else {
		r.Header.Set("X-Amz-Target", target)
		r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	}
	if change != nil {
		change(r)
	}
	sum := sha256.Sum256(body)
	err = sigv4.New().SignRequest(&sigv4.SignRequestInput{
		Request: r, PayloadHash: sum[:], Service: "appstream", Region: testRegion, SignatureType: v4.SignatureTypeHeader,
		Credentials: awscreds.Credentials{AccessKeyID: k.ID, SecretAccessKey: k.Secret, SessionToken: k.SessionToken},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// send gives status, header and body of the answer.
func send(t testing.TB, r *http.Request) (int, http.Header, []byte) {
	t.Helper()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, b
}

var (
	sameAddr = func(a, b netip.Addr) bool { return a == b }
	// ignoreSerde passes over the marker that every type of the SDK holds.
	ignoreSerde = cmp.FilterPath(func(p cmp.Path) bool {
		f, ok := p.Last().(cmp.StructField)
		return ok && (f.Name() == "noSmithyDocumentSerde" || f.Name() == "ResultMetadata")
	}, cmp.Ignore())
)
