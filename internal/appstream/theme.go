package appstream

import (
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
)

// A Theme is how the pages of a stack look: its colours, title, pictures and links. It has the stack's name, and goes with the stack.
//
//	CreateThemeForStack ──▶ ENABLED ◀──UpdateThemeForStack──▶ DISABLED
type Theme struct {
	Meta
	View          types.Theme // what clients see, but for the members that Describe fills from the rest
	Logo, Favicon string      // blobs
}

// The states of a theme, as in the SDK.
const (
	ThemeEnabled  = string(types.ThemeStateEnabled)
	ThemeDisabled = string(types.ThemeStateDisabled) // it is kept, and pages look as without it
)

var themeTransitions = []Transition{
	{"", ThemeEnabled, "CreateThemeForStack"},
	{ThemeEnabled, ThemeDisabled, "UpdateThemeForStack"},
	{ThemeDisabled, ThemeEnabled, "UpdateThemeForStack"},
	{ThemeEnabled, "", "DeleteThemeForStack, DeleteStack"},
	{ThemeDisabled, "", "DeleteThemeForStack, DeleteStack"},
}

// Describe gives what the API shows of the theme. url makes the address of a blob.
func (t *Theme) Describe(url func(blob string) string) types.Theme {
	v := t.View
	v.StackName, v.CreatedTime, v.State = new(t.Name), new(t.Created), types.ThemeState(t.State)
	v.ThemeOrganizationLogoURL, v.ThemeFaviconURL = new(url(t.Logo)), new(url(t.Favicon))
	v.ThemeFooterLinks = slices.Clone(v.ThemeFooterLinks)
	return v
}
