package service_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	api "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/service"
	"github.com/oriel-project/oriel/internal/store"
)

// TestTokensAreBound: a token is good for the next page of its own list, however long that page is, and for no other list.
func TestTokensAreBound(t *testing.T) {
	f := newFixture(t)
	for _, name := range []string{"a", "b", "c"} {
		f.addImage(me, name, appstream.ImageAvailable)
		f.addImage(other, name, appstream.ImageAvailable)
	}
	describe := func(ctx context.Context, in api.DescribeImagesInput) (*string, error) {
		out, err := f.DescribeImages(ctx, &in)
		if err != nil {
			return nil, err
		}
		return out.NextToken, nil
	}
	elsewhere := appstream.WithCaller(context.Background(), appstream.Caller{Account: me, Region: "eu-west-1"})
	token, err := describe(as(me), api.DescribeImagesInput{Type: types.VisibilityTypePrivate, MaxResults: new(int32(1))})
	f.must(err)
	for name, test := range map[string]struct {
		ctx  context.Context
		in   api.DescribeImagesInput
		good bool
	}{
		"the same":        {as(me), api.DescribeImagesInput{Type: types.VisibilityTypePrivate, MaxResults: new(int32(1))}, true},
		"another size":    {as(me), api.DescribeImagesInput{Type: types.VisibilityTypePrivate, MaxResults: new(int32(7))}, true},
		"any size":        {as(me), api.DescribeImagesInput{Type: types.VisibilityTypePrivate}, true},
		"another filter":  {as(me), api.DescribeImagesInput{Type: types.VisibilityTypeShared}, false},
		"no filter":       {as(me), api.DescribeImagesInput{}, false},
		"names":           {as(me), api.DescribeImagesInput{Type: types.VisibilityTypePrivate, Names: []string{"c"}}, false},
		"another account": {as(other), api.DescribeImagesInput{Type: types.VisibilityTypePrivate}, false},
		"another region":  {elsewhere, api.DescribeImagesInput{Type: types.VisibilityTypePrivate}, false},
	} {
		test.in.NextToken = token
		switch _, err := describe(test.ctx, test.in); {
		case test.good:
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		default:
			t.Run(name, func(t *testing.T) { refused(t, err, appstream.Validation, "NextToken") })
		}
	}
}

// FuzzToken: no token of anybody's making shows what its caller may not see, or is anything but a page or a refusal.
func FuzzToken(f *testing.F) {
	x := newFixture(f, func(c *service.Config) { c.Quotas.ImageBuilders = 1000 })
	for _, account := range []string{me, other} {
		for _, name := range []string{"a", "b", "c"} {
			_, err := x.CreateImageBuilder(as(account), input(name, func(in *api.CreateImageBuilderInput) { in.Description = &account }))
			x.must(err)
		}
	}
	in := &api.DescribeImageBuildersInput{MaxResults: new(int32(1))}
	first, err := x.DescribeImageBuilders(as(me), in)
	x.must(err)
	content, err := base64.RawURLEncoding.DecodeString(*first.NextToken)
	x.must(err)
	f.Add(string(content))
	f.Add(strings.Replace(string(content), me, other, 1))
	f.Add(strings.Replace(string(content), `"a"`, `"a' OR 1=1 --"`, 1))
	f.Add(`{"l":null}`)
	f.Add(`[`)
	f.Add(strings.Repeat("[", 2000))
	f.Fuzz(func(t *testing.T, content string) {
		for _, token := range []string{content, base64.RawURLEncoding.EncodeToString([]byte(content))} {
			out, err := x.DescribeImageBuilders(as(me), &api.DescribeImageBuildersInput{NextToken: &token, MaxResults: in.MaxResults})
			if err != nil {
				if appstream.KindOf(err) != appstream.Validation || len(token) <= 2048 && len(err.Error()) > 300 {
					t.Error(err)
				}
				continue
			}
			for _, b := range out.ImageBuilders {
				if *b.Description != me {
					t.Errorf("a builder of %s is shown", *b.Description)
				}
			}
		}
	})
}

// TestPagesWhileThingsComeAndGo: whoever goes through the pages of any list sees everything that is there the whole time, once and in order, whatever
// comes and goes meanwhile, before and behind the place where he is.
func TestPagesWhileThingsComeAndGo(t *testing.T) {
	f := newFixture(t, func(c *service.Config) { c.Quotas.ImageBuilders, c.Quotas.Images = 1e6, 1e6 })
	account := 0
	type list struct {
		add, remove func(ctx context.Context, name string)
		page        func(ctx context.Context, token *string, size int32) (names []string, next *string)
	}
	lists := map[string]list{
		"DescribeImages": {
			func(ctx context.Context, name string) {
				f.addImage(appstream.CallerFrom(ctx).Account, name, appstream.ImageAvailable)
			},
			func(ctx context.Context, name string) {
				f.removeImage(appstream.CallerFrom(ctx).Account, name)
			},
			func(ctx context.Context, token *string, size int32) (names []string, next *string) {
				out, err := f.DescribeImages(ctx, &api.DescribeImagesInput{Type: types.VisibilityTypePrivate, NextToken: token, MaxResults: &size})
				f.must(err)
				for _, i := range out.Images {
					names = append(names, *i.Name)
				}
				return names, out.NextToken
			},
		},
		"DescribeImagePermissions": {
			func(ctx context.Context, name string) {
				_, err := f.UpdateImagePermissions(ctx, shareWith("shared", number(name), true))
				f.must(err)
			},
			func(ctx context.Context, name string) {
				_, err := f.DeleteImagePermissions(ctx, &api.DeleteImagePermissionsInput{Name: new("shared"), SharedAccountId: new(number(name))})
				f.must(err)
			},
			func(ctx context.Context, token *string, size int32) (names []string, next *string) {
				out, err := f.DescribeImagePermissions(ctx, &api.DescribeImagePermissionsInput{Name: new("shared"), NextToken: token, MaxResults: &size})
				f.must(err)
				for _, p := range out.SharedImagePermissionsList {
					names = append(names, letters(*p.SharedAccountId))
				}
				return names, out.NextToken
			},
		},
	}
	for name, list := range lists {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				account++
				id := fmt.Sprintf("9%011d", account)
				ctx := as(id)
				if name == "DescribeImagePermissions" {
					f.addImage(id, "shared", appstream.ImageAvailable)
				}
				names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-d]{3}`), 1, 12, rapid.ID[string]).Draw(t, "names")
				stay := slices.Sorted(slices.Values(names[:rapid.IntRange(0, len(names)).Draw(t, "stay")]))
				change := names[len(stay):]
				there := map[string]bool{}
				for _, n := range stay {
					list.add(ctx, n)
				}
				var seen []string
				var token *string
				for {
					if len(change) > 0 {
						for range rapid.IntRange(0, 3).Draw(t, "changes") {
							n := rapid.SampledFrom(change).Draw(t, "which")
							if there[n] {
								list.remove(ctx, n)
							} else {
								list.add(ctx, n)
							}
							there[n] = !there[n]
						}
					}
					size := int32(rapid.IntRange(1, 4).Draw(t, "size"))
					page, next := list.page(ctx, token, size)
					if len(page) > int(size) {
						t.Fatalf("a page of %d, wanted %d", len(page), size)
					}
					seen = append(seen, page...)
					if token = next; token == nil {
						break
					}
				}
				if !slices.IsSorted(seen) || len(slices.Compact(slices.Clone(seen))) != len(seen) {
					t.Errorf("not in order, or twice: %v", seen)
				}
				seen = slices.DeleteFunc(seen, func(n string) bool { return !slices.Contains(stay, n) })
				if diff := cmp.Diff(stay, append([]string{}, seen...)); diff != "" && len(stay) > 0 {
					t.Errorf("(-want +got):\n%s", diff)
				}
				for _, n := range slices.Sorted(maps.Keys(there)) {
					if there[n] {
						list.remove(ctx, n)
					}
				}
			})
		})
	}
}

// removeImage removes an image, as the engine does after DeleteImage.
func (f *fixture) removeImage(account, name string) {
	f.t.Helper()
	_, err := f.DeleteImage(as(account), &api.DeleteImageInput{Name: &name})
	f.must(err)
	i := f.imageIn(account, "us-west-2", name)
	f.must(f.store.Update(context.Background(), func(tx store.Tx) error { return tx.Delete(&i) }))
}

// number and letters turn names of a to d into account numbers of the same order, and back.
func number(name string) string {
	return "000000000" + strings.NewReplacer("a", "1", "b", "2", "c", "3", "d", "4").Replace(name)
}

func letters(number string) string {
	return strings.NewReplacer("1", "a", "2", "b", "3", "c", "4", "d").Replace(strings.TrimLeft(number, "0"))
}
