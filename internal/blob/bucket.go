package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

// BucketConfig says where a bucket is, at Amazon or at any server that speaks S3.
type BucketConfig struct {
	Bucket      string
	Endpoint    string // scheme and host of the server; "" for Amazon's
	Region      string
	Prefix      string // of the names of all objects, "" or ending with /; each server needs one of its own
	PathStyle   bool   // the bucket is in the path, not in the host's name
	Credentials string // file in AWS's form, of which the profile default is taken; "" for what AWS's tools find by themselves
}

// Bucket keeps archives as objects of a bucket: ACCOUNT/NAME.tar behind the prefix. It does what Archives does.
type Bucket struct {
	client *s3.Client
	config BucketConfig

	mu      sync.Mutex // held while uploads of earlier processes are removed
	cleaned bool
}

// partSize is the size of an upload's parts, and so what an upload needs of memory, twice. There can be ten thousand of them, which is more
// than the largest image has. Some servers want all but the last to be equal.
var partSize = 50 << 20

const (
	smallUpload = 1 << 20          // bytes that are kept in a buffer of no more than it needs
	abortTime   = 30 * time.Second // for removing what cannot be completed, whatever became of the context
	answerTime  = time.Minute      // until a server begins to answer
	refreshTime = 5 * time.Minute  // after which the credentials are read again
	retries     = 5                // to go on reading where it was cut off
	skipAtMost  = 1 << 20          // is read and thrown away rather than asked for anew
)

// OpenBucket makes ready to use a bucket. It does not need it to be within reach yet.
func OpenBucket(ctx context.Context, c BucketConfig) (*Bucket, error) {
	client, err := c.Client(ctx)
	if err != nil {
		return nil, err
	}
	return &Bucket{client: client, config: c}, nil
}

// Client makes a client for the server that has the bucket.
func (c BucketConfig) Client(ctx context.Context) (*s3.Client, error) {
	options := []func(*config.LoadOptions) error{config.WithRegion(c.Region),
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { t.ResponseHeaderTimeout = answerTime }))}
	if c.Credentials != "" {
		if _, err := credentialsOf(ctx, c.Credentials); err != nil {
			return nil, err
		}
		options = append(options, config.WithCredentialsProvider(aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
			return credentialsOf(ctx, c.Credentials)
		}))))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("the settings of the bucket %s: %w", c.Bucket, err)
	}
	return s3.NewFromConfig(loaded, func(o *s3.Options) {
		if c.Endpoint != "" {
			o.BaseEndpoint = &c.Endpoint
		}
		o.UsePathStyle = c.PathStyle
		// What Amazon has added lately, others do not know. Each request's content is signed in any case.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		o.DisableLogOutputChecksumValidationSkipped = true
	}), nil
}

// credentialsOf reads a file with credentials. They are read again from time to time, so that they can be changed.
func credentialsOf(ctx context.Context, file string) (aws.Credentials, error) {
	profile, err := config.LoadSharedConfigProfile(ctx, "default", func(o *config.LoadSharedConfigOptions) {
		o.CredentialsFiles, o.ConfigFiles = []string{file}, []string{}
	})
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("read the bucket's credentials in %s: %w", file, err)
	}
	if !profile.Credentials.HasKeys() {
		return aws.Credentials{}, fmt.Errorf("the file %s has no [default] with aws_access_key_id and aws_secret_access_key", file)
	}
	profile.Credentials.CanExpire, profile.Credentials.Expires = true, time.Now().Add(refreshTime)
	return profile.Credentials, nil
}

// String names the bucket for people.
func (b *Bucket) String() string { return b.config.String() }

// String names the bucket for people.
func (c BucketConfig) String() string {
	at := "s3://" + c.Bucket + "/" + c.Prefix
	if c.Endpoint != "" {
		at += " at " + c.Endpoint
	}
	return at
}

func (b *Bucket) key(name string) (*string, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	return new(b.config.Prefix + name), nil
}

// fail says what was tried, and turns what is not there into fs.ErrNotExist.
func (b *Bucket) fail(what string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		switch e.ErrorCode() {
		case "NotFound", "NoSuchKey", "NoSuchBucket":
			if e.ErrorCode() != "NoSuchBucket" {
				err = fmt.Errorf("%w: %w", fs.ErrNotExist, err)
			}
		case "PreconditionFailed":
			err = fmt.Errorf("it was changed meanwhile: %w", err)
		}
	}
	return fmt.Errorf("%s in %s: %w", what, b, err)
}

// Has tells whether there is an archive of that name.
func (b *Bucket) Has(ctx context.Context, name string) (bool, error) {
	key, err := b.key(name)
	if err != nil {
		return false, err
	}
	_, err = b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.config.Bucket, Key: key})
	if err = b.fail("look for an archive", err); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Save keeps what write writes as an archive, whole or not at all, also over a crash. It does nothing when the archive is there. It ends with the
// context's error as soon as write writes again after the context has ended.
func (b *Bucket) Save(ctx context.Context, name string, write func(io.Writer) error) error {
	key, err := b.key(name)
	if err != nil {
		return err
	}
	if has, err := b.Has(ctx, name); has || err != nil {
		return err
	}
	if err := b.Clean(ctx); err != nil {
		return err
	}
	u := &upload{bucket: b, ctx: ctx, key: key}
	err = write(u)
	if err = errors.Join(err, ctx.Err()); err == nil {
		err = u.complete()
	}
	if err != nil {
		return errors.Join(err, u.abort())
	}
	return nil
}

// Clean removes what uploads of earlier processes have left, once: a server keeps the parts of what was not completed, and nobody sees them but
// on the bill.
func (b *Bucket) Clean(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cleaned {
		return nil
	}
	const what = "look for uploads that were not completed"
	var errs []error
	pages := s3.NewListMultipartUploadsPaginator(b.client, &s3.ListMultipartUploadsInput{Bucket: &b.config.Bucket, Prefix: &b.config.Prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if e, ok := errors.AsType[smithy.APIError](err); ok && e.ErrorCode() == "NotImplemented" {
			break // such a server has its own ways
		}
		if err != nil {
			return b.fail(what, err)
		}
		for _, u := range page.Uploads {
			name, ours := strings.CutPrefix(aws.ToString(u.Key), b.config.Prefix)
			if ours && checkName(name) == nil {
				errs = append(errs, b.abort(ctx, u.Key, u.UploadId))
			}
		}
	}
	err := errors.Join(errs...)
	b.cleaned = err == nil
	return err
}

func (b *Bucket) abort(ctx context.Context, key, id *string) error {
	_, err := b.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &b.config.Bucket, Key: key, UploadId: id})
	if e, ok := errors.AsType[smithy.APIError](err); ok && e.ErrorCode() == "NoSuchUpload" {
		return nil
	}
	return b.fail("remove what was not completed", err)
}

// upload is an archive that is being written. One part is filled while the one before it is sent.
type upload struct {
	bucket *Bucket
	ctx    context.Context
	key    *string
	id     *string // nil until there is more than one part
	buffer []byte
	spare  []byte
	parts  []types.CompletedPart
	sent   chan error // of the part that is on its way; nil when none is
}

func (u *upload) Write(data []byte) (int, error) {
	n := 0
	for n < len(data) {
		if err := u.ctx.Err(); err != nil {
			return n, err
		}
		if len(u.buffer) == partSize {
			if err := u.send(); err != nil {
				return n, err
			}
		}
		k := min(len(data)-n, partSize-len(u.buffer))
		if len(u.buffer)+k > cap(u.buffer) && cap(u.buffer) >= smallUpload { // growing bit by bit would leave several times as much to collect
			u.buffer = append(make([]byte, 0, partSize), u.buffer...)
		}
		u.buffer = append(u.buffer, data[n:n+k]...)
		n += k
	}
	return n, nil
}

// send sends a full part, when the one before it has arrived.
func (u *upload) send() error {
	if err := u.wait(); err != nil {
		return err
	}
	if u.id == nil {
		r, err := u.bucket.client.CreateMultipartUpload(u.ctx, &s3.CreateMultipartUploadInput{Bucket: &u.bucket.config.Bucket, Key: u.key, ContentType: new("application/x-tar")})
		if err != nil {
			return u.bucket.fail("keep an archive", err)
		}
		u.id = r.UploadId
	}
	number, content := int32(len(u.parts)+1), u.buffer
	u.buffer, u.spare = u.spare[:0], content
	u.parts = append(u.parts, types.CompletedPart{PartNumber: &number})
	u.sent = make(chan error, 1)
	go func() {
		r, err := u.bucket.client.UploadPart(u.ctx, &s3.UploadPartInput{Bucket: &u.bucket.config.Bucket, Key: u.key, UploadId: u.id, PartNumber: &number, Body: bytes.NewReader(content)})
		if err == nil {
			u.parts[number-1].ETag = r.ETag
		}
		u.sent <- u.bucket.fail("keep an archive", err)
	}()
	return nil
}

// wait waits for the part that is on its way.
func (u *upload) wait() error {
	if u.sent == nil {
		return nil
	}
	err := <-u.sent
	u.sent = nil
	return err
}

// complete makes the archive appear. One of a single part needs no parts.
func (u *upload) complete() error {
	if u.id == nil {
		_, err := u.bucket.client.PutObject(u.ctx, &s3.PutObjectInput{Bucket: &u.bucket.config.Bucket, Key: u.key, Body: bytes.NewReader(u.buffer), ContentType: new("application/x-tar")})
		return u.bucket.fail("keep an archive", err)
	}
	err := u.send()
	if err = errors.Join(err, u.wait()); err != nil {
		return err
	}
	_, err = u.bucket.client.CompleteMultipartUpload(u.ctx, &s3.CompleteMultipartUploadInput{Bucket: &u.bucket.config.Bucket, Key: u.key, UploadId: u.id,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: u.parts}})
	return u.bucket.fail("keep an archive", err)
}

// abort removes the parts. One that is on its way is waited for: a server may keep it otherwise.
func (u *upload) abort() error {
	_ = u.wait()
	if u.id == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(u.ctx), abortTime)
	defer cancel()
	return u.bucket.abort(ctx, u.key, u.id)
}

// Read gives read an archive, which it can read as long as ctx lasts and it has not returned. Errors: fs.ErrNotExist; that of read.
func (b *Bucket) Read(ctx context.Context, name string, read func(*io.SectionReader) error) error {
	key, err := b.key(name)
	if err != nil {
		return err
	}
	head, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.config.Bucket, Key: key})
	if err != nil {
		return b.fail("read the archive "+name, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	o := &object{bucket: b, ctx: ctx, key: key, name: name, etag: head.ETag, size: aws.ToInt64(head.ContentLength)}
	defer o.close()
	defer cancel() // first: who still reads holds up the other
	return read(io.NewSectionReader(o, 0, o.size))
}

// object is an archive that is being read, mostly from its beginning to its end: what is asked for goes on where the last answer is.
type object struct {
	bucket *Bucket
	ctx    context.Context
	key    *string
	name   string
	etag   *string // of what it was at the beginning
	size   int64

	mu     sync.Mutex
	body   io.ReadCloser // nil when none is open
	at     int64         // where body is
	closed bool
}

func (o *object) ReadAt(p []byte, offset int64) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if offset < 0 || offset > o.size {
		return 0, io.EOF
	}
	want := p[:min(int64(len(p)), o.size-offset)]
	n := 0
	var err error
	for tries := 0; n < len(want) && tries < retries; {
		if err = o.seek(offset + int64(n)); err != nil {
			break // it has been tried again by then
		}
		var k int
		k, err = io.ReadFull(o.body, want[n:])
		n, o.at = n+k, o.at+int64(k)
		if k > 0 {
			tries = 0
		}
		if err != nil { // the connection has broken: the next one goes on here
			o.drop()
			tries++
		}
	}
	switch {
	case n < len(want):
		return n, errors.Join(o.ctx.Err(), o.bucket.fail("read the archive "+o.name, err))
	case n < len(p):
		return n, io.EOF
	}
	return n, nil
}

// seek has the body be at offset.
func (o *object) seek(offset int64) error {
	if o.closed {
		return fs.ErrClosed
	}
	if skip := offset - o.at; o.body != nil && skip > 0 && skip <= skipAtMost {
		n, err := io.CopyN(io.Discard, o.body, skip)
		if o.at += n; err != nil {
			o.drop()
		}
	}
	if o.body != nil && o.at == offset {
		return nil
	}
	o.drop()
	r, err := o.bucket.client.GetObject(o.ctx, &s3.GetObjectInput{Bucket: &o.bucket.config.Bucket, Key: o.key, IfMatch: o.etag,
		Range: new(fmt.Sprintf("bytes=%d-%d", offset, o.size-1))})
	if err != nil {
		return err
	}
	o.body, o.at = r.Body, offset
	return nil
}

func (o *object) drop() {
	if o.body != nil {
		o.body.Close()
		o.body = nil
	}
}

func (o *object) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.drop()
	o.closed = true
}

// Remove removes an archive. One that is not there is no error.
func (b *Bucket) Remove(ctx context.Context, name string) error {
	key, err := b.key(name)
	if err != nil {
		return err
	}
	_, err = b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.config.Bucket, Key: key})
	if err = b.fail("remove an archive", err); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Count tells how many archives an account has.
func (b *Bucket) Count(ctx context.Context, account string) (int, error) {
	if !accountForm.MatchString(account) {
		return 0, nil
	}
	n := 0
	pages := s3.NewListObjectsV2Paginator(b.client, &s3.ListObjectsV2Input{Bucket: &b.config.Bucket, Prefix: new(b.config.Prefix + account + "/"),
		Delimiter: new("/")}) // what is further down is not an archive: objects of the account may be kept in the same place
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return 0, b.fail("count archives", err)
		}
		n += len(page.Contents)
	}
	return n, nil
}

// Check tells why archives could not be kept here. It leaves nothing.
func (b *Bucket) Check(ctx context.Context) error {
	key := new(b.config.Prefix + "000000000000/check.tar")
	if _, err := b.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &b.config.Bucket}); err != nil {
		return b.fail("look for the bucket", err)
	}
	if _, err := b.Count(ctx, "000000000000"); err != nil {
		return err
	}
	r, err := b.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &b.config.Bucket, Key: key})
	if err != nil {
		return b.fail("begin to write", err)
	}
	return b.abort(ctx, key, r.UploadId)
}
