// Package blobtest gives tests a bucket on a real server of their own.
package blobtest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/oriel-project/oriel/internal/blob"
	"github.com/oriel-project/oriel/internal/porttest"
)

// The credentials of the server, and the name of its bucket.
const (
	KeyID, Secret = "ORIELTESTKEY", "not-a-secret-of-anybody"
	BucketName    = "oriel-test"
)

// Bucket starts versitygw, which keeps objects in a directory, and makes a bucket there. Its program is the one that ORIEL_TEST_S3 names, or else in
// the PATH; hack/test gets it. Without it the test is skipped.
func Bucket(t testing.TB) blob.BucketConfig {
	t.Helper()
	program := os.Getenv("ORIEL_TEST_S3")
	if program == "" {
		var err error
		if program, err = exec.LookPath("versitygw"); err != nil {
			t.Skip("no server to keep a bucket: set ORIEL_TEST_S3 to the program versitygw (go install github.com/versity/versitygw/cmd/versitygw@v1.8.0)")
		}
	}
	address, err := porttest.Address()
	if err != nil {
		t.Fatal(err)
	}
	dir, meta := t.TempDir(), t.TempDir()
	var log bytes.Buffer
	c := exec.Command(program, "--quiet", "--port", address, "posix", "--sidecar", meta, dir)
	c.Env = append(os.Environ(), "ROOT_ACCESS_KEY_ID="+KeyID, "ROOT_SECRET_ACCESS_KEY="+Secret)
	c.Stdout, c.Stderr = &log, &log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
		if t.Failed() {
			t.Logf("the server: %s", log.String())
		}
	})
	file := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(file, []byte("[default]\naws_access_key_id = "+KeyID+"\naws_secret_access_key = "+Secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := blob.BucketConfig{Bucket: BucketName, Endpoint: "http://" + address, Region: "us-east-1", Prefix: "lab/oriel/", PathStyle: true, Credentials: file}
	client, err := config.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		_, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &config.Bucket})
		if err == nil {
			return config
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}
