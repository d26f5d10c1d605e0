package service_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	api "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/google/go-cmp/cmp"

	"github.com/oriel-project/oriel/internal/appstream"
)

// usageReportRows are the rows of the table that are about usage reports.
func usageReportRows() []row {
	subscribed := func(f *fixture) {
		_, err := f.CreateUsageReportSubscription(as(me), &api.CreateUsageReportSubscriptionInput{})
		f.must(err)
	}
	bucket := appstream.LogsBucket(me, "us-west-2")
	created := func(t *testing.T, f *fixture, out any) {
		got := out.(*api.CreateUsageReportSubscriptionOutput)
		if *got.S3BucketName != bucket || !strings.HasPrefix(bucket, "appstream-logs-us-west-2-"+me+"-") || got.Schedule != types.UsageReportScheduleDaily {
			t.Errorf("answered %s, %s", *got.S3BucketName, got.Schedule)
		}
		theirs, err := f.DescribeUsageReportSubscriptions(as(other), &api.DescribeUsageReportSubscriptionsInput{})
		if f.must(err); len(theirs.UsageReportSubscriptions) != 0 {
			t.Errorf("another account has %+v", theirs.UsageReportSubscriptions)
		}
	}
	described := func(n int) func(*testing.T, *fixture, any) {
		return func(t *testing.T, _ *fixture, out any) {
			got := out.(*api.DescribeUsageReportSubscriptionsOutput)
			if len(got.UsageReportSubscriptions) != n || got.NextToken != nil {
				t.Fatalf("answered %+v", got)
			}
			for _, s := range got.UsageReportSubscriptions {
				if diff := cmp.Diff(types.UsageReportSubscription{S3BucketName: &bucket, Schedule: types.UsageReportScheduleDaily}, s, noSmithy); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
		}
	}
	return []row{
		{name: "success", in: &api.CreateUsageReportSubscriptionInput{}, then: created},
		{name: "again", given: subscribed, in: &api.CreateUsageReportSubscriptionInput{}, then: created},
		{name: "success", given: subscribed, in: &api.DescribeUsageReportSubscriptionsInput{}, then: described(1)},
		{name: "a page", given: subscribed, in: &api.DescribeUsageReportSubscriptionsInput{MaxResults: new(int32(1))}, then: described(1)},
		{name: "none", in: &api.DescribeUsageReportSubscriptionsInput{}, then: described(0)},
		{name: "a wrong token", in: &api.DescribeUsageReportSubscriptionsInput{NextToken: new("x")}, want: appstream.Validation, says: "NextToken"},
		{name: "success", given: subscribed, in: &api.DeleteUsageReportSubscriptionInput{}, then: func(t *testing.T, f *fixture, _ any) {
			out, err := f.DescribeUsageReportSubscriptions(as(me), &api.DescribeUsageReportSubscriptionsInput{})
			f.must(err)
			described(0)(t, f, out)
		}},
		{name: "none", in: &api.DeleteUsageReportSubscriptionInput{}, want: appstream.ResourceNotFound, says: "has no subscription"},
	}
}

// The errors of a subscription are shown while it has them.
func TestSubscriptionShowsItsErrors(t *testing.T) {
	sub := appstream.UsageReportSubscription{Meta: appstream.Meta{Key: appstream.UsageSubscription(me, "us-west-2")}, Generated: time.Date(2026, 11, 21, 0, 10, 0, 0, time.UTC)}
	for code, want := range map[string]types.UsageReportExecutionErrorCode{"": "INTERNAL_SERVICE_ERROR", "ACCESS_DENIED": "ACCESS_DENIED"} {
		sub.Problem = &appstream.Problem{Code: code, Message: "why"}
		got := sub.Describe()
		if len(got.SubscriptionErrors) != 1 || got.SubscriptionErrors[0].ErrorCode != want || *got.SubscriptionErrors[0].ErrorMessage != "why" || !got.LastGeneratedReportDate.Equal(sub.Generated) {
			t.Errorf("described as %+v", got)
		}
	}
}

// A session knows what a report will say of it.
func TestTermsOfASession(t *testing.T) {
	f := newFixture(t)
	f.pool(1, 4, func(in *api.CreateFleetInput) { in.MaxUserDurationInSeconds = new(int32(7200)) })
	want := appstream.Terms{InstanceType: "stream.standard.medium", FleetType: types.FleetTypeOnDemand, Multi: true, MaxDuration: 2 * time.Hour}
	if diff := cmp.Diff(want, f.open("ann").Terms); diff != "" {
		t.Errorf("of a stack that says nothing (-want +got):\n%s", diff)
	}
	_, err := f.UpdateStack(as(me), &api.UpdateStackInput{Name: new("desk"), ApplicationSettings: &types.ApplicationSettings{Enabled: new(true), SettingsGroup: new("g")},
		StorageConnectors: []types.StorageConnector{{ConnectorType: types.StorageConnectorTypeHomefolders}, {ConnectorType: types.StorageConnectorTypeGoogleDrive, Domains: []string{"example.com"}},
			{ConnectorType: types.StorageConnectorTypeOneDrive, Domains: []string{"example.com"}}}})
	f.must(err)
	want.GoogleDrive, want.OneDrive, want.ApplicationSettings, want.HomeFolders = true, true, true, "appstream2-36fb080bb8-us-west-2-"+me
	if diff := cmp.Diff(want, f.open("bob").Terms); diff != "" {
		t.Errorf("of a stack with everything (-want +got):\n%s", diff)
	}
}

// Where a person was and what he has launched is noted until the session is over, and nothing else changes with it.
func TestUseOfASession(t *testing.T) {
	f := newFixture(t)
	f.pool(1, 0)
	ctx := context.Background()
	ann := f.open("ann")
	train := netip.MustParseAddr("2001:db8::1%eth0")
	f.must(f.SessionConnected(ctx, ann.ID, laptop))
	before := f.editSession(ann.ID, func(*appstream.Session) {})
	f.must(f.SessionConnected(ctx, ann.ID, laptop))
	if again := f.editSession(ann.ID, func(*appstream.Session) {}); again.Version != before.Version+1 {
		t.Error("what was known already was written again")
	}
	f.must(f.SessionConnected(ctx, ann.ID, train))
	f.must(f.ApplicationLaunched(ctx, ann.ID, "editor"))
	f.must(f.ApplicationLaunched(ctx, "00000000-0000-0000-0000-000000000000", "editor"))
	after := f.editSession(ann.ID, func(s *appstream.Session) { s.End(appstream.EndByUser, time.Now().UTC()) })
	if diff := cmp.Diff([]string{"192.0.2.7", "2001:db8::1"}, after.Clients); diff != "" || after.Launches["editor"] != 1 || !after.Away.Equal(before.Away) && after.Connected {
		t.Errorf("it is %+v", after)
	}
	f.must(f.SessionConnected(ctx, ann.ID, netip.MustParseAddr("192.0.2.8")))
	f.must(f.ApplicationLaunched(ctx, ann.ID, "editor"))
	if over := f.editSession(ann.ID, func(*appstream.Session) {}); len(over.Clients) != 2 || over.Launches["editor"] != 1 {
		t.Errorf("after its end it is %+v", over)
	}
}
