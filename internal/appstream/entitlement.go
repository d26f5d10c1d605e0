package appstream

import (
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
)

// An Entitlement says which applications of a stack those see whose attributes match. It has no states of its own, and goes with its stack.
//
//	CreateEntitlement ──▶ AVAILABLE ──DeleteEntitlement, DeleteStack──▶ (gone)
type Entitlement struct {
	Meta
	Stack, Title string // the names of the stack and, on it, of the entitlement: together the record's
	Description  *string
	Visibility   types.AppVisibility
	Attributes   []types.EntitlementAttribute
	Modified     time.Time
	Applications []string `json:",omitempty"` // identifiers, in order
}

// EntitlementAvailable is the one state of an entitlement. The API does not show it.
const EntitlementAvailable = "AVAILABLE"

var entitlementTransitions = []Transition{
	{"", EntitlementAvailable, "CreateEntitlement"},
	{EntitlementAvailable, "", "DeleteEntitlement, DeleteStack"},
}

// EntitlementName is the name of an entitlement's record; with an empty name it is what the names of all of a stack begin with.
func EntitlementName(stack, name string) string { return stack + "/" + name }

// EntitlementAttributes are the attributes of a person that an entitlement can ask for.
func EntitlementAttributes() []string {
	return []string{"roles", "department", "organization", "groups", "title", "costCenter", "userType"}
}

// Describe gives what the API shows of the entitlement.
func (e *Entitlement) Describe() types.Entitlement {
	return types.Entitlement{Name: new(e.Title), StackName: new(e.Stack), Description: e.Description, AppVisibility: e.Visibility,
		Attributes: e.Attributes, CreatedTime: new(e.Created), LastModifiedTime: new(e.Modified)}
}

// Entitle associates an application with the entitlement.
func (e *Entitlement) Entitle(application string) {
	if n, found := slices.BinarySearch(e.Applications, application); !found {
		e.Applications = slices.Insert(slices.Clone(e.Applications), n, application)
	}
}

// Withdraw takes an application away from the entitlement, and tells whether it had it.
func (e *Entitlement) Withdraw(application string) bool {
	n, found := slices.BinarySearch(e.Applications, application)
	if found {
		e.Applications = slices.Delete(slices.Clone(e.Applications), n, n+1)
	}
	return found
}

// CheckEntitlementAttributes checks the attributes of an entitlement. The error is of kind Validation.
func CheckEntitlementAttributes(list []types.EntitlementAttribute) error {
	const most, longest = 50, 2048
	if len(list) > most {
		return Errorf(Validation, "Attributes has %d entries. Send at most %d.", len(list), most)
	}
	for n, a := range list {
		switch name, value := deref(a.Name), deref(a.Value); {
		case !slices.Contains(EntitlementAttributes(), name):
			return Errorf(Validation, "Attributes[%d].Name is %q. It must be one of %s.", n, name, strings.Join(EntitlementAttributes(), ", "))
		case strings.TrimSpace(value) == "", len(value) > longest:
			return Errorf(Validation, "Attributes[%d].Value has %d bytes. It must have between 1 and %d, and not only blanks.", n, len(value), longest)
		}
	}
	return nil
}

// Entitled tells what somebody of these attributes sees of a stack with these entitlements: all of its applications, or those that are named. An entitlement is his when,
// of each attribute that it names, he has one of the values; his own may be several, between colons. What he sees is the union of those that are his. On a stack without
// entitlements everybody sees all.
func Entitled(list []Entitlement, attributes map[string]string) (applications []string, all bool) {
	if len(list) == 0 {
		return nil, true
	}
	for _, e := range list {
		if !e.matches(attributes) {
			continue
		}
		if e.Visibility == types.AppVisibilityAll {
			return nil, true
		}
		applications = append(applications, e.Applications...)
	}
	slices.Sort(applications)
	return slices.Compact(applications), false
}

func (e *Entitlement) matches(attributes map[string]string) bool {
	met := map[string]bool{}
	for _, a := range e.Attributes {
		name := deref(a.Name)
		met[name] = met[name] || slices.Contains(strings.Split(attributes[name], ":"), deref(a.Value))
	}
	for _, ok := range met {
		if !ok {
			return false
		}
	}
	return len(met) > 0
}
