package appstream

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
)

// A LicenseUsage says that a user had a licensed software at hand in a month: he had a session on a fleet whose image has it, whatever he did there. It is
// written with the session's first desktop and with its end, and remembered for usageMemory.
type LicenseUsage struct {
	Meta // Name is the month, a hash of the user, and the type of license

	Owner       string // the account that the license is used in
	UserID      string
	AuthType    types.AuthenticationType
	License     string
	First, Last time.Time
}

// LicenseRecorded is the only state of a license's usage.
const LicenseRecorded = "RECORDED"

// usageMemory is how long the usage of a license is remembered.
const usageMemory = 2 * 366 * 24 * time.Hour

var licenseUsageTransitions = []Transition{
	{"", LicenseRecorded, "a session began on a machine with licensed software"},
	{LicenseRecorded, "", "two years are over"},
}

// BillingPeriod is the month of a time, as yyyy-mm.
func BillingPeriod(t time.Time) string { return t.UTC().Format("2006-01") }

// UsagePrefix is what the names of the usages of a user in a month begin with.
func UsagePrefix(t time.Time, auth types.AuthenticationType, user string) string {
	sum := sha256.Sum256([]byte(string(auth) + "\x00" + user))
	return BillingPeriod(t) + "/" + hex.EncodeToString(sum[:16]) + "/"
}

// UserARN names a user of an account and region: by the ARN of the user pool's user, and those that AppStream does not keep after the way in which they were
// authenticated.
func UserARN(account, region string, auth types.AuthenticationType, user string) string {
	kind := "custom/"
	switch auth {
	case types.AuthenticationTypeUserpool:
		kind = ""
	case types.AuthenticationTypeSaml:
		kind = "federated/"
	}
	return Key{Account: account, Region: region, Noun: NounUser, Name: kind + user}.ARN()
}

// Describe gives what the API shows of the usage.
func (u *LicenseUsage) Describe() types.AdminAppLicenseUsageRecord {
	return types.AdminAppLicenseUsageRecord{BillingPeriod: new(BillingPeriod(u.First)), LicenseType: &u.License, OwnerAWSAccountId: &u.Owner,
		SubscriptionFirstUsedDate: &u.First, SubscriptionLastUsedDate: &u.Last, UserArn: new(UserARN(u.Account, u.Region, u.AuthType, u.UserID)), UserId: &u.UserID}
}

// Licenses gives the types of license that are needed for software, each once.
func Licenses(software []string, catalogue map[string]Software) []string {
	need := map[string]bool{}
	for _, name := range software {
		if license := catalogue[name].License; license != "" {
			need[license] = true
		}
	}
	return slices.Sorted(maps.Keys(need))
}

// useLicenses records that the session's user has its licensed software at hand at a time. known are his usages in that month.
func (s *Session) useLicenses(known []LicenseUsage, at, now time.Time) []Also {
	var list []Also
	prefix := UsagePrefix(at, s.AuthType, s.UserID)
	for _, license := range s.Licenses {
		u := LicenseUsage{Meta: Meta{Key: Key{s.Account, s.Region, NounLicenseUsage, prefix + license}, ID: "usage/" + s.Account + "/" + s.Region + "/" + prefix + license, Created: now},
			Owner: s.Account, UserID: s.UserID, AuthType: s.AuthType, License: license, First: at}
		also := Also{Record: &u, Why: "the session " + s.ID}
		if n := slices.IndexFunc(known, func(k LicenseUsage) bool { return k.Name == u.Name }); n >= 0 {
			u = known[n]
			also.From = u.State
		} else {
			u.Enter(LicenseRecorded, now, 0)
			u.Due = at.Add(usageMemory)
		}
		if at.After(u.Last) {
			u.Last = at
			list = append(list, also)
		}
	}
	return list
}

// PlanLicenseUsage forgets a usage after a while. It is pure.
func PlanLicenseUsage(u LicenseUsage, now time.Time) Decision[LicenseUsage] {
	end := u.First.Add(usageMemory)
	return Decision[LicenseUsage]{Next: u, Again: end, Remove: !now.Before(end), Why: "two years are over"}
}
