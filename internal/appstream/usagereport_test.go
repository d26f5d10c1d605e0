package appstream

import (
	"encoding/csv"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func onDay(day int, clock time.Duration) time.Time {
	return time.Date(2026, 11, day, 0, 0, 0, 0, time.UTC).Add(clock)
}

func aSubscription(reported string) UsageReportSubscription {
	sub := UsageReportSubscription{Meta: Meta{Key: UsageSubscription("123456789012", "us-west-2"), ID: "reports-1"}, Bucket: "bucket"}
	sub.Begin(onDay(10, 9*time.Hour))
	sub.Reported = reported
	return sub
}

func TestSubscriptionBegins(t *testing.T) {
	sub := UsageReportSubscription{}
	sub.Begin(onDay(10, 9*time.Hour))
	if sub.Reported != "2026-11-09" || !sub.Due.Equal(onDay(11, reportAfter)) {
		t.Errorf("the last day is %s, and it is due at %s", sub.Reported, sub.Due)
	}
	sub.Begin(onDay(1, time.Minute))
	if sub.Reported != "2026-10-31" || !sub.Due.Equal(onDay(1, reportAfter)) {
		t.Errorf("in the first minute of a month the last day is %s, and it is due at %s", sub.Reported, sub.Due)
	}
}

func TestPlanUsageReports(t *testing.T) {
	for name, test := range map[string]struct {
		unrecorded time.Time
		next       string
		now        time.Time
		do         string
		again      time.Time
	}{
		"nothing to report":          {time.Time{}, "", onDay(12, 9*time.Hour), "", onDay(13, reportAfter)},
		"today is not over":          {time.Time{}, "2026-11-12", onDay(12, 9*time.Hour), "", onDay(13, reportAfter)},
		"just over":                  {time.Time{}, "2026-11-11", onDay(12, reportAfter-1), "", onDay(12, reportAfter)},
		"over":                       {time.Time{}, "2026-11-11", onDay(12, reportAfter), "EnsureReported 123456789012 us-west-2 2026-11-11", onDay(12, reportAfter)},
		"long over":                  {time.Time{}, "2026-11-11", onDay(20, time.Hour), "EnsureReported 123456789012 us-west-2 2026-11-11", onDay(20, time.Hour)},
		"not recorded, of that day":  {onDay(11, 23*time.Hour), "2026-11-11", onDay(12, time.Hour), "", onDay(12, time.Hour+recordingTime)},
		"not recorded, of a day too": {onDay(11, 23*time.Hour), "", onDay(12, time.Hour), "", onDay(12, time.Hour+recordingTime)},
		"not recorded, of today":     {onDay(12, time.Minute), "2026-11-11", onDay(12, time.Hour), "EnsureReported 123456789012 us-west-2 2026-11-11", onDay(12, time.Hour)},
		"a day to come":              {time.Time{}, "2027-01-01", onDay(12, time.Hour), "", onDay(13, reportAfter)},
	} {
		t.Run(name, func(t *testing.T) {
			d := PlanUsageReports(ReportSnapshot{Subscription: aSubscription("2026-11-10"), Unrecorded: test.unrecorded, Next: test.next}, test.now)
			do := ""
			for _, action := range d.Do {
				do += action.String()
			}
			if do != test.do || !d.Again.Equal(test.again) {
				t.Errorf("does %q, again at %s", do, d.Again)
			}
			reported, generated := "2026-11-10", time.Time{}
			if test.do != "" {
				reported, generated = test.next, test.now
			}
			if d.Next.Reported != reported || !d.Next.Generated.Equal(generated) {
				t.Errorf("reported is %s, at %s", d.Next.Reported, d.Next.Generated)
			}
		})
	}
}

// A session is recorded once, when it has ended, for its day or, if that is reported, the next one that is not.
func TestSessionIsRecorded(t *testing.T) {
	session := Session{Meta: Meta{Key: Key{Account: "123456789012", Region: "us-west-2", Noun: NounSession, Name: "lab/x/s-1"}, ID: "s-1", State: SessionExpired, Created: onDay(11, 0)},
		Ended: onDay(12, 23*time.Hour), Clients: []string{"192.0.2.7"}, Launches: map[string]int{"editor": 2}, Network: &types.NetworkAccessConfiguration{EniPrivateIpAddress: new("10.0.0.5")}}
	for name, test := range map[string]struct {
		edit     func(*Session)
		reported string // "" for no subscription
		now      time.Time
		want     string // name of the record
		pinned   bool   // the subscription is committed too
	}{
		"on its day":                {func(*Session) {}, "2026-11-11", onDay(12, 23*time.Hour), "2026-11-12/s-1", false},
		"a day later":               {func(*Session) {}, "2026-11-11", onDay(13, time.Hour), "2026-11-12/s-1", true},
		"after the report":          {func(*Session) {}, "2026-11-12", onDay(13, time.Hour), "2026-11-13/s-1", false},
		"after the clock went back": {func(*Session) {}, "2026-11-30", onDay(12, 23*time.Hour), "2026-12-01/s-1", false},
		"no subscription":           {func(*Session) {}, "", onDay(12, 23*time.Hour), "", false},
		"before the subscription":   {func(s *Session) { s.Ended = onDay(10, 8*time.Hour) }, "2026-11-09", onDay(10, 10*time.Hour), "", false},
		"recorded already":          {func(s *Session) { s.Recorded = true }, "2026-11-11", onDay(12, 23*time.Hour), "", false},
	} {
		t.Run(name, func(t *testing.T) {
			snapshot := SessionSnapshot{Session: session}
			test.edit(&snapshot.Session)
			if test.reported != "" {
				snapshot.Subscription = new(aSubscription(test.reported))
			}
			d := PlanSession(snapshot, test.now)
			var record *UsageRecord
			pinned := false
			for _, also := range d.Also {
				switch r := also.Record.(type) {
				case *UsageRecord:
					record = r
				case *UsageReportSubscription:
					pinned = true
				}
			}
			switch {
			case test.want == "" && record != nil, test.want != "" && (record == nil || record.Name != test.want || !d.Next.Recorded):
				t.Fatalf("the record is %+v", record)
			case pinned != test.pinned:
				t.Errorf("the subscription is committed too: %v", pinned)
			}
			if record != nil && (record.Day() != test.want[:10] || record.Address != "10.0.0.5" || record.Launches["editor"] != 2 || !record.Due.After(record.End) || d.Remove) {
				t.Errorf("the record is %+v, due at %s", record, record.Due)
			}
		})
	}
}

func TestPlanUsageRecord(t *testing.T) {
	u := UsageRecord{Meta: Meta{Key: Key{Noun: NounUsageRecord, Name: "2026-11-12/s-1"}, ID: "use-s-1"}}
	due := u.forget()
	if due.Before(onDay(13, forgetAfter)) || due.After(onDay(13, forgetAfter+forgetSpread)) {
		t.Errorf("it is looked at at %s", due)
	}
	done, late := new(aSubscription("2026-11-12")), new(aSubscription("2026-11-11"))
	for name, test := range map[string]struct {
		to     *UsageReportSubscription
		now    time.Time
		remove bool
		again  time.Time
	}{
		"before its day is over":  {nil, due.Add(-1), false, due},
		"reported, before":        {done, due.Add(-1), false, due},
		"reported":                {done, due, true, time.Time{}},
		"no subscription":         {nil, due, true, time.Time{}},
		"not reported yet":        {late, due, false, due.Add(forgetSpread)},
		"not reported for months": {late, due.Add(unreportedMemory), true, time.Time{}},
	} {
		if d := PlanUsageRecord(u, test.to, test.now); d.Remove != test.remove || !d.Again.Equal(test.again) {
			t.Errorf("%s: removed %v, again at %s", name, d.Remove, d.Again)
		}
	}
}

func TestWhatIsRememberedOfASessionIsBounded(t *testing.T) {
	var s Session
	first := s
	first.Launch("editor")
	second := first
	second.Launch("editor")
	if first.Launches["editor"] != 1 || second.Launches["editor"] != 2 {
		t.Errorf("the launches are %v and %v", first.Launches, second.Launches)
	}
	for n := range 2 * maxLaunched {
		for range maxLaunches / 100 {
			s.Launch(fmt.Sprint("app-", n))
		}
		s.Launch(strings.Repeat("x", maxLaunchedName+1))
	}
	for range 2 * maxLaunches {
		s.Launch("app-0")
	}
	s.Launch("")
	if len(s.Launches) != maxLaunched || s.Launches["app-0"] != maxLaunches {
		t.Errorf("%d applications, one of them %d times", len(s.Launches), s.Launches["app-0"])
	}

	for n := range 30 {
		if !s.SeenFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(n)})) {
			t.Errorf("the %d. address is no news", n)
		}
	}
	if s.SeenFrom(netip.MustParseAddr("::ffff:192.0.2.29")) || s.SeenFrom(netip.Addr{}) {
		t.Error("the same address, or none, is news")
	}
	if !s.SeenFrom(netip.MustParseAddr("192.0.2.25")) || len(s.Clients) != maxClients || s.Clients[maxClients-1] != "192.0.2.25" || s.Clients[0] != "192.0.2.20" ||
		len(slices.Compact(slices.Sorted(slices.Values(s.Clients)))) != maxClients {
		t.Errorf("the addresses are %v", s.Clients)
	}
}

// No cell is taken for a formula, and whoever takes the apostrophes away again has what was written.
func TestReportsHaveNoFormulas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		user := rapid.OneOf(rapid.StringMatching(`[=+@',"\-a-z0-9;\n\t ]{0,12}`), rapid.String()).Draw(t, "user")
		user = strings.ReplaceAll(user, "\r", "") // of which CSV reads \r\n as \n
		u := UsageRecord{Meta: Meta{Key: Key{Account: "123456789012", Region: "us-west-2"}}, UserID: user, AuthType: types.AuthenticationTypeApi, Launches: map[string]int{user: 1}}
		for _, report := range [][]byte{SessionsReport([]UsageRecord{u}), ApplicationsReport("2026-11-21", []UsageRecord{u})} {
			lines, err := csv.NewReader(strings.NewReader(string(report))).ReadAll()
			if err != nil || len(lines) != 2 {
				t.Fatalf("%d lines, %v:\n%s", len(lines), err, report)
			}
			found := false
			for _, cell := range lines[1] {
				if cell != "" && strings.ContainsRune("=+-@\t\r\n", rune(cell[0])) {
					t.Errorf("the cell %q", cell)
				}
				found = found || strings.TrimPrefix(cell, "'") == user
			}
			if !found {
				t.Errorf("%q is not in\n%s", user, report)
			}
		}
	})
}

func TestReportOfNothing(t *testing.T) {
	if report := ApplicationsReport("2026-11-21", make([]UsageRecord, 2)); report != nil {
		t.Errorf("without a launch there is the report\n%s", report)
	}
	sessions, applications := ReportKeys("2026-01-09")
	want := []string{"sessions/schedule=DAILY/year=2026/month=01/day=09/daily-session-report-2026-01-09.csv",
		"applications/schedule=DAILY/year=2026/month=01/day=09/daily-app-report-2026-01-09.csv"}
	if diff := cmp.Diff(want, []string{sessions, applications}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if header := strings.Split(strings.TrimSpace(string(SessionsReport(nil))), ","); len(header) != 32 || header[31] != "is_multisession" {
		t.Errorf("the columns are %v", header)
	}
}
