package server

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
	"github.com/oriel-project/oriel/internal/ticket"
)

// awaitFleet waits until a fleet is as it shall be.
func awaitFleet(t testing.TB, c *sdk.Client, name, what string, done func(types.Fleet) bool) (f types.Fleet) {
	t.Helper()
	eventually(t, name+" "+what, func() bool {
		f = must(c.DescribeFleets(t.Context(), &sdk.DescribeFleetsInput{Names: []string{name}}))(t).Fleets[0]
		return done(f)
	})
	return f
}

// open is what the gateway does when a person opens a streaming URL of a fleet and a stack.
func (s *Server) open(t testing.TB, fleet, stack, user string) string {
	t.Helper()
	var f appstream.Fleet
	k := appstream.Key{Account: "123456789012", Region: "us-east-1", Noun: appstream.NounFleet, Name: fleet}
	if err := s.store.View(t.Context(), func(tx store.Tx) error { return tx.Get(k, &f) }); err != nil {
		t.Fatal(err)
	}
	session, _, err := s.service.OpenSession(t.Context(), ticket.Claims{Type: ticket.TypeEndUser, Account: k.Account, Region: k.Region, RecordID: f.ID,
		UserID: user, Fleet: fleet, Stack: stack}, "")
	if err != nil {
		t.Fatal(err)
	}
	return session.ID
}

// TestFleetLife publishes an image to people, with AWS's SDK: fleet, stack, streaming URL, session, and back to nothing.
func TestFleetLife(t *testing.T) {
	for _, test := range []struct {
		name      string
		kind      types.FleetType
		per       *int32
		capacity  *types.ComputeCapacity
		desired   int32
		available int32 // while one session is on it
	}{
		{"always", types.FleetTypeAlwaysOn, nil, &types.ComputeCapacity{DesiredInstances: new(int32(2))}, 2, 1},
		{"demand", types.FleetTypeOnDemand, nil, &types.ComputeCapacity{DesiredInstances: new(int32(2))}, 2, 1},
		{"shared", types.FleetTypeAlwaysOn, new(int32(3)), &types.ComputeCapacity{DesiredSessions: new(int32(5))}, 2, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, _ := start(t, simConfig(t, t.TempDir()))
			c, ctx := connect(t, s.cfg.Data, s.URL()), t.Context()
			stack := must(c.CreateStack(ctx, &sdk.CreateStackInput{Name: new("desk"), Tags: map[string]string{"team": "blue"}}))(t).Stack
			fleet := must(c.CreateFleet(ctx, &sdk.CreateFleetInput{Name: new("pool"), ImageName: new(image), InstanceType: new("stream.standard.medium"),
				FleetType: test.kind, MaxSessionsPerInstance: test.per, ComputeCapacity: test.capacity, EnableDefaultInternetAccess: new(true)}))(t).Fleet
			if fleet.State != types.FleetStateStopped || *fleet.Arn != "arn:aws:appstream:us-east-1:123456789012:fleet/pool" {
				t.Errorf("created: %s, %s", fleet.State, *fleet.Arn)
			}
			must(c.TagResource(ctx, &sdk.TagResourceInput{ResourceArn: fleet.Arn, Tags: map[string]string{"team": "red"}}))(t)
			for arn, want := range map[string]string{*stack.Arn: "blue", *fleet.Arn: "red"} {
				if got := must(c.ListTagsForResource(ctx, &sdk.ListTagsForResourceInput{ResourceArn: &arn}))(t).Tags["team"]; got != want {
					t.Errorf("the team of %s is %q", arn, got)
				}
			}
			url := &sdk.CreateStreamingURLInput{FleetName: new("pool"), StackName: new("desk"), UserId: new("ann@example.com")}
			_, err := c.CreateStreamingURL(ctx, url)
			expect[*types.OperationNotPermittedException](t, err, "AssociateFleet")
			must(c.AssociateFleet(ctx, &sdk.AssociateFleetInput{FleetName: new("pool"), StackName: new("desk")}))(t)
			_, err = c.CreateStreamingURL(ctx, url)
			expect[*types.ResourceNotAvailableException](t, err, "The fleet pool is STOPPED.")
			must(c.StartFleet(ctx, &sdk.StartFleetInput{Name: new("pool")}))(t)
			awaitFleet(t, c, "pool", "has its instances", func(f types.Fleet) bool {
				n := f.ComputeCapacityStatus
				return f.State == types.FleetStateRunning && *n.Available == test.desired && *n.Desired == test.desired && len(f.FleetErrors) == 0
			})
			made := must(c.CreateStreamingURL(ctx, url))(t)
			if !strings.HasPrefix(*made.StreamingURL, s.URL()+"/authenticate?parameters=") || time.Until(*made.Expires) > time.Minute+time.Second {
				t.Errorf("a streaming URL that begins with %.40s and expires in %s", *made.StreamingURL, time.Until(*made.Expires))
			}

			id := s.open(t, "pool", "desk", "ann@example.com")
			var session types.Session
			sessions := func() []types.Session {
				return must(c.DescribeSessions(ctx, &sdk.DescribeSessionsInput{FleetName: new("pool"), StackName: new("desk"),
					UserId: new("ann@example.com"), AuthenticationType: types.AuthenticationTypeApi}))(t).Sessions
			}
			eventually(t, "the session is ACTIVE", func() bool {
				session = sessions()[0]
				return session.State == types.SessionStateActive
			})
			drain := types.InstanceDrainStatusNotApplicable
			if test.per != nil {
				drain = types.InstanceDrainStatusActive
			}
			if n := session.NetworkAccessConfiguration; *session.Id != id || n == nil || n.EniPrivateIpAddress == nil || len(n.EniIpv6Addresses) == 0 || session.InstanceDrainStatus != drain {
				t.Errorf("%+v with the network %+v", session, n)
			}
			awaitFleet(t, c, "pool", "counts the session", func(f types.Fleet) bool {
				n := f.ComputeCapacityStatus
				users := test.per == nil || *n.ActiveUserSessions == 1 && *n.AvailableUserSessions == 5 && *n.ActualUserSessions == 6
				return *n.InUse == 1 && *n.Available == test.available && users
			})
			for _, cbor := range []bool{false, true} {
				if status, answer := call(t, s, "us-east-1", "PhotonAdminProxyService.DescribeSessions", cbor, map[string]any{"FleetName": "pool", "StackName": "desk"}); status != 200 || !strings.Contains(string(answer), id) {
					t.Errorf("DescribeSessions, CBOR %t: %d %q", cbor, status, answer)
				}
			}
			_, err = c.DisassociateFleet(ctx, &sdk.DisassociateFleetInput{FleetName: new("pool"), StackName: new("desk")})
			expect[*types.ResourceInUseException](t, err, "1 session(s) of the stack desk")
			_, err = c.UpdateFleet(ctx, &sdk.UpdateFleetInput{Name: new("pool"), Description: new("new")})
			expect[*types.ResourceInUseException](t, err, "Cannot update the attribute for fleet pool when it is ACTIVE. The fleet must be stopped to complete this action.")
			_, err = c.DrainSessionInstance(ctx, &sdk.DrainSessionInstanceInput{SessionId: &id})
			if test.per == nil {
				expect[*types.OperationNotPermittedException](t, err, "not a multi-session fleet")
			} else if err != nil {
				t.Error(err)
			}
			must(c.ExpireSession(ctx, &sdk.ExpireSessionInput{SessionId: &id}))(t)
			eventually(t, "nothing is left of the session", func() bool { return len(sessions()) == 0 })
			awaitFleet(t, c, "pool", "has replaced the instance", func(f types.Fleet) bool {
				return *f.ComputeCapacityStatus.Available == test.desired && *f.ComputeCapacityStatus.InUse == 0
			})
			if test.per == nil {
				must(c.UpdateFleet(ctx, &sdk.UpdateFleetInput{Name: new("pool"), ComputeCapacity: &types.ComputeCapacity{DesiredInstances: new(int32(1))}}))(t)
				awaitFleet(t, c, "pool", "has let one go", func(f types.Fleet) bool { return *f.ComputeCapacityStatus.Available == 1 })
			}

			s.open(t, "pool", "desk", "bob@example.com")
			_, err = c.DeleteFleet(ctx, &sdk.DeleteFleetInput{Name: new("pool")})
			expect[*types.ResourceInUseException](t, err, "The fleet pool is associated with a stack.")
			_, err = c.DeleteStack(ctx, &sdk.DeleteStackInput{Name: new("desk")})
			expect[*types.ResourceInUseException](t, err, "Cannot delete stack desk.")
			for range 2 {
				must(c.StopFleet(ctx, &sdk.StopFleetInput{Name: new("pool")}))(t)
			}
			awaitFleet(t, c, "pool", "is stopped", func(f types.Fleet) bool { return f.State == types.FleetStateStopped })
			if got := must(c.ListAssociatedFleets(ctx, &sdk.ListAssociatedFleetsInput{StackName: new("desk")}))(t).Names; fmt.Sprint(got) != "[pool]" {
				t.Errorf("the stack's fleets are %v", got)
			}
			must(c.DisassociateFleet(ctx, &sdk.DisassociateFleetInput{FleetName: new("pool"), StackName: new("desk")}))(t)
			if got := must(c.ListAssociatedStacks(ctx, &sdk.ListAssociatedStacksInput{FleetName: new("pool")}))(t).Names; len(got) != 0 {
				t.Errorf("the fleet's stacks are %v", got)
			}
			must(c.UpdateStack(ctx, &sdk.UpdateStackInput{Name: new("desk"), Description: new("to be deleted")}))(t)
			must(c.DeleteFleet(ctx, &sdk.DeleteFleetInput{Name: new("pool")}))(t)
			must(c.DeleteStack(ctx, &sdk.DeleteStackInput{Name: new("desk")}))(t)
			_, err = c.DescribeFleets(ctx, &sdk.DescribeFleetsInput{Names: []string{"pool"}})
			expect[*types.ResourceNotFoundException](t, err, "The fleet pool for account 123456789012 does not exist.")
			_, err = c.DescribeStacks(ctx, &sdk.DescribeStacksInput{Names: []string{"desk"}})
			expect[*types.ResourceNotFoundException](t, err, "The stack desk for account 123456789012 does not exist.")
			if left, err := s.provider.List(ctx); err != nil || len(left) > 0 {
				t.Errorf("machines are left: %v, %v", left, err)
			}
		})
	}
}

// expect checks that an error is one of the API's, and says something.
func expect[E error](t testing.TB, err error, says string) {
	t.Helper()
	if _, is := errors.AsType[E](err); !is || !strings.Contains(err.Error(), says) {
		var want E
		t.Errorf("got %v\nwant %T with %q", err, want, says)
	}
}
