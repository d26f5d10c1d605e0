package appstream

import (
	"hash/fnv"
	"net/netip"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
)

// A UsageRecord is what a usage report says of one session. It is written when the session has ended, if its account and region have a
// subscription then, and forgotten after the report.
//
//	a session has ended ──▶ RECORDED ──its day is reported──▶ (gone)
type UsageRecord struct {
	Meta // Name is the day of the report, a slash, and the session's ID

	Session       string // its ID
	Start, End    time.Time
	UserID        string
	AuthType      types.AuthenticationType
	Fleet, Stack  string
	InstanceID    string
	Address       string // of the instance
	ConnectedOnce bool
	Clients       []string       `json:",omitempty"`
	Launches      map[string]int `json:",omitempty"`
	Rules         Rules
	View          types.StreamView
	Terms         Terms
}

// Terms is what a session begins with and a usage report says of it, beside what the session needs itself.
type Terms struct {
	InstanceType          string
	FleetType             types.FleetType
	Multi                 bool // several people may be on its instance
	GoogleDrive, OneDrive bool // the stack has such a connector
	HomeFolders           string
	ApplicationSettings   bool
	MaxDuration           time.Duration
}

// UsageRecorded is the only state of a usage record.
const UsageRecorded = "RECORDED"

var usageRecordTransitions = []Transition{
	{"", UsageRecorded, "a session has ended whose account and region have a subscription"},
	{UsageRecorded, "", "its day is over, and reported if there is still a subscription; or 90 days are over"},
}

// How long usage records stay: until their day is over, and those that could not be reported for unreportedMemory. Those of one day do not
// all go at the same moment, but within forgetSpread.
const (
	forgetAfter      = time.Hour
	forgetSpread     = 6 * time.Hour
	unreportedMemory = 90 * 24 * time.Hour
)

// Day is the UTC day of a time, like 2026-11-21. Days sort as their names do.
func Day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// dayAfter gives the day after another; that of no day is none.
func dayAfter(day string) string {
	t, err := time.Parse(time.DateOnly, day)
	if err != nil {
		return ""
	}
	return Day(t.AddDate(0, 0, 1))
}

// Day gives the day in whose report the record is.
func (u *UsageRecord) Day() string { return u.Name[:min(len(u.Name), len(time.DateOnly))] }

// ToRecord tells whether the session has ended, and shall be reported and is not recorded yet.
func (s *Session) ToRecord(to *UsageReportSubscription) bool {
	return to != nil && s.State == SessionExpired && !s.Recorded && !s.Ended.Before(to.Created)
}

// record makes the record of a session that has ended. A day that is reported already is not reported again: if the clock was set
// back over midnight, the record is the next day's. A record of a day that is over is committed together with the subscription: a report of
// that day that is being written and may not have it is then not committed, but written again.
func (s *Session) record(to UsageReportSubscription, now time.Time) []Also {
	day := max(Day(s.Ended), dayAfter(to.Reported))
	u := UsageRecord{Meta: Meta{Key: Key{s.Account, s.Region, NounUsageRecord, day + "/" + s.ID}, ID: "use-" + s.ID, Created: now},
		Session: s.ID, Start: s.Created, End: s.Ended, UserID: s.UserID, AuthType: s.AuthType, Fleet: s.Fleet, Stack: s.Stack, InstanceID: s.InstanceID,
		ConnectedOnce: s.ConnectedOnce, Clients: s.Clients, Launches: s.Launches, Rules: s.Rules, View: s.View, Terms: s.Terms}
	if s.Network != nil {
		u.Address = deref(s.Network.EniPrivateIpAddress)
	}
	u.Enter(UsageRecorded, now, 0)
	u.Due = u.forget()
	list := []Also{{Record: &u, Why: "the session has ended"}}
	if day < Day(now) {
		list = append(list, Also{Record: &to, From: to.State})
	}
	return list
}

// forget is when the record is looked at to be forgotten.
func (u *UsageRecord) forget() time.Time {
	day, err := time.Parse(time.DateOnly, u.Day())
	if err != nil {
		day = u.Created
	}
	h := fnv.New32a()
	h.Write([]byte(u.ID)) // does not fail
	return day.AddDate(0, 0, 1).Add(forgetAfter + time.Duration(h.Sum32())%forgetSpread)
}

// PlanUsageRecord forgets a record after its day was reported, or if there is nobody to report it to. It is pure.
func PlanUsageRecord(u UsageRecord, to *UsageReportSubscription, now time.Time) Decision[UsageRecord] {
	due := u.forget()
	switch {
	case now.Before(due):
		return Decision[UsageRecord]{Next: u, Again: due}
	case to == nil, to.Reported >= u.Day():
		return Decision[UsageRecord]{Next: u, Remove: true, Why: "it is reported, or there is no subscription"}
	case !now.Before(due.Add(unreportedMemory)):
		return Decision[UsageRecord]{Next: u, Remove: true, Why: "it could not be reported for 90 days"}
	}
	return Decision[UsageRecord]{Next: u, Again: now.Add(forgetSpread)}
}

// What is remembered of a session's use is bounded.
const (
	maxClients      = 10
	maxLaunched     = 100  // applications
	maxLaunches     = 1000 // of one of them
	maxLaunchedName = 400  // bytes
)

// SeenFrom notes the address of a browser that shows the session, and tells whether that is news. The last ten are known, the newest last.
func (s *Session) SeenFrom(source netip.Addr) bool {
	if !source.IsValid() {
		return false
	}
	address := source.Unmap().WithZone("").String()
	if n := len(s.Clients); n > 0 && s.Clients[n-1] == address {
		return false
	}
	s.Clients = append(slices.DeleteFunc(slices.Clone(s.Clients), func(known string) bool { return known == address }), address)
	s.Clients = s.Clients[max(0, len(s.Clients)-maxClients):]
	return true
}

// Launch notes that an application of the catalogue was launched by its person, or with the session.
func (s *Session) Launch(application string) {
	known := s.Launches[application]
	if application == "" || len(application) > maxLaunchedName || known >= maxLaunches || known == 0 && len(s.Launches) >= maxLaunched {
		return
	}
	launches := make(map[string]int, len(s.Launches)+1) // the old one may be somebody else's too
	for name, n := range s.Launches {
		launches[name] = n
	}
	launches[application] = known + 1
	s.Launches = launches
}
