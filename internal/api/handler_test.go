package api

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/encoding/cbor"
	"github.com/google/go-cmp/cmp"

	"github.com/oriel-project/oriel/internal/appstream"
)

func TestSDKClient(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	c := f.client("AKIAROOT")
	created, err := c.CreateImageBuilder(ctx, &sdk.CreateImageBuilderInput{
		Name:         aws.String("hello"),
		InstanceType: aws.String("stream.standard.medium"),
		ImageName:    aws.String("debian"),
		VpcConfig:    &types.VpcConfig{SubnetIds: []string{"subnet-1"}},
		Tags:         map[string]string{"team": "α β"},
	})
	if err != nil {
		t.Fatal(err)
	}
	ib := created.ImageBuilder
	if got := *ib.Arn; got != "arn:aws:appstream:us-west-2:123456789012:image-builder/hello" {
		t.Errorf("Arn = %s", got)
	}
	if got := *ib.CreatedTime; !got.Equal(time.UnixMilli(1_790_000_000_250)) {
		t.Errorf("CreatedTime = %v", got)
	}
	if ib.Description != nil || ib.AccessEndpoints != nil {
		t.Errorf("absent members came back: %v", ib)
	}
	caller := f.builders.caller
	if caller.BaseURL != f.URL || caller.Account != testAccount || caller.Region != testRegion ||
		caller.AccessKeyID != "AKIAROOT" || caller.Principal != rootKey.Principal || !caller.Source.IsLoopback() || len(caller.RequestID) != 36 {
		t.Errorf("caller = %+v", caller)
	}
	all, err := c.DescribeImageBuilders(ctx, &sdk.DescribeImageBuildersInput{Names: []string{"hello"}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]types.ImageBuilder{*ib}, all.ImageBuilders, ignoreSerde); diff != "" {
		t.Error(diff)
	}
	none, err := c.DescribeImageBuilders(ctx, &sdk.DescribeImageBuildersInput{})
	if err != nil || none.ImageBuilders == nil || none.NextToken != nil {
		t.Errorf("an empty list should come back as such: %v, %v", none, err)
	}

	// The members that are written with a small first letter.
	updated, err := c.CreateUpdatedImage(ctx, &sdk.CreateUpdatedImageInput{
		ExistingImageName: aws.String("a"), NewImageName: aws.String("b"), DryRun: aws.Bool(true)})
	if err != nil {
		t.Fatal(err)
	}
	if !aws.ToBool(updated.CanUpdateImage) || aws.ToString(updated.Image.Name) != "b" {
		t.Errorf("CreateUpdatedImage = %+v", updated)
	}
}

func TestErrors(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	create := func(name string) func(*sdk.Client) error {
		return func(c *sdk.Client) error {
			_, err := c.CreateImageBuilder(ctx, &sdk.CreateImageBuilderInput{Name: aws.String(name), InstanceType: aws.String("x")})
			return err
		}
	}
	if err := create("mine-1")(f.client("AKIAROOT")); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		key     string
		call    func(*sdk.Client) error
		code    string
		status  int
		message string
	}{
		{"exists", "AKIAROOT", create("mine-1"), "ResourceAlreadyExistsException", 400, "The image builder mine-1 already exists."},
		{"not found", "AKIAROOT", func(c *sdk.Client) error {
			_, err := c.DescribeImageBuilders(ctx, &sdk.DescribeImageBuildersInput{Names: []string{"x"}})
			return err
		}, "ResourceNotFoundException", 404, "The image builder x does not exist."},
		{"unavailable", "AKIAROOT", func(c *sdk.Client) error {
			_, err := c.DescribeFleets(ctx, &sdk.DescribeFleetsInput{})
			return err
		}, "ServiceUnavailableException", 503, "The store is busy."},
		{"unknown operation", "AKIAROOT", func(c *sdk.Client) error {
			_, err := c.DescribeStacks(ctx, &sdk.DescribeStacksInput{})
			return err
		}, "UnknownOperationException", 400, `There is no operation "PhotonAdminProxyService.DescribeStacks".`},
		{"internal", "AKIAROOT", func(c *sdk.Client) error {
			_, err := c.DeleteImage(ctx, &sdk.DeleteImageInput{Name: aws.String("x")})
			return err
		}, "InternalFailure", 500, internalText},
		{"panic", "AKIAROOT", func(c *sdk.Client) error {
			_, err := c.DescribeImages(ctx, &sdk.DescribeImagesInput{})
			return err
		}, "InternalFailure", 500, internalText},
		{"validation", "AKIAROOT", create("-"), "ValidationException", 400,
			"1 validation error detected: Value '-' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,100}$"},
		{"not allowed", "AKIAREADER", create("yours"), "AccessDeniedException", 400,
			"User: arn:aws:iam::123456789012:user/reader is not authorized to perform: appstream:CreateImageBuilder on resource: " +
				"arn:aws:appstream:us-west-2:123456789012:image-builder/yours because no identity-based policy allows the appstream:CreateImageBuilder action"},
		{"denied", "AKIAREADER", func(c *sdk.Client) error {
			_, err := c.DescribeFleets(ctx, &sdk.DescribeFleetsInput{})
			return err
		}, "AccessDeniedException", 400,
			"User: arn:aws:iam::123456789012:user/reader is not authorized to perform: appstream:DescribeFleets on resource: * with an explicit deny in an identity-based policy"},
		{"allowed", "AKIAREADER", create("mine-2"), "", 0, ""},
		{"disabled key", "AKIAOFF", create("x"), "UnrecognizedClientException", 400, "The security token included in the request is invalid."},
		{"session token", "ASIATEMP", create("with-token"), "", 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.call(f.client(tt.key))
			if tt.code == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			api, ok := errors.AsType[smithy.APIError](err)
			if !ok {
				t.Fatalf("err = %v", err)
			}
			if api.ErrorCode() != tt.code || api.ErrorMessage() != tt.message {
				t.Errorf("got %s: %s", api.ErrorCode(), api.ErrorMessage())
			}
			var status interface{ HTTPStatusCode() int }
			if !errors.As(err, &status) || status.HTTPStatusCode() != tt.status {
				t.Errorf("status of %v, want %d", err, tt.status)
			}
			var id interface{ ServiceRequestID() string }
			if !errors.As(err, &id) || id.ServiceRequestID() == "" {
				t.Errorf("no request id: %v", err)
			}
		})
	}
	log := f.logged()
	// The last is in the stack of the panic.
	for _, want := range []string{"the roof is on fire", "disk /dev/secret is full", "(*builders).DescribeImages"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log does not hold %q", want)
		}
	}
}

func TestCBOR(t *testing.T) {
	f := newFixture(t)
	body := cbor.Encode(cbor.Map{"Name": cbor.String("hello"), "InstanceType": cbor.String("i"), "Unknown": cbor.List{cbor.Map{}},
		"VpcConfig": cbor.Map{"SubnetIds": cbor.List{cbor.String("subnet-1")}}})
	status, header, answer := send(t, signed(t, f.URL, rootKey, testTarget+".CreateImageBuilder", true, body, nil))
	if status != 200 || header.Get("Smithy-Protocol") != "rpc-v2-cbor" || header.Get("Content-Type") != "application/cbor" || header.Get("X-Amzn-RequestId") == "" {
		t.Fatalf("%d %v %q", status, header, answer)
	}
	v, err := cbor.Decode(answer)
	if err != nil {
		t.Fatal(err)
	}
	ib := v.(cbor.Map)["ImageBuilder"].(cbor.Map)
	if ib["State"] != cbor.String("PENDING") || !cmp.Equal(ib["VpcConfig"], cbor.Value(cbor.Map{"SubnetIds": cbor.List{cbor.String("subnet-1")}})) {
		t.Errorf("ImageBuilder = %v", ib)
	}
	if at, err := cbor.AsTime(ib["CreatedTime"]); err != nil || !at.Equal(time.UnixMilli(1_790_000_000_250)) {
		t.Errorf("CreatedTime = %v, %v", at, err)
	}

	status, _, answer = send(t, signed(t, f.URL, rootKey, testTarget+".CreateImageBuilder", true, body, nil))
	v, err = cbor.Decode(answer)
	if err != nil {
		t.Fatal(err)
	}
	const text = cbor.String("The image builder hello already exists.")
	if diff := cmp.Diff(cbor.Map{"__type": cbor.String("ResourceAlreadyExistsException"), "Message": text, "message": text}, v.(cbor.Map)); status != 400 || diff != "" {
		t.Error(status, diff)
	}

	// An extension, an empty body, and what is refused.
	for _, tt := range []struct {
		name, target string
		body         []byte
		change       func(*http.Request)
		status       int
		holds        string
	}{
		{"extension", "Oriel.CreateImage", cbor.Encode(cbor.Map{"ImageBuilderName": cbor.String("b")}), nil, 200, "Ready\xf4"},
		{"no body", testTarget + ".DescribeImageBuilders", nil, nil, 200, "ImageBuilders\x80"},
		{"limits of the extension", "Oriel.CreateImage", nil, nil, 400, "Value null at 'imageBuilderName'"},
		{"unknown service", "Nobody.CreateImage", nil, nil, 400, "UnknownOperationException"},
		{"unknown path", "nothing", nil, nil, 400, "UnknownOperationException"},
		{"no protocol", testTarget + ".DescribeImageBuilders", nil, func(r *http.Request) { r.Header.Del("Smithy-Protocol") }, 400, "smithy-protocol"},
		{"malformed", testTarget + ".DescribeImageBuilders", []byte{0xa1}, nil, 400, "SerializationException"},
		{"wrong type", testTarget + ".DescribeImageBuilders", cbor.Encode(cbor.Map{"Names": cbor.List{cbor.Uint(1)}}), nil, 400,
			"NUMBER_VALUE can not be converted to a String at 'names.1.member'"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, _, answer := send(t, signed(t, f.URL, rootKey, tt.target, true, tt.body, tt.change))
			if status != tt.status || !strings.Contains(string(answer), tt.holds) {
				t.Errorf("%d %q", status, answer)
			}
		})
	}
}

func TestBodySize(t *testing.T) {
	f := newFixture(t)
	fill := func(n int) []byte { return append([]byte("{}"), bytes.Repeat([]byte(" "), n-2)...) }
	status, _, answer := send(t, signed(t, f.URL, rootKey, testTarget+".DescribeImageBuilders", false, fill(maxBody), nil))
	if status != 200 {
		t.Errorf("1 MiB: %d %s", status, answer)
	}
	for _, chunked := range []bool{false, true} {
		r := signed(t, f.URL, rootKey, testTarget+".DescribeImageBuilders", false, fill(maxBody+1), nil)
		if chunked {
			r.ContentLength = -1
		}
		status, _, answer = send(t, r)
		if status != 413 || !strings.Contains(string(answer), "RequestEntityTooLargeException") {
			t.Errorf("over 1 MiB, chunked %v: %d %s", chunked, status, answer)
		}
	}
}

// A client that reads nothing before it has sent everything, as most do, gets the answer also if that takes its time: it would not if the
// server closed the connection meanwhile.
func TestSlowBodyThatIsTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := New((&fixture{log: new(bytes.Buffer)}).config(), Service{Prefix: testTarget, IAM: "appstream", Handler: &builders{}})
		if err != nil {
			t.Fatal(err)
		}
		s := httptest.NewTestServer(t, h)
		for _, chunked := range []bool{false, true} {
			conn, err := s.Client().Transport.(*http.Transport).DialContext(t.Context(), "tcp", "example.com:80")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			body := bytes.Repeat([]byte(" "), maxBody+1)
			head := fmt.Sprintf("Content-Length: %d\r\n\r\n", 3*len(body))
			if chunked {
				head = "Transfer-Encoding: chunked\r\n\r\n"
			}
			_, err = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: "+testTarget+".DescribeImageBuilders\r\n"+head)
			for range 3 {
				if chunked {
					fmt.Fprintf(conn, "%x\r\n%s\r\n", len(body), body)
				} else {
					_, err = conn.Write(body)
				}
				time.Sleep(time.Second)
			}
			if chunked {
				_, err = io.WriteString(conn, "0\r\n\r\n")
			}
			if err != nil {
				t.Errorf("chunked %v: it cannot be sent: %v", chunked, err)
			}
			if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || resp.StatusCode != http.StatusRequestEntityTooLarge {
				t.Errorf("chunked %v: %v, %v", chunked, resp, err)
			}
		}
	})
}

func TestAudit(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	if _, err := f.client("AKIAROOT").CreateUser(ctx, &sdk.CreateUserInput{
		AuthenticationType: types.AuthenticationTypeUserpool, UserName: aws.String("ann@example.org"), FirstName: aws.String("Ann")}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.client("AKIAREADER").CreateImageBuilder(ctx, &sdk.CreateImageBuilderInput{Name: aws.String("x"), InstanceType: aws.String("i")}); err == nil {
		t.Fatal("the reader created a builder")
	}
	r := signed(t, f.URL, Key{ID: "AKIANOBODY", Secret: "x"}, testTarget+".CreateImageBuilder", false, []byte("{}"), nil)
	send(t, r)

	f.mu.Lock()
	got, observed := f.audit, f.observed
	f.mu.Unlock()
	for i := range got {
		if got[i].Time.IsZero() || got[i].RequestID == "" || !got[i].Source.IsLoopback() {
			t.Errorf("entry %d: %+v", i, got[i])
		}
		got[i].Time, got[i].RequestID, got[i].Source = time.Time{}, "", netip.Addr{}
	}
	want := []AuditEntry{
		{Account: testAccount, Region: testRegion, AccessKeyID: "AKIAROOT", Principal: rootKey.Principal, Service: "appstream", Operation: "CreateUser",
			Input: []byte(`{"AuthenticationType":"USERPOOL","FirstName":"***","UserName":"***"}`)},
		{Account: testAccount, Region: testRegion, AccessKeyID: "AKIAREADER", Principal: "arn:aws:iam::123456789012:user/reader", Service: "appstream",
			Operation: "CreateImageBuilder", Result: appstream.AccessDenied, Input: []byte(`{"InstanceType":"i","Name":"x"}`),
			Resources: []string{"arn:aws:appstream:us-west-2:123456789012:image-builder/x"}},
		{AccessKeyID: "AKIANOBODY", Result: kindUnknownKey},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(sameAddr)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"CreateUser/json/", "CreateImageBuilder/json/AccessDeniedException", "/json/UnrecognizedClientException"}, observed); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(f.logged(), "Ann") {
		t.Error("the log holds an input")
	}
	if n := strings.Count(f.logged(), "msg=request"); n != 3 {
		t.Errorf("%d lines for 3 requests", n)
	}
}

// waiter is an operation that waits until the client has gone.
type waiter struct{ called chan struct{} }

func (w *waiter) DescribeImages(ctx context.Context, in *sdk.DescribeImagesInput) (*sdk.DescribeImagesOutput, error) {
	close(w.called)
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestClientGoesAway(t *testing.T) {
	results := make(chan AuditEntry, 1)
	f := &fixture{keys: map[string]Key{rootKey.ID: rootKey}, log: new(bytes.Buffer)}
	cfg := f.config()
	cfg.Audit = func(ctx context.Context, e AuditEntry) {
		if ctx.Err() != nil {
			t.Error("the audit log's context is cancelled")
		}
		results <- e
	}
	w := &waiter{called: make(chan struct{})}
	h, err := New(cfg, Service{Prefix: testTarget, IAM: "appstream", Handler: w})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	defer s.Close()
	f.Server = s
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-w.called
		cancel()
	}()
	if _, err := f.client("AKIAROOT").DescribeImages(ctx, &sdk.DescribeImagesInput{}); err == nil {
		t.Error("no error")
	}
	if e := <-results; e.Result != kindCanceled {
		t.Errorf("result = %s", e.Result)
	}
}

type noOperations struct{}

func (noOperations) Close() {}

type unsendable struct{}

type DescribeInput struct{ Answer chan int }
type DescribeOutput struct{}

func (unsendable) Describe(context.Context, *DescribeInput) (*DescribeOutput, error) { return nil, nil }

func TestNewRefuses(t *testing.T) {
	good := (&fixture{}).config()
	service := Service{Prefix: "P", IAM: "p", Handler: &builders{}}
	for _, tt := range []struct {
		name     string
		cfg      Config
		services []Service
		want     string
	}{
		{"no keys", Config{Regions: []string{"r"}}, nil, "Keys"},
		{"no regions", Config{Keys: good.Keys}, nil, "Regions"},
		{"no prefix", good, []Service{{IAM: "p", Handler: &builders{}}}, "needs a Prefix"},
		{"no operations", good, []Service{{Prefix: "P", IAM: "p", Handler: noOperations{}}}, "has no method"},
		{"twice", good, []Service{service, service}, "twice"},
		{"a type without a form", good, []Service{{Prefix: "P", IAM: "p", Handler: unsendable{}}}, "Answer: chan int: a chan cannot be sent"},
		{"limits", good, []Service{{Prefix: "P", IAM: "p", Handler: &builders{}, Limits: "sturcture X"}}, "not a line"},
		{"pattern", good, []Service{{Prefix: "P", IAM: "p", Handler: extension{}, Limits: "string S - - plain (\nstructure CreateImageInput ImageBuilderName:S"}}, "missing closing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := New(tt.cfg, tt.services...); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("err = %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestPublicURL(t *testing.T) {
	h := &handler{cfg: Config{}}
	r := httptest.NewRequest("POST", "https://oriel.example:8443/", nil)
	if got := h.baseURL(r); got != "https://oriel.example:8443" {
		t.Error(got)
	}
	h.cfg.PublicURL = "https://front.example"
	if got := h.baseURL(r); got != "https://front.example" {
		t.Error(got)
	}
}

func TestStatus(t *testing.T) {
	for kind, want := range map[appstream.Kind]int{
		appstream.ResourceNotFound: 404, appstream.DryRunOperation: 412, appstream.Unavailable: 503,
		appstream.Internal: 500, appstream.AccessDenied: 400, appstream.Validation: 400, appstream.ResourceInUse: 400,
		kindTooLarge: 413, kindUnknownOperation: 400, kindInvalidSignature: 400, kindCanceled: 499,
	} {
		if got := statusOf(kind); got != want {
			t.Errorf("statusOf(%s) = %d, want %d", kind, got, want)
		}
	}
}

// TestShortBody: a body that is cut off is answered, if anybody is there to read it, and reaches no operation.
func TestShortBody(t *testing.T) {
	f := newFixture(t)
	conn, err := net.Dial("tcp", f.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{}")); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	status := string(answer[:min(len(answer), len("HTTP/1.1 400"))])
	// Which of the two depends on what net/http notices first.
	if err != nil || status != "HTTP/1.1 400" && status != "HTTP/1.1 499" {
		t.Errorf("%q, %v", answer, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.audit) != 1 || f.audit[0].Operation != "" {
		t.Errorf("audit = %+v", f.audit)
	}
}
