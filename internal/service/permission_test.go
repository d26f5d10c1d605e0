package service_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	api "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/google/go-cmp/cmp"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/service"
)

func shareWith(name, account string, fleet bool) *api.UpdateImagePermissionsInput {
	return &api.UpdateImagePermissionsInput{Name: &name, SharedAccountId: &account, ImagePermissions: &types.ImagePermissions{AllowFleet: &fleet}}
}

// sharedBy gives an image permissions for n accounts: 000000000001 and so on.
func sharedBy(n int) func(*appstream.Image) {
	return func(i *appstream.Image) {
		i.Permissions = map[string]types.ImagePermissions{}
		for k := range n {
			i.Permissions[fmt.Sprintf("%012d", k+1)] = types.ImagePermissions{AllowFleet: new(true), AllowImageBuilder: new(k%2 == 0)}
		}
	}
}

func TestDescribeImagePermissions(t *testing.T) {
	f := newFixture(t)
	f.addImage(me, "mine", appstream.ImageAvailable, sharedBy(5))
	f.addImage(me, "alone", appstream.ImageAvailable)
	f.addImage(me, "many", appstream.ImageAvailable, sharedBy(501))
	for _, test := range []struct {
		name  string
		in    api.DescribeImagePermissionsInput
		pages []string // the accounts, without their zeros
	}{
		{"all", api.DescribeImagePermissionsInput{}, []string{"1 2 3 4 5"}},
		{"no size", api.DescribeImagePermissionsInput{MaxResults: new(int32(0))}, []string{"1 2 3 4 5"}},
		{"pages", api.DescribeImagePermissionsInput{MaxResults: new(int32(2))}, []string{"1 2", "3 4", "5"}},
		{"a page that is full", api.DescribeImagePermissionsInput{MaxResults: new(int32(5))}, []string{"1 2 3 4 5"}},
		{"a filter", api.DescribeImagePermissionsInput{SharedAwsAccountIds: []string{"000000000004", "000000000002", "999999999999"}}, []string{"2 4"}},
		{"pages of a filter", api.DescribeImagePermissionsInput{SharedAwsAccountIds: []string{"000000000004", "000000000002"}, MaxResults: new(int32(1))}, []string{"2", "4"}},
		{"a filter for nobody", api.DescribeImagePermissionsInput{SharedAwsAccountIds: []string{"999999999999"}}, []string{""}},
		{"an image that is not shared", api.DescribeImagePermissionsInput{Name: new("alone")}, []string{""}},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := test.in
			if in.Name == nil {
				in.Name = new("mine")
			}
			var pages []string
			for len(pages) < 10 {
				out, err := f.DescribeImagePermissions(as(me), &in)
				f.must(err)
				if aws.ToString(out.Name) != *in.Name {
					t.Errorf("Name = %q", aws.ToString(out.Name))
				}
				var page []string
				for _, p := range out.SharedImagePermissionsList {
					account := strings.TrimLeft(*p.SharedAccountId, "0")
					page = append(page, account)
					if odd := strings.Contains("135", account); !*p.ImagePermissions.AllowFleet || *p.ImagePermissions.AllowImageBuilder != odd {
						t.Errorf("account %s may %+v", account, p.ImagePermissions)
					}
				}
				pages = append(pages, strings.Join(page, " "))
				if in.NextToken = out.NextToken; in.NextToken == nil {
					break
				}
			}
			if diff := cmp.Diff(test.pages, pages); diff != "" {
				t.Errorf("pages (-want +got):\n%s", diff)
			}
		})
	}
	for _, wanted := range []*int32{nil, new(int32(500)), new(int32(1000))} {
		out, err := f.DescribeImagePermissions(as(me), &api.DescribeImagePermissionsInput{Name: new("many"), MaxResults: wanted})
		f.must(err)
		if n := len(out.SharedImagePermissionsList); n != 500 || out.NextToken == nil {
			t.Errorf("MaxResults %v: a page of %d, want 500 and a token", wanted, n)
		}
	}
	_, err := f.DescribeImagePermissions(as(me), &api.DescribeImagePermissionsInput{Name: new("mine"), MaxResults: new(int32(-1))})
	refused(t, err, appstream.Validation, "MaxResults is -1")
	_, err = f.DescribeImagePermissions(as(me), &api.DescribeImagePermissionsInput{Name: new("base")})
	refused(t, err, appstream.ResourceNotFound, "base")
	_, err = f.DescribeImagePermissions(as("000000000001"), &api.DescribeImagePermissionsInput{Name: new("mine")})
	refused(t, err, appstream.ResourceNotFound, "mine")
}

// An image may be shared with so many accounts; what one of them may do can be changed all the same.
func TestShareQuota(t *testing.T) {
	f := newFixture(t, func(cfg *service.Config) { cfg.Quotas.ImageShares = 2 })
	f.addImage(me, "mine", appstream.ImageAvailable)
	for _, account := range []string{other, "000000000001"} {
		_, err := f.UpdateImagePermissions(as(me), shareWith("mine", account, false))
		f.must(err)
	}
	_, err := f.UpdateImagePermissions(as(me), shareWith("mine", "000000000002", true))
	refused(t, err, appstream.LimitExceeded, "mine is shared with as many accounts as it may be. Limit: 2")
	_, err = f.UpdateImagePermissions(as(me), shareWith("mine", other, true))
	f.must(err)
	out, err := f.DescribeImagePermissions(as(me), &api.DescribeImagePermissionsInput{Name: new("mine")})
	f.must(err)
	if list := out.SharedImagePermissionsList; len(list) != 2 || !*list[1].ImagePermissions.AllowFleet || *list[1].ImagePermissions.AllowImageBuilder {
		t.Errorf("after the change: %+v", list)
	}
	_, err = f.DeleteImagePermissions(as(me), &api.DeleteImagePermissionsInput{Name: new("mine"), SharedAccountId: new(other)})
	f.must(err)
	_, err = f.UpdateImagePermissions(as(me), shareWith("mine", "000000000002", true))
	f.must(err)

	f = newFixture(t) // AppStream's own
	f.addImage(me, "mine", appstream.ImageAvailable, sharedBy(99))
	_, err = f.UpdateImagePermissions(as(me), shareWith("mine", "000000000100", true))
	f.must(err)
	_, err = f.UpdateImagePermissions(as(me), shareWith("mine", "000000000101", true))
	refused(t, err, appstream.LimitExceeded, "Limit: 100")
}

// A page token goes on with the operation that gave it, for the account, the region and the request that it was given to, and no other.
func TestTokenOfAnotherOperation(t *testing.T) {
	f := newFixture(t)
	f.running("a")
	f.running("b")
	f.addImage(me, "mine", appstream.ImageAvailable, sharedBy(2))
	call := map[string]func(token *string) (*string, error){
		"DescribeImageBuilders": func(token *string) (*string, error) {
			out, err := f.DescribeImageBuilders(as(me), &api.DescribeImageBuildersInput{NextToken: token, MaxResults: new(int32(1))})
			if err != nil {
				return nil, err
			}
			return out.NextToken, nil
		},
		"DescribeImages": func(token *string) (*string, error) {
			out, err := f.DescribeImages(as(me), &api.DescribeImagesInput{NextToken: token, MaxResults: new(int32(1))})
			if err != nil {
				return nil, err
			}
			return out.NextToken, nil
		},
		"DescribeImagePermissions": func(token *string) (*string, error) {
			out, err := f.DescribeImagePermissions(as(me), &api.DescribeImagePermissionsInput{Name: new("mine"), NextToken: token, MaxResults: new(int32(1))})
			if err != nil {
				return nil, err
			}
			return out.NextToken, nil
		},
	}
	for from, first := range call {
		token, err := first(nil)
		f.must(err)
		if token == nil {
			t.Fatalf("%s gave no token", from)
		}
		for to, next := range call {
			if _, err := next(token); to != from {
				refused(t, err, appstream.Validation, "The NextToken is not one that "+to+" returned")
			} else if err != nil {
				t.Errorf("%s does not take its own token: %v", to, err)
			}
		}
	}
}
