package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkv4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awscreds "github.com/aws/smithy-go/aws-http-auth/credentials"
	"github.com/aws/smithy-go/aws-http-auth/sigv4"
	v4 "github.com/aws/smithy-go/aws-http-auth/v4"

	"github.com/oriel-project/oriel/internal/appstream"
)

var signedAt = time.Date(2026, 11, 21, 23, 58, 0, 0, time.UTC)

func testVerifier() *verifier {
	keys := map[string]Key{
		"AKIAROOT": rootKey,
		"ASIATEMP": {ID: "ASIATEMP", Secret: "t", SessionToken: "token"},
		"AKIAOFF":  {ID: "AKIAOFF", Secret: "o", Disabled: true},
		"AKIABARE": {ID: "AKIABARE"},
	}
	return &verifier{regions: []string{testRegion}, keys: func(ctx context.Context, id string) (Key, bool, error) {
		if id == "AKIAFAIL" {
			return Key{}, false, errors.New("the store is busy")
		}
		k, ok := keys[id]
		return k, ok, nil
	}}
}

// received gives the request as a server sees it.
func received(t testing.TB, r *http.Request, body []byte) *http.Request {
	t.Helper()
	got := make(chan *http.Request, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got <- r.Clone(context.Background()) }))
	defer s.Close()
	out, err := http.NewRequest(r.Method, s.URL+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	out.Header, out.Host = r.Header.Clone(), r.Host
	out.Header.Del("Host")
	resp, err := s.Client().Do(out)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return <-got
}

// signer signs a request; both libraries of AWS are one.
type signer func(t *testing.T, r *http.Request, body []byte, k Key, service, region string, at time.Time)

func signWithLibrary(t *testing.T, r *http.Request, body []byte, k Key, service, region string, at time.Time) {
	t.Helper()
	sum := sha256.Sum256(body)
	if err := sigv4.New().SignRequest(&sigv4.SignRequestInput{Request: r, PayloadHash: sum[:], Service: service, Region: region, Time: at,
		SignatureType: v4.SignatureTypeHeader,
		Credentials:   awscreds.Credentials{AccessKeyID: k.ID, SecretAccessKey: k.Secret, SessionToken: k.SessionToken}}); err != nil {
		t.Fatal(err)
	}
}

func signWithSDK(t *testing.T, r *http.Request, body []byte, k Key, service, region string, at time.Time) {
	t.Helper()
	sum := sha256.Sum256(body)
	if err := sdkv4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: k.ID, SecretAccessKey: k.Secret, SessionToken: k.SessionToken},
		r, hex.EncodeToString(sum[:]), service, region, at); err != nil {
		t.Fatal(err)
	}
}

func unsignedRequest(t testing.TB, url string, body []byte) *http.Request {
	t.Helper()
	r, err := http.NewRequest("POST", url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Amz-Target", testTarget+".DescribeImages")
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	return r
}

func TestVerifyAccepts(t *testing.T) {
	temp := Key{ID: "ASIATEMP", Secret: "t", SessionToken: "token"}
	for name, sign := range map[string]signer{"aws-http-auth": signWithLibrary, "aws-sdk-go-v2": signWithSDK} {
		t.Run(name, func(t *testing.T) {
			v := testVerifier()
			for _, tt := range []struct {
				name, url, body string
				key             Key
				change          func(*http.Request)
				now             time.Time
			}{
				{"plain", "http://localhost:8080/", "{}", rootKey, nil, signedAt},
				{"the derived key again", "http://localhost:8080/", "{}", rootKey, nil, signedAt},
				{"no body", "http://localhost/", "", rootKey, nil, signedAt},
				{"path", "https://oriel.example/service/PhotonAdminProxyService/operation/DescribeImages", "\xa0", rootKey, nil, signedAt},
				{"path with odd letters", "https://oriel.example/a%20b/%C3%A9+'(", "{}", rootKey, nil, signedAt},
				{"token", "http://localhost/", "{}", temp, nil, signedAt},
				{"late", "http://localhost/", "{}", rootKey, nil, signedAt.Add(maxSkew)},
				{"early", "http://localhost/", "{}", rootKey, nil, signedAt.Add(-maxSkew)},
				{"odd headers", "http://localhost/", "{}", rootKey, func(r *http.Request) {
					r.Header["X-Amz-Meta-List"] = []string{"b", "a"}
					r.Header.Set("X-Amz-Meta-Space", "  a b ")
				}, signedAt},
				{"hash of the body", "http://localhost/", "{}", rootKey, func(r *http.Request) {
					r.Header.Set("X-Amz-Content-Sha256", "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a")
				}, signedAt},
			} {
				t.Run(tt.name, func(t *testing.T) {
					r := unsignedRequest(t, tt.url, []byte(tt.body))
					if tt.change != nil {
						tt.change(r)
					}
					sign(t, r, []byte(tt.body), tt.key, "appstream", testRegion, signedAt)
					key, region, err := v.verify(received(t, r, []byte(tt.body)), []byte(tt.body), tt.now)
					if err != nil || key.ID != tt.key.ID || region != testRegion {
						t.Errorf("key %q, region %q, err %v", key.ID, region, err)
					}
				})
			}
		})
	}
}

func TestVerifyRefuses(t *testing.T) {
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	replace := func(old, new string) func(*http.Request) {
		return func(r *http.Request) {
			a := r.Header.Get("Authorization")
			if !strings.Contains(a, old) {
				panic(a + " does not hold " + old)
			}
			r.Header.Set("Authorization", strings.Replace(a, old, new, 1))
		}
	}
	const mismatch = "The request signature we calculated does not match the signature you provided."
	for _, tt := range []struct {
		name   string
		key    Key
		before func(*http.Request) // it is signed
		after  func(*http.Request)
		kind   appstream.Kind
		text   string
	}{
		{"not signed", rootKey, nil, func(r *http.Request) { r.Header.Del("Authorization") }, kindMissingToken, "Missing Authentication Token"},
		{"signed twice", rootKey, nil, func(r *http.Request) { r.Header.Add("Authorization", "x") }, kindIncomplete, "more than one"},
		{"another algorithm", rootKey, nil, replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), kindIncomplete, "AWS4-HMAC-SHA256"},
		{"bearer token", rootKey, nil, set("Authorization", "Bearer x"), kindIncomplete, "AWS4-HMAC-SHA256"},
		{"no credential", rootKey, nil, replace("Credential=", "Credentials="), kindIncomplete, "unknown"},
		{"no signature", rootKey, nil, func(r *http.Request) {
			a, _, _ := strings.Cut(r.Header.Get("Authorization"), ", Signature")
			r.Header.Set("Authorization", a)
		}, kindIncomplete, "requires 'Signature' parameter"},
		{"a parameter twice", rootKey, nil, replace("Signature=", "SignedHeaders=host, Signature="), kindIncomplete, "twice"},
		{"short credential", rootKey, nil, replace("/aws4_request", ""), kindIncomplete, "5 slash-delimited elements"},
		{"long key id", rootKey, nil, replace("AKIAROOT", strings.Repeat("A", maxKeyID+1)), kindIncomplete, "5 slash-delimited elements"},
		{"headers in another order", rootKey, nil, replace("host;x-amz-date", "x-amz-date;host"), kindIncomplete, "alphabetical"},
		{"upper case", rootKey, nil, replace("host;", "Host;"), kindIncomplete, "lower-case"},
		{"signature too short", rootKey, nil, replace("Signature=", "Signature=ab, "), kindIncomplete, ""},
		{"no date", rootKey, nil, func(r *http.Request) { r.Header.Del("X-Amz-Date") }, kindIncomplete, "X-Amz-Date"},
		{"date of another form", rootKey, nil, set("X-Amz-Date", "2026-11-21T23:58:00Z"), kindIncomplete, "X-Amz-Date"},
		{"date changed", rootKey, nil, set("X-Amz-Date", "20261121T235801Z"), kindInvalidSignature, mismatch},
		{"day of the scope", rootKey, nil, replace("/20261121/", "/20261120/"), kindInvalidSignature, "'20261120' != '20261121'"},
		{"region", rootKey, nil, replace(testRegion, "eu-west-1"), kindInvalidSignature, "valid region, not 'eu-west-1'"},
		{"service", rootKey, nil, replace("/appstream/", "/s3/"), kindInvalidSignature, "correct service: 'appstream'"},
		{"terminator", rootKey, nil, replace("aws4_request", "aws5_request"), kindInvalidSignature, "valid terminator"},
		{"unknown key", Key{ID: "AKIANONE", Secret: "x"}, nil, nil, kindUnknownKey, "security token"},
		{"disabled key", Key{ID: "AKIAOFF", Secret: "o"}, nil, nil, kindUnknownKey, "security token"},
		{"key without a secret", Key{ID: "AKIABARE", Secret: "x"}, nil, nil, kindUnknownKey, "security token"},
		{"another secret", Key{ID: "AKIAROOT", Secret: "x"}, nil, nil, kindInvalidSignature, mismatch},
		{"token for a key without", Key{ID: "AKIAROOT", Secret: "root-secret", SessionToken: "x"}, nil, nil, kindUnknownKey, "security token"},
		{"key without its token", Key{ID: "ASIATEMP", Secret: "t"}, nil, nil, kindUnknownKey, "security token"},
		{"another token", Key{ID: "ASIATEMP", Secret: "t", SessionToken: "token2"}, nil, nil, kindUnknownKey, "security token"},
		{"token added on the way", Key{ID: "ASIATEMP", Secret: "t"}, nil, set("X-Amz-Security-Token", "token"), kindInvalidSignature, "'x-amz-security-token' must be a 'SignedHeader'"},
		{"host not signed", rootKey, nil, replace("host;", ""), kindInvalidSignature, "Host"},
		{"date not signed", rootKey, nil, replace("x-amz-date;", ""), kindInvalidSignature, "'x-amz-date' must be"},
		{"target not signed", rootKey, nil, replace(";x-amz-target", ""), kindInvalidSignature, "'x-amz-target' must be"},
		{"target added on the way", rootKey, func(r *http.Request) { r.Header.Del("X-Amz-Target") }, set("X-Amz-Target", "P.DeleteImage"), kindInvalidSignature, "'x-amz-target' must be"},
		{"target changed", rootKey, nil, set("X-Amz-Target", "P.DeleteImage"), kindInvalidSignature, mismatch},
		{"two targets", rootKey, nil, func(r *http.Request) { r.Header.Add("X-Amz-Target", "P.DeleteImage") }, kindInvalidSignature, "more than one"},
		{"signed header is missing", rootKey, func(r *http.Request) { r.Header.Set("X-Amz-Meta", "a") }, func(r *http.Request) { r.Header.Del("X-Amz-Meta") },
			kindInvalidSignature, "'x-amz-meta' is named as a SignedHeader"},
		{"another host", rootKey, nil, func(r *http.Request) { r.Host = "other.example" }, kindInvalidSignature, mismatch},
		{"another path", rootKey, nil, func(r *http.Request) { r.URL.Path = "/service/x/operation/y" }, kindInvalidSignature, mismatch},
		{"query", rootKey, nil, func(r *http.Request) { r.URL.RawQuery = "X-Amz-Expires=1" }, kindInvalidSignature, "query string"},
		{"unsigned payload", rootKey, set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD"), nil, kindInvalidSignature, "x-amz-content-sha256"},
		{"hash of another body", rootKey, set("X-Amz-Content-Sha256", strings.Repeat("0", 64)), nil, kindInvalidSignature, "x-amz-content-sha256"},
		{"the store fails", Key{ID: "AKIAFAIL", Secret: "x"}, nil, nil, appstream.Internal, "busy"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := unsignedRequest(t, "http://localhost:8080/", []byte("{}"))
			if tt.before != nil {
				tt.before(r)
			}
			signWithLibrary(t, r, []byte("{}"), tt.key, "appstream", testRegion, signedAt)
			if tt.after != nil {
				tt.after(r)
			}
			key, _, err := testVerifier().verify(r, []byte("{}"), signedAt)
			if got := appstream.KindOf(err); got != tt.kind || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v, want %s: %s", err, tt.kind, tt.text)
			}
			if key.Secret != "" || key.Principal != "" {
				t.Errorf("a refused request was given the key %+v", key)
			}
		})
	}

	r := unsignedRequest(t, "http://localhost/", []byte("{}"))
	signWithLibrary(t, r, []byte("{}"), rootKey, "appstream", testRegion, signedAt)
	for _, tt := range []struct {
		body string
		now  time.Time
		text string
	}{
		{`{"Name":"x"}`, signedAt, mismatch},
		{"", signedAt, mismatch},
		{"{}", signedAt.Add(maxSkew + time.Second), "Signature expired: 20261121T235800Z is now earlier than 20261121T235801Z (20261122T000301Z - 5 min.)"},
		{"{}", signedAt.Add(-maxSkew - time.Second), "Signature not yet current: 20261121T235800Z is still later than 20261121T235759Z (20261121T235259Z + 5 min.)"},
	} {
		_, _, err := testVerifier().verify(r, []byte(tt.body), tt.now)
		if appstream.KindOf(err) != kindInvalidSignature || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("body %q at %v: %v, want %s", tt.body, tt.now, err, tt.text)
		}
	}
}

func TestSigningKeys(t *testing.T) {
	v := testVerifier()
	a := v.signingKey(derivation{"s", "20261121", "r"})
	if b := v.signingKey(derivation{"s2", "20261121", "r"}); a == b {
		t.Error("a new secret has the key of the old one")
	}
	for i := range 3000 {
		v.signingKey(derivation{"s", "20261121", strings.Repeat("r", i%50) + string(rune('a'+i%26)) + time.Duration(i).String()})
	}
	if n := len(v.derived); n > 1024 {
		t.Errorf("%d derived keys are kept", n)
	}
}

func FuzzParseAuthorization(f *testing.F) {
	const good = "AWS4-HMAC-SHA256 Credential=AKID/20261121/us-west-2/appstream/aws4_request, SignedHeaders=host;x-amz-date, Signature="
	sig := strings.Repeat("0a", 32)
	for _, s := range []string{good + sig, good, "", "AWS4-HMAC-SHA256 ", strings.ReplaceAll(good+sig, ", ", ","), good + sig + ",", "AWS4-HMAC-SHA256 Credential=////,SignedHeaders=;,Signature=" + sig} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		a, err := parseAuthorization(header)
		if err != nil {
			if k := appstream.KindOf(err); k != kindIncomplete {
				t.Errorf("kind %s", k)
			}
			return
		}
		// What is accepted can be put together again and means the same.
		again := sigAlgorithm + " Credential=" + a.keyID + "/" + a.date + "/" + a.region + "/" + a.service + "/" + a.terminator +
			",SignedHeaders=" + strings.Join(a.signedHeaders, ";") + ",Signature=" + hex.EncodeToString(a.signature)
		b, err := parseAuthorization(again)
		if err != nil || b.keyID != a.keyID || b.scope != a.scope || !bytes.Equal(b.signature, a.signature) {
			t.Errorf("%q is not %q: %v", again, header, err)
		}
	})
}

func TestCanonicalText(t *testing.T) {
	for in, want := range map[string]string{"": "", "  ": "", " a  b   c ": "a b c", "a\tb": "a\tb"} {
		if got := string(appendTrimmed(nil, in)); got != want {
			t.Errorf("appendTrimmed(%q) = %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{"": "/", "/a-b_c.d~e/F9": "/a-b_c.d~e/F9", "/a%20b": "/a%2520b"} {
		if got := string(appendPath(nil, in)); got != want {
			t.Errorf("appendPath(%q) = %q, want %q", in, got, want)
		}
	}
}
