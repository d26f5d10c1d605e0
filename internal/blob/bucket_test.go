package blob_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/oriel-project/oriel/internal/blob"
	"github.com/oriel-project/oriel/internal/blob/blobtest"
)

// storage is a server with a bucket.
type storage struct {
	t      *testing.T
	url    *url.URL
	client *s3.Client
	config blob.BucketConfig
}

func newStorage(t *testing.T) *storage {
	t.Helper()
	s := &storage{t: t, config: blobtest.Bucket(t)}
	var err error
	if s.url, err = url.Parse(s.config.Endpoint); err != nil {
		t.Fatal(err)
	}
	s.client = s3.New(s3.Options{Region: "us-east-1", BaseEndpoint: &s.config.Endpoint, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(blobtest.KeyID, blobtest.Secret, "")})
	return s
}

func (s *storage) open(change ...func(*blob.BucketConfig)) *blob.Bucket {
	s.t.Helper()
	c := s.config
	for _, f := range change {
		f(&c)
	}
	b, err := blob.OpenBucket(s.t.Context(), c)
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

// unfinished lists the uploads that were begun and neither completed nor removed.
func (s *storage) unfinished() (list []string) {
	s.t.Helper()
	r, err := s.client.ListMultipartUploads(s.t.Context(), &s3.ListMultipartUploadsInput{Bucket: &s.config.Bucket})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, u := range r.Uploads {
		list = append(list, *u.Key)
	}
	return list
}

// behind gives a proxy of the server that may change what is asked and answered.
func (s *storage) behind(serve func(w http.ResponseWriter, r *http.Request, next http.Handler)) func(*blob.BucketConfig) {
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(s.url)
		r.Out.Host = r.In.Host // it is signed
	}, ErrorLog: nil}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serve(w, r, proxy) }))
	s.t.Cleanup(server.Close)
	return func(c *blob.BucketConfig) { c.Endpoint = server.URL }
}

// Objects that S3 locations name may be kept in the same bucket, behind the same prefix: they are no archives, and do not count as such.
func TestOnlyArchivesCount(t *testing.T) {
	s := newStorage(t)
	b := s.open()
	if err := b.Save(t.Context(), archive, write("x")); err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		_, err := s.client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &s.config.Bucket, Key: new(fmt.Sprintf("lab/oriel/%s/brand/logo-%d.png", account, n)), Body: strings.NewReader("x")})
		if err != nil {
			t.Fatal(err)
		}
	}
	if n, err := b.Count(t.Context(), account); n != 1 || err != nil {
		t.Errorf("the account has %d archives, %v; want 1", n, err)
	}
}

// A process that was killed leaves parts that nobody sees. The next one removes them before it writes, those of its prefix alone.
func TestUploadsOfKilledProcesses(t *testing.T) {
	s := newStorage(t)
	begin := func(key string) {
		_, err := s.client.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &s.config.Bucket, Key: &key})
		if err != nil {
			t.Fatal(err)
		}
	}
	for n := range 3 {
		begin(fmt.Sprintf("lab/oriel/123456789012/ami-%d.tar", n))
	}
	begin("lab/oriel/backup.zip")
	begin("other/123456789012/ami-0.tar")
	b := s.open()
	if err := b.Save(t.Context(), archive, write("x")); err != nil {
		t.Fatal(err)
	}
	if left := strings.Join(s.unfinished(), " "); left != "lab/oriel/backup.zip other/123456789012/ami-0.tar" {
		t.Errorf("left: %s", left)
	}
	begin("lab/oriel/123456789012/ami-9.tar") // of this process, as far as it knows
	if err := b.Clean(t.Context()); err != nil || len(s.unfinished()) != 3 {
		t.Errorf("cleaned twice: %v, %v", s.unfinished(), err)
	}
}

// A server that fails while parts are sent keeps none of them.
func TestPartThatFails(t *testing.T) {
	blob.SetPartSize(t, 5<<20)
	s := newStorage(t)
	for what, fails := range map[string]func(*http.Request) bool{
		"a part":     func(r *http.Request) bool { return r.URL.Query().Get("partNumber") == "2" },
		"the end":    func(r *http.Request) bool { return r.Method == http.MethodPost && r.URL.Query().Has("uploadId") },
		"the begin":  func(r *http.Request) bool { return r.URL.Query().Has("uploads") && r.Method == http.MethodPost },
		"everything": func(r *http.Request) bool { return true },
	} {
		b := s.open(s.behind(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if !fails(r) {
				next.ServeHTTP(w, r)
				return
			}
			io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, `<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>the bucket is full of ice</Message></Error>`)
		}))
		err := b.Save(t.Context(), archive, func(w io.Writer) error {
			_, err := w.Write(make([]byte, 16<<20))
			return err
		})
		if err == nil || what != "everything" && !strings.Contains(err.Error(), "the bucket is full of ice") || strings.Contains(err.Error(), blobtest.Secret) {
			t.Errorf("%s: %v", what, err)
		}
		if left := s.unfinished(); len(left) > 0 {
			t.Errorf("%s: left %v", what, left)
		}
		if has, err := s.open().Has(t.Context(), archive); has || err != nil {
			t.Errorf("%s: Has = %v, %v", what, has, err)
		}
	}
}

// When the connection breaks, reading goes on where it was; when that does not help, it says so.
func TestReadOverBrokenConnections(t *testing.T) {
	s := newStorage(t)
	content := bytes.Repeat([]byte("0123456789abcde\n"), 1<<18)
	if err := s.open().Save(t.Context(), archive, write(string(content))); err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	piece := int64(300_000)
	b := s.open(s.behind(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method == http.MethodGet {
			asked.Add(1)
			w = &cutOff{w, piece}
		}
		next.ServeHTTP(w, r)
	}))
	read := func() (got []byte, err error) {
		err = b.Read(t.Context(), archive, func(r *io.SectionReader) (err error) {
			got, err = io.ReadAll(r)
			return err
		})
		return got, err
	}
	if got, err := read(); err != nil || !bytes.Equal(got, content) || asked.Load() < 10 {
		t.Errorf("%d bytes of %d after %d requests, %v", len(got), len(content), asked.Load(), err)
	}
	piece = 0
	if _, err := read(); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("with connections that give nothing: %v", err)
	}
}

// cutOff ends a connection after so many bytes.
type cutOff struct {
	http.ResponseWriter
	left int64
}

func (c *cutOff) Write(b []byte) (int, error) {
	if c.left <= 0 {
		panic(http.ErrAbortHandler)
	}
	n, err := c.ResponseWriter.Write(b[:min(int64(len(b)), c.left)])
	if c.left -= int64(n); c.left <= 0 {
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, err
}

// An archive that is replaced or removed while it is read is not taken for one archive.
func TestChangedWhileRead(t *testing.T) {
	s := newStorage(t)
	b := s.open()
	content := strings.Repeat("0123456789abcde\n", 1<<18)
	for name, test := range map[string]struct {
		change func() error
		want   func(error) bool
	}{
		"replaced": {func() error {
			_, err := s.client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &s.config.Bucket, Key: aws.String("lab/oriel/" + archive), Body: strings.NewReader(content[1:] + "x")})
			return err
		}, func(err error) bool { return err != nil && strings.Contains(err.Error(), "it was changed meanwhile") }},
		"removed": {func() error { return b.Remove(t.Context(), archive) }, func(err error) bool { return errors.Is(err, fs.ErrNotExist) }},
	} {
		if err := errors.Join(b.Remove(t.Context(), archive), b.Save(t.Context(), archive, write(content))); err != nil {
			t.Fatal(err)
		}
		err := b.Read(t.Context(), archive, func(r *io.SectionReader) error {
			if _, err := r.ReadAt(make([]byte, 10), 0); err != nil {
				t.Fatal(err)
			}
			if err := test.change(); err != nil {
				t.Fatal(err)
			}
			_, err := r.ReadAt(make([]byte, 10), 3<<20)
			return err
		})
		if !test.want(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is wrong with the settings is said, without what is secret.
func TestCheckOfABucket(t *testing.T) {
	s := newStorage(t)
	if err := s.open().Check(t.Context()); err != nil || len(s.unfinished()) > 0 {
		t.Errorf("%v, left %v", err, s.unfinished())
	}
	wrong := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(wrong, []byte("[default]\naws_access_key_id = "+blobtest.KeyID+"\naws_secret_access_key = of-somebody-else\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*blob.BucketConfig){
		"another bucket": func(c *blob.BucketConfig) { c.Bucket = "none" },
		"another secret": func(c *blob.BucketConfig) { c.Credentials = wrong },
		"no server":      func(c *blob.BucketConfig) { c.Endpoint = "http://127.0.0.1:1" },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		err := s.open(change).Check(ctx)
		cancel()
		if err == nil || strings.Contains(err.Error(), blobtest.Secret) || strings.Contains(err.Error(), "of-somebody-else") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, text := range map[string]string{"empty": "", "no secret": "[default]\naws_access_key_id = A\n", "another profile": "[x]\naws_access_key_id = A\naws_secret_access_key = B\n"} {
		if err := os.WriteFile(wrong, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c := s.config
		c.Credentials = wrong
		if _, err := blob.OpenBucket(t.Context(), c); err == nil || !strings.Contains(err.Error(), wrong) {
			t.Errorf("credentials, %s: %v", name, err)
		}
	}
}
