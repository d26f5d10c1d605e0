package api

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/internal/api/iam"
	"github.com/oriel-project/oriel/internal/appstream"
)

// counted answers with how often it was asked.
type counted struct{ asked, commits atomic.Uint64 }

func (c *counted) DescribeImages(ctx context.Context, in *sdk.DescribeImagesInput) (*sdk.DescribeImagesOutput, error) {
	n := c.asked.Add(1)
	if len(in.Names) > 0 && in.Names[0] == "missing" {
		return nil, appstream.Errorf(appstream.ResourceNotFound, "asked %d times", n)
	}
	if len(in.Names) > 0 && in.Names[0] == "moving" {
		c.commits.Add(1) // something is committed while the operation looks
	}
	return &sdk.DescribeImagesOutput{Images: []types.Image{{Name: aws.String(fmt.Sprint(n))}}}, nil
}

func (c *counted) DescribeFleets(context.Context, *sdk.DescribeFleetsInput) (*sdk.DescribeFleetsOutput, error) {
	return &sdk.DescribeFleetsOutput{NextToken: aws.String(fmt.Sprint(c.asked.Add(1)))}, nil
}

func TestAnswersAreKeptUntilACommit(t *testing.T) {
	c := &counted{}
	f := newFixture(t)
	stranger := Key{ID: "AKIAOTHER", Secret: "x", Account: "210987654321"}
	barred := Key{ID: "AKIABARRED", Secret: "x", Account: testAccount, Policy: mustParse(t, `{"Version":"2012-10-17","Statement":[]}`)}
	f.keys[stranger.ID], f.keys[barred.ID] = stranger, barred
	cfg := f.config()
	cfg.Generation = c.commits.Load
	h, err := New(cfg, Service{Prefix: testTarget, IAM: "appstream", Handler: c, Repeatable: func(op string) bool { return op == "DescribeImages" }})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	// ask gives how often the operation was called after a request.
	ask := func(k Key, op, body string, cbor bool, host string) uint64 {
		t.Helper()
		code, header, _ := send(t, signed(t, server.URL, k, testTarget+"."+op, cbor, []byte(body), func(r *http.Request) {
			if host != "" {
				r.Host = host
			}
		}))
		if code != 200 || header.Get("X-Amzn-Requestid") == "" {
			t.Fatalf("%s %s: status %d", op, body, code)
		}
		return c.asked.Load()
	}
	for _, step := range []struct {
		what string
		got  func() uint64
		want uint64
	}{
		{"the first time", func() uint64 { return ask(rootKey, "DescribeImages", `{}`, false, "") }, 1},
		{"again", func() uint64 { return ask(rootKey, "DescribeImages", `{}`, false, "") }, 1},
		{"another question", func() uint64 { return ask(rootKey, "DescribeImages", `{"MaxResults":3}`, false, "") }, 2},
		{"another protocol", func() uint64 { return ask(rootKey, "DescribeImages", "\xa0", true, "") }, 3},
		{"another account", func() uint64 { return ask(stranger, "DescribeImages", `{}`, false, "") }, 4},
		{"another host", func() uint64 { return ask(rootKey, "DescribeImages", `{}`, false, "oriel.example") }, 5},
		{"an operation that is not repeatable", func() uint64 { return ask(rootKey, "DescribeFleets", `{}`, false, "") }, 6},
		{"that again", func() uint64 { return ask(rootKey, "DescribeFleets", `{}`, false, "") }, 7},
		{"the first question still", func() uint64 { return ask(rootKey, "DescribeImages", `{}`, false, "") }, 7},
		{"after a commit", func() uint64 { c.commits.Add(1); return ask(rootKey, "DescribeImages", `{}`, false, "") }, 8},
		{"a commit during the answer", func() uint64 { return ask(rootKey, "DescribeImages", `{"Names":["moving"]}`, false, "") }, 9},
		{"then it is asked anew", func() uint64 { return ask(rootKey, "DescribeImages", `{"Names":["moving"]}`, false, "") }, 10},
	} {
		if got := step.got(); got != step.want {
			t.Fatalf("%s: the operation was called %d times, want %d", step.what, got, step.want)
		}
	}
	// A kept answer is for those only who may ask; and an error is not kept.
	ask(rootKey, "DescribeImages", `{}`, false, "")
	before := c.asked.Load()
	if code, _, body := send(t, signed(t, server.URL, barred, testTarget+".DescribeImages", false, []byte(`{}`), nil)); code != 400 || !bytes.Contains(body, []byte("AccessDenied")) {
		t.Errorf("without permission: %d %s", code, body)
	}
	for range 2 {
		if code, _, _ := send(t, signed(t, server.URL, rootKey, testTarget+".DescribeImages", false, []byte(`{"Names":["missing"]}`), nil)); code != 404 {
			t.Errorf("status %d", code)
		}
	}
	if n := c.asked.Load() - before; n != 2 {
		t.Errorf("the operation was called %d times for two errors", n)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	var a answers
	big := make([]byte, maxAnswer)
	for n := range 3 * maxAnswers / maxAnswer {
		a.put(1, question{body: string(binary.AppendUvarint(nil, uint64(n)))}, big)
		if a.size > maxAnswers {
			t.Fatalf("%d bytes are kept", a.size)
		}
	}
	a.put(1, question{body: "x"}, make([]byte, maxAnswer+1))
	a.put(1, question{body: string(make([]byte, maxQuestion+1))}, nil)
	a.put(0, question{body: "old"}, []byte("old"))
	for _, body := range []string{"x", string(make([]byte, maxQuestion+1)), "old"} {
		if _, ok := a.get(1, question{body: body}, nil); ok {
			t.Errorf("the answer to a question of %d bytes was kept", len(body))
		}
	}
}

func mustParse(t testing.TB, policy string) *iam.Policy {
	t.Helper()
	p, err := iam.Parse([]byte(policy))
	if err != nil {
		t.Fatal(err)
	}
	return p
}
