package service_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/appstream"
	awscreds "github.com/aws/smithy-go/aws-http-auth/credentials"
	"github.com/aws/smithy-go/aws-http-auth/sigv4"
	v4 "github.com/aws/smithy-go/aws-http-auth/v4"
	"github.com/fxamacker/cbor/v2"

	"github.com/oriel-project/oriel/internal/api"
	"github.com/oriel-project/oriel/internal/service"
)

const (
	prefix = "PhotonAdminProxyService"
	secret = "secret"
)

// client gives AWS's SDK that reaches the operations by the whole of internal/api, in either protocol. Access keys are account numbers.
func (f *fixture) client(account string, inCBOR bool) *sdk.Client {
	f.t.Helper()
	handler, err := api.New(api.Config{
		Keys: func(_ context.Context, id string) (api.Key, bool, error) {
			return api.Key{ID: id, Secret: secret, Account: id, Principal: "arn:aws:iam::" + id + ":root"}, true, nil
		},
		Regions: f.cfg.Regions, Generation: f.store.Generation,
	}, api.Service{Prefix: prefix, IAM: "appstream", Handler: struct{ service.API }{f.Service}, Resources: f.Resources, Dependent: f.DependentActions,
		Tags: f.ResourceTags, Repeatable: service.Repeatable, Limits: service.Limits})
	if err != nil {
		f.t.Fatal(err)
	}
	var transport sdk.HTTPClient = direct{handler}
	if inCBOR {
		transport = translator{direct{handler}, account}
	}
	return sdk.New(sdk.Options{Region: "us-west-2", BaseEndpoint: new("https://oriel.test"), HTTPClient: transport, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(account, secret, "")})
}

// invoke calls the operation that an input is of.
func invoke(ctx context.Context, c *sdk.Client, in any) (any, error) {
	result := reflect.ValueOf(c).MethodByName(operationOf(in)).Call([]reflect.Value{reflect.ValueOf(ctx), reflect.ValueOf(in)})
	err, _ := reflect.TypeAssert[error](result[1])
	return result[0].Interface(), err
}

func operationOf(in any) string {
	return strings.TrimSuffix(reflect.TypeOf(in).Elem().Name(), "Input")
}

// direct hands requests to a handler without a network between.
type direct struct{ handler http.Handler }

func (d direct) Do(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	in := httptest.NewRequestWithContext(r.Context(), r.Method, r.URL.String(), bytes.NewReader(body))
	in.Header = r.Header.Clone()
	w := httptest.NewRecorder()
	d.handler.ServeHTTP(w, in)
	if w.Header().Get("X-Amzn-Requestid") == "" {
		return nil, errors.New("the answer has no request id")
	}
	return w.Result(), nil
}

// translator makes AWS's SDK for Go, which speaks JSON only, speak CBOR: it translates what passes, in both directions.
type translator struct {
	direct
	account string
}

func (d translator) Do(r *http.Request) (*http.Response, error) {
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	var value any
	numbers := json.NewDecoder(r.Body)
	numbers.UseNumber()
	if err := numbers.Decode(&value); err != nil {
		return nil, err
	}
	value, err := toCBOR(value)
	if err != nil {
		return nil, err
	}
	body, err := cbor.Marshal(value)
	if err != nil {
		return nil, err
	}
	out, err := http.NewRequestWithContext(r.Context(), http.MethodPost, "https://oriel.test/service/"+prefix+"/operation/"+operation, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	out.Header.Set("Smithy-Protocol", "rpc-v2-cbor")
	out.Header.Set("Content-Type", "application/cbor")
	sum := sha256.Sum256(body)
	err = sigv4.New().SignRequest(&sigv4.SignRequestInput{Request: out, PayloadHash: sum[:], Service: "appstream", Region: "us-west-2",
		SignatureType: v4.SignatureTypeHeader, Credentials: awscreds.Credentials{AccessKeyID: d.account, SecretAccessKey: secret}})
	if err != nil {
		return nil, err
	}
	resp, err := d.direct.Do(out)
	if err != nil {
		return nil, err
	}
	if got := resp.Header.Get("Smithy-Protocol") + " " + resp.Header.Get("Content-Type"); got != "rpc-v2-cbor application/cbor" {
		return nil, fmt.Errorf("the answer is in %s", got)
	}
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	mode, err := cbor.DecOptions{DefaultMapType: reflect.TypeFor[map[string]any]()}.DecMode()
	if err != nil {
		return nil, err
	}
	value = nil
	if err := mode.Unmarshal(answer, &value); err != nil {
		return nil, fmt.Errorf("%x is not CBOR: %w", answer, err)
	}
	if answer, err = json.Marshal(toJSON(value)); err != nil {
		return nil, err
	}
	resp.Header.Set("Content-Type", "application/x-amz-json-1.1")
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(answer)), int64(len(answer))
	return resp, nil
}

// toCBOR gives the numbers of a JSON document a type.
func toCBOR(v any) (any, error) {
	var err error
	switch v := v.(type) {
	case json.Number:
		return v.Int64()
	case map[string]any:
		for k := range v {
			if v[k], err = toCBOR(v[k]); err != nil {
				return nil, err
			}
		}
	case []any:
		for n := range v {
			if v[n], err = toCBOR(v[n]); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// toJSON writes times as the JSON protocol does.
func toJSON(v any) any {
	switch v := v.(type) {
	case time.Time:
		return float64(v.UnixMilli()) / 1000
	case map[string]any:
		for k := range v {
			v[k] = toJSON(v[k])
		}
	case []any:
		for n := range v {
			v[n] = toJSON(v[n])
		}
	}
	return v
}

// both runs a test in each of the two protocols.
func both(t *testing.T, fn func(t *testing.T, inCBOR bool)) {
	for _, inCBOR := range []bool{false, true} {
		t.Run(map[bool]string{false: "JSON", true: "CBOR"}[inCBOR], func(t *testing.T) { fn(t, inCBOR) })
	}
}
