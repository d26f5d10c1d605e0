package api

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/oriel-project/oriel/internal/appstream"
)

// What Signature Version 4 is made of. Oriel accepts it in the Authorization header only.
const (
	sigAlgorithm  = "AWS4-HMAC-SHA256"
	sigService    = "appstream"
	sigTerminator = "aws4_request"
	sigTime       = "20060102T150405Z"
	maxSkew       = 5 * time.Minute
	maxKeyID      = 128 // characters of an access key id
)

// verifier checks the signatures of requests.
type verifier struct {
	keys    func(ctx context.Context, accessKeyID string) (Key, bool, error)
	regions []string

	mu      sync.Mutex
	derived map[derivation][sha256.Size]byte
}

// derivation is what a signing key is made from.
type derivation struct{ secret, date, region string }

// authorization is a parsed Authorization header.
type authorization struct {
	keyID, date, region, service, terminator string
	scope                                    string // date/region/service/terminator
	signedHeaders                            []string
	signature                                []byte
}

// verify checks that r, whose body has been read, was signed by a known key for this server and about now. It gives the
// key and the region of the credential scope; the key's ID is also given with an error, as far as it was read.
func (s *verifier) verify(r *http.Request, body []byte, now time.Time) (Key, string, error) {
	claimed := Key{}
	values := r.Header["Authorization"]
	if len(values) == 0 {
		return claimed, "", appstream.Errorf(kindMissingToken, "Missing Authentication Token")
	}
	if len(values) > 1 {
		return claimed, "", appstream.Errorf(kindIncomplete, "The request has more than one Authorization header.")
	}
	a, err := parseAuthorization(values[0])
	if err != nil {
		return claimed, "", err
	}
	claimed.ID = a.keyID
	if r.URL.RawQuery != "" {
		return claimed, "", appstream.Errorf(kindInvalidSignature, "The request must not have a query string.")
	}
	date := r.Header.Get("X-Amz-Date")
	if err := s.checkScope(&a, date, now); err != nil {
		return claimed, "", err
	}
	key, found, err := s.keys(r.Context(), a.keyID)
	if err != nil {
		return claimed, "", err
	}
	token := r.Header.Get("X-Amz-Security-Token")
	if !found || key.Disabled || key.Secret == "" || subtle.ConstantTimeCompare([]byte(token), []byte(key.SessionToken)) == 0 {
		return claimed, "", appstream.Errorf(kindUnknownKey, "The security token included in the request is invalid.")
	}
	if err := checkSigned(r, a.signedHeaders); err != nil {
		return claimed, "", err
	}
	sum := sha256.Sum256(body)
	hash := hex.AppendEncode(make([]byte, 0, 2*sha256.Size), sum[:])
	if sent := r.Header.Get("X-Amz-Content-Sha256"); sent != "" && sent != string(hash) {
		return claimed, "", appstream.Errorf(kindInvalidSignature, "The provided 'x-amz-content-sha256' header does not match what was computed.")
	}
	canonical, err := appendCanonical(make([]byte, 0, 1024), r, a.signedHeaders, hash)
	if err != nil {
		return claimed, "", err
	}
	if !hmac.Equal(a.signature, s.sign(key.Secret, &a, date, canonical)) {
		return claimed, "", appstream.Errorf(kindInvalidSignature, "The request signature we calculated does not match the signature you provided. "+
			"Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	return key, a.region, nil
}

// parseAuthorization reads "AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…".
func parseAuthorization(header string) (a authorization, err error) {
	algorithm, rest, _ := strings.Cut(header, " ")
	if algorithm != sigAlgorithm {
		return a, appstream.Errorf(kindIncomplete, "The Authorization header must begin with '%s'.", sigAlgorithm)
	}
	var credential, headers, signature string
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		var to *string
		switch name {
		case "Credential":
			to = &credential
		case "SignedHeaders":
			to = &headers
		case "Signature":
			to = &signature
		}
		if to == nil || *to != "" {
			return a, appstream.Errorf(kindIncomplete, "The Authorization header has a parameter that is unknown or comes twice.")
		}
		*to = value
	}
	for _, p := range [][2]string{{"Credential", credential}, {"SignedHeaders", headers}, {"Signature", signature}} {
		if p[1] == "" {
			return a, appstream.Errorf(kindIncomplete, "Authorization header requires '%s' parameter.", p[0])
		}
	}
	parts := strings.Split(credential, "/")
	if len(parts) != 5 || parts[0] == "" || len(parts[0]) > maxKeyID {
		return a, appstream.Errorf(kindIncomplete, "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.")
	}
	a.keyID, a.date, a.region, a.service, a.terminator = parts[0], parts[1], parts[2], parts[3], parts[4]
	a.scope = credential[len(a.keyID)+1:]
	a.signedHeaders = strings.Split(headers, ";")
	for i, h := range a.signedHeaders {
		if h == "" || h != strings.ToLower(h) || i > 0 && h <= a.signedHeaders[i-1] {
			return a, appstream.Errorf(kindIncomplete, "SignedHeaders must be lower-case names of headers in alphabetical order.")
		}
	}
	if a.signature, err = hex.DecodeString(signature); err != nil || len(a.signature) != sha256.Size {
		return a, appstream.Errorf(kindIncomplete, "Signature must have %d hexadecimal digits.", 2*sha256.Size)
	}
	return a, nil
}

// checkScope checks what the signature was made for, and when.
func (s *verifier) checkScope(a *authorization, date string, now time.Time) error {
	invalid := func(format string, args ...any) error {
		return appstream.Errorf(kindInvalidSignature, format, args...)
	}
	t, err := time.Parse(sigTime, date)
	if err != nil {
		return appstream.Errorf(kindIncomplete, "The request must have an 'X-Amz-Date' header like 20060102T150405Z.")
	}
	switch {
	case a.date != date[:8]:
		return invalid("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s', from '%s'.", a.date, date[:8], date)
	case !slices.Contains(s.regions, a.region):
		return invalid("Credential should be scoped to a valid region, not '%s'. This server serves %s.", a.region, strings.Join(s.regions, ", "))
	case a.service != sigService:
		return invalid("Credential should be scoped to correct service: '%s'.", sigService)
	case a.terminator != sigTerminator:
		return invalid("Credential should be scoped with a valid terminator: '%s', not '%s'.", sigTerminator, a.terminator)
	}
	now = now.UTC()
	switch {
	case t.Before(now.Add(-maxSkew)):
		return invalid("Signature expired: %s is now earlier than %s (%s - 5 min.)", date, now.Add(-maxSkew).Format(sigTime), now.Format(sigTime))
	case t.After(now.Add(maxSkew)):
		return invalid("Signature not yet current: %s is still later than %s (%s + 5 min.)", date, now.Add(maxSkew).Format(sigTime), now.Format(sigTime))
	}
	return nil
}

// mustSign are the headers that say what is asked, of whom and when: one that is sent and not signed could have
// been added by anyone on the way.
var mustSign = []struct{ canonical, name string }{
	{"X-Amz-Content-Sha256", "x-amz-content-sha256"},
	{"X-Amz-Date", "x-amz-date"},
	{"X-Amz-Security-Token", "x-amz-security-token"},
	{"X-Amz-Target", "x-amz-target"},
}

func checkSigned(r *http.Request, signed []string) error {
	if !slices.Contains(signed, "host") {
		return appstream.Errorf(kindInvalidSignature, "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	for _, h := range mustSign {
		values := r.Header[h.canonical]
		if len(values) > 1 {
			return appstream.Errorf(kindInvalidSignature, "The request has more than one '%s' header.", h.name)
		}
		if len(values) > 0 && !slices.Contains(signed, h.name) {
			return appstream.Errorf(kindInvalidSignature, "'%s' must be a 'SignedHeader' in the AWS Authorization.", h.name)
		}
	}
	return nil
}

// appendCanonical appends the canonical request: method, path, (empty) query, headers, their names and the hash of
// the body, a line each.
func appendCanonical(b []byte, r *http.Request, signed []string, bodyHash []byte) ([]byte, error) {
	b = append(b, r.Method...)
	b = append(b, '\n')
	b = appendPath(b, r.URL.EscapedPath())
	b = append(b, "\n\n"...)
	for _, h := range signed {
		b = append(b, h...)
		b = append(b, ':')
		switch h {
		case "host": // net/http keeps these two out of the header
			b = append(b, r.Host...)
		case "content-length":
			b = strconv.AppendInt(b, r.ContentLength, 10)
		default:
			values, ok := r.Header[http.CanonicalHeaderKey(h)]
			if !ok {
				return nil, appstream.Errorf(kindInvalidSignature, "'%s' is named as a SignedHeader, but it does not exist in the HTTP request.", h)
			}
			for i, v := range values {
				if i > 0 {
					b = append(b, ',')
				}
				b = appendTrimmed(b, v)
			}
		}
		b = append(b, '\n')
	}
	b = append(b, '\n')
	for i, h := range signed {
		if i > 0 {
			b = append(b, ';')
		}
		b = append(b, h...)
	}
	b = append(b, '\n')
	return append(b, bodyHash...), nil
}

// appendPath appends the path escaped once more, as every service but S3 wants it.
func appendPath(b []byte, path string) []byte {
	if path == "" {
		return append(b, '/')
	}
	for i := range len(path) {
		c := path[i]
		if c == '/' || c == '-' || c == '.' || c == '_' || c == '~' || '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' {
			b = append(b, c)
		} else {
			b = fmt.Appendf(b, "%%%02X", c)
		}
	}
	return b
}

// appendTrimmed appends a header's value without spaces around it and with single spaces inside.
func appendTrimmed(b []byte, v string) []byte {
	v = strings.Trim(v, " ")
	for i := range len(v) {
		if v[i] != ' ' || v[i-1] != ' ' {
			b = append(b, v[i])
		}
	}
	return b
}

// sign gives the signature of a canonical request.
func (s *verifier) sign(secret string, a *authorization, date string, canonical []byte) []byte {
	sum := sha256.Sum256(canonical)
	b := make([]byte, 0, 256)
	b = append(b, sigAlgorithm+"\n"...)
	b = append(b, date...)
	b = append(b, '\n')
	b = append(b, a.scope...)
	b = append(b, '\n')
	b = hex.AppendEncode(b, sum[:])
	key := s.signingKey(derivation{secret, a.date, a.region})
	return mac(key[:], b)
}

// signingKey derives the key of one day and region, or takes it from those it has derived.
func (s *verifier) signingKey(d derivation) [sha256.Size]byte {
	s.mu.Lock()
	key, ok := s.derived[d]
	s.mu.Unlock()
	if ok {
		return key
	}
	k := mac([]byte("AWS4"+d.secret), []byte(d.date))
	for _, part := range []string{d.region, sigService, sigTerminator} {
		k = mac(k, []byte(part))
	}
	key = [sha256.Size]byte(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	// Only keys of today that exist come here; the bound is for those that end at midnight.
	if s.derived == nil || len(s.derived) >= 1024 {
		s.derived = map[derivation][sha256.Size]byte{}
	}
	s.derived[d] = key
	return key
}

func mac(key, data []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(data)
	return h.Sum(nil)
}
