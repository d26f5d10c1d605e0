package objects_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/oriel-project/oriel/internal/blob"
	"github.com/oriel-project/oriel/internal/blob/blobtest"
	"github.com/oriel-project/oriel/internal/objects"
	"pgregory.net/rapid"
)

const me, other = "123456789012", "210987654321"

func openDir(t testing.TB) (*objects.Dir, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "objects")
	d, err := objects.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, path
}

// each runs a test with every store. That of a bucket needs a server, see blobtest.
func each(t *testing.T, test func(t *testing.T, d objects.Store)) {
	t.Run("directory", func(t *testing.T) {
		d, _ := openDir(t)
		test(t, d)
	})
	t.Run("bucket", func(t *testing.T) {
		b, err := objects.OpenBucket(t.Context(), blobtest.Bucket(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		test(t, b)
	})
}

func at(key string) objects.Location { return objects.Location{Account: me, Bucket: "brand", Key: key} }

func put(t testing.TB, d objects.Store, at objects.Location, text string) {
	t.Helper()
	if err := d.Put(t.Context(), at, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
}

// text reads an object, or says what is wrong with it.
func text(t testing.TB, d objects.Store, at objects.Location) string {
	t.Helper()
	data, err := objects.Read(t.Context(), d, at, 1<<20)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func keys(t testing.TB, d objects.Store, account, prefix, after string, limit int) []string {
	t.Helper()
	list, err := d.List(t.Context(), account, "brand", prefix, after, limit)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, i := range list {
		names = append(names, i.Key)
	}
	return names
}

func TestLifeOfAnObject(t *testing.T) { each(t, testLife) }

func testLife(t *testing.T, d objects.Store) {
	gone := objects.ErrNotFound.Error()
	if got := text(t, d, at("logos/a.png")); got != gone {
		t.Errorf("before it is there: %s", got)
	}
	put(t, d, at("logos/a.png"), "one")
	put(t, d, at("logos/a.png"), "three")
	if info, err := d.Stat(t.Context(), at("logos/a.png")); err != nil || info.Size != 5 || info.Key != "logos/a.png" || time.Since(info.Modified) > time.Minute {
		t.Errorf("it is %+v, %v", info, err)
	}
	if got := text(t, d, at("logos/a.png")); got != "three" {
		t.Errorf("it has %q", got)
	}
	if _, err := objects.Read(t.Context(), d, at("logos/a.png"), 4); !errors.Is(err, objects.ErrTooLarge) {
		t.Errorf("read with a limit of 4 bytes: %v", err)
	}
	theirs := at("logos/a.png")
	theirs.Account = other
	if got := text(t, d, theirs); got != gone {
		t.Errorf("another account reads %q", got)
	}
	put(t, d, theirs, "theirs")
	if got := text(t, d, at("logos/a.png")); got != "three" {
		t.Errorf("after another account has put an object of the same name, it has %q", got)
	}
	if buckets, err := d.Buckets(t.Context(), me); err != nil || !slices.Equal(buckets, []string{"brand"}) {
		t.Errorf("the buckets are %v, %v", buckets, err)
	}
	for range 2 {
		if err := d.Remove(t.Context(), at("logos/a.png")); err != nil {
			t.Fatal(err)
		}
	}
	if got := text(t, d, at("logos/a.png")); got != gone {
		t.Errorf("after it was removed: %s", got)
	}
	put(t, d, at("logos"), "where the folder was")
	if got := keys(t, d, me, "", "", 10); !slices.Equal(got, []string{"logos"}) {
		t.Errorf("the objects are %v", got)
	}
	// What cannot be read twice is kept too.
	if err := d.Put(t.Context(), at("pipe"), io.MultiReader(strings.NewReader("pi"), strings.NewReader("pe"))); err != nil {
		t.Fatal(err)
	}
	if got := text(t, d, at("pipe")); got != "pipe" {
		t.Errorf("what came through a pipe has %q", got)
	}
}

// An object that could not be read to its end leaves the old one, and nothing else.
func TestPutIsWholeOrNotAtAll(t *testing.T) {
	d, path := openDir(t)
	put(t, d, at("a"), "old")
	cut := errors.New("the line was cut")
	err := d.Put(t.Context(), at("a"), io.MultiReader(strings.NewReader("new"), iotest.ErrReader(cut)))
	if !errors.Is(err, cut) {
		t.Errorf("Put: %v", err)
	}
	if err := d.Put(t.Context(), at("a"), iotest.ErrReader(syscall.EISDIR)); err != syscall.EISDIR { // a directory is to be put
		t.Errorf("Put of what cannot be read: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = d.Put(ctx, at("a"), readerFunc(func(b []byte) (int, error) { cancel(); return copy(b, "new"), nil }))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Put that is given up: %v", err)
	}
	if got := text(t, d, at("a")); got != "old" {
		t.Errorf("it has %q", got)
	}
	// A crash leaves a file, which is not an object and goes when it is old enough that nobody writes it.
	for name, age := range map[string]time.Duration{".new-old": 25 * time.Hour, ".new-young": time.Hour} {
		file := filepath.Join(path, me, "brand", name)
		if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Chtimes(file, time.Time{}, time.Now().Add(-age))); err != nil {
			t.Fatal(err)
		}
	}
	if got := keys(t, d, me, "", "", 10); !slices.Equal(got, []string{"a"}) {
		t.Errorf("the objects are %v", got)
	}
	again, err := objects.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	left, _ := filepath.Glob(filepath.Join(path, me, "brand", ".new-*"))
	if len(left) != 1 || filepath.Base(left[0]) != ".new-young" {
		t.Errorf("files that are left: %v", left)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

func TestNamesThatNoObjectHas(t *testing.T) { each(t, testNames) }

func testNames(t *testing.T, d objects.Store) {
	put(t, d, at("a/b"), "x")
	name := func(account, bucket, key string) objects.Location {
		return objects.Location{Account: account, Bucket: bucket, Key: key}
	}
	for _, bad := range []objects.Location{
		at(""), at("."), at(".."), at("../../secret"), at("a/../../../secret"), at("/etc/passwd"), at("a//b"), at("a/"), at("a/./b"), at("a\x00b"), at("a\nb"), at("\xff"),
		at(strings.Repeat("x", 256)), at(strings.Repeat("abc/", 256) + "x"), at(".new-1"), at("a/.new-1"),
		name("", "brand", "a/b"), name("..", "brand", "a/b"), name("12345678901", "brand", "a/b"),
		name(me, "", "a/b"), name(me, "..", "a/b"), name(me, "a..b", "c"), name(me, "-brand", "a/b"), name(me, "Brand", "a/b"), name(me, "brand.", "a/b"), name(me, "brand/a", "b"),
		name(me, strings.Repeat("x", 64), "a/b"),
	} {
		if _, _, err := d.Open(t.Context(), bad); !errors.Is(err, objects.ErrNotFound) {
			t.Errorf("Open(%+v): %v", bad, err)
		}
		if _, err := d.Stat(t.Context(), bad); !errors.Is(err, objects.ErrNotFound) {
			t.Errorf("Stat(%+v): %v", bad, err)
		}
		err := d.Put(t.Context(), bad, strings.NewReader("x"))
		if _, ok := errors.AsType[*objects.NameError](err); !ok {
			t.Errorf("Put(%+v): %v", bad, err)
		} else if len(err.Error()) > 300 {
			t.Errorf("Put(%+v) says: %v", bad, err)
		}
		if err := d.Remove(t.Context(), bad); err != nil {
			t.Errorf("Remove(%+v): %v", bad, err)
		}
	}
	if got := text(t, d, at("a/b")); got != "x" {
		t.Errorf("afterwards a/b has %q", got)
	}
	for _, good := range []string{"…", "a b", "..a", "a..", "-", "a\\..\\b", "日本/語.png", strings.Repeat("x", 255), "a'b\"c$(d)"} {
		put(t, d, at(good), good)
		if got := text(t, d, at(good)); got != good {
			t.Errorf("%q has %q", good, got)
		}
	}
}

// In a directory, what is a folder is no object, and what is an object is no folder.
func TestFoldersAreNoObjects(t *testing.T) {
	d, path := openDir(t)
	put(t, d, at("a/b"), "x")
	for _, key := range []string{"a", "a/b/c"} {
		err := d.Put(t.Context(), at(key), strings.NewReader("x"))
		if _, ok := errors.AsType[*objects.NameError](err); !ok || strings.Contains(err.Error(), path) {
			t.Errorf("Put(%s): %v", key, err)
		}
		if _, err := d.Stat(t.Context(), at(key)); !errors.Is(err, objects.ErrNotFound) {
			t.Errorf("Stat(%s): %v", key, err)
		}
		if err := d.Remove(t.Context(), at(key)); err != nil {
			t.Errorf("Remove(%s): %v", key, err)
		}
	}
	if got := text(t, d, at("a/b")); got != "x" {
		t.Errorf("afterwards a/b has %q", got)
	}
}

// What an administrator has linked out of a bucket is not followed, and what is no file does not hold its reader.
func TestLinksAndPipes(t *testing.T) {
	d, path := openDir(t)
	put(t, d, at("a/b"), "x")
	put(t, d, objects.Location{Account: other, Bucket: "brand", Key: "theirs"}, "theirs")
	outside := t.TempDir()
	bucket := filepath.Join(path, me, "brand")
	for _, err := range []error{
		os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600),
		os.Symlink("a/b", filepath.Join(bucket, "inside")),
		os.Symlink(filepath.Join(outside, "secret"), filepath.Join(bucket, "absolute")),
		os.Symlink(outside, filepath.Join(bucket, "folder")),
		os.Symlink("../../"+other+"/brand/theirs", filepath.Join(bucket, "theirs")),
		os.Symlink("loop", filepath.Join(bucket, "loop")),
		os.Symlink("nowhere", filepath.Join(bucket, "nowhere")),
		syscall.Mkfifo(filepath.Join(bucket, "pipe"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"absolute", "folder/secret", "theirs", "loop", "nowhere", "pipe"} {
		if got := text(t, d, at(key)); got != objects.ErrNotFound.Error() {
			t.Errorf("%s: %s", key, got)
		}
	}
	if err := d.Put(t.Context(), at("folder/new"), strings.NewReader("x")); err == nil {
		t.Error("an object was put through a link that leads out of the bucket")
	}
	if err := d.Remove(t.Context(), at("folder/secret")); err != nil {
		t.Error(err)
	}
	if data, _ := os.ReadFile(filepath.Join(outside, "secret")); string(data) != "secret" {
		t.Errorf("outside there is %q", data)
	}
	if entries, _ := os.ReadDir(outside); len(entries) != 1 {
		t.Errorf("outside there is %v", entries)
	}
	if got := keys(t, d, me, "", "", 100); !slices.Equal(got, []string{"a/b", "inside"}) {
		t.Errorf("the objects are %v", got)
	}
}

// Pages of any size are the same list: the keys in the order of their bytes, as S3 has them.
func TestList(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		d, path := openDir(t)
		defer os.RemoveAll(path)
		var want []string
		for range rapid.IntRange(0, 12).Draw(r, "objects") {
			key := rapid.StringMatching(`[ab!](/[ab!]|[-.0]){0,3}`).Draw(r, "key")
			err := d.Put(t.Context(), at(key), strings.NewReader(key))
			_, clash := errors.AsType[*objects.NameError](err)
			switch {
			case err != nil && !clash:
				r.Fatal(err)
			case !clash && !slices.Contains(want, key):
				want = append(want, key)
			}
		}
		slices.Sort(want)
		prefix := rapid.StringMatching(`([ab]/?){0,2}`).Draw(r, "prefix")
		want = slices.DeleteFunc(want, func(key string) bool { return !strings.HasPrefix(key, prefix) })
		size := rapid.IntRange(1, 5).Draw(r, "size")
		var got []string
		for after := ""; ; after = got[len(got)-1] {
			page := keys(t, d, me, prefix, after, size)
			if got = append(got, page...); len(page) < size {
				break
			}
		}
		if !slices.Equal(got, want) {
			r.Fatalf("with prefix %q the keys are %q, not %q", prefix, got, want)
		}
	})
}

// Pages of a list are the same wherever objects are.
func TestPages(t *testing.T) {
	each(t, func(t *testing.T, d objects.Store) {
		if got := keys(t, d, me, "", "", 5); got != nil {
			t.Errorf("a bucket that is not there has %v", got)
		}
		want := []string{"a!", "a-b", "a/b", "a/c/d", "a0", "é/b"}
		for n := range want {
			put(t, d, at(want[len(want)-1-n]), "x")
		}
		put(t, d, objects.Location{Account: other, Bucket: "brand", Key: "a/theirs"}, "x")
		put(t, d, objects.Location{Account: me, Bucket: "brand2", Key: "a/other"}, "x")
		for size := 1; size < 8; size++ {
			var got []string
			for after := ""; ; after = got[len(got)-1] {
				page := keys(t, d, me, "", after, size)
				if got = append(got, page...); len(page) < size {
					break
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("in pages of %d the keys are %q", size, got)
			}
		}
		if got := keys(t, d, me, "a/", "a/b", 5); !slices.Equal(got, []string{"a/c/d"}) {
			t.Errorf("with prefix a/ behind a/b the keys are %q", got)
		}
		if got, err := d.Buckets(t.Context(), me); err != nil || !slices.Equal(got, []string{"brand", "brand2"}) {
			t.Errorf("the buckets are %v, %v", got, err)
		}
	})
}

// What is wrong with a bucket is said.
func TestBucketThatCannotBeUsed(t *testing.T) {
	good := blobtest.Bucket(t)
	for name, change := range map[string]func(*blob.BucketConfig){
		"no bucket": func(c *blob.BucketConfig) { c.Bucket = "no-such-bucket" },
		"wrong key": func(c *blob.BucketConfig) {
			c.Credentials = filepath.Join(t.TempDir(), "credentials")
			if err := os.WriteFile(c.Credentials, []byte("[default]\naws_access_key_id = nobody\naws_secret_access_key = nothing\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		c := good
		change(&c)
		b, err := objects.OpenBucket(t.Context(), c)
		if err == nil {
			err = b.Check(t.Context())
		}
		if err == nil || errors.Is(err, objects.ErrNotFound) || !strings.Contains(err.Error(), c.String()) || strings.Contains(err.Error(), blobtest.Secret) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := objects.OpenBucket(t.Context(), blob.BucketConfig{Bucket: "x", Region: "us-east-1", Credentials: "/nowhere"}); err == nil {
		t.Error("a file of credentials that is not there is no error")
	}
}

// served gives a bucket on a server that is made for the test.
func served(t *testing.T, serve http.HandlerFunc) *objects.Bucket {
	t.Helper()
	server := httptest.NewServer(serve)
	t.Cleanup(server.Close)
	credentials := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(credentials, []byte("[default]\naws_access_key_id = a\naws_secret_access_key = b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := objects.OpenBucket(t.Context(), blob.BucketConfig{Bucket: "x", Endpoint: server.URL, Region: "us-east-1", PathStyle: true, Credentials: credentials})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A large object is read to its end although the connection breaks again and again, and never has the beginning of one object and the end of another.
func TestReadsGoOnWhereTheyWereCutOff(t *testing.T) {
	whole := strings.Repeat("0123456789", 10_000)
	requests, changeAt, stuck := 0, 0, false
	b := served(t, func(w http.ResponseWriter, r *http.Request) {
		if requests++; requests == changeAt {
			w.WriteHeader(http.StatusPreconditionFailed)
			io.WriteString(w, "<Error><Code>PreconditionFailed</Code></Error>")
			return
		}
		from := 0
		if text := r.Header.Get("Range"); text != "" {
			if _, err := fmt.Sscanf(text, "bytes=%d-", &from); err != nil || r.Header.Get("If-Match") != `"one"` {
				t.Errorf("asked for %q if it is %q: %v", text, r.Header.Get("If-Match"), err)
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(whole)-1, len(whole)))
		}
		w.Header().Set("ETag", `"one"`)
		w.Header().Set("Content-Length", fmt.Sprint(len(whole)-from))
		if from > 0 {
			w.WriteHeader(http.StatusPartialContent)
		}
		if stuck && from > 0 {
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		io.WriteString(w, whole[from:min(from+30_000, len(whole))])
	})
	if got := text(t, b, at("a")); got != whole || requests != 4 {
		t.Errorf("%d bytes were read, with %d requests", len(got), requests)
	}
	requests, changeAt = 0, 3
	if _, err := objects.Read(t.Context(), b, at("a"), 1<<20); err == nil || !strings.Contains(err.Error(), "changed meanwhile") {
		t.Errorf("an object that was changed: %v", err)
	}
	requests, changeAt, stuck = 0, 0, true
	if _, err := objects.Read(t.Context(), b, at("a"), 1<<20); err == nil || requests > 10 {
		t.Errorf("after %d requests without an answer: %v", requests, err)
	}
}

// What a server of buckets refuses is told apart by who can mend it.
func TestWhatABucketRefuses(t *testing.T) {
	var status int
	var code string
	b := served(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			fmt.Fprintf(w, "<Error><Code>%s</Code><Message>no</Message></Error>", code)
		}
	})
	for _, test := range []struct {
		status int
		code   string
		want   error
	}{
		{403, "AccessDenied", fs.ErrPermission}, {403, "InvalidAccessKeyId", fs.ErrPermission}, {403, "SignatureDoesNotMatch", fs.ErrPermission},
		{400, "ExpiredToken", fs.ErrPermission}, {404, "NoSuchBucket", fs.ErrNotExist}, {404, "NoSuchKey", objects.ErrNotFound},
		{403, "QuotaExceeded", syscall.ENOSPC}, {507, "XMinioStorageFull", syscall.ENOSPC},
	} {
		status, code = test.status, test.code
		if err := b.Put(t.Context(), at("a"), strings.NewReader("x")); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", code, err)
		}
	}
	status = 403
	if _, err := b.Stat(t.Context(), at("a")); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("the answer to HEAD, which has no text: %v", err)
	}
}

// Writers, removers and readers of one folder do not hinder one another.
func TestAtTheSameTime(t *testing.T) {
	d, _ := openDir(t)
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			key := at(fmt.Sprintf("deep/er/%d", n))
			for range 20 {
				if err := d.Put(context.Background(), key, strings.NewReader(key.Key)); err != nil {
					t.Error(err)
				}
				if got := text(t, d, key); got != key.Key {
					t.Errorf("%s has %q", key, got)
				}
				if err := d.Remove(context.Background(), key); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// Whatever passes the check is a path that stays where it is.
func FuzzCheck(f *testing.F) {
	for _, key := range []string{"a", "a/b", "..", "a/../b", "/a", "a\x00", ".new-x", "…/é"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if at(key).Check() == nil && (!filepath.IsLocal(key) || filepath.Clean(key) != key || len(key) > 1024) {
			t.Errorf("%q passes", key)
		}
	})
}
