package service_test

import (
	"bytes"
	"context"
	"image"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	api "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/google/go-cmp/cmp"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/objects"
	"github.com/oriel-project/oriel/internal/service"
	"github.com/oriel-project/oriel/internal/theme"
)

// object puts an object into the bucket "brand" of an account.
func (f *fixture) object(account, key string, data []byte) {
	f.t.Helper()
	f.must(f.cfg.Objects.Put(f.t.Context(), objects.Location{Account: account, Bucket: "brand", Key: key}, bytes.NewReader(data)))
}

// drawing makes an image file; the ending of its name says of which kind.
func drawing(t testing.TB, kind string, width, height int) []byte {
	t.Helper()
	var b bytes.Buffer
	var err error
	switch img := image.NewGray(image.Rect(0, 0, width, height)); kind {
	case "png":
		err = png.Encode(&b, img)
	case "jpg":
		err = jpeg.Encode(&b, img, nil)
	case "gif":
		err = gif.Encode(&b, img, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func inBrand(key string) *types.S3Location {
	return &types.S3Location{S3Bucket: new("brand"), S3Key: &key}
}

func themeInput(edit ...func(*api.CreateThemeForStackInput)) *api.CreateThemeForStackInput {
	in := &api.CreateThemeForStackInput{StackName: new("desk"), TitleText: new("Our desk"), ThemeStyling: types.ThemeStylingPink,
		OrganizationLogoS3Location: inBrand("logo.jpg"), FaviconS3Location: inBrand("favicon.png")}
	for _, fn := range edit {
		fn(in)
	}
	return in
}

func link(name, url string) types.ThemeFooterLink {
	return types.ThemeFooterLink{DisplayName: &name, FooterLinkURL: &url}
}

func branded(t *testing.T) *fixture {
	f := newFixture(t)
	f.object(me, "logo.jpg", drawing(t, "jpg", 1000, 500))
	f.object(me, "favicon.png", drawing(t, "png", 128, 128))
	f.stack("desk")
	return f
}

// look is what pages make of the theme of the stack "desk".
func (f *fixture) look() theme.Theme {
	f.t.Helper()
	look, err := theme.Of(f.t.Context(), f.store, me, "us-west-2", "desk")
	f.must(err)
	return look
}

func TestLifeOfATheme(t *testing.T) {
	f := branded(t)
	if diff := cmp.Diff(theme.Theme{}, f.look()); diff != "" {
		t.Errorf("without a theme (-want +got):\n%s", diff)
	}
	out, err := f.CreateThemeForStack(as(me), themeInput(func(in *api.CreateThemeForStackInput) {
		in.FooterLinks = []types.ThemeFooterLink{link("Help desk", "https://example.com/help?x=1&y=2"), link("News", "http://example.com")}
	}))
	f.must(err)
	got := *out.Theme
	want := types.Theme{StackName: new("desk"), State: types.ThemeStateEnabled, ThemeTitleText: new("Our desk"), ThemeStyling: types.ThemeStylingPink, CreatedTime: got.CreatedTime,
		ThemeFooterLinks:         []types.ThemeFooterLink{link("Help desk", "https://example.com/help?x=1&y=2"), link("News", "http://example.com")},
		ThemeOrganizationLogoURL: got.ThemeOrganizationLogoURL, ThemeFaviconURL: got.ThemeFaviconURL}
	if diff := cmp.Diff(want, got, noSmithy); diff != "" || got.CreatedTime == nil || time.Since(*got.CreatedTime) > time.Minute {
		t.Errorf("created (-want +got):\n%s", diff)
	}
	for url, name := range map[string]string{*got.ThemeOrganizationLogoURL: "logo.jpg", *got.ThemeFaviconURL: "favicon.png"} {
		blob, ours := strings.CutPrefix(url, "https://oriel.test/icons/")
		data, err := f.cfg.Blobs.Get(blob)
		want, readErr := objects.Read(t.Context(), f.cfg.Objects, objects.Location{Account: me, Bucket: "brand", Key: name}, 1<<20)
		if !ours || err != nil || readErr != nil || !bytes.Equal(data, want) {
			t.Errorf("%s is at %s: %v, %v", name, url, err, readErr)
		}
	}
	path := func(url *string) string { return strings.TrimPrefix(*url, "https://oriel.test") }
	look := theme.Theme{Style: "pink", Title: "Our desk", Logo: path(got.ThemeOrganizationLogoURL), Favicon: path(got.ThemeFaviconURL),
		Links: []theme.Link{{Text: "Help desk", URL: "https://example.com/help?x=1&y=2"}, {Text: "News", URL: "http://example.com"}}}
	if diff := cmp.Diff(look, f.look()); diff != "" {
		t.Errorf("pages (-want +got):\n%s", diff)
	}

	// What is not sent stays; the pictures stay too when their objects go.
	f.must(f.cfg.Objects.Remove(t.Context(), objects.Location{Account: me, Bucket: "brand", Key: "logo.jpg"}))
	f.object(me, "new.gif", drawing(t, "gif", 20, 20))
	update := func(in *api.UpdateThemeForStackInput) types.Theme {
		t.Helper()
		in.StackName = new("desk")
		_, err := f.UpdateThemeForStack(as(me), in)
		f.must(err)
		out, err := f.DescribeThemeForStack(as(me), &api.DescribeThemeForStackInput{StackName: new("desk")})
		f.must(err)
		return *out.Theme
	}
	if diff := cmp.Diff(want, update(&api.UpdateThemeForStackInput{}), noSmithy); diff != "" {
		t.Errorf("after an update of nothing (-want +got):\n%s", diff)
	}
	got = update(&api.UpdateThemeForStackInput{TitleText: new("Desk"), ThemeStyling: types.ThemeStylingLightBlue, State: types.ThemeStateDisabled,
		FaviconS3Location: inBrand("new.gif"), AttributesToDelete: []types.ThemeAttribute{types.ThemeAttributeFooterLinks}})
	want.ThemeTitleText, want.ThemeStyling, want.State, want.ThemeFooterLinks, want.ThemeFaviconURL = new("Desk"), types.ThemeStylingLightBlue, types.ThemeStateDisabled, nil, got.ThemeFaviconURL
	if diff := cmp.Diff(want, got, noSmithy); diff != "" || !strings.HasSuffix(*got.ThemeFaviconURL, ".gif") {
		t.Errorf("after an update (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(theme.Theme{}, f.look()); diff != "" {
		t.Errorf("pages while it is disabled (-want +got):\n%s", diff)
	}
	update(&api.UpdateThemeForStackInput{State: types.ThemeStateEnabled, FooterLinks: []types.ThemeFooterLink{link("One", "https://example.com")}})
	if look := f.look(); look.Style != "light-blue" || len(look.Links) != 1 {
		t.Errorf("pages afterwards: %+v", look)
	}

	_, err = f.DeleteThemeForStack(as(me), &api.DeleteThemeForStackInput{StackName: new("desk")})
	f.must(err)
	if diff := cmp.Diff(theme.Theme{}, f.look()); diff != "" {
		t.Errorf("pages after it was deleted (-want +got):\n%s", diff)
	}

	// It goes with its stack: another stack of that name has none.
	f.object(me, "logo.jpg", drawing(t, "jpg", 10, 10))
	_, err = f.CreateThemeForStack(as(me), themeInput())
	f.must(err)
	_, err = f.DeleteStack(as(me), &api.DeleteStackInput{Name: new("desk")})
	f.must(err)
	f.stack("desk")
	if diff := cmp.Diff(theme.Theme{}, f.look()); diff != "" {
		t.Errorf("pages of another stack of that name (-want +got):\n%s", diff)
	}
}

// barred are objects that the server may put and not read.
type barred struct{ objects.Store }

func (barred) Open(context.Context, objects.Location) (io.ReadCloser, objects.Info, error) {
	return nil, objects.Info{}, fs.ErrPermission
}

// themeRows are the rows of the table that are about themes.
func themeRows() []row {
	brand := func(f *fixture) {
		f.object(me, "logo.jpg", drawing(f.t, "jpg", 1000, 500))
		f.object(me, "favicon.png", drawing(f.t, "png", 128, 128))
		f.stack("desk")
		f.stack("plain")
	}
	themed := func(f *fixture) {
		brand(f)
		_, err := f.CreateThemeForStack(as(me), themeInput())
		f.must(err)
	}
	having := func(key string, data func(*fixture) []byte) func(*fixture) {
		return func(f *fixture) {
			brand(f)
			f.object(me, key, data(f))
		}
	}
	picture := func(kind string, width, height int) func(*fixture) []byte {
		return func(f *fixture) []byte { return drawing(f.t, kind, width, height) }
	}
	links := func(list ...types.ThemeFooterLink) func(*api.CreateThemeForStackInput) {
		return func(in *api.CreateThemeForStackInput) { in.FooterLinks = list }
	}
	logo := func(at *types.S3Location) func(*api.CreateThemeForStackInput) {
		return func(in *api.CreateThemeForStackInput) { in.OrganizationLogoS3Location = at }
	}
	stack := func(name string) func(*api.CreateThemeForStackInput) {
		return func(in *api.CreateThemeForStackInput) { in.StackName = &name }
	}
	ok := link("Help", "https://example.com")
	four := []types.ThemeFooterLink{ok, ok, ok, ok}
	rows := []row{
		{name: "success", given: brand, in: themeInput(), then: func(t *testing.T, f *fixture, out any) {
			if got := out.(*api.CreateThemeForStackOutput).Theme; got == nil || *got.StackName != "desk" || got.State != types.ThemeStateEnabled {
				t.Errorf("answered %+v", got)
			}
		}},
		{name: "no such stack", given: brand, in: themeInput(stack("none")), want: appstream.ResourceNotFound, says: "The stack none"},
		{name: "a second theme", given: themed, in: themeInput(), want: appstream.ResourceAlreadyExists, says: "has a theme already"},
		{name: "four links", given: brand, in: themeInput(links(four...)), want: appstream.LimitExceeded, says: "FooterLinks has 4 links"},
		{name: "no such object", given: brand, in: themeInput(logo(inBrand("none.png"))), want: appstream.ResourceNotFound, says: "brand/none.png of OrganizationLogoS3Location"},
		{name: "no such bucket", given: brand, in: themeInput(logo(&types.S3Location{S3Bucket: new("none"), S3Key: new("logo.jpg")})),
			want: appstream.ResourceNotFound, says: "none/logo.jpg"},
		{name: "another's object", given: func(f *fixture) { brand(f); f.object(other, "theirs.png", drawing(f.t, "png", 10, 10)) },
			in: themeInput(logo(inBrand("theirs.png"))), want: appstream.ResourceNotFound, says: "brand/theirs.png"},
		{name: "out of the bucket", given: func(f *fixture) { brand(f); f.object(other, "theirs.png", drawing(f.t, "png", 10, 10)) },
			in: themeInput(logo(inBrand("../../" + other + "/brand/theirs.png"))), want: appstream.ResourceNotFound, says: "does not exist"},
		{name: "an object that the server may not read", setup: func(c *service.Config) { c.Objects = barred{c.Objects} }, given: brand, in: themeInput(),
			want: appstream.OperationNotPermitted, says: "The server may not read the object brand/logo.jpg of OrganizationLogoS3Location"},
		{name: "no key", given: brand, in: themeInput(logo(&types.S3Location{S3Bucket: new("brand")})), want: appstream.Validation, says: "OrganizationLogoS3Location.S3Key"},
		{name: "too wide", given: having("wide.png", picture("png", 1001, 10)), in: themeInput(logo(inBrand("wide.png"))),
			want: appstream.OperationNotPermitted, says: "1001 × 10 pixels, and may have 1000 × 500"},
		{name: "too many bytes", given: having("large.png", func(f *fixture) []byte { return append(drawing(f.t, "png", 10, 10), make([]byte, 300<<10)...) }),
			in: themeInput(logo(inBrand("large.png"))), want: appstream.OperationNotPermitted, says: "more than 307200 bytes"},
		{name: "no image", given: having("page.html", func(*fixture) []byte { return []byte("<html>") }), in: themeInput(logo(inBrand("page.html"))),
			want: appstream.OperationNotPermitted, says: "is none of PNG, JPEG and GIF"},
		{name: "a favicon that is too large", given: having("icon.png", picture("png", 129, 128)),
			in:   themeInput(func(in *api.CreateThemeForStackInput) { in.FaviconS3Location = inBrand("icon.png") }),
			want: appstream.OperationNotPermitted, says: "FaviconS3Location has 129 × 128 pixels, and may have 128 × 128"},

		{name: "success", given: themed, in: &api.DescribeThemeForStackInput{StackName: new("desk")}},
		{name: "no theme", given: themed, in: &api.DescribeThemeForStackInput{StackName: new("plain")}, want: appstream.ResourceNotFound, says: "has no theme"},
		{name: "no such stack", given: themed, in: &api.DescribeThemeForStackInput{StackName: new("none")}, want: appstream.ResourceNotFound, says: "The stack none"},

		{name: "success", given: themed, in: &api.UpdateThemeForStackInput{StackName: new("desk"), State: types.ThemeStateDisabled}},
		{name: "no theme", given: themed, in: &api.UpdateThemeForStackInput{StackName: new("plain")}, want: appstream.ResourceNotFound, says: "has no theme"},
		{name: "no such stack", given: themed, in: &api.UpdateThemeForStackInput{StackName: new("none")}, want: appstream.ResourceNotFound, says: "The stack none"},
		{name: "no such object", given: themed, in: &api.UpdateThemeForStackInput{StackName: new("desk"), FaviconS3Location: inBrand("none")},
			want: appstream.ResourceNotFound, says: "brand/none of FaviconS3Location"},
		{name: "no image", given: func(f *fixture) { themed(f); f.object(me, "page.html", []byte("<html>")) },
			in: &api.UpdateThemeForStackInput{StackName: new("desk"), OrganizationLogoS3Location: inBrand("page.html")}, want: appstream.OperationNotPermitted, says: "is none of"},
		{name: "four links", given: themed, in: &api.UpdateThemeForStackInput{StackName: new("desk"), FooterLinks: four}, want: appstream.LimitExceeded, says: "4 links"},
		{name: "links set and deleted", given: themed, in: &api.UpdateThemeForStackInput{StackName: new("desk"), FooterLinks: four[:1],
			AttributesToDelete: []types.ThemeAttribute{types.ThemeAttributeFooterLinks}}, want: appstream.InvalidParameterCombination, says: "FOOTER_LINKS"},

		{name: "success", given: themed, in: &api.DeleteThemeForStackInput{StackName: new("desk")}},
		{name: "no theme", given: themed, in: &api.DeleteThemeForStackInput{StackName: new("plain")}, want: appstream.ResourceNotFound, says: "has no theme"},
		{name: "no such stack", given: themed, in: &api.DeleteThemeForStackInput{StackName: new("none")}, want: appstream.ResourceNotFound, says: "The stack none"},
	}
	for name, bad := range map[string]types.ThemeFooterLink{
		"a link to nowhere":      {DisplayName: new("x")},
		"a link that is script":  link("x", "javascript:alert(1)"),
		"a link with a password": link("x", "https://a:b@example.com"),
		"a link of data":         link("x", "data:text/html,x"),
	} {
		rows = append(rows, row{name: name, given: brand, in: themeInput(links(ok, bad)), want: appstream.Validation, says: "FooterLinks[1].FooterLinkURL"})
	}
	return append(rows, row{name: "a link without a name", given: brand, in: themeInput(links(types.ThemeFooterLink{FooterLinkURL: new("https://example.com")})),
		want: appstream.Validation, says: "FooterLinks[0].DisplayName"})
}
