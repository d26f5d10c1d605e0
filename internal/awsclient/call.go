package awsclient

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json/v2"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/aws-http-auth/credentials"
	"github.com/aws/smithy-go/aws-http-auth/sigv4"
	v4 "github.com/aws/smithy-go/aws-http-auth/v4"

	"github.com/oriel-project/oriel/internal/keys"
)

// maxAnswer is the size of the largest answer that Call reads, in bytes.
const maxAnswer = 4 << 20

// callTime bounds a Call.
const callTime = 30 * time.Second

// RefusalError is an error that the server has answered. It is a smithy.APIError.
type RefusalError struct {
	smithy.GenericAPIError
	Endpoint string // of the server
}

func (e *RefusalError) Error() string {
	return fmt.Sprintf("%s (%s, from %s)", e.Message, e.Code, e.Endpoint)
}

// Call calls an operation that AWS's SDK does not know, signed with key for region. target is Prefix.Operation; out may be nil. What the server refuses is a
// *RefusalError.
func Call(ctx context.Context, endpoint, region string, key keys.Key, target string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint+"/", bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("X-Amz-Target", target)
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	sum := sha256.Sum256(body)
	err = sigv4.New().SignRequest(&sigv4.SignRequestInput{Request: r, PayloadHash: sum[:], Service: "appstream", Region: region,
		SignatureType: v4.SignatureTypeHeader, Credentials: credentials.Credentials{AccessKeyID: key.ID, SecretAccessKey: key.Secret}})
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case err != nil:
		return err
	case resp.StatusCode == http.StatusOK && out == nil:
		return nil
	case resp.StatusCode == http.StatusOK:
		return json.Unmarshal(answer, out)
	}
	var refusal struct {
		Type    string `json:"__type"`
		Message string
	}
	if json.Unmarshal(answer, &refusal) != nil || refusal.Type == "" {
		perhaps := ""
		if strings.HasPrefix(endpoint, "http://") {
			perhaps = ", perhaps at https://"
		}
		return fmt.Errorf("%s answered %s; is it an Oriel server%s?", endpoint, resp.Status, perhaps)
	}
	return &RefusalError{smithy.GenericAPIError{Code: refusal.Type, Message: refusal.Message}, endpoint}
}
