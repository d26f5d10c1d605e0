package service

import (
	"context"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
	"github.com/oriel-project/oriel/internal/ticket"
)

// CreateFederatedStreamingURLInput asks for a streaming URL for somebody whom the caller has signed in with his own identity provider. The members that
// CreateStreamingURL has mean the same.
type CreateFederatedStreamingURLInput struct {
	FleetName      *string // required
	StackName      *string // required
	UserId         *string // required: 2 to 128 letters, digits and _+=,.@-
	ApplicationId  *string
	SessionContext *string
	Validity       *int64 // seconds; default 60

	// Attributes are those of AppStream's entitlements, with one value each or several between colons: {"groups": "lab:staff"}. 2,000 characters in all.
	Attributes map[string]string
}

// CreateFederatedStreamingURLOutput has the URL.
type CreateFederatedStreamingURLOutput struct {
	StreamingURL *string
	Expires      *time.Time
}

var federatedUser = regexp.MustCompile(`^[\w+=,.@-]{2,128}$`)

// maxAttributes is the greatest length of all attributes together, in characters: they are part of the URL.
const maxAttributes = 2000

// CreateFederatedStreamingURL makes a streaming URL whose session shows what the person's attributes entitle him to. In AppStream that takes SAML; here the caller is
// believed, whose policy must allow oriel:CreateFederatedStreamingURL.
func (s *Service) CreateFederatedStreamingURL(ctx context.Context, in *CreateFederatedStreamingURLInput) (*CreateFederatedStreamingURLOutput, error) {
	switch {
	case value(in.FleetName) == "":
		return nil, appstream.Errorf(appstream.Validation, "FleetName is missing.")
	case value(in.StackName) == "":
		return nil, appstream.Errorf(appstream.Validation, "StackName is missing.")
	case !federatedUser.MatchString(value(in.UserId)):
		return nil, appstream.Errorf(appstream.Validation, "UserId must match %s.", federatedUser)
	}
	length := 0
	for _, name := range slices.Sorted(maps.Keys(in.Attributes)) {
		text := in.Attributes[name]
		if !slices.Contains(appstream.EntitlementAttributes(), name) {
			return nil, appstream.Errorf(appstream.Validation, "Attributes has %.64q. It can have %s.", name, strings.Join(appstream.EntitlementAttributes(), ", "))
		}
		if !utf8.ValidString(text) {
			return nil, appstream.Errorf(appstream.Validation, "The attribute %s is not text.", name)
		}
		length += utf8.RuneCountInString(text)
	}
	if length > maxAttributes {
		return nil, appstream.Errorf(appstream.Validation, "Attributes has %d characters. It may have %d.", length, maxAttributes)
	}
	url, expires, err := s.personURL(ctx, "oriel:CreateFederatedStreamingURL", in.Validity, ticket.Claims{UserID: *in.UserId, Fleet: *in.FleetName, Stack: *in.StackName,
		Application: value(in.ApplicationId), Context: value(in.SessionContext), Federated: true, Attributes: in.Attributes})
	if err != nil {
		return nil, err
	}
	return &CreateFederatedStreamingURLOutput{StreamingURL: &url, Expires: &expires}, nil
}

// entitledTo tells what the person of a federated ticket sees, and refuses one who sees nothing or begins with what he does not see. The desktop of a fleet that shows
// one is everybody's.
func entitledTo(tx store.Tx, fleet *appstream.Fleet, stack *appstream.Stack, c ticket.Claims) (applications []string, all bool, err error) {
	list, err := entitlementsOf(tx, stack.Key, store.Position{}, 0)
	if err != nil {
		return nil, false, err
	}
	applications, all = appstream.Entitled(list, c.Attributes)
	desktop := fleet.View.StreamView == types.StreamViewDesktop
	switch named := c.Application != "" && c.Application != Desktop; {
	case all:
	case named && !slices.Contains(applications, c.Application), !named && !desktop && len(applications) == 0:
		return nil, false, appstream.ErrorFor(appstream.OperationNotPermitted, appstream.WhyForbidden, stack.Name, "These applications are not yours to use. Ask your administrator.")
	}
	return applications, all, nil
}
