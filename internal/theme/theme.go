// Package theme tells a page how the administrator of a stack wants it to look. A page of a person's session, and of the portal, asks Of
// for its stack's Theme and shows it so:
//
//   - <html data-theme="{{.Style}}"> chooses the colours, which are in web/src/themes.css, for dark and for light;
//   - Title is the page's <title>, Favicon its <link rel="icon">, where there is one;
//   - Logo stands at the top of the page (class "brand"), Links at its foot (class "links").
//
// Logo and Favicon are paths on this server (internal/gateway serves them). The zero Theme is Oriel's own look.
package theme

import (
	"context"
	"errors"
	"strings"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

// Theme is how a page looks.
type Theme struct {
	Style   string // light-blue, blue, pink or red; "" for Oriel's own colours
	Title   string // "" for the page's own
	Logo    string
	Favicon string
	Links   []Link
}

// Link leads to a page elsewhere. Its URL has been checked to be http or https.
type Link struct{ Text, URL string }

// Prefix is where blobs are served.
const Prefix = "/icons/"

// Of gives the theme of a stack: the zero one where there is none, or it is DISABLED.
func Of(ctx context.Context, st store.Store, account, region, stack string) (Theme, error) {
	var t appstream.Theme
	err := st.View(ctx, func(tx store.Tx) error {
		return tx.Get(appstream.Key{Account: account, Region: region, Noun: appstream.NounTheme, Name: stack}, &t)
	})
	if errors.Is(err, store.ErrNotFound) || err == nil && t.State != appstream.ThemeEnabled {
		return Theme{}, nil
	}
	if err != nil {
		return Theme{}, err
	}
	look := Theme{Style: strings.ReplaceAll(strings.ToLower(string(t.View.ThemeStyling)), "_", "-"), Logo: Prefix + t.Logo, Favicon: Prefix + t.Favicon}
	if t.View.ThemeTitleText != nil {
		look.Title = *t.View.ThemeTitleText
	}
	for _, l := range t.View.ThemeFooterLinks {
		look.Links = append(look.Links, Link{Text: *l.DisplayName, URL: *l.FooterLinkURL})
	}
	return look, nil
}
