package service_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	api "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/service"
)

// Somebody whom another system has signed in sees what his attributes entitle him to. People of plain streaming URLs, of the same name even, see everything.
func TestFederatedSessions(t *testing.T) {
	f := newFixture(t)
	f.pool(4, 0)
	f.entitlement("desk", "lab")
	_, err := f.AssociateApplicationToEntitlement(as(me), &api.AssociateApplicationToEntitlementInput{StackName: new("desk"), EntitlementName: new("lab"), ApplicationIdentifier: new("Calc")})
	f.must(err)
	open := func(user string, attributes map[string]string) (appstream.Session, error) {
		t.Helper()
		out, err := f.CreateFederatedStreamingURL(as(me), &service.CreateFederatedStreamingURLInput{FleetName: new("pool"), StackName: new("desk"), UserId: &user, Attributes: attributes})
		f.must(err)
		u, err := url.Parse(*out.StreamingURL)
		f.must(err)
		claims, err := f.cfg.Tickets.Parse(u.Query().Get("parameters"), u.Query().Get("signature"), time.Now())
		f.must(err)
		if !claims.Expires.Equal(*out.Expires) || !strings.HasPrefix(*out.StreamingURL, "https://oriel.test/authenticate?") {
			t.Errorf("the URL: %s", *out.StreamingURL)
		}
		session, _, err := f.OpenSession(t.Context(), claims, "")
		return session, err
	}
	session, err := open(jane, map[string]string{"department": "office:lab"})
	f.must(err)
	if session.AuthType != types.AuthenticationTypeSaml || !session.Filtered || !slices.Equal(session.Entitled, []string{"Calc"}) || !session.Sees("Calc") || session.Sees("Mail") {
		t.Errorf("the session: %+v", session)
	}
	_, err = open("john@example.com", map[string]string{"department": "office"})
	refused(t, err, appstream.OperationNotPermitted, "not yours to use")
	plain := f.open(jane)
	if plain.ID == session.ID || plain.Filtered || !plain.Sees("Mail") {
		t.Errorf("by a plain URL: %+v", plain)
	}
	out, err := f.DescribeSessions(as(me), &api.DescribeSessionsInput{FleetName: new("pool"), StackName: new("desk"), UserId: new(jane), AuthenticationType: types.AuthenticationTypeSaml})
	f.must(err)
	if len(out.Sessions) != 1 || *out.Sessions[0].Id != session.ID {
		t.Errorf("sessions by SAML: %+v", out.Sessions)
	}
	_, err = f.DeleteEntitlement(as(me), &api.DeleteEntitlementInput{StackName: new("desk"), Name: new("lab")})
	f.must(err)
	john, err := open("john@example.com", nil)
	f.must(err)
	if john.Filtered || !john.Sees("Mail") {
		t.Errorf("without entitlements: %+v", john)
	}
}

// Somebody who comes back sees what he is entitled to now, in the session that he has.
func TestFederatedReturn(t *testing.T) {
	f := newFixture(t)
	f.pool(1, 0)
	for name, app := range map[string]string{"lab": "Calc", "office": "Mail"} {
		_, err := f.CreateEntitlement(as(me), &api.CreateEntitlementInput{StackName: new("desk"), Name: &name, AppVisibility: types.AppVisibilityAssociated,
			Attributes: []types.EntitlementAttribute{{Name: new("groups"), Value: &name}}})
		f.must(err)
		_, err = f.AssociateApplicationToEntitlement(as(me), &api.AssociateApplicationToEntitlementInput{StackName: new("desk"), EntitlementName: &name, ApplicationIdentifier: &app})
		f.must(err)
	}
	_, err := f.CreateEntitlement(as(me), &api.CreateEntitlementInput{StackName: new("desk"), Name: new("everything"), AppVisibility: types.AppVisibilityAll,
		Attributes: []types.EntitlementAttribute{{Name: new("title"), Value: new("boss")}}})
	f.must(err)
	var first appstream.Session
	for _, test := range []struct {
		attributes map[string]string
		calc, mail bool
	}{
		{map[string]string{"groups": "lab:office"}, true, true},
		{map[string]string{"groups": "lab"}, true, false},
		{map[string]string{"groups": "lab"}, true, false},
		{map[string]string{"groups": "office"}, false, true},
		{map[string]string{"title": "boss"}, true, true},
		{map[string]string{"groups": "lab", "title": "clerk"}, true, false},
	} {
		claims := f.claims(jane)
		claims.Federated, claims.Attributes = true, test.attributes
		session, existing, err := f.OpenSession(t.Context(), claims, "")
		f.must(err)
		if existing != (first.ID != "") {
			t.Fatal("it is another session")
		}
		kept := f.editSession(session.ID, func(*appstream.Session) {})
		for _, s := range []appstream.Session{session, kept} {
			if s.Sees("Calc") != test.calc || s.Sees("Mail") != test.mail {
				t.Errorf("with %v: Calc %t, Mail %t", test.attributes, s.Sees("Calc"), s.Sees("Mail"))
			}
		}
		first = session
	}
}

func TestFederatedRefusals(t *testing.T) {
	f := newFixture(t)
	f.pool(1, 0)
	for name, test := range map[string]struct {
		edit func(*service.CreateFederatedStreamingURLInput)
		kind appstream.Kind
		says string
	}{
		"no fleet":          {func(in *service.CreateFederatedStreamingURLInput) { in.FleetName = nil }, appstream.Validation, "FleetName"},
		"no stack":          {func(in *service.CreateFederatedStreamingURLInput) { in.StackName = nil }, appstream.Validation, "StackName"},
		"no user":           {func(in *service.CreateFederatedStreamingURLInput) { in.UserId = nil }, appstream.Validation, "UserId"},
		"odd user":          {func(in *service.CreateFederatedStreamingURLInput) { in.UserId = new("a b") }, appstream.Validation, "UserId"},
		"unknown fleet":     {func(in *service.CreateFederatedStreamingURLInput) { in.FleetName = new("none") }, appstream.ResourceNotFound, "The fleet none"},
		"unknown stack":     {func(in *service.CreateFederatedStreamingURLInput) { in.StackName = new("none") }, appstream.ResourceNotFound, "The stack none"},
		"unknown attribute": {func(in *service.CreateFederatedStreamingURLInput) { in.Attributes = map[string]string{"team": "x"} }, appstream.Validation, "costCenter"},
		"too much": {func(in *service.CreateFederatedStreamingURLInput) {
			in.Attributes = map[string]string{"groups": strings.Repeat("x", 2001)}
		}, appstream.Validation, "2001"},
		"no text": {func(in *service.CreateFederatedStreamingURLInput) {
			in.Attributes = map[string]string{"groups": "\xff"}
		}, appstream.Validation, "groups"},
		"application": {func(in *service.CreateFederatedStreamingURLInput) { in.ApplicationId = new("none") }, appstream.ResourceNotFound, "The application none"},
	} {
		t.Run(name, func(t *testing.T) {
			in := &service.CreateFederatedStreamingURLInput{FleetName: new("pool"), StackName: new("desk"), UserId: new(jane)}
			test.edit(in)
			_, err := f.CreateFederatedStreamingURL(as(me), in)
			refused(t, err, test.kind, test.says)
		})
	}
	most := strings.Repeat("x", 1999) // the longest of everything still fits into an address
	_, err := f.CreateFederatedStreamingURL(as(me), &service.CreateFederatedStreamingURLInput{FleetName: new("pool"), StackName: new("desk"), UserId: new(strings.Repeat("u", 128)),
		SessionContext: new(strings.Repeat("c", 1000)), Attributes: map[string]string{"groups": most}})
	f.must(err)
}
