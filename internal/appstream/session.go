package appstream

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
)

// A Session is a person streaming from an instance of a fleet.
//
//	streaming URL opened ──▶ PENDING ──desktop there──▶ ACTIVE ──▶ EXPIRED ──seat cleared──▶ (gone)
//	                            └──── deadline, instance lost ────────▲
//
// It becomes EXPIRED by its person's "End session", by ExpireSession, when its person has been away for the disconnect timeout, at its
// maximum duration, when its fleet stops, and with its instance. An EXPIRED session stays until nothing of it is left on the instance,
// and for sessionMemory, so that its person can be told what happened.
type Session struct {
	Meta // Name is SessionName; ID is the session's ID in the API

	Fleet, FleetID  string // name and record ID
	Stack, StackID  string
	Title           string // what people are shown: the stack's display name, else its name
	UserID          string
	Person          string `json:",omitzero"` // of the user pool: the ID of the user's record, since another can have the name after him
	AuthType        types.AuthenticationType
	InstanceID      string // of the instance's record
	Application     string // started when the session begins; "" for none
	Context         string // of CreateStreamingURL, for programs in the session
	Locale          string // of the browser, like de_DE.UTF-8; "" for the image's own
	View            types.StreamView
	Rules           Rules
	Filtered        bool          // only the applications of Entitled can be seen and begun
	Entitled        []string      `json:",omitempty"`
	IdleTimeout     time.Duration // without keyboard and mouse until the stream is ended; 0: never
	AwayTimeout     time.Duration // without a stream until the session is
	MaxEnd          time.Time     // when it ends in any case
	Dismissed       bool          // MaxEnd is an administrator's wish
	Network         *types.NetworkAccessConfiguration
	Connected       bool           // a browser shows it
	ConnectedOnce   bool           // one ever did
	Away            time.Time      `json:",omitzero"` // since when no browser shows it; while Connected: since when one does
	Ended           time.Time      `json:",omitzero"` // EXPIRED: since when
	EndCode         EndCode        `json:",omitzero"` // EXPIRED: why
	Unseated        bool           // EXPIRED: its instance knows that, so that a request to begin it that is late comes to nothing
	Cleared         bool           // EXPIRED: nothing of it is left on the instance
	Recorded        bool           // EXPIRED: there is a UsageRecord of it, or was
	Clients         []string       `json:",omitempty"` // addresses of the last browsers that have shown it
	Launches        map[string]int `json:",omitempty"` // of applications of the catalogue, by name
	Terms           Terms
	Licenses        []string `json:",omitempty"` // types of license of its machine's software, which its person uses
	Notes           []string `json:",omitempty"` // what its person should know, such as a session script that failed
	EmbedDomains    []string `json:",omitempty"` // of the stack: who may show the viewer in a frame
	AccessEndpoints []types.AccessEndpoint
	RedirectURL     string `json:",omitzero"` // where the browser goes afterwards
	FeedbackURL     string `json:",omitzero"`
}

// EndCode is why a session ended.
type EndCode string

// The reasons.
const (
	EndByUser       EndCode = "user"     // its person ended it
	EndByAdmin      EndCode = "admin"    // ExpireSession, or its user was disabled or deleted
	EndAway         EndCode = "away"     // disconnected for the fleet's DisconnectTimeoutInSeconds
	EndDuration     EndCode = "duration" // the fleet's MaxUserDurationInSeconds is over
	EndFleetStopped EndCode = "fleet"    // StopFleet, or the fleet is gone
	EndInstanceLost EndCode = "instance" // the instance ended or vanished
	EndNotStarted   EndCode = "start"    // its desktop did not come up
)

// The states of a session.
const (
	SessionPending = string(types.SessionStatePending)
	SessionActive  = string(types.SessionStateActive)
	SessionExpired = string(types.SessionStateExpired)
)

const (
	sessionPendingTime = 5 * time.Minute  // for an instance to be started and its desktop to come up
	sessionClearTime   = 3 * time.Minute  // for the termination scripts (at most 60 s) and for clearing the seat
	sessionMemory      = 10 * time.Minute // how long it can be told why a session ended
	lateNotes          = 5 * time.Second  // after which it is asked once more what went wrong: the application is started last
	connectTime        = 15 * time.Minute // for the browser of a session that was never connected; less if the disconnect timeout is
)

var sessionTransitions = []Transition{
	{"", SessionPending, "a streaming URL was opened and an instance was free"},
	{SessionPending, SessionActive, "the session's desktop is there"},
	{SessionPending, SessionExpired, "its person, ExpireSession, its fleet or its instance ended it, or its desktop did not come up within 5 minutes"},
	{SessionActive, SessionExpired, "its person, ExpireSession, a timeout, its fleet or its instance ended it"},
	{SessionExpired, "", "nothing of it is left on the instance, and 10 minutes are over"},
}

// SessionName is the name of a session's record. Names sort by fleet and then by user, so that both can be selected by prefix.
func SessionName(fleet, user, id string) string { return SessionPrefix(fleet, user) + id }

// SessionPrefix is what the names of all sessions of a fleet, or with a user of his sessions on it, begin with.
func SessionPrefix(fleet, user string) string {
	if user == "" {
		return fleet + "/"
	}
	sum := sha256.Sum256([]byte(user))
	return fleet + "/" + hex.EncodeToString(sum[:8]) + "/"
}

// Describe gives what the API shows of the session. drain is the drain status of its instance.
func (s *Session) Describe(drain types.InstanceDrainStatus) types.Session {
	v := types.Session{
		Id: new(s.ID), FleetName: new(s.Fleet), StackName: new(s.Stack), UserId: new(s.UserID), State: types.SessionState(s.State),
		AuthenticationType: s.AuthType, ConnectionState: types.SessionConnectionStateNotConnected, InstanceDrainStatus: drain,
		InstanceId: new(s.InstanceID), MaxExpirationTime: new(s.MaxEnd), StartTime: new(s.Created), NetworkAccessConfiguration: s.Network,
	}
	if s.Connected {
		v.ConnectionState = types.SessionConnectionStateConnected
	}
	return v
}

// Sees tells whether the session's person is shown an application, and may begin it.
func (s *Session) Sees(application string) bool {
	return !s.Filtered || slices.Contains(s.Entitled, application)
}

// EnterPending makes a new session PENDING, with the deadline that the state has.
func (s *Session) EnterPending(now time.Time) { s.Enter(SessionPending, now, sessionPendingTime) }

// End makes the session EXPIRED.
func (s *Session) End(code EndCode, now time.Time) {
	s.Enter(SessionExpired, now, sessionClearTime)
	s.Ended, s.EndCode = now, code
	if s.Connected {
		s.Connected, s.Away = false, now
	}
}

// Dismiss has the session end at a time, if it would not end before, and tells whether that is news.
func (s *Session) Dismiss(at time.Time) bool {
	sooner := at.Before(s.MaxEnd)
	if sooner {
		s.MaxEnd, s.Dismissed = at, true
	}
	return sooner
}

// Seat is what a session's place on its instance shall be like: what its agent is told.
type Seat struct {
	Session     string // its ID
	UserID      string
	Stack       string
	View        types.StreamView
	Application string
	Context     string
	Locale      string
	AuthType    types.AuthenticationType
	Reserved    time.Time
	Print       bool // there is a printer
}

// Seat gives the session's seat.
func (s *Session) Seat() Seat {
	return Seat{Session: s.ID, UserID: s.UserID, Stack: s.Stack, View: s.View, Application: s.Application, Context: s.Context,
		Locale: s.Locale, AuthType: s.AuthType, Reserved: s.Created, Print: s.Rules.Print}
}

// SeatStatus is what the agent of an instance reports of a session; the zero value is an agent that does not answer.
type SeatStatus struct {
	Answers bool
	Known   bool     // the session is on the instance
	Ready   bool     // its desktop has drawn
	Problem string   // what keeps it from being ready, for people
	Notes   []string // what went wrong and did not keep it from being ready, for its person: a session script that failed
}

// EnsureSeated begins the session Seat on an instance.
type EnsureSeated struct {
	Instance string
	Seat     Seat
}

// EnsureUnseated ends a session on an instance: its termination scripts run, its programs end, nothing of its person is left. It cannot begin there any
// more, also if it never had.
type EnsureUnseated struct{ Instance, Session string }

func (a EnsureSeated) String() string   { return "EnsureSeated " + a.Instance + " " + a.Seat.Session }
func (a EnsureUnseated) String() string { return "EnsureUnseated " + a.Instance + " " + a.Session }

// AccessMode says how somebody has come, in the word that AppStream has for it inside of instances.
func AccessMode(auth types.AuthenticationType) string {
	switch auth {
	case types.AuthenticationTypeSaml:
		return "saml"
	case types.AuthenticationTypeUserpool:
		return "userpool"
	}
	return "custom"
}

// ScriptLog is what an executable of a session's scripts has written.
type ScriptLog struct {
	Event  string // SessionStart or SessionTermination
	Number int    // of the event's executables, from 1
	Text   []byte
}

// EnsureScriptLogsKept has what the scripts of a session have written become objects, EVENT/NUMBER.log behind Prefix, if there is any. What cannot be had
// or kept is lost: no session waits for that.
type EnsureScriptLogsKept struct{ Instance, Session, Account, Bucket, Prefix string }

// String names the action.
func (a EnsureScriptLogsKept) String() string {
	return "EnsureScriptLogsKept " + a.Instance + " " + a.Session
}

// keepScriptLogs is for a session whose scripts are done.
func (s *Session) keepScriptLogs() EnsureScriptLogsKept {
	user := sha256.Sum256([]byte(s.UserID))
	return EnsureScriptLogsKept{s.InstanceID, s.ID, s.Account, LogsBucket(s.Account, s.Region),
		s.Stack + "/" + s.Fleet + "/" + AccessMode(s.AuthType) + "/" + hex.EncodeToString(user[:]) + "/" + s.ID + "/SessionScriptsLogs/"}
}

// FleetOf gives the fleet's name in the name of a session's or an instance's record.
func FleetOf(name string) string {
	fleet, _, _ := strings.Cut(name, "/")
	return fleet
}

// SessionSnapshot is the world as PlanSession sees it.
type SessionSnapshot struct {
	Session      Session
	Instance     *Instance // nil when it is gone
	Machine      Machine
	Seat         SeatStatus
	Software     map[string]Software      // the server's catalogue
	Subscription *UsageReportSubscription // of its account in its region, once the session is EXPIRED; nil for none
	Usages       []LicenseUsage           // of its person, in the month of the session's end, or in this one
}

// PlanSession decides the next step of a session. It is pure.
func PlanSession(s SessionSnapshot, now time.Time) Decision[Session] {
	session := s.Session
	lost := s.Instance == nil || s.Instance.State == InstanceDeleting
	if session.State == SessionExpired {
		return planExpired(s, lost, now)
	}
	away := session.AwayTimeout
	if !session.ConnectedOnce {
		away = min(away, connectTime)
	}
	switch {
	case lost:
		return endSession(session, EndInstanceLost, now)
	case !now.Before(session.MaxEnd) && session.Dismissed:
		return endSession(session, EndByAdmin, now)
	case !now.Before(session.MaxEnd):
		return endSession(session, EndDuration, now)
	case session.State == SessionActive && !session.Connected && !now.Before(session.Away.Add(away)):
		return endSession(session, EndAway, now)
	case session.State == SessionActive && s.Seat.Answers && !s.Seat.Known:
		return endSession(session, EndInstanceLost, now)
	case session.State == SessionActive:
		if s.Seat.Answers { // its application may have failed to start since
			session.Notes = s.Seat.Notes
		}
		d := Decision[Session]{Next: session, Again: session.MaxEnd}
		if end := session.Away.Add(away); !session.Connected && end.Before(d.Again) {
			d.Again = end
		}
		if late := session.Since.Add(lateNotes); now.Before(late) && late.Before(d.Again) {
			d.Again = late
		}
		return d
	case s.Seat.Ready:
		session.Enter(SessionActive, now, 0)
		session.Network, session.Notes = network(s.Machine), s.Seat.Notes
		if !session.Connected {
			session.Away = now
		}
		session.Licenses = Licenses(s.Instance.Software, s.Software)
		session.Launch(session.Application)
		return Decision[Session]{Next: session, Again: now, Why: "its desktop is there", Also: session.useLicenses(s.Usages, now, now)}
	case session.Problem != nil && session.Problem.Lasting, session.Overdue(now) && !s.Machine.NextChange.After(now):
		d := endSession(session, EndNotStarted, now)
		d.Why += lastWords(session.Problem, Agent{Problem: s.Seat.Problem})
		return d
	case s.Machine.Phase == MachineRunning && s.Seat.Answers && !s.Seat.Known:
		return Decision[Session]{Next: session, Do: []Action{EnsureSeated{s.Instance.ID, session.Seat()}}, Again: now}
	case s.Machine.NextChange.After(now):
		return Decision[Session]{Next: session, Again: s.Machine.NextChange}
	}
	return Decision[Session]{Next: session, Again: now.Add(pollAfter(now.Sub(session.Since)))} // its instance's plan starts the machine
}

// planExpired clears the session's seat, frees its instance, and forgets the session after a while.
func planExpired(s SessionSnapshot, lost bool, now time.Time) Decision[Session] {
	session := s.Session
	forget := session.Ended.Add(sessionMemory)
	switch {
	case session.ToRecord(s.Subscription):
		session.Recorded = true
		return Decision[Session]{Next: session, Also: session.record(*s.Subscription, now), Again: now}
	case session.Cleared && !now.Before(forget):
		return Decision[Session]{Next: session, Remove: true, Why: "it is over and nothing of it is left"}
	case session.Cleared:
		return Decision[Session]{Next: session, Again: forget}
	}
	cleared := func(stuck bool) Decision[Session] {
		session.clear(now)
		d := Decision[Session]{Next: session, Again: session.Due, Also: session.useLicenses(s.Usages, session.Ended, now)}
		if !lost {
			d.Also = append(d.Also, s.Instance.unseat(session.ID, stuck, now))
			d.Wake = s.Instance.fleetKey()
		}
		return d
	}
	switch {
	case lost, s.Machine.Phase != MachineRunning && !s.Machine.NextChange.After(now):
		return cleared(false)
	case s.Seat.Answers && !s.Seat.Known && session.Unseated:
		d := cleared(false)
		d.Do = []Action{session.keepScriptLogs()}
		return d
	case session.Overdue(now):
		return cleared(true)
	}
	session.Unseated = true
	d := Decision[Session]{Next: session, Do: []Action{EnsureUnseated{s.Instance.ID, session.ID}}, Again: now}
	if s.Seat.Known { // it has been asked for already, perhaps: its scripts may take a while
		d.Again = now.Add(pollAfter(now.Sub(session.Ended)))
	}
	return d
}

func endSession(session Session, code EndCode, now time.Time) Decision[Session] {
	session.End(code, now)
	return Decision[Session]{Next: session, Again: now, Why: code.Words()}
}

// Words says why a session ended.
func (c EndCode) Words() string {
	switch c {
	case EndByUser:
		return "its person ended it"
	case EndByAdmin:
		return "an administrator ended it"
	case EndAway:
		return "its person was away for longer than the fleet's DisconnectTimeoutInSeconds"
	case EndDuration:
		return "the fleet's MaxUserDurationInSeconds is over"
	case EndFleetStopped:
		return "its fleet was stopped"
	case EndInstanceLost:
		return "its instance was lost"
	case EndNotStarted:
		return "its desktop did not come up"
	}
	return string(c)
}

// clear notes that nothing of the session is left on its instance.
func (s *Session) clear(now time.Time) {
	s.Cleared, s.Deadline, s.Due = true, time.Time{}, s.Ended.Add(sessionMemory)
}

// unseat takes a session off the instance. If it could not be cleared, nobody else is put there.
func (i *Instance) unseat(session string, stuck bool, now time.Time) Also {
	next, from, why := *i, i.State, "its session is over"
	next.Sessions = slices.DeleteFunc(slices.Clone(i.Sessions), func(id string) bool { return id == session })
	next.Due = now
	switch {
	case !next.Multi():
		next.Enter(InstanceDeleting, now)
	case stuck && next.State == InstanceInUse:
		next.Enter(InstanceDraining, now)
		why = "a session could not be cleared from it"
	}
	return Also{Record: &next, From: from, Why: why}
}
