package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/smithy-go"

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

func (r *remote) connect(p place) (*client, error) {
	cfg, err := load(p, machines{}, serving{})
	if err != nil {
		return nil, err
	}
	c := &client{endpoint: strings.TrimSuffix(r.Endpoint, "/"), region: cfg.Region[0]}
	if c.endpoint == "" {
		c.endpoint = cfg.URL()
	}
	if !strings.HasPrefix(c.endpoint, "http://") && !strings.HasPrefix(c.endpoint, "https://") {
		return nil, fmt.Errorf("the endpoint %s must begin with http:// or https://", c.endpoint)
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

// call calls an operation that AWS's SDK does not know. target is Prefix.Operation.
func (c *client) call(ctx context.Context, target string, in, out any) error {
	return explain(awsclient.Call(ctx, c.endpoint, c.region, c.key, target, in, out))
}

// explain makes an error of the SDK or of the network fit to be read.
func explain(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*awsclient.RefusalError](err); ok {
		return e
	}
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return fmt.Errorf("%s (%s)", e.ErrorMessage(), e.ErrorCode())
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("no server answers: %w; start it with oriel serve, or name its address with --endpoint", err)
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return fmt.Errorf("%w; have this machine trust who has issued the certificate, or name its file in SSL_CERT_FILE", err)
	}
	return err
}
