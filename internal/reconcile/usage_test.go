package reconcile_test

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	appstreamapi "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/google/go-cmp/cmp"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute/sim"
	"github.com/oriel-project/oriel/internal/objects"
	"github.com/oriel-project/oriel/internal/store"
)

// laptop is where people are when they use their sessions.
var laptop = netip.MustParseAddr("192.0.2.7")

// at waits until a time of a day after the world's first, which is the first of January 2000.
func (w *world) at(day int, clock time.Duration) {
	w.t.Helper()
	when := time.Date(2000, 1, day, 0, 0, 0, 0, time.UTC).Add(clock)
	if time.Now().After(when) {
		w.t.Fatalf("it is %s already", time.Now())
	}
	time.Sleep(time.Until(when))
	w.settle()
}

// off has no server run until a time.
func (w *world) off(day int, clock time.Duration) {
	w.t.Helper()
	w.stop()
	time.Sleep(time.Until(time.Date(2000, 1, day, 0, 0, 0, 0, time.UTC).Add(clock)))
	w.start()
}

func (w *world) subscribe() {
	w.t.Helper()
	_, err := w.svc.CreateUsageReportSubscription(w.ctx(), &appstreamapi.CreateUsageReportSubscriptionInput{})
	w.must(err)
}

func (w *world) subscription() types.UsageReportSubscription {
	w.t.Helper()
	out, err := w.svc.DescribeUsageReportSubscriptions(w.ctx(), &appstreamapi.DescribeUsageReportSubscriptionsInput{})
	w.must(err)
	if len(out.UsageReportSubscriptions) != 1 {
		w.t.Fatalf("%d subscriptions", len(out.UsageReportSubscriptions))
	}
	return out.UsageReportSubscriptions[0]
}

// reports gives all reports that were written: the lines of each without the first, by its name.
func (w *world) reports() map[string][]map[string]string {
	w.t.Helper()
	found := map[string][]map[string]string{}
	bucket := appstream.LogsBucket(caller.Account, caller.Region)
	list, err := w.files.List(w.ctx(), caller.Account, bucket, "", "", 1000)
	w.must(err)
	for _, o := range list {
		data, err := objects.Read(w.ctx(), w.files, objects.Location{Account: caller.Account, Bucket: bucket, Key: o.Key}, 1<<20)
		w.must(err)
		lines, err := csv.NewReader(bytes.NewReader(data)).ReadAll()
		w.must(err)
		name := o.Key[strings.LastIndexByte(o.Key, '/')+1:]
		for _, line := range lines[1:] {
			row := map[string]string{}
			for n, column := range lines[0] {
				row[column] = line[n]
			}
			found[name] = append(found[name], row)
		}
	}
	return found
}

// reported gives the IDs of the sessions in each report of sessions, by day, and checks that none is in two.
func (w *world) reported() map[string][]string {
	w.t.Helper()
	days, seen := map[string][]string{}, map[string]bool{}
	for name, rows := range w.reports() {
		day, ok := strings.CutPrefix(name, "daily-session-report-")
		if !ok {
			continue
		}
		for _, row := range rows {
			id := row["user_session_id"]
			if seen[id] {
				w.t.Errorf("the session %s is reported twice", id)
			}
			seen[id] = true
			day := strings.TrimSuffix(day, ".csv")
			days[day] = append(days[day], id)
			slices.Sort(days[day])
		}
	}
	return days
}

func (w *world) records() (list []appstream.UsageRecord) {
	w.t.Helper()
	w.must(w.store.View(w.ctx(), func(tx store.Tx) (err error) {
		list, err = store.List[appstream.UsageRecord](tx, store.Query{Noun: appstream.NounUsageRecord})
		return err
	}))
	return list
}

// use has somebody use a session for an hour, and end it.
func (w *world) use(user string) appstream.Session {
	w.t.Helper()
	s := w.sit("lab", user)
	w.must(w.svc.SessionConnected(w.ctx(), s.ID, laptop))
	time.Sleep(time.Hour)
	w.must(w.svc.EndSession(w.ctx(), s.ID))
	w.wait("cleared", time.Minute, func() bool { return w.session(s.ID).Cleared })
	return w.session(s.ID)
}

func TestUsageReport(t *testing.T) {
	inFleets(t, 1, func(w *world, c *crew) {
		w.fleet("lab", types.FleetTypeAlwaysOn, 2, 1)
		w.reachFleet("lab", types.FleetStateRunning, 2)
		before := w.use("before") // it ends before there is a subscription
		w.subscribe()
		s := w.sit("lab", "ada")
		for _, source := range []string{"192.0.2.7", "2001:db8::1", "192.0.2.7"} {
			w.must(w.svc.SessionConnected(w.ctx(), s.ID, netip.MustParseAddr(source)))
		}
		for _, application := range []string{"editor", "browser", "editor"} {
			w.must(w.svc.ApplicationLaunched(w.ctx(), s.ID, application))
		}
		time.Sleep(90 * time.Minute)
		w.must(w.svc.EndSession(w.ctx(), s.ID))
		w.wait("cleared", time.Minute, func() bool { return w.session(s.ID).Cleared })
		s = w.session(s.ID)
		if records := w.records(); len(records) != 1 || records[0].Session != s.ID {
			t.Errorf("the records are %+v", records)
		}
		w.must(w.stopFleet("lab"))
		w.reachFleet("lab", types.FleetStateStopped, 0)

		w.off(2, 5*time.Minute) // over midnight, but not for long enough
		w.settle()
		if got := w.reports(); len(got) != 0 {
			t.Errorf("at five past midnight the reports are %v", got)
		}
		w.at(2, 11*time.Minute)
		time1, time2 := s.Created.Format(time.RFC3339), s.Ended.Format(time.RFC3339)
		app := func(name string) map[string]string {
			return map[string]string{"user_session_id": s.ID, "application_name": name, "schedule": "DAILY", "year": "2000", "month": "01", "day": "01"}
		}
		want := map[string][]map[string]string{
			"daily-session-report-2000-01-01.csv": {{"user_session_id": s.ID, "aws_account_id": "123456789012", "region": "us-east-1", "session_start_time": time1, "session_end_time": time2,
				"session_duration_in_seconds": fmt.Sprint(int(s.Ended.Sub(s.Created) / time.Second)), "user_id": "ada", "user_arn": "arn:aws:appstream:us-east-1:123456789012:user/custom/ada",
				"authentication_type": "CUSTOM", "authentication_type_user_id": "CUSTOM_ada", "fleet_name": "lab", "stack_name": s.Stack, "instance_type": "stream.standard.small",
				"eni_private_ip_address": aws.ToString(s.Network.EniPrivateIpAddress), "connected_at_least_once": "true", "client_ip_addresses": "2001:db8::1;192.0.2.7",
				"google_drive_enabled": "false", "one_drive_enabled": "false", "home_folders_storage_location": "",
				"user_settings_clipboard_copy_from_local_device": "ENABLED", "user_settings_clipboard_copy_to_local_device": "ENABLED", "user_settings_file_upload": "ENABLED",
				"user_settings_file_download": "ENABLED", "user_settings_printing_to_local_device": "ENABLED", "application_settings_enabled": "false", "domain_joined": "N",
				"max_session_duration": "57600", "session_type": "ALWAYS_ON", "stream_view": "APPLICATION", "streaming_experience_settings_protocol": "TCP", "instance_id": s.InstanceID, "is_multisession": "false"}},
			"daily-app-report-2000-01-01.csv": {app("browser"), app("editor"), app("editor")},
		}
		if diff := cmp.Diff(want, w.reports()); diff != "" {
			t.Errorf("the reports (-want +got):\n%s", diff)
		}
		sub := w.subscription()
		if sub.LastGeneratedReportDate == nil || time.Since(*sub.LastGeneratedReportDate) > 5*time.Minute || len(sub.SubscriptionErrors) > 0 {
			t.Errorf("the subscription is %+v", sub)
		}
		if before.Recorded || !s.Recorded {
			t.Error("what is recorded is not what shall be")
		}

		// A day without sessions has no report, and nothing is remembered of the day before.
		w.off(3, 12*time.Minute)
		w.settle()
		if diff := cmp.Diff(want, w.reports()); diff != "" {
			t.Errorf("a day later (-want +got):\n%s", diff)
		}
		w.wait("the record is forgotten", time.Minute, func() bool { return len(w.records()) == 0 })
		if again := w.subscription(); !again.LastGeneratedReportDate.Equal(*sub.LastGeneratedReportDate) {
			t.Errorf("a report was generated at %s", again.LastGeneratedReportDate)
		}
	})
}

// A server that was off, or could not write, writes a report for every day that it has missed; the subscription says why there is none.
func TestUsageReportsAreCaughtUp(t *testing.T) {
	inFleets(t, 1, func(w *world, c *crew) {
		w.fleet("lab", types.FleetTypeAlwaysOn, 1, 1)
		w.reachFleet("lab", types.FleetStateRunning, 1)
		w.subscribe()
		want := map[string][]string{}
		trouble := func(err error) {
			w.setInject(func(method, _ string, when sim.When) error {
				if method == "EnsureReported" && when == sim.Before {
					return err
				}
				return nil
			})
		}
		unknown := errors.New("s3://secret at https://inside.example.com said 503")
		trouble(syscall.ENOSPC)
		for day := 1; day <= 3; day++ {
			s := w.use("ada")
			want[fmt.Sprintf("2000-01-%02d", day)] = []string{s.ID}
			w.off(day+1, time.Hour)
		}
		w.settle()
		w.wait("the error", time.Minute, func() bool { return len(w.subscription().SubscriptionErrors) == 1 })
		e := w.subscription().SubscriptionErrors[0]
		if e.ErrorCode != types.UsageReportExecutionErrorCodeInternalServiceError || !strings.Contains(*e.ErrorMessage, "no space left") || strings.Contains(*e.ErrorMessage, w.dir) {
			t.Errorf("the error is %s: %s", e.ErrorCode, *e.ErrorMessage)
		}
		for err, code := range map[error]types.UsageReportExecutionErrorCode{fs.ErrPermission: types.UsageReportExecutionErrorCodeAccessDenied,
			fs.ErrNotExist: types.UsageReportExecutionErrorCodeResourceNotFound} {
			trouble(err)
			w.wait(string(code), time.Minute, func() bool { return w.subscription().SubscriptionErrors[0].ErrorCode == code })
		}
		trouble(unknown)
		w.wait("another error", time.Minute, func() bool { return strings.Contains(*w.subscription().SubscriptionErrors[0].ErrorMessage, "just now") })
		if e := w.subscription().SubscriptionErrors[0]; e.ErrorCode != types.UsageReportExecutionErrorCodeInternalServiceError || strings.Contains(*e.ErrorMessage, "inside") {
			t.Errorf("the error is %s: %s", e.ErrorCode, *e.ErrorMessage)
		}
		if got := w.reported(); len(got) != 0 {
			t.Errorf("the reports are %v", got)
		}
		w.setInject(nil)
		w.off(9, 3*time.Hour)
		w.wait("the reports", time.Minute, func() bool { return len(w.reported()) == 3 })
		if diff := cmp.Diff(want, w.reported()); diff != "" {
			t.Errorf("the reports (-want +got):\n%s", diff)
		}
		if sub := w.subscription(); len(sub.SubscriptionErrors) > 0 || sub.LastGeneratedReportDate == nil {
			t.Errorf("the subscription is %+v", sub)
		}
		w.off(9, 12*time.Hour)
		w.wait("the records are forgotten", 12*time.Hour, func() bool { return len(w.records()) == 0 })
	})
}

// Sessions that end about midnight, while the server is killed, are each in the report of their day.
func TestUsageReportsAboutMidnight(t *testing.T) {
	inFleets(t, 1, func(w *world, c *crew) {
		w.fleet("lab", types.FleetTypeAlwaysOn, 3, 1)
		w.reachFleet("lab", types.FleetStateRunning, 3)
		w.subscribe()
		w.off(1, 22*time.Hour)
		w.reachFleet("lab", types.FleetStateRunning, 3)
		ann, bob, cid := w.sit("lab", "ann"), w.sit("lab", "bob"), w.sit("lab", "cid")
		for _, s := range []appstream.Session{ann, bob, cid} {
			w.must(w.svc.SessionConnected(w.ctx(), s.ID, laptop))
		}
		w.at(1, 24*time.Hour-time.Minute)
		w.kill() // the operations go on, and the engine does not
		midnight := time.Date(2000, 1, 2, 0, 0, 0, 0, time.UTC)
		time.Sleep(time.Until(midnight.Add(-time.Microsecond)))
		w.must(w.svc.EndSession(w.ctx(), ann.ID))
		time.Sleep(time.Until(midnight))
		w.must(w.svc.EndSession(w.ctx(), bob.ID))
		w.off(2, 30*time.Minute)
		w.wait("the report", time.Minute, func() bool { return len(w.reported()) == 1 })
		w.must(w.svc.EndSession(w.ctx(), cid.ID))
		w.off(3, 30*time.Minute)
		w.wait("the second report", time.Minute, func() bool { return len(w.reported()) == 2 })
		want := map[string][]string{"2000-01-01": {ann.ID}, "2000-01-02": {bob.ID, cid.ID}}
		slices.Sort(want["2000-01-02"])
		if diff := cmp.Diff(want, w.reported()); diff != "" {
			t.Errorf("the reports (-want +got):\n%s", diff)
		}
	})
}

// Without a subscription nothing is recorded, and nothing of what was recorded is kept when it ends.
func TestUsageIsForgottenWithoutASubscription(t *testing.T) {
	inFleets(t, 1, func(w *world, c *crew) {
		w.fleet("lab", types.FleetTypeAlwaysOn, 2, 1)
		w.reachFleet("lab", types.FleetStateRunning, 2)
		w.use("ada")
		if records := w.records(); len(records) != 0 {
			t.Errorf("without a subscription there are the records %+v", records)
		}
		w.subscribe()
		w.use("ada")
		_, err := w.svc.DeleteUsageReportSubscription(w.ctx(), &appstreamapi.DeleteUsageReportSubscriptionInput{})
		w.must(err)
		w.off(2, 10*time.Hour)
		w.wait("the record is forgotten", time.Minute, func() bool { return len(w.records()) == 0 })
		if got := w.reports(); len(got) != 0 {
			t.Errorf("the reports are %v", got)
		}
	})
}

// What waits for its day costs nothing until then: the sweep wakes only what may not be due so far ahead.
func TestWhatWaitsForItsDayIsLeftAlone(t *testing.T) {
	inFleets(t, 1, func(w *world, c *crew) {
		w.must(w.createWith("hello", "base", []string{"Word"}, nil))
		w.reach("hello", "RUNNING")
		w.must(w.do("image", "hello"))
		w.reach("hello", "STOPPED")
		w.fleet("lab", types.FleetTypeAlwaysOn, 1, 1, func(in *appstreamapi.CreateFleetInput) { in.ImageName = aws.String("image-of-hello") })
		w.reachFleet("lab", types.FleetStateRunning, 1)
		w.subscribe()
		w.use("ada")
		versions := func() map[appstream.Noun]int64 {
			found := map[appstream.Noun]int64{}
			w.must(w.store.View(w.ctx(), func(tx store.Tx) error {
				for _, noun := range []appstream.Noun{appstream.NounLicenseUsage, appstream.NounUsageRecord, appstream.NounUsageReports} {
					err := tx.Scan(store.Query{Noun: noun, Heads: true}, func(head appstream.Meta, _ func(appstream.Record) error) error {
						found[noun] += head.Version
						return nil
					})
					if err != nil {
						return err
					}
				}
				return nil
			}))
			return found
		}
		time.Sleep(time.Minute)
		before := versions()
		if len(before) != 3 {
			t.Fatalf("there are only %v", before)
		}
		time.Sleep(time.Hour)
		if diff := cmp.Diff(before, versions()); diff != "" {
			t.Errorf("they were written within an hour (-before +after):\n%s", diff)
		}
	})
}
