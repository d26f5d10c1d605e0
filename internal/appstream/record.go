package appstream

import (
	"fmt"
	"strings"
	"time"
)

// Noun is a kind of resource. Its value is the resource type in ARNs.
type Noun string

// The nouns that Oriel keeps.
const (
	NounImageBuilder Noun = "image-builder"
	NounImage        Noun = "image"
	NounFleet        Noun = "fleet"
	NounStack        Noun = "stack"
	NounInstance     Noun = "instance" // of a fleet; the API has no such resource
	NounSession      Noun = "session"
	NounComposition  Noun = "composition" // of an Elastic fleet; the API has no such resource
	NounExportTask   Noun = "export-image-task"
	NounUser         Noun = "user"                      // of the user pool
	NounEntitlement  Noun = "entitlement"               // of a stack
	NounDirectory    Noun = "directory-config"          // how machines would join a directory
	NounLicenseUsage Noun = "license-usage"             // of a user in a month
	NounUsageReports Noun = "usage-report-subscription" // its name is the schedule
	NounUsageRecord  Noun = "usage-record"              // of a session that has ended
	NounTheme        Noun = "theme"                     // of a stack; its name is the stack's
	NounLetter       Noun = "letter"                    // a mail to a user
	NounAppBlock     Noun = "app-block"
	NounApplication  Noun = "application" // of an app block

	NounAppBlockBuilder Noun = "app-block-builder"
	NounAccessKey       Noun = "access-key" // of an account, in no region; its name is the key's ID
)

// Key names a resource. A public image has no account.
type Key struct {
	Account string // twelve digits, or "" for a public image
	Region  string
	Noun    Noun
	Name    string
}

// ARN gives the resource's Amazon Resource Name, for example
// arn:aws:appstream:us-west-2:123456789012:image-builder/hello.
func (k Key) ARN() string {
	return "arn:aws:appstream:" + k.Region + ":" + k.Account + ":" + string(k.Noun) + "/" + k.Name
}

// ParseARN reads what Key.ARN writes, and nothing else: a resource has one ARN, so that a policy cannot be passed by
// writing it in another way (in another partition, say). It does not know which nouns exist. The error is of kind InvalidParameterValue.
func ParseARN(arn string) (Key, error) {
	part := strings.SplitN(arn, ":", 6)
	if len(part) == 6 && part[0] == "arn" && part[1] == "aws" && part[2] == "appstream" {
		if noun, name, ok := strings.Cut(part[5], "/"); ok && noun != "" && name != "" {
			return Key{Account: part[4], Region: part[3], Noun: Noun(noun), Name: name}, nil
		}
	}
	return Key{}, Errorf(InvalidParameterValue, "%q is not the ARN of an AppStream resource", arn)
}

// Record is what the store keeps of any noun: a domain struct that embeds Meta. Its JSON is the document.
type Record interface{ Head() *Meta }

// Meta is the part that all records share. The fields that JSON leaves out are columns of the store.
type Meta struct {
	Key     `json:"-"`
	ID      string    `json:"-"` // of this incarnation, unique for ever; machines are named after it
	Version int64     `json:"-"` // counts the commits; 0 before the first. A write of an older version is refused
	State   string    `json:"-"` // a state of the noun's transition table
	Due     time.Time `json:"-"` // when the engine looks at it next; zero: not before something wakes it

	Created  time.Time
	Since    time.Time         // when it entered State
	Deadline time.Time         `json:",omitzero"`  // when State, if it is a passing one, has taken too long
	Problem  *Problem          `json:",omitempty"` // why the last pass did not succeed; nil when it did
	Tags     map[string]string `json:",omitempty"`
}

// Head gives the Meta itself, so that every struct that embeds it is a Record.
func (m *Meta) Head() *Meta { return m }

// Enter moves the record to state at now; allow is how long a passing state may take (0: for ever).
func (m *Meta) Enter(state string, now time.Time, allow time.Duration) {
	m.State, m.Since, m.Problem, m.Deadline = state, now, nil, time.Time{}
	if allow > 0 {
		m.Deadline = now.Add(allow)
	}
}

// Overdue tells whether a passing state has taken too long.
func (m *Meta) Overdue(now time.Time) bool { return !m.Deadline.IsZero() && !now.Before(m.Deadline) }

// Excuse moves the deadline by the time that the record had to wait for its turn: while the server was off, nothing could
// come of it. After a long wait there is at least a minute left to try.
func (m *Meta) Excuse(waited time.Duration, now time.Time) {
	if waited < time.Minute || m.Deadline.IsZero() {
		return
	}
	m.Deadline = m.Deadline.Add(waited)
	if least := now.Add(time.Minute); m.Deadline.Before(least) {
		m.Deadline = least
	}
}

// Optional gives a member of the API that is absent when s is empty.
func Optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// Problem is why the last pass over a record did not succeed.
type Problem struct {
	Code    string    // an ErrorCode of the API such as SUBNET_NOT_FOUND; "" when none fits
	Message string    // for people: what happened and what to do
	Lasting bool      // trying again cannot help: the Plan gives up
	Outage  bool      // the container engine could not be reached: time stands still until it is back
	Count   int       // how many passes in a row ended so
	At      time.Time // the last time
}

// Backoff is how long to wait after this problem: 250 ms, doubling, at most 15 s.
func (p *Problem) Backoff() time.Duration {
	return min(250*time.Millisecond<<min(max(p.Count, 1)-1, 10), 15*time.Second)
}

// Transition is one edge of a noun's state table. An empty From is the creation of the record, an empty To its removal.
type Transition struct {
	From, To string
	When     string // who or what causes it, for docs/states.md
}

// Transitions gives the table of each noun. The store refuses what is not in it.
func Transitions() map[Noun][]Transition {
	return map[Noun][]Transition{
		NounImageBuilder: imageBuilderTransitions, NounImage: imageTransitions, NounFleet: fleetTransitions, NounStack: stackTransitions,
		NounInstance: instanceTransitions, NounSession: sessionTransitions, NounComposition: compositionTransitions, NounAccessKey: accessKeyTransitions,
		NounExportTask: exportTransitions, NounLicenseUsage: licenseUsageTransitions,
		NounUser: userTransitions, NounEntitlement: entitlementTransitions, NounDirectory: directoryTransitions,
		NounAppBlock: appBlockTransitions, NounAppBlockBuilder: appBlockBuilderTransitions, NounApplication: applicationTransitions,
		NounTheme: themeTransitions, NounUsageReports: subscriptionTransitions, NounUsageRecord: usageRecordTransitions, NounLetter: letterTransitions,
	}
}

// Decision is what a Plan decided: the record as it shall become and what is to be done for it. The engine does the
// actions in order and then commits Next; when an action fails it commits the old record with a Problem instead.
type Decision[R any] struct {
	Next   R         // the record to commit; its State may have changed
	Do     []Action  // idempotent; empty when there is nothing to do
	Again  time.Time // when to look next; zero: when something wakes the record
	Wake   []Key     // records that this decision concerns: they are looked at right after the commit
	Remove bool      // the record is to be removed instead of committed
	Also   []Also    // other records that are written in the same commit
	Why    string    // one line for the event and the log when the state changes
}

// Also is another record that a decision writes: a new one (Version 0), or one of the snapshot that was changed. Both are committed or none.
type Also struct {
	Record Record
	From   string // its state before; "" for a new one
	Why    string
}

// Action is an idempotent step against compute or an agent: one of the Ensure types.
type Action interface{ fmt.Stringer }
