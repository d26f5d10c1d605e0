package service

import (
	"context"
	"errors"
	"slices"
	"time"

	aws "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/objects"
	"github.com/oriel-project/oriel/internal/picture"
	"github.com/oriel-project/oriel/internal/store"
)

// What the pictures of a theme may be, and how many links it may have: as AppStream's console has it.
var (
	logoLimit    = picture.Limit{Bytes: 300 << 10, Width: 1000, Height: 500}
	faviconLimit = picture.Limit{Bytes: 50 << 10, Width: 128, Height: 128, Icon: true}
)

const maxFooterLinks = 3

// CreateThemeForStack gives a stack a theme. Its pictures are copied: what becomes of the objects that they come from does not matter
// afterwards.
func (s *Service) CreateThemeForStack(ctx context.Context, in *aws.CreateThemeForStackInput) (*aws.CreateThemeForStackOutput, error) {
	c := appstream.CallerFrom(ctx)
	theme := appstream.Theme{Meta: appstream.Meta{Key: key(c, appstream.NounTheme, value(in.StackName)), ID: newID("theme-")}}
	theme.View = types.Theme{ThemeTitleText: in.TitleText, ThemeStyling: in.ThemeStyling, ThemeFooterLinks: slices.Clone(in.FooterLinks)}
	if err := checkFooterLinks(in.FooterLinks); err != nil {
		return nil, err
	}
	err := s.cfg.Store.View(ctx, func(tx store.Tx) error { return s.noTheme(tx, theme.Key) })
	if err != nil {
		return nil, err
	}
	if theme.Logo, err = s.picture(ctx, "OrganizationLogoS3Location", in.OrganizationLogoS3Location, logoLimit); err != nil {
		return nil, err
	}
	if theme.Favicon, err = s.picture(ctx, "FaviconS3Location", in.FaviconS3Location, faviconLimit); err != nil {
		return nil, err
	}
	err = s.change(ctx, "appstream:CreateThemeForStack", theme.Key, func(tx store.Tx, now time.Time) error {
		if err := s.noTheme(tx, theme.Key); err != nil {
			return err
		}
		theme.Created = now
		theme.Enter(appstream.ThemeEnabled, now, 0)
		return insert(tx, &theme, now, "CreateThemeForStack")
	})
	if err != nil {
		return nil, err
	}
	return &aws.CreateThemeForStackOutput{Theme: new(describeTheme(c, &theme))}, nil
}

// noTheme refuses a theme for a stack that is not there, or has one.
func (s *Service) noTheme(tx store.Tx, k appstream.Key) error {
	stack, theme := k, appstream.Theme{}
	stack.Noun = appstream.NounStack
	if err := get(tx, stack, &appstream.Stack{}); err != nil {
		return err
	}
	switch err := tx.Get(k, &theme); {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	return appstream.Errorf(appstream.ResourceAlreadyExists, "The stack %s has a theme already. Call UpdateThemeForStack, or delete it first.", k.Name)
}

// theme reads the theme of a stack; ResourceNotFound when there is none.
func (s *Service) theme(tx store.Tx, k appstream.Key, theme *appstream.Theme) error {
	err := tx.Get(k, theme)
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	stack := k
	stack.Noun = appstream.NounStack
	if err := get(tx, stack, &appstream.Stack{}); err != nil {
		return err
	}
	return appstream.Errorf(appstream.ResourceNotFound, "The stack %s for account %s has no theme. Call CreateThemeForStack first.", k.Name, k.Account)
}

func checkFooterLinks(links []types.ThemeFooterLink) error {
	if len(links) > maxFooterLinks {
		return appstream.Errorf(appstream.LimitExceeded, "FooterLinks has %d links. A theme may have %d.", len(links), maxFooterLinks)
	}
	for n, l := range links {
		switch {
		case value(l.DisplayName) == "":
			return appstream.Errorf(appstream.Validation, "FooterLinks[%d].DisplayName is missing. Say what people shall see.", n)
		case !webAddress(value(l.FooterLinkURL)):
			return appstream.Errorf(appstream.Validation, "FooterLinks[%d].FooterLinkURL is not the address of a web page. Specify one that begins with https:// or http://.", n)
		}
	}
	return nil
}

// picture copies an image that a member names, and gives the name of the copy.
func (s *Service) picture(ctx context.Context, member string, from *types.S3Location, limit picture.Limit) (string, error) {
	data, at, err := s.object(ctx, member, from, int64(limit.Bytes))
	if errors.Is(err, objects.ErrTooLarge) {
		return "", appstream.Errorf(appstream.OperationNotPermitted, "The image %s of %s has more than %d bytes. Make it smaller.", at, member, limit.Bytes)
	}
	if err != nil {
		return "", err
	}
	format, err := picture.Check(data, limit)
	if err != nil {
		return "", appstream.Errorf(appstream.OperationNotPermitted, "The image %s of %s %s.", at, member, err)
	}
	return s.cfg.Blobs.Put(data, string(format))
}

func describeTheme(c appstream.Caller, t *appstream.Theme) types.Theme {
	return t.Describe(func(blob string) string { return c.BaseURL + "/icons/" + blob })
}

// DescribeThemeForStack describes a stack's theme.
func (s *Service) DescribeThemeForStack(ctx context.Context, in *aws.DescribeThemeForStackInput) (*aws.DescribeThemeForStackOutput, error) {
	c := appstream.CallerFrom(ctx)
	var theme appstream.Theme
	err := s.cfg.Store.View(ctx, func(tx store.Tx) error { return s.theme(tx, key(c, appstream.NounTheme, value(in.StackName)), &theme) })
	if err != nil {
		return nil, err
	}
	return &aws.DescribeThemeForStackOutput{Theme: new(describeTheme(c, &theme))}, nil
}

// UpdateThemeForStack changes a stack's theme: what is sent replaces what was, what is not sent stays. Pages that are open show it when
// they are loaded again.
func (s *Service) UpdateThemeForStack(ctx context.Context, in *aws.UpdateThemeForStackInput) (*aws.UpdateThemeForStackOutput, error) {
	c := appstream.CallerFrom(ctx)
	k := key(c, appstream.NounTheme, value(in.StackName))
	err := checkDeletes(in.AttributesToDelete, map[types.ThemeAttribute]any{types.ThemeAttributeFooterLinks: in.FooterLinks})
	if err == nil {
		err = checkFooterLinks(in.FooterLinks)
	}
	var theme appstream.Theme
	if err == nil {
		err = s.cfg.Store.View(ctx, func(tx store.Tx) error { return s.theme(tx, k, &theme) })
	}
	if err != nil {
		return nil, err
	}
	var logo, favicon string
	if from := in.OrganizationLogoS3Location; from != nil {
		if logo, err = s.picture(ctx, "OrganizationLogoS3Location", from, logoLimit); err != nil {
			return nil, err
		}
	}
	if from := in.FaviconS3Location; from != nil {
		if favicon, err = s.picture(ctx, "FaviconS3Location", from, faviconLimit); err != nil {
			return nil, err
		}
	}
	err = s.change(ctx, "appstream:UpdateThemeForStack", k, func(tx store.Tx, now time.Time) error {
		if err := s.theme(tx, k, &theme); err != nil {
			return err
		}
		v := &theme.View
		if slices.Contains(in.AttributesToDelete, types.ThemeAttributeFooterLinks) {
			v.ThemeFooterLinks = nil
		}
		setList(&v.ThemeFooterLinks, in.FooterLinks)
		set(&v.ThemeTitleText, in.TitleText)
		v.ThemeStyling = or(in.ThemeStyling, v.ThemeStyling)
		if logo != "" {
			theme.Logo = logo
		}
		if favicon != "" {
			theme.Favicon = favicon
		}
		if from, to := theme.State, string(in.State); to != "" && to != from {
			theme.Enter(to, now, 0)
			if err := tx.AddEvent(store.Event{At: now, ID: theme.ID, Key: k, From: from, To: to, Why: "UpdateThemeForStack"}); err != nil {
				return err
			}
		}
		return tx.Put(&theme)
	})
	if err != nil {
		return nil, err
	}
	return &aws.UpdateThemeForStackOutput{Theme: new(describeTheme(c, &theme))}, nil
}

// DeleteThemeForStack takes a stack's theme away.
func (s *Service) DeleteThemeForStack(ctx context.Context, in *aws.DeleteThemeForStackInput) (*aws.DeleteThemeForStackOutput, error) {
	k := key(appstream.CallerFrom(ctx), appstream.NounTheme, value(in.StackName))
	err := s.change(ctx, "appstream:DeleteThemeForStack", k, func(tx store.Tx, now time.Time) error {
		var theme appstream.Theme
		if err := s.theme(tx, k, &theme); err != nil {
			return err
		}
		return remove(tx, &theme, now, "DeleteThemeForStack")
	})
	if err != nil {
		return nil, err
	}
	return &aws.DeleteThemeForStackOutput{}, nil
}

// removeTheme takes the theme of a stack away that is being deleted.
func removeTheme(tx store.Tx, stack appstream.Key, now time.Time) error {
	stack.Noun = appstream.NounTheme
	var theme appstream.Theme
	switch err := tx.Get(stack, &theme); {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	return remove(tx, &theme, now, "DeleteStack")
}
