package server

import (
	"bytes"
	pixels "image"
	"image/png"
	"net/http"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/objects"
	"github.com/oriel-project/oriel/internal/store"
)

// A logo that was replaced goes, and what any record names stays.
func TestUnusedBlobsAreRemoved(t *testing.T) {
	data := t.TempDir()
	s, _ := start(t, simConfig(t, data))
	c := connect(t, data, s.URL())
	files, err := OpenObjects(t.Context(), s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	for width, name := range []string{"old.png", "new.png", "favicon.png"} {
		var b bytes.Buffer
		if err := png.Encode(&b, pixels.NewGray(pixels.Rect(0, 0, width+1, 1))); err != nil {
			t.Fatal(err)
		}
		if err := files.Put(t.Context(), objects.Location{Account: s.cfg.Account, Bucket: "brand", Key: name}, &b); err != nil {
			t.Fatal(err)
		}
	}
	at := func(key string) *types.S3Location { return &types.S3Location{S3Bucket: new("brand"), S3Key: &key} }
	status := func(url *string) int {
		t.Helper()
		resp, err := http.Get(*url)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	must(c.CreateStack(t.Context(), &sdk.CreateStackInput{Name: new("lab")}))(t)
	made := must(c.CreateThemeForStack(t.Context(), &sdk.CreateThemeForStackInput{StackName: new("lab"), TitleText: new("Lab"), ThemeStyling: types.ThemeStylingBlue,
		OrganizationLogoS3Location: at("old.png"), FaviconS3Location: at("favicon.png")}))(t).Theme
	changed := must(c.UpdateThemeForStack(t.Context(), &sdk.UpdateThemeForStackInput{StackName: new("lab"), OrganizationLogoS3Location: at("new.png")}))(t).Theme
	icon, err := s.blobs.Put([]byte("an icon"), ".png")
	if err != nil {
		t.Fatal(err)
	}
	err = s.store.Update(t.Context(), func(tx store.Tx) error {
		fleet := appstream.Fleet{Meta: appstream.Meta{Key: appstream.Key{Account: s.cfg.Account, Region: "us-east-1", Noun: appstream.NounFleet, Name: "elastic"}, ID: "fleet-elastic",
			State: string(types.FleetStateStopped)}, Catalogue: appstream.Catalogue{Icons: map[string]string{"editor": icon}}}
		return tx.Insert(&fleet)
	})
	if err != nil {
		t.Fatal(err)
	}
	// It goes the second time, or later: the server itself may be looking just now, and have found it used.
	eventually(t, "the old logo is gone", func() bool {
		if _, err := s.sweepBlobsOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
		return status(made.ThemeOrganizationLogoURL) == http.StatusNotFound
	})
	for _, url := range []*string{changed.ThemeOrganizationLogoURL, changed.ThemeFaviconURL} {
		if got := status(url); got != http.StatusOK {
			t.Errorf("%s: %d", *url, got)
		}
	}
	if _, err := s.blobs.Get(icon); err != nil {
		t.Errorf("the icon of the fleet's application: %v", err)
	}
}
