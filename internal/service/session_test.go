package service_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	api "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/google/go-cmp/cmp"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/service"
	"github.com/oriel-project/oriel/internal/store"
	"github.com/oriel-project/oriel/internal/ticket"
	"pgregory.net/rapid"
)

// pool makes a running fleet "pool" with the stack "desk" and instances that are ready; per is MaxSessionsPerInstance, 0 for single sessions.
func (f *fixture) pool(instances, per int, edit ...func(*api.CreateFleetInput)) {
	f.t.Helper()
	if per > 0 {
		edit = append(edit, func(in *api.CreateFleetInput) {
			in.MaxSessionsPerInstance, in.ComputeCapacity = new(int32(per)), &types.ComputeCapacity{DesiredSessions: new(int32(instances * per))}
		})
	}
	f.fleet("pool", appstream.FleetRunning, edit...)
	f.stack("desk")
	f.associate("pool", "desk")
	for n := range instances {
		f.instance("pool", []string{appstream.InstanceAvailable, appstream.InstancePrepared}[n%2])
	}
}

func (f *fixture) claims(user string) ticket.Claims {
	f.t.Helper()
	r := f.editFleet("pool", func(*appstream.Fleet) {})
	return ticket.Claims{Type: ticket.TypeEndUser, Account: me, Region: "us-west-2", RecordID: r.ID, UserID: user, Fleet: "pool", Stack: "desk"}
}

func (f *fixture) open(user string) appstream.Session {
	f.t.Helper()
	session, _, err := f.OpenSession(context.Background(), f.claims(user), "")
	f.must(err)
	return session
}

// editSession changes a session in the store, as the engine would.
func (f *fixture) editSession(id string, fn func(*appstream.Session)) (session appstream.Session) {
	f.t.Helper()
	f.must(f.store.Update(context.Background(), func(tx store.Tx) error {
		if err := tx.Find(id, &session); err != nil {
			return err
		}
		fn(&session)
		return tx.Put(&session)
	}))
	return session
}

func (f *fixture) findInstance(id string) (i appstream.Instance) {
	f.t.Helper()
	f.must(f.store.View(context.Background(), func(tx store.Tx) error { return tx.Find(id, &i) }))
	return i
}

func streamInput(edit func(*api.CreateStreamingURLInput)) *api.CreateStreamingURLInput {
	in := &api.CreateStreamingURLInput{FleetName: new("pool"), StackName: new("desk"), UserId: new("ann@example.com")}
	edit(in)
	return in
}

func TestCreateStreamingURL(t *testing.T) {
	f := newFixture(t)
	f.addImage(me, "apps", appstream.ImageAvailable, func(i *appstream.Image) { i.View.Applications = []types.Application{{Name: new("editor")}} })
	f.pool(0, 0, func(in *api.CreateFleetInput) { in.ImageName, in.StreamView = new("apps"), types.StreamViewDesktop })
	want := f.claims("ann@example.com")
	for name, test := range map[string]struct {
		edit     func(*api.CreateStreamingURLInput)
		validity time.Duration
		want     func(*ticket.Claims)
	}{
		"least":       {func(*api.CreateStreamingURLInput) {}, time.Minute, func(*ticket.Claims) {}},
		"application": {func(in *api.CreateStreamingURLInput) { in.ApplicationId = new("editor") }, time.Minute, func(c *ticket.Claims) { c.Application = "editor" }},
		"desktop":     {func(in *api.CreateStreamingURLInput) { in.ApplicationId = new("Desktop") }, time.Minute, func(c *ticket.Claims) { c.Application = "Desktop" }},
		"a week":      {func(in *api.CreateStreamingURLInput) { in.Validity = new(int64(604800)) }, 7 * 24 * time.Hour, func(*ticket.Claims) {}},
		"a second":    {func(in *api.CreateStreamingURLInput) { in.Validity = new(int64(1)) }, time.Second, func(*ticket.Claims) {}},
		"context": {func(in *api.CreateStreamingURLInput) { in.SessionContext = new(strings.Repeat("字", 999) + "\n") }, time.Minute,
			func(c *ticket.Claims) { c.Context = strings.Repeat("字", 999) + "\n" }},
		"the longest ticket": {func(in *api.CreateStreamingURLInput) { in.SessionContext = new(strings.Repeat("\U0001f600", 1000)) }, time.Minute,
			func(c *ticket.Claims) { c.Context = strings.Repeat("\U0001f600", 1000) }},
	} {
		t.Run(name, func(t *testing.T) {
			asked := time.Now()
			out, err := f.CreateStreamingURL(as(me), streamInput(test.edit))
			f.must(err)
			if least, most := asked.Add(test.validity), time.Now().Add(test.validity+time.Second); out.Expires.Before(least) || out.Expires.After(most) {
				t.Errorf("it expires at %v, not from %v to %v", out.Expires, least, most)
			}
			u, err := url.Parse(*out.StreamingURL)
			f.must(err)
			if u.Scheme+"://"+u.Host+u.Path != "https://oriel.test/authenticate" {
				t.Errorf("the address is %s", u.Path)
			}
			got, err := f.cfg.Tickets.Parse(u.Query().Get("parameters"), u.Query().Get("signature"), out.Expires.Add(-1)) // a second may be over by now
			f.must(err)
			want := want
			want.Expires, want.Nonce = *out.Expires, got.Nonce
			test.want(&want)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestCreateStreamingURLRefusals(t *testing.T) {
	f := newFixture(t)
	f.pool(0, 0)
	f.stack("lonely")
	for _, state := range []string{appstream.FleetStopped, appstream.FleetStarting, appstream.FleetStopping} {
		f.fleet(state, state)
		f.associate(state, "desk")
		_, err := f.CreateStreamingURL(as(me), streamInput(func(in *api.CreateStreamingURLInput) { in.FleetName = &state }))
		refused(t, err, appstream.ResourceNotAvailable, "The fleet "+state+" is "+state+". The fleet must be in a RUNNING state for this action to succeed.")
	}
	for name, test := range map[string]struct {
		edit func(*api.CreateStreamingURLInput)
		kind appstream.Kind
		says string
	}{
		"no fleet":       {func(in *api.CreateStreamingURLInput) { in.FleetName = new("nope") }, appstream.ResourceNotFound, "The fleet nope"},
		"no stack":       {func(in *api.CreateStreamingURLInput) { in.StackName = new("nope") }, appstream.ResourceNotFound, "The stack nope"},
		"not associated": {func(in *api.CreateStreamingURLInput) { in.StackName = new("lonely") }, appstream.OperationNotPermitted, "AssociateFleet"},
		"no application": {func(in *api.CreateStreamingURLInput) { in.ApplicationId = new("nope") }, appstream.ResourceNotFound, "The application nope does not exist in the image base"},
		"no desktop":     {func(in *api.CreateStreamingURLInput) { in.ApplicationId = new("Desktop") }, appstream.ResourceNotFound, "StreamView of the fleet pool is APP"},
		"no time":        {func(in *api.CreateStreamingURLInput) { in.Validity = new(int64(0)) }, appstream.Validation, "Validity is 0. It must be between 1 and 604800 seconds."},
		"too much time":  {func(in *api.CreateStreamingURLInput) { in.Validity = new(int64(604801)) }, appstream.Validation, "Validity"},
		"long context":   {func(in *api.CreateStreamingURLInput) { in.SessionContext = new(strings.Repeat("x", 1001)) }, appstream.Validation, "SessionContext has 1001 characters"},
		"control":        {func(in *api.CreateStreamingURLInput) { in.SessionContext = new("a\x00b") }, appstream.Validation, "control characters"},
		"not text":       {func(in *api.CreateStreamingURLInput) { in.SessionContext = new("a\xffb") }, appstream.Validation, "not text"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.CreateStreamingURL(as(me), streamInput(test.edit))
			refused(t, err, test.kind, test.says)
		})
	}
}

func TestDescribeSessions(t *testing.T) {
	f := newFixture(t)
	f.pool(3, 40)
	f.stack("other")
	f.associate("pool", "other")
	ids := map[string]bool{}
	for n := range 60 {
		ids[f.open(fmt.Sprint("user", n)).ID] = true
	}
	c := f.claims("elsewhere")
	c.Stack = "other"
	_, _, err := f.OpenSession(context.Background(), c, "")
	f.must(err)
	describe := func(edit func(*api.DescribeSessionsInput)) (list []types.Session, sizes []int) {
		t.Helper()
		in := &api.DescribeSessionsInput{FleetName: new("pool"), StackName: new("desk")}
		edit(in)
		for page := 0; page == 0 || in.NextToken != nil; page++ {
			out, err := f.DescribeSessions(as(me), in)
			f.must(err)
			list, sizes, in.NextToken = append(list, out.Sessions...), append(sizes, len(out.Sessions)), out.NextToken
		}
		return list, sizes
	}
	all := func(*api.DescribeSessionsInput) {}
	for name, test := range map[string]struct {
		edit  func(*api.DescribeSessionsInput)
		sizes []int
	}{
		"twenty a page":  {all, []int{20, 20, 20}},
		"zero is twenty": {func(in *api.DescribeSessionsInput) { in.Limit = new(int32(0)) }, []int{20, 20, 20}},
		"fifty a page":   {func(in *api.DescribeSessionsInput) { in.Limit = new(int32(50)) }, []int{50, 10}},
		"seven a page":   {func(in *api.DescribeSessionsInput) { in.Limit = new(int32(7)) }, []int{7, 7, 7, 7, 7, 7, 7, 7, 4}},
		"one user": {func(in *api.DescribeSessionsInput) {
			in.UserId, in.AuthenticationType = new("user7"), types.AuthenticationTypeApi
		}, []int{1}},
		"user, no type": {func(in *api.DescribeSessionsInput) { in.UserId = new("user7") }, []int{1}},
		"user of SAML": {func(in *api.DescribeSessionsInput) {
			in.UserId, in.AuthenticationType = new("user7"), types.AuthenticationTypeSaml
		}, []int{0}},
		"nobody":            {func(in *api.DescribeSessionsInput) { in.UserId = new("user") }, []int{0}},
		"another stack":     {func(in *api.DescribeSessionsInput) { in.StackName = new("other") }, []int{1}},
		"unknown instances": {func(in *api.DescribeSessionsInput) { in.InstanceId = new("i-0") }, []int{0}},
	} {
		list, sizes := describe(test.edit)
		if !slices.Equal(sizes, test.sizes) {
			t.Errorf("%s: %v", name, sizes)
		}
		seen := map[string]bool{}
		for _, s := range list {
			seen[*s.Id] = true
		}
		if len(seen) != len(list) || len(list) == 60 && !maps.Equal(seen, ids) {
			t.Errorf("%s: %d sessions, %d of them different", name, len(list), len(seen))
		}
	}

	session := f.open("user7")
	f.editSession(session.ID, func(s *appstream.Session) {
		s.Enter(appstream.SessionActive, time.Now(), 0)
		s.Connected, s.Network = true, &types.NetworkAccessConfiguration{EniPrivateIpAddress: new("10.0.0.7"), EniIpv6Addresses: []string{"fd00::7"}, EniId: new("eni-7")}
	})
	user := func(in *api.DescribeSessionsInput) { in.UserId = new("user7") }
	list, _ := describe(user)
	want := types.Session{Id: &session.ID, FleetName: new("pool"), StackName: new("desk"), UserId: new("user7"), State: types.SessionStateActive,
		AuthenticationType: types.AuthenticationTypeApi, ConnectionState: types.SessionConnectionStateConnected, InstanceDrainStatus: types.InstanceDrainStatusActive,
		InstanceId: &session.InstanceID, StartTime: &session.Created, MaxExpirationTime: new(session.Created.Add(57600 * time.Second)),
		NetworkAccessConfiguration: &types.NetworkAccessConfiguration{EniPrivateIpAddress: new("10.0.0.7"), EniIpv6Addresses: []string{"fd00::7"}, EniId: new("eni-7")}}
	if diff := cmp.Diff([]types.Session{want}, list, noSmithy); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	onInstance, _ := describe(func(in *api.DescribeSessionsInput) { in.InstanceId = &session.InstanceID })
	for _, s := range onInstance {
		if *s.InstanceId != session.InstanceID {
			t.Errorf("%s is on %s", *s.Id, *s.InstanceId)
		}
	}

	// Draining shows; so does the end, until nothing is left.
	_, err = f.DrainSessionInstance(as(me), &api.DrainSessionInstanceInput{SessionId: &session.ID})
	f.must(err)
	_, err = f.ExpireSession(as(me), &api.ExpireSessionInput{SessionId: &session.ID})
	f.must(err)
	if list, _ := describe(user); len(list) != 1 || list[0].State != types.SessionStateExpired || list[0].ConnectionState != types.SessionConnectionStateNotConnected ||
		list[0].InstanceDrainStatus != types.InstanceDrainStatusDraining {
		t.Errorf("%+v", list)
	}
	f.editSession(session.ID, func(s *appstream.Session) { s.Cleared = true })
	if list, _ := describe(user); len(list) != 0 {
		t.Errorf("%+v", list)
	}

	for name, test := range map[string]struct {
		in   *api.DescribeSessionsInput
		kind appstream.Kind
		says string
	}{
		"no fleet": {&api.DescribeSessionsInput{FleetName: new("nope"), StackName: new("desk")}, appstream.ResourceNotFound, "The fleet nope"},
		"no stack": {&api.DescribeSessionsInput{FleetName: new("pool"), StackName: new("nope")}, appstream.ResourceNotFound, "The stack nope"},
		"negative": {&api.DescribeSessionsInput{FleetName: new("pool"), StackName: new("desk"), Limit: new(int32(-1))}, appstream.InvalidParameterCombination, "Limit is -1. It must be between 0 and 50."},
		"too many": {&api.DescribeSessionsInput{FleetName: new("pool"), StackName: new("desk"), Limit: new(int32(51))}, appstream.InvalidParameterCombination, "Limit"},
		"token":    {&api.DescribeSessionsInput{FleetName: new("pool"), StackName: new("desk"), NextToken: new("x")}, appstream.Validation, "NextToken"},
	} {
		_, err := f.DescribeSessions(as(me), test.in)
		t.Run(name, func(t *testing.T) { refused(t, err, test.kind, test.says) })
	}
	_, err = f.DescribeSessions(as(other), &api.DescribeSessionsInput{FleetName: new("pool"), StackName: new("desk")})
	refused(t, err, appstream.ResourceNotFound, "The fleet pool for account "+other)
}

// ExpireSession knows no errors, and ends the sessions of the caller only.
func TestExpireSession(t *testing.T) {
	f := newFixture(t)
	f.pool(2, 0)
	session := f.open("ann")
	builder := f.running("hello")
	fleet := f.editFleet("pool", func(*appstream.Fleet) {})
	state := func() appstream.Session { return f.editSession(session.ID, func(*appstream.Session) {}) }
	expire := func(ctx context.Context, id string) {
		t.Helper()
		_, err := f.ExpireSession(ctx, &api.ExpireSessionInput{SessionId: &id})
		f.must(err)
	}
	elsewhere := appstream.CallerFrom(as(me))
	elsewhere.Region = "eu-west-1"
	for _, id := range []string{"nobody", "00000000-0000-0000-0000-000000000000", builder.ID, fleet.ID, session.InstanceID, session.ID + "x"} {
		expire(as(me), id)
	}
	expire(as(other), session.ID)
	expire(appstream.WithCaller(context.Background(), elsewhere), session.ID)
	if got := state(); got.State != appstream.SessionPending {
		t.Fatalf("the session is %s", got.State)
	}
	expire(as(me), session.ID)
	first := state()
	if first.State != appstream.SessionExpired || first.EndCode != appstream.EndByAdmin || first.Due.IsZero() {
		t.Errorf("the session is %s, %s, due at %v", first.State, first.EndCode, first.Due)
	}
	expire(as(me), session.ID)
	if again := state(); !again.Ended.Equal(first.Ended) {
		t.Errorf("it ended at %v, and again at %v", first.Ended, again.Ended)
	}
	audit := f.audits()
	if n := len(slices.DeleteFunc(audit, func(a store.Audit) bool {
		return a.Operation != "appstream:ExpireSession" || !strings.HasSuffix(a.Principal, me+":root")
	})); n != 2 {
		t.Errorf("%d audit lines about it", n)
	}
}

func (f *fixture) audits() (list []store.Audit) {
	f.t.Helper()
	f.must(f.store.View(context.Background(), func(tx store.Tx) (err error) {
		list, err = tx.Audits(store.LogQuery{})
		return err
	}))
	return list
}

func TestDrainSessionInstance(t *testing.T) {
	drain := func(f *fixture, ctx context.Context, id string) error {
		_, err := f.DrainSessionInstance(ctx, &api.DrainSessionInstanceInput{SessionId: &id})
		return err
	}
	t.Run("shared", func(t *testing.T) {
		f := newFixture(t)
		f.pool(1, 3)
		ann := f.open("ann")
		f.open("bob")
		f.editFleet("pool", func(r *appstream.Fleet) { r.Due = time.Time{} })
		f.must(drain(f, as(me), ann.ID))
		f.must(drain(f, as(me), ann.ID)) // already
		if i := f.findInstance(ann.InstanceID); i.State != appstream.InstanceDraining || len(i.Sessions) != 2 || i.Due.IsZero() {
			t.Errorf("the instance is %s with %d sessions, due at %v", i.State, len(i.Sessions), i.Due)
		}
		if r := f.editFleet("pool", func(*appstream.Fleet) {}); r.Due.IsZero() {
			t.Error("the fleet does not hear of it")
		}
		_, _, err := f.OpenSession(context.Background(), f.claims("eve"), "")
		refused(t, err, appstream.InsufficientCapacity, "Try again")
		if again, existing, err := f.OpenSession(context.Background(), f.claims("ann"), ""); err != nil || !existing || again.ID != ann.ID {
			t.Errorf("who is on it comes back to %s, %t, %v", again.ID, existing, err)
		}
		refused(t, drain(f, as(other), ann.ID), appstream.ResourceNotFound, "The session "+ann.ID+" for account "+other)
		refused(t, drain(f, as(me), "00000000-0000-0000-0000-000000000000"), appstream.ResourceNotFound, "does not exist")
		refused(t, drain(f, as(me), ann.InstanceID), appstream.ResourceNotFound, "does not exist")
		f.must(f.EndSession(context.Background(), ann.ID))
		refused(t, drain(f, as(me), ann.ID), appstream.ResourceNotFound, "does not exist")
	})
	t.Run("single", func(t *testing.T) {
		f := newFixture(t)
		f.pool(1, 0)
		session := f.open("ann")
		refused(t, drain(f, as(me), session.ID), appstream.OperationNotPermitted, "The fleet pool is not a multi-session fleet.")
		if i := f.findInstance(session.InstanceID); i.State != appstream.InstanceInUse {
			t.Errorf("the instance is %s", i.State)
		}
	})
}

// People who came by a stack keep it and their fleet together.
func TestDisassociateWithSessions(t *testing.T) {
	f := newFixture(t)
	f.pool(2, 0)
	f.stack("spare")
	f.associate("pool", "spare")
	session := f.open("ann")
	disassociate := func(stack string) error {
		_, err := f.DisassociateFleet(as(me), &api.DisassociateFleetInput{FleetName: new("pool"), StackName: &stack})
		return err
	}
	refused(t, disassociate("desk"), appstream.ResourceInUse, "The fleet pool has 1 session(s) of the stack desk.")
	f.must(disassociate("spare"))
	f.must(f.EndSession(context.Background(), session.ID))
	f.must(disassociate("desk"))
	_, _, err := f.OpenSession(context.Background(), f.claims("ann"), "")
	refused(t, err, appstream.OperationNotPermitted, "Ask for a new link")
}

// What a session is like follows from fleet, stack and ticket at the time that it begins.
func TestOpenSession(t *testing.T) {
	f := newFixture(t)
	n := func(n int32) *int32 { return &n }
	f.pool(3, 0, func(in *api.CreateFleetInput) {
		in.IdleDisconnectTimeoutInSeconds, in.DisconnectTimeoutInSeconds, in.MaxUserDurationInSeconds = n(90), n(120), n(600)
		in.StreamView = types.StreamViewDesktop
	})
	_, err := f.UpdateStack(as(me), &api.UpdateStackInput{Name: new("desk"), RedirectURL: new("https://a.example"), FeedbackURL: new("https://b.example"), EmbedHostDomains: []string{"c.example"},
		AccessEndpoints: []types.AccessEndpoint{{EndpointType: "STREAMING", VpceId: new("vpce-1")}},
		UserSettings:    []types.UserSetting{{Action: "FILE_UPLOAD", Permission: "DISABLED"}, {Action: "CLIPBOARD_COPY_TO_LOCAL_DEVICE", Permission: "ENABLED", MaximumLength: n(9)}}})
	f.must(err)
	c := f.claims("ann")
	c.Application, c.Context = service.Desktop, "ctx"
	got, existing, err := f.OpenSession(context.Background(), c, "de_DE.UTF-8")
	f.must(err)
	want := got
	want.Fleet, want.Stack, want.UserID, want.AuthType, want.Application, want.Context, want.Locale = "pool", "desk", "ann", types.AuthenticationTypeApi, "", "ctx", "de_DE.UTF-8"
	want.View, want.IdleTimeout, want.AwayTimeout, want.MaxEnd = types.StreamViewDesktop, 2*time.Minute, 2*time.Minute, got.Created.Add(10*time.Minute)
	want.RedirectURL, want.FeedbackURL, want.EmbedDomains = "https://a.example", "https://b.example", []string{"c.example"}
	want.AccessEndpoints = []types.AccessEndpoint{{EndpointType: "STREAMING", VpceId: new("vpce-1")}}
	want.Rules = appstream.Rules{CopyIn: true, CopyOut: true, CopyOutMax: 9, Download: true, Print: true, TimeZone: true}
	want.State, want.Connected = appstream.SessionPending, false
	if diff := cmp.Diff(want, got, noSmithy); diff != "" || existing {
		t.Errorf("existing: %t (-want +got):\n%s", existing, diff)
	}
	if i := f.findInstance(got.InstanceID); i.State != appstream.InstanceInUse || !slices.Equal(i.Sessions, []string{got.ID}) || i.Due.IsZero() {
		t.Errorf("the instance is %s with %v, due at %v", i.State, i.Sessions, i.Due)
	}
	again, existing, err := f.OpenSession(context.Background(), c, "")
	if err != nil || !existing || again.ID != got.ID {
		t.Errorf("the second time: %s, %t, %v", again.ID, existing, err)
	}

	f.stack("other")
	f.associate("pool", "other")
	by := func(edit func(*ticket.Claims)) error {
		c := f.claims("ann")
		edit(&c)
		_, _, err := f.OpenSession(context.Background(), c, "")
		return err
	}
	// They are told to people, in their language, by why and about.
	told := func(err error, kind appstream.Kind, why appstream.Why, about, says string) {
		t.Helper()
		refused(t, err, kind, says)
		if e, _ := errors.AsType[*appstream.Error](err); e == nil || e.Why != why || e.About != about {
			t.Errorf("it is told as %+v, want %s about %s", e, why, about)
		}
	}
	told(by(func(c *ticket.Claims) { c.Stack = "other" }), appstream.OperationNotPermitted, appstream.WhyElsewhere, "desk", "(stack desk)")
	told(by(func(c *ticket.Claims) { c.Stack = "nope" }), appstream.OperationNotPermitted, appstream.WhyMoved, "nope", "Ask for a new link")
	told(by(func(c *ticket.Claims) { c.RecordID = "fleet-of-before" }), appstream.ResourceNotFound, appstream.WhyGone, "pool", "Ask for a new link")
	told(by(func(c *ticket.Claims) { c.Fleet = "nope" }), appstream.ResourceNotFound, appstream.WhyGone, "nope", "Ask for a new link")
	f.editFleet("pool", func(r *appstream.Fleet) { r.Enter(appstream.FleetStopping, time.Now(), 0) })
	told(by(func(c *ticket.Claims) { c.UserID = "bob" }), appstream.ResourceNotAvailable, appstream.WhyStopped, "pool", "The fleet pool is STOPPING.")
}

func TestConnections(t *testing.T) {
	f := newFixture(t)
	f.pool(1, 2)
	ann, bob := f.open("ann"), f.open("bob")
	f.must(f.SessionConnected(context.Background(), ann.ID, laptop))
	f.must(f.SessionConnected(context.Background(), ann.ID, laptop))
	f.must(f.SessionConnected(context.Background(), "00000000-0000-0000-0000-000000000000", laptop))
	read := func(id string) appstream.Session { return f.editSession(id, func(*appstream.Session) {}) }
	if s := read(ann.ID); !s.Connected || !s.ConnectedOnce || s.Due.IsZero() {
		t.Errorf("%+v", s)
	}
	f.must(f.ForgetConnections(context.Background()))
	if s := read(ann.ID); s.Connected || !s.ConnectedOnce || s.Away.Before(ann.Away) {
		t.Errorf("%+v", s)
	}
	if s := read(bob.ID); s.Connected || s.ConnectedOnce {
		t.Errorf("%+v", s)
	}
	f.must(f.EndSession(context.Background(), bob.ID))
	f.must(f.SessionConnected(context.Background(), bob.ID, laptop))
	if s := read(bob.ID); s.Connected || s.EndCode != appstream.EndByUser {
		t.Errorf("a session that is over is shown: %+v", s)
	}
}

// seated checks that sessions and instances agree: every session that is not over is on its instance, no instance has more than it
// may, nobody has two. It gives the number of sessions.
func (f *fixture) seated(t interface{ Errorf(string, ...any) }) int {
	f.t.Helper()
	var sessions []appstream.Session
	var instances []appstream.Instance
	f.must(f.store.View(context.Background(), func(tx store.Tx) (err error) {
		if sessions, err = store.List[appstream.Session](tx, store.Query{Noun: appstream.NounSession}); err != nil {
			return err
		}
		instances, err = store.List[appstream.Instance](tx, store.Query{Noun: appstream.NounInstance})
		return err
	}))
	on, user := map[string]string{}, map[string]bool{}
	for _, i := range instances {
		if len(i.Sessions) > max(i.Max, 1) || (len(i.Sessions) > 0) != (i.State == appstream.InstanceInUse || i.State == appstream.InstanceDraining) {
			t.Errorf("the instance %s is %s with %d sessions of %d", i.ID, i.State, len(i.Sessions), i.Max)
		}
		for _, id := range i.Sessions {
			if on[id] != "" {
				t.Errorf("the session %s is on %s and on %s", id, on[id], i.ID)
			}
			on[id] = i.ID
		}
	}
	count := 0
	for _, s := range sessions {
		if on[s.ID] != s.InstanceID {
			t.Errorf("the session %s of %s is on %q", s.ID, s.InstanceID, on[s.ID])
		}
		if s.State == appstream.SessionExpired {
			continue
		}
		count++
		if user[s.UserID] {
			t.Errorf("%s has two sessions", s.UserID)
		}
		user[s.UserID] = true
	}
	return count
}

// Two hundred people open their links at once: as many as there are places get one, each his own, and all others are told.
func TestOpenSessionRace(t *testing.T) {
	for name, test := range map[string]struct{ instances, per, people, links, want int }{
		"single sessions":      {20, 0, 200, 1, 20},
		"shared instances":     {20, 5, 200, 1, 100},
		"more than people":     {20, 0, 10, 1, 10},
		"several links each":   {20, 0, 40, 5, 20},
		"one person, 50 links": {20, 0, 1, 50, 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.pool(test.instances, test.per)
			claims := f.claims("")
			var mu sync.Mutex
			sessions, fresh, told := map[string]map[string]bool{}, 0, 0
			var wg sync.WaitGroup
			begin := make(chan struct{})
			for n := range test.people * test.links {
				wg.Go(func() {
					c := claims
					c.UserID = fmt.Sprint("user", n%test.people)
					<-begin
					session, existing, err := f.OpenSession(context.Background(), c, "")
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err == nil && session.UserID != c.UserID:
						t.Errorf("%s got the session of %s", c.UserID, session.UserID)
					case err == nil:
						if sessions[c.UserID] == nil {
							sessions[c.UserID] = map[string]bool{}
						}
						sessions[c.UserID][session.ID] = true
						if !existing {
							fresh++
						}
					case appstream.KindOf(err) == appstream.InsufficientCapacity:
						told++
					default:
						t.Error(err)
					}
				})
			}
			close(begin)
			wg.Wait()
			if len(sessions) != test.want || fresh != test.want || f.seated(t) != test.want {
				t.Errorf("%d people have a session, %d began one", len(sessions), fresh)
			}
			for user, ids := range sessions {
				if len(ids) != 1 {
					t.Errorf("%s has %d sessions", user, len(ids))
				}
			}
			if told != test.people*test.links-test.want*test.links {
				t.Errorf("%d were told that all places are taken", told)
			}
		})
	}
}

// Whatever people and administrators do, sessions and instances agree.
func TestSeatsAgree(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		f := newFixture(t)
		per := rapid.SampledFrom([]int{0, 2, 3}).Draw(rt, "per")
		instances := rapid.IntRange(0, 4).Draw(rt, "instances")
		f.pool(instances, per)
		var ids []string
		places := instances * max(per, 1)
		pick := func(label string) string {
			if len(ids) == 0 {
				rt.Skip()
			}
			return rapid.SampledFrom(ids).Draw(rt, label)
		}
		agree := func(rt *rapid.T) {
			if n := f.seated(rt); n > places {
				rt.Errorf("%d sessions in %d places", n, places)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"open": func(rt *rapid.T) {
				defer agree(rt)
				user := fmt.Sprint("user", rapid.IntRange(0, 9).Draw(rt, "user"))
				session, _, err := f.OpenSession(context.Background(), f.claims(user), "")
				switch {
				case err == nil:
					ids = append(ids, session.ID)
				case appstream.KindOf(err) != appstream.InsufficientCapacity:
					rt.Fatal(err)
				}
			},
			"end": func(rt *rapid.T) { f.must(f.EndSession(context.Background(), pick("end"))) },
			"expire": func(rt *rapid.T) {
				_, err := f.ExpireSession(as(me), &api.ExpireSessionInput{SessionId: new(pick("expire"))})
				f.must(err)
			},
			"connect":    func(rt *rapid.T) { f.must(f.SessionConnected(context.Background(), pick("connect"), laptop)) },
			"disconnect": func(rt *rapid.T) { f.must(f.SessionDisconnected(context.Background(), pick("disconnect"))) },
			"drain": func(rt *rapid.T) {
				_, err := f.DrainSessionInstance(as(me), &api.DrainSessionInstanceInput{SessionId: new(pick("drain"))})
				if k := appstream.KindOf(err); err != nil && k != appstream.ResourceNotFound && (k != appstream.OperationNotPermitted || per > 0) {
					rt.Fatal(err)
				}
			},
		})
		agree(rt)
	})
}

// An instance that people share is filled before the next one is begun, and of those that are free one that runs is taken first.
func TestOpenSessionChoosesWell(t *testing.T) {
	f := newFixture(t)
	f.pool(4, 2) // AVAILABLE, PREPARED, AVAILABLE, PREPARED
	var order []string
	states := map[string]string{}
	f.must(f.store.View(context.Background(), func(tx store.Tx) error {
		list, err := store.List[appstream.Instance](tx, store.Query{Noun: appstream.NounInstance})
		for _, i := range list {
			states[i.ID] = i.State
		}
		return err
	}))
	for n := range 8 {
		order = append(order, f.open(fmt.Sprint("user", n)).InstanceID)
	}
	for n := 0; n < 8; n += 2 {
		if order[n] != order[n+1] {
			t.Errorf("users %d and %d are apart: %v", n, n+1, order)
		}
		if want := []string{appstream.InstanceAvailable, appstream.InstancePrepared}[n/4]; states[order[n]] != want {
			t.Errorf("user %d got one that was %s", n, states[order[n]])
		}
	}
	_, _, err := f.OpenSession(context.Background(), f.claims("late"), "")
	refused(t, err, appstream.InsufficientCapacity, "Try again")
}

// An instance whose agent does not answer just now is the last choice, and one all the same.
func TestOpenSessionAvoidsSilentInstances(t *testing.T) {
	f := newFixture(t)
	f.pool(0, 0)
	silent := func(i *appstream.Instance) { i.SilentSince = time.Now() }
	first := f.instance("pool", appstream.InstanceAvailable, silent)
	second := f.instance("pool", appstream.InstanceAvailable)
	third := f.instance("pool", appstream.InstancePrepared)
	for n, want := range []appstream.Instance{second, third, first} {
		if got := f.open(fmt.Sprint("user", n)).InstanceID; got != want.ID {
			t.Errorf("user %d is on %s, not %s", n, got, want.ID)
		}
	}
}

// The fullest instance is chosen wherever it stands, and never one of an earlier fleet of the same name.
func TestOpenSessionChoosesTheFullest(t *testing.T) {
	f := newFixture(t)
	f.pool(0, 4)
	var ids [3]string
	for n, used := range []int{1, 3, 2} {
		ids[n] = f.instance("pool", appstream.InstanceInUse, func(i *appstream.Instance) {
			for s := range used {
				i.Sessions = append(i.Sessions, fmt.Sprint(n, "-", s))
			}
		}).ID
	}
	f.instance("pool", appstream.InstanceAvailable, func(i *appstream.Instance) { i.FleetID = "fleet-of-before" })
	for n, want := range []int{1, 2, 2, 0, 0, 0} {
		if got := f.open(fmt.Sprint("user", n)).InstanceID; got != ids[want] {
			t.Errorf("user %d is on %s of %v", n, got, ids)
		}
	}
	_, _, err := f.OpenSession(context.Background(), f.claims("late"), "")
	refused(t, err, appstream.InsufficientCapacity, "Try again")
}

// BenchmarkOpenSession claims an instance for one person after another, on fleets of a thousand places.
func BenchmarkOpenSession(b *testing.B) {
	const places = 1000
	for name, per := range map[string]int{"single": 0, "shared": 10} {
		b.Run(name, func(b *testing.B) {
			var f *fixture
			var claims ticket.Claims
			for n := 0; b.Loop(); n++ {
				if n%places == 0 {
					b.StopTimer()
					f = newFixture(b, func(c *service.Config) { c.Quotas.FleetInstances = places })
					f.pool(places/max(per, 1), per)
					claims = f.claims("")
					b.StartTimer()
				}
				claims.UserID = fmt.Sprint("user", n)
				if _, _, err := f.OpenSession(context.Background(), claims, ""); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sessions/s")
		})
	}
}

// laptop is where people are when they use their sessions.
var laptop = netip.MustParseAddr("192.0.2.7")
