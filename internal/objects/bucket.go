package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"github.com/oriel-project/oriel/internal/blob"
)

// Bucket keeps the objects of all accounts in one bucket of Amazon S3, or of a server that speaks its protocol: as ACCOUNT/BUCKET/KEY behind a
// prefix.
type Bucket struct {
	client *s3.Client
	config blob.BucketConfig
}

var _ Store = (*Bucket)(nil)

// OpenBucket makes ready to use a bucket. It does not need it to be within reach yet.
func OpenBucket(ctx context.Context, c blob.BucketConfig) (*Bucket, error) {
	client, err := c.Client(ctx)
	if err != nil {
		return nil, err
	}
	return &Bucket{client, c}, nil
}

// Close does nothing: connections close by themselves.
func (b *Bucket) Close() error { return nil }

// key is the name of an object, or of all of a bucket of ours, in the bucket of S3.
func (b *Bucket) key(at Location) string {
	return b.config.Prefix + at.Account + "/" + at.Bucket + "/" + at.Key
}

// failed says what was tried, and turns what is not there, what is not allowed and what there is no room for into errors that are known.
func (b *Bucket) failed(what string, at Location, err error) error {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		switch e.ErrorCode() {
		case "NotFound", "NoSuchKey":
			return ErrNotFound
		case "AccessDenied", "Forbidden", "AllAccessDisabled", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken":
			err = fmt.Errorf("%w: %w", fs.ErrPermission, err)
		case "QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded": // Amazon's buckets have no end
			err = fmt.Errorf("%w: %w", syscall.ENOSPC, err)
		case "PreconditionFailed":
			err = fmt.Errorf("it was changed meanwhile: %w", err)
		case "NoSuchBucket":
			err = fmt.Errorf("%w: %w", fs.ErrNotExist, err)
		}
	}
	return fmt.Errorf("%s the object %s in %s: %w", what, at, b.config, err)
}

// Open opens an object.
func (b *Bucket) Open(ctx context.Context, at Location) (io.ReadCloser, Info, error) {
	if at.Check() != nil {
		return nil, Info{}, ErrNotFound
	}
	out, err := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.config.Bucket, Key: new(b.key(at))})
	if err != nil {
		return nil, Info{}, b.failed("open", at, err)
	}
	info := Info{at.Key, aws.ToInt64(out.ContentLength), aws.ToTime(out.LastModified)}
	return &reading{bucket: b, ctx: ctx, at: at, etag: out.ETag, size: info.Size, body: out.Body}, info, nil
}

// reading is an object that is being read. When the connection breaks, the next one goes on where it was.
type reading struct {
	bucket *Bucket
	ctx    context.Context
	at     Location
	etag   *string // of what it was at the beginning
	size   int64

	body   io.ReadCloser // nil when none is open
	offset int64
	tries  int // in a row, of which nothing came
}

// maxTries is how often it is tried in a row to go on reading.
const maxTries = 5

func (r *reading) Read(p []byte) (int, error) {
	for {
		if r.body == nil {
			out, err := r.bucket.client.GetObject(r.ctx, &s3.GetObjectInput{Bucket: &r.bucket.config.Bucket, Key: new(r.bucket.key(r.at)), IfMatch: r.etag,
				Range: new(fmt.Sprintf("bytes=%d-%d", r.offset, r.size-1))})
			if err != nil { // it has been tried again by then
				return 0, r.bucket.failed("go on reading", r.at, err)
			}
			r.body = out.Body
		}
		n, err := r.body.Read(p)
		r.offset += int64(n)
		if err == nil || r.offset >= r.size || r.ctx.Err() != nil {
			return n, err
		}
		r.body.Close()
		r.body = nil
		if n > 0 {
			r.tries = 0
			return n, nil
		}
		if r.tries++; r.tries >= maxTries {
			return 0, fmt.Errorf("read the object %s in %s: it was cut off %d times: %w", r.at, r.bucket.config, r.tries, err)
		}
	}
}

func (r *reading) Close() error {
	if r.body == nil {
		return nil
	}
	return r.body.Close()
}

// Stat tells of an object.
func (b *Bucket) Stat(ctx context.Context, at Location) (Info, error) {
	if at.Check() != nil {
		return Info{}, ErrNotFound
	}
	out, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.config.Bucket, Key: new(b.key(at))})
	if err != nil {
		return Info{}, b.failed("look for", at, err)
	}
	return Info{at.Key, aws.ToInt64(out.ContentLength), aws.ToTime(out.LastModified)}, nil
}

// Put keeps an object, of at most 5 GB: S3 takes no more at once. What cannot be read twice, once for its signature, goes through a file.
func (b *Bucket) Put(ctx context.Context, at Location, r io.Reader) error {
	if err := at.Check(); err != nil {
		return err
	}
	body, ok := r.(io.ReadSeeker)
	if ok {
		_, err := body.Seek(0, io.SeekCurrent)
		ok = err == nil // a pipe is a file too
	}
	if !ok {
		tmp, err := os.CreateTemp("", "oriel-object-*")
		if err != nil {
			return fmt.Errorf("keep the object %s: %w", at, err)
		}
		defer os.Remove(tmp.Name())
		defer tmp.Close()
		if _, err := io.Copy(tmp, &until{ctx: ctx, r: r}); err != nil {
			return err
		}
		if _, err := tmp.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("keep the object %s: %w", at, err)
		}
		body = tmp
	}
	if _, err := b.client.PutObject(ctx, &s3.PutObjectInput{Bucket: &b.config.Bucket, Key: new(b.key(at)), Body: body}); err != nil {
		return b.failed("keep", at, err)
	}
	return nil
}

// Remove removes an object.
func (b *Bucket) Remove(ctx context.Context, at Location) error {
	if at.Check() != nil {
		return nil
	}
	_, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.config.Bucket, Key: new(b.key(at))})
	if err != nil {
		if err = b.failed("remove", at, err); errors.Is(err, ErrNotFound) {
			return nil
		}
	}
	return err
}

// Buckets gives the names of an account's buckets.
func (b *Bucket) Buckets(ctx context.Context, account string) (names []string, err error) {
	if !accountForm.MatchString(account) {
		return nil, nil
	}
	prefix := b.config.Prefix + account + "/"
	pages := s3.NewListObjectsV2Paginator(b.client, &s3.ListObjectsV2Input{Bucket: &b.config.Bucket, Prefix: &prefix, Delimiter: new("/")})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list the buckets of %s in %s: %w", account, b.config, err)
		}
		for _, p := range page.CommonPrefixes {
			name := strings.TrimSuffix(strings.TrimPrefix(aws.ToString(p.Prefix), prefix), "/")
			if checkBucket(account, name) == nil {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

// List gives the objects of a bucket.
func (b *Bucket) List(ctx context.Context, account, bucket, prefix, after string, limit int) (list []Info, err error) {
	if checkBucket(account, bucket) != nil || limit <= 0 {
		return nil, nil
	}
	all := b.key(Location{account, bucket, ""})
	in := &s3.ListObjectsV2Input{Bucket: &b.config.Bucket, Prefix: new(all + prefix), MaxKeys: new(int32(min(limit, 1000)))}
	if after != "" {
		in.StartAfter = new(all + after)
	}
	for pages := s3.NewListObjectsV2Paginator(b.client, in); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, b.failed("list", Location{account, bucket, prefix}, err)
		}
		for _, o := range page.Contents {
			key := strings.TrimPrefix(aws.ToString(o.Key), all)
			if (Location{account, bucket, key}).Check() != nil { // somebody else has put it there
				continue
			}
			if list = append(list, Info{key, aws.ToInt64(o.Size), aws.ToTime(o.LastModified)}); len(list) == limit {
				return list, nil
			}
		}
	}
	return list, nil
}

// Check tries whether the bucket can be read and written.
func (b *Bucket) Check(ctx context.Context) error {
	at := Location{Account: "000000000000", Bucket: "check", Key: "check"}
	if err := b.Put(ctx, at, strings.NewReader("check")); err != nil {
		return err
	}
	if _, err := Read(ctx, b, at, 1<<10); err != nil {
		return err
	}
	if _, err := b.List(ctx, at.Account, at.Bucket, "", "", 1); err != nil {
		return err
	}
	return b.Remove(ctx, at)
}
