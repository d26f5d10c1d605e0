package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/oriel-project/oriel/internal/objects"
	"github.com/oriel-project/oriel/internal/server"
)

type objectsCommand struct {
	List   listObjectsCommand  `cmd:"" help:"List buckets, or the objects of one."`
	Put    putObjectCommand    `cmd:"" help:"Put a file into a bucket."`
	Get    getObjectCommand    `cmd:"" help:"Write an object to a file, or to standard output."`
	Remove removeObjectCommand `cmd:"" help:"Remove an object."`
}

// bucketOwner says in which directory the objects are, and whose they are.
type bucketOwner struct {
	place
	Account *string `help:"Account whose buckets they are (default: the one of the server's own access key)." placeholder:"DIGITS"`
}

func (o *bucketOwner) open(ctx context.Context) (objects.Store, string, error) {
	cfg, err := load(o.place, machines{}, serving{Account: o.Account})
	if err != nil {
		return nil, "", err
	}
	store, err := server.OpenObjects(ctx, cfg)
	return store, cfg.Account, err
}

// object opens the place where objects are, and reads which one of them is meant.
func (o *bucketOwner) object(ctx context.Context, name string) (objects.Store, objects.Location, error) {
	store, account, err := o.open(ctx)
	if err != nil {
		return nil, objects.Location{}, err
	}
	at, err := location(account, name)
	if err != nil {
		return nil, at, errors.Join(err, store.Close())
	}
	return store, at, nil
}

// location reads BUCKET/KEY, also in the form s3://BUCKET/KEY.
func location(account, name string) (objects.Location, error) {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(name, "s3://"), "/")
	at := objects.Location{Account: account, Bucket: bucket, Key: key}
	if key == "" {
		return at, fmt.Errorf("%s names no object; write BUCKET/KEY", name)
	}
	return at, at.Check()
}

type listObjectsCommand struct {
	bucketOwner
	Name string `arg:"" optional:"" help:"BUCKET, or BUCKET/PREFIX."`
	JSON bool   `help:"One JSON object a line."`
}

// listedBucket and listedObject are what programs are told of a bucket and of an object, in the words of S3.
type listedBucket struct{ Name string }

type listedObject struct {
	Key          string
	Size         int64
	LastModified time.Time
}

// listPage is how many objects are read at a time. A directory is gone through once for each page.
const listPage = 100_000

// Run prints the buckets, or the objects of one. Where there are none it says so, beside what it prints.
func (c *listObjectsCommand) Run(ctx context.Context) error {
	store, account, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	bucket, prefix, _ := strings.Cut(strings.TrimPrefix(c.Name, "s3://"), "/")
	if bucket == "" {
		names, err := store.Buckets(ctx, account)
		for _, name := range names {
			if !c.JSON {
				fmt.Println(name)
			} else if err := printJSON(os.Stdout, []listedBucket{{name}}); err != nil {
				return err
			}
		}
		if err == nil && len(names) == 0 {
			fmt.Fprintf(os.Stderr, "the account %s has no buckets; \"oriel objects put BUCKET/KEY FILE\" makes one\n", account)
		}
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for after := ""; ; {
		list, err := store.List(ctx, account, bucket, prefix, after, listPage)
		if err != nil {
			return err
		}
		if after == "" && len(list) == 0 {
			return none(ctx, store, account, bucket, prefix)
		}
		if after == "" && !c.JSON {
			fmt.Fprintln(table, "SIZE\tMODIFIED\tKEY")
		}
		for _, o := range list {
			if !c.JSON {
				fmt.Fprintf(table, "%d\t%s\t%s\n", o.Size, o.Modified.UTC().Format(time.RFC3339), o.Key)
			} else if err := printJSON(out, []listedObject{{o.Key, o.Size, o.Modified.UTC().Truncate(time.Second)}}); err != nil {
				return err
			}
		}
		if len(list) < listPage {
			return cmp.Or(table.Flush(), out.Flush())
		}
		after = list[len(list)-1].Key
	}
}

// none says why there is nothing to list.
func none(ctx context.Context, store objects.Store, account, bucket, prefix string) error {
	names, err := store.Buckets(ctx, account)
	switch {
	case err != nil:
		return err
	case !slices.Contains(names, bucket):
		return fmt.Errorf("there is no bucket %s of the account %s", bucket, account)
	case prefix == "":
		fmt.Fprintf(os.Stderr, "the bucket %s has no objects\n", bucket)
	default:
		fmt.Fprintf(os.Stderr, "the bucket %s has no objects whose keys begin with %s\n", bucket, prefix)
	}
	return nil
}

type putObjectCommand struct {
	bucketOwner
	Name string `arg:"" help:"BUCKET/KEY. What is there is replaced; the bucket is made if needed."`
	File string `arg:"" help:"The file, or - for standard input."`
}

// Run puts the file.
func (c *putObjectCommand) Run(ctx context.Context) error {
	store, at, err := c.object(ctx, c.Name)
	if err != nil {
		return err
	}
	defer store.Close()
	from := os.Stdin
	if c.File != "-" {
		if from, err = os.Open(c.File); err != nil {
			return err
		}
		defer from.Close()
	}
	return store.Put(ctx, at, from)
}

type getObjectCommand struct {
	bucketOwner
	Name string `arg:"" help:"BUCKET/KEY."`
	File string `arg:"" optional:"" help:"Where to write it (default: standard output)."`
}

// Run copies the object.
func (c *getObjectCommand) Run(ctx context.Context) error {
	store, at, err := c.object(ctx, c.Name)
	if err != nil {
		return err
	}
	defer store.Close()
	object, _, err := store.Open(ctx, at)
	if err != nil {
		return named(at, err)
	}
	defer object.Close()
	to := os.Stdout
	if c.File != "" && c.File != "-" {
		if to, err = os.Create(c.File); err != nil {
			return err
		}
	}
	_, err = io.Copy(to, object)
	if to != os.Stdout {
		err = cmp.Or(err, to.Close())
		if info, statErr := os.Lstat(c.File); err != nil && statErr == nil && info.Mode().IsRegular() {
			err = errors.Join(err, os.Remove(c.File)) // half an object is none
		}
	}
	return err
}

type removeObjectCommand struct {
	bucketOwner
	Name string `arg:"" help:"BUCKET/KEY."`
}

// Run removes the object.
func (c *removeObjectCommand) Run(ctx context.Context) error {
	store, at, err := c.object(ctx, c.Name)
	if err != nil {
		return err
	}
	defer store.Close()
	if _, err := store.Stat(ctx, at); err != nil {
		return named(at, err)
	}
	return store.Remove(ctx, at)
}

// named says which object is not there.
func named(at objects.Location, err error) error {
	if errors.Is(err, objects.ErrNotFound) {
		return fmt.Errorf("there is no object %s of the account %s", at, at.Account)
	}
	return err
}
