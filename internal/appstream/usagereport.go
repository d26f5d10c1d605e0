package appstream

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
)

// A UsageReportSubscription has the sessions of an account in a region reported, day by day.
//
//	CreateUsageReportSubscription ──▶ ACTIVE ──DeleteUsageReportSubscription──▶ (gone)
//
// A day is reported when it is over, in UTC, and every session that ended on it is recorded. Days on which none ended have no report. What is
// written is whole, and the same if it is written twice; that it is written is then noted here. A server that was off writes one
// report after the other for the days that it has missed.
type UsageReportSubscription struct {
	Meta // Name is the schedule

	Bucket    string
	Reported  string    // the last day that is reported, or was over when the subscription began
	Generated time.Time `json:",omitzero"` // when the last report was written
}

// SubscriptionActive is the only state of a subscription.
const SubscriptionActive = "ACTIVE"

var subscriptionTransitions = []Transition{
	{"", SubscriptionActive, "CreateUsageReportSubscription"},
	{SubscriptionActive, "", "DeleteUsageReportSubscription"},
}

const (
	reportAfter   = 10 * time.Minute // midnight: what happens at the end of a day has come to the store by then
	recordingTime = 5 * time.Second  // for sessions that have ended and are not recorded yet
)

// UsageSubscription names the subscription of an account in a region. There is one schedule.
func UsageSubscription(account, region string) Key {
	return Key{Account: account, Region: region, Noun: NounUsageReports, Name: string(types.UsageReportScheduleDaily)}
}

// LogsBucket is the bucket of an account in a region that AppStream writes into: usage reports, and the output of session scripts. AWS ends its
// name with something random; here it is always the same, so that a second subscription finds the reports of the first.
func LogsBucket(account, region string) string {
	sum := sha256.Sum256([]byte("logs" + account + region))
	return "appstream-logs-" + region + "-" + account + "-" + hex.EncodeToString(sum[:4])
}

// Begin makes a new subscription ACTIVE: its first report is of the day on which it began.
func (s *UsageReportSubscription) Begin(now time.Time) {
	s.Created, s.Reported = now, Day(now.AddDate(0, 0, -1))
	s.Enter(SubscriptionActive, now, 0)
	s.Due = nextReport(now)
}

// nextReport is when the day that now is, but for reportAfter, can be reported.
func nextReport(now time.Time) time.Time {
	return now.UTC().Add(-reportAfter).Truncate(24*time.Hour).AddDate(0, 0, 1).Add(reportAfter)
}

// Describe gives what the API shows of the subscription.
func (s *UsageReportSubscription) Describe() types.UsageReportSubscription {
	v := types.UsageReportSubscription{S3BucketName: &s.Bucket, Schedule: types.UsageReportSchedule(s.Name)}
	if !s.Generated.IsZero() {
		v.LastGeneratedReportDate = &s.Generated
	}
	if p := s.Problem; p != nil {
		e := types.LastReportGenerationExecutionError{ErrorCode: types.UsageReportExecutionErrorCode(p.Code), ErrorMessage: &p.Message}
		if e.ErrorCode == "" {
			e.ErrorCode = types.UsageReportExecutionErrorCodeInternalServiceError
		}
		v.SubscriptionErrors = []types.LastReportGenerationExecutionError{e}
	}
	return v
}

// EnsureReported writes the reports of a day into Bucket.
type EnsureReported struct{ Account, Region, Bucket, Day string }

func (a EnsureReported) String() string {
	return "EnsureReported " + a.Account + " " + a.Region + " " + a.Day
}

// ReportSnapshot is the world as PlanUsageReports sees it.
type ReportSnapshot struct {
	Subscription UsageReportSubscription
	Unrecorded   time.Time // when the first of the sessions ended that are to be recorded and are not yet; zero: none is left
	Next         string    // the first day after the last report of which there are records; "" for none
}

// PlanUsageReports decides which day is reported next. It is pure.
func PlanUsageReports(s ReportSnapshot, now time.Time) Decision[UsageReportSubscription] {
	sub := s.Subscription
	today := Day(now.Add(-reportAfter))
	switch {
	case !s.Unrecorded.IsZero() && Day(s.Unrecorded) < today:
		return Decision[UsageReportSubscription]{Next: sub, Again: now.Add(recordingTime)}
	case s.Next != "" && s.Next < today:
		sub.Reported, sub.Generated = s.Next, now
		return Decision[UsageReportSubscription]{Next: sub, Do: []Action{EnsureReported{sub.Account, sub.Region, sub.Bucket, s.Next}}, Again: now}
	}
	return Decision[UsageReportSubscription]{Next: sub, Again: nextReport(now)}
}

// ReportKeys gives the keys of a day's reports in their bucket.
func ReportKeys(day string) (sessions, applications string) {
	year, rest, _ := strings.Cut(day, "-")
	month, dayOfMonth, _ := strings.Cut(rest, "-")
	folder := "/schedule=DAILY/year=" + year + "/month=" + month + "/day=" + dayOfMonth + "/"
	return "sessions" + folder + "daily-session-report-" + day + ".csv", "applications" + folder + "daily-app-report-" + day + ".csv"
}

// sessionColumns are the columns of a sessions report, in AppStream's order.
var sessionColumns = []struct {
	name  string
	value func(*UsageRecord) string
}{
	{"user_session_id", func(u *UsageRecord) string { return u.Session }},
	{"aws_account_id", func(u *UsageRecord) string { return u.Account }},
	{"region", func(u *UsageRecord) string { return u.Region }},
	{"session_start_time", func(u *UsageRecord) string { return u.Start.UTC().Format(time.RFC3339) }},
	{"session_end_time", func(u *UsageRecord) string { return u.End.UTC().Format(time.RFC3339) }},
	{"session_duration_in_seconds", func(u *UsageRecord) string { return seconds(max(0, u.End.Sub(u.Start))) }},
	{"user_id", func(u *UsageRecord) string { return u.UserID }},
	{"user_arn", func(u *UsageRecord) string { return UserARN(u.Account, u.Region, u.AuthType, u.UserID) }},
	{"authentication_type", func(u *UsageRecord) string { return authentication(u.AuthType) }},
	{"authentication_type_user_id", func(u *UsageRecord) string { return authentication(u.AuthType) + "_" + u.UserID }},
	{"fleet_name", func(u *UsageRecord) string { return u.Fleet }},
	{"stack_name", func(u *UsageRecord) string { return u.Stack }},
	{"instance_type", func(u *UsageRecord) string { return u.Terms.InstanceType }},
	{"eni_private_ip_address", func(u *UsageRecord) string { return u.Address }},
	{"connected_at_least_once", func(u *UsageRecord) string { return strconv.FormatBool(u.ConnectedOnce) }},
	{"client_ip_addresses", func(u *UsageRecord) string { return strings.Join(u.Clients, ";") }},
	{"google_drive_enabled", func(u *UsageRecord) string { return strconv.FormatBool(u.Terms.GoogleDrive) }},
	{"one_drive_enabled", func(u *UsageRecord) string { return strconv.FormatBool(u.Terms.OneDrive) }},
	{"home_folders_storage_location", func(u *UsageRecord) string { return u.Terms.HomeFolders }},
	{"user_settings_clipboard_copy_from_local_device", func(u *UsageRecord) string { return enabled(u.Rules.CopyIn) }},
	{"user_settings_clipboard_copy_to_local_device", func(u *UsageRecord) string { return enabled(u.Rules.CopyOut) }},
	{"user_settings_file_upload", func(u *UsageRecord) string { return enabled(u.Rules.Upload) }},
	{"user_settings_file_download", func(u *UsageRecord) string { return enabled(u.Rules.Download) }},
	{"user_settings_printing_to_local_device", func(u *UsageRecord) string { return enabled(u.Rules.Print) }},
	{"application_settings_enabled", func(u *UsageRecord) string { return strconv.FormatBool(u.Terms.ApplicationSettings) }},
	{"domain_joined", func(*UsageRecord) string { return "N" }}, // instances join none
	{"max_session_duration", func(u *UsageRecord) string { return seconds(u.Terms.MaxDuration) }},
	{"session_type", func(u *UsageRecord) string { return string(u.Terms.FleetType) }},
	{"stream_view", func(u *UsageRecord) string {
		if u.View == types.StreamViewDesktop {
			return "DESKTOP"
		}
		return "APPLICATION"
	}},
	{"streaming_experience_settings_protocol", func(u *UsageRecord) string {
		if u.ConnectedOnce {
			return "TCP" // a WebSocket
		}
		return ""
	}},
	{"instance_id", func(u *UsageRecord) string { return u.InstanceID }},
	{"is_multisession", func(u *UsageRecord) string { return strconv.FormatBool(u.Terms.Multi) }},
}

func seconds(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }

func enabled(is bool) string {
	if is {
		return string(types.PermissionEnabled)
	}
	return string(types.PermissionDisabled)
}

// authentication is a type of authentication as usage reports name it: who comes by a streaming URL is CUSTOM.
func authentication(t types.AuthenticationType) string {
	if t == types.AuthenticationTypeApi {
		return "CUSTOM"
	}
	return string(t)
}

// SessionsReport writes the sessions of a day, in CSV.
func SessionsReport(records []UsageRecord) []byte {
	header := make([]string, len(sessionColumns))
	for n, column := range sessionColumns {
		header[n] = column.name
	}
	rows := [][]string{header}
	for i := range records {
		row := make([]string, len(sessionColumns))
		for n, column := range sessionColumns {
			row[n] = column.value(&records[i])
		}
		rows = append(rows, row)
	}
	return table(rows)
}

// ApplicationsReport writes the launches of applications in the sessions of a day, in CSV: a line for each; nil when there was none.
func ApplicationsReport(day string, records []UsageRecord) []byte {
	date := strings.SplitN(day, "-", 3)
	rows := [][]string{{"user_session_id", "application_name", "schedule", "year", "month", "day"}}
	for _, u := range records {
		for _, name := range slices.Sorted(maps.Keys(u.Launches)) {
			row := append([]string{u.Session, name, string(types.UsageReportScheduleDaily)}, date...)
			for range u.Launches[name] {
				rows = append(rows, row)
			}
		}
	}
	if len(rows) == 1 {
		return nil
	}
	return table(rows)
}

// table writes rows as CSV. Programs that show tables take a cell for a formula when it begins with one of =+-@, and people choose what is in some: such
// a cell, and one that begins with an apostrophe, gets an apostrophe before it. Whoever reads the file takes one away from the beginning of a cell.
func table(rows [][]string) []byte {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	for _, row := range rows {
		cells := make([]string, len(row))
		for n, cell := range row {
			if strings.IndexAny(cell, "=+-@'\t\r\n") == 0 {
				cell = "'" + cell
			}
			cells[n] = cell
		}
		if err := w.Write(cells); err != nil {
			panic(fmt.Sprintf("write CSV into memory: %v", err)) // cannot fail
		}
	}
	w.Flush()
	return b.Bytes()
}
