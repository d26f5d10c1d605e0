package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json/v2"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/appstream"
	awscreds "github.com/aws/smithy-go/aws-http-auth/credentials"
	"github.com/aws/smithy-go/aws-http-auth/sigv4"
	v4 "github.com/aws/smithy-go/aws-http-auth/v4"
	"github.com/fxamacker/cbor/v2"

	"github.com/oriel-project/oriel/internal/keys"
)

// raw is a body that is sent as it is.
type raw string

// call sends a signed request in either protocol and gives the answer, CBOR in its diagnostic notation. AWS's SDK for Go speaks JSON
// only, and does not know Oriel's own operations.
func call(t testing.TB, s *Server, region, target string, inCBOR bool, body any) (status int, answer []byte) {
	t.Helper()
	var data []byte
	var err error
	switch text, isRaw := body.(raw); {
	case isRaw:
		data = []byte(text)
	case inCBOR:
		data, err = cbor.Marshal(body)
	default:
		data, err = json.Marshal(body)
	}
	if err != nil {
		t.Fatal(err)
	}
	resp, answer, err := send(t.Context(), s.URL(), keys.Key{ID: s.root.ID, Secret: s.root.Secret}, region, target, inCBOR, data)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Header.Get("X-Amzn-Requestid") == "" {
		t.Error("the answer has no request id")
	}
	if inCBOR {
		if got := resp.Header.Get("Smithy-Protocol"); got != "rpc-v2-cbor" {
			t.Errorf("Smithy-Protocol of the answer is %q", got)
		}
		var v map[string]any
		if err := cbor.Unmarshal(answer, &v); err != nil {
			t.Fatalf("%q is not CBOR: %v", answer, err)
		}
		text, err := cbor.Diagnose(answer)
		if err != nil {
			t.Fatal(err)
		}
		answer = []byte(text)
	}
	return resp.StatusCode, answer
}

// send signs and sends a request.
func send(ctx context.Context, url string, key keys.Key, region, target string, inCBOR bool, data []byte) (*http.Response, []byte, error) {
	url += "/"
	if inCBOR {
		url += "service/" + strings.Replace(target, ".", "/operation/", 1)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(data))
	if err != nil {
		return nil, nil, err
	}
	if inCBOR {
		r.Header.Set("Smithy-Protocol", "rpc-v2-cbor")
		r.Header.Set("Content-Type", "application/cbor")
	} else {
		r.Header.Set("X-Amz-Target", target)
		r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	}
	sum := sha256.Sum256(data)
	err = sigv4.New().SignRequest(&sigv4.SignRequestInput{Request: r, PayloadHash: sum[:], Service: "appstream", Region: region,
		SignatureType: v4.SignatureTypeHeader, Credentials: awscreds.Credentials{AccessKeyID: key.ID, SecretAccessKey: key.Secret}})
	if err != nil {
		return nil, nil, err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp, answer, err
}

// Every operation of AWS's SDK is served, in both protocols: none is unknown, none is not implemented, none breaks when nothing is sent.
func TestEveryOperationIsServed(t *testing.T) {
	s, _ := start(t, simConfig(t, t.TempDir()))
	operations := 0
	for m := range reflect.TypeFor[*sdk.Client]().Methods() {
		if m.Type.NumIn() != 4 || m.Type.NumOut() != 2 {
			continue
		}
		operations++
		for _, inCBOR := range []bool{false, true} {
			status, answer := call(t, s, "us-east-1", "PhotonAdminProxyService."+m.Name, inCBOR, map[string]any{})
			if status >= 500 || bytes.Contains(answer, []byte("UnknownOperation")) {
				t.Errorf("%s, CBOR %v: %d %s", m.Name, inCBOR, status, answer)
			}
		}
	}
	if operations < 89 {
		t.Errorf("there are %d operations", operations)
	}
}
