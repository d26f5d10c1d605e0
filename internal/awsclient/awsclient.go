// Package awsclient makes clients of the API from AWS's SDK, for Oriel's own commands and tests.
package awsclient

import (
	"bytes"
	"io"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/appstream"

	"github.com/oriel-project/oriel/internal/keys"
)

// New makes a client that signs with key for region and calls endpoint (scheme and host). It does not repeat calls by itself.
func New(endpoint, region string, key keys.Key) *appstream.Client {
	return appstream.New(appstream.Options{
		Region: region, BaseEndpoint: &endpoint, HTTPClient: steady{&http.Client{Timeout: time.Minute}}, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(key.ID, key.Secret, ""),
	})
}

// steady gives net/http a body of its own. smithy-go 1.28.8 closes the request's body as soon as the head of the answer is
// there; net/http's writer may just then be looking whether the body is at its end, takes the close for a failure, and
// closes the connection under the answer. Fast servers on busy machines see that in one of fifty large answers.
type steady struct{ *http.Client }

// Do sends a request.
func (s steady) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil && r.Body != http.NoBody {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(data))
	}
	return s.Client.Do(r)
}
