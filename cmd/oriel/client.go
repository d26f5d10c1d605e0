package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/aws-http-auth/credentials"
	"github.com/aws/smithy-go/aws-http-auth/sigv4"
	v4 "github.com/aws/smithy-go/aws-http-auth/v4"

	"github.com/oriel-project/oriel/internal/awsclient"
	"github.com/oriel-project/oriel/internal/keys"
	"github.com/oriel-project/oriel/internal/server"
)

// remote is how a command that calls the API finds the server.
type remote struct {
	// As for AWS's command line, so that what is set for the one is set for the other.
	Endpoint    string `help:"Address of the API (default: the public URL, else where the server listens on this machine)." placeholder:"URL" env:"ORIEL_ENDPOINT,AWS_ENDPOINT_URL_APPSTREAM,AWS_ENDPOINT_URL"`
	Credentials string `help:"File with the access key (default: with an endpoint AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, else credentials in the data directory)." type:"existingfile" placeholder:"FILE" env:"ORIEL_CREDENTIALS,AWS_SHARED_CREDENTIALS_FILE"`
}

// client calls the API: AWS's operations through AWS's SDK, Oriel's own by itself.
type client struct {
	aws      *appstream.Client
	endpoint string
	region   string
	file     string // with the key
	key      keys.Key
}

func (r *remote) connect(cfg server.Config) (*client, error) {
	c := &client{endpoint: strings.TrimSuffix(r.Endpoint, "/"), region: cfg.Region[0]}
	if c.endpoint == "" {
		c.endpoint = cfg.URL()
	}
	if c.file = r.Credentials; c.file == "" {
		// What is set for AWS is meant for a server that is named, and not for this machine's own.
		if k := (keys.Key{ID: os.Getenv("AWS_ACCESS_KEY_ID"), Secret: os.Getenv("AWS_SECRET_ACCESS_KEY")}); r.Endpoint != "" && k.ID != "" && k.Secret != "" {
			return c.with(k), nil
		}
		c.file = server.CredentialsFile(cfg.Data)
	}
	key, err := keys.Read(c.file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no access key in %s: the server makes it at its first start; name its directory with --data, or the file with --credentials", cfg.Data)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%w; run this as the user who runs the server", err)
	case err != nil:
		return nil, err
	}
	return c.with(key), nil
}

func (c *client) with(k keys.Key) *client {
	c.key, c.aws = k, awsclient.New(c.endpoint, c.region, k)
	return c
}

// maxAnswer is the size of the largest answer that is read, in bytes.
const maxAnswer = 4 << 20

// call calls an operation that AWS's SDK does not know. target is Prefix.Operation.
func (c *client) call(ctx context.Context, target string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint+"/", bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("X-Amz-Target", target)
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	sum := sha256.Sum256(body)
	err = sigv4.New().SignRequest(&sigv4.SignRequestInput{Request: r, PayloadHash: sum[:], Service: "appstream", Region: c.region,
		SignatureType: v4.SignatureTypeHeader, Credentials: credentials.Credentials{AccessKeyID: c.key.ID, SecretAccessKey: c.key.Secret}})
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return explain(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return explain(err)
	}
	if resp.StatusCode == http.StatusOK {
		if out == nil {
			return nil
		}
		return json.Unmarshal(answer, out)
	}
	var refusal struct {
		Type    string `json:"__type"`
		Message string
	}
	if json.Unmarshal(answer, &refusal) != nil || refusal.Type == "" {
		return fmt.Errorf("%s answered %s; is it an Oriel server?", c.endpoint, resp.Status)
	}
	return &refusalError{smithy.GenericAPIError{Code: refusal.Type, Message: refusal.Message}, c.endpoint}
}

// refusalError is an error that the server has answered, and which.
type refusalError struct {
	smithy.GenericAPIError
	endpoint string
}

func (e *refusalError) Error() string {
	return fmt.Sprintf("%s (%s, from %s)", e.Message, e.Code, e.endpoint)
}

// explain makes an error of the SDK or of the network fit to be read.
func explain(err error) error {
	if e, ok := errors.AsType[*refusalError](err); ok {
		return e
	}
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return fmt.Errorf("%s (%s)", e.ErrorMessage(), e.ErrorCode())
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("no server answers: %w; start it with oriel serve, or name its address with --endpoint", err)
	}
	return err
}
