package appstream

import (
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
)

// A Stack says who may do what on the machines of the fleets that it is associated with: it has the settings of their
// sessions. It has no states of its own; the associations are kept by the fleets (Fleet.Stacks).
//
//	CreateStack ──▶ AVAILABLE ──DeleteStack──▶ (gone)
type Stack struct {
	Meta
	View types.Stack // what clients see, but for the members that Describe fills from the rest
}

// StackAvailable is the one state of a stack. The API does not show it.
const StackAvailable = "AVAILABLE"

var stackTransitions = []Transition{
	{"", StackAvailable, "CreateStack"},
	{StackAvailable, "", "DeleteStack"},
}

// Describe gives what the API shows of the stack.
func (s *Stack) Describe() types.Stack {
	v := s.View
	v.Name, v.Arn, v.CreatedTime = new(s.Name), new(s.ARN()), new(s.Created)
	return v
}

// DefaultUserSettings are the user settings of a stack that does not say otherwise: everything is allowed.
func DefaultUserSettings() []types.UserSetting {
	actions := []types.Action{
		types.ActionClipboardCopyFromLocalDevice, types.ActionClipboardCopyToLocalDevice, types.ActionFileUpload, types.ActionFileDownload,
		types.ActionPrintingToLocalDevice, types.ActionDomainPasswordSignin, types.ActionDomainSmartCardSignin,
	}
	list := make([]types.UserSetting, len(actions))
	for n, action := range actions {
		list[n] = types.UserSetting{Action: action, Permission: types.PermissionEnabled}
	}
	return list
}

// Rules is what a stack allows the people in its sessions.
type Rules struct {
	CopyIn, CopyOut       bool // clipboard: from the local device, and to it
	CopyInMax, CopyOutMax int  // characters at a time; 0: no limit of the stack
	Upload, Download      bool // files
	Print                 bool // to the local device
	TimeZone              bool // the session takes the local device's time zone
}

// Rules gives the rules that the user settings stand for. What they do not mention is allowed.
func (s *Stack) Rules() Rules {
	setting := func(action types.Action) (bool, int) {
		n := slices.IndexFunc(s.View.UserSettings, func(u types.UserSetting) bool { return u.Action == action })
		if n < 0 {
			return true, 0
		}
		u := s.View.UserSettings[n]
		limit := 0
		if u.MaximumLength != nil {
			limit = int(*u.MaximumLength)
		}
		return u.Permission == types.PermissionEnabled, limit
	}
	var r Rules
	r.CopyIn, r.CopyInMax = setting(types.ActionClipboardCopyFromLocalDevice)
	r.CopyOut, r.CopyOutMax = setting(types.ActionClipboardCopyToLocalDevice)
	r.Upload, _ = setting(types.ActionFileUpload)
	r.Download, _ = setting(types.ActionFileDownload)
	r.Print, _ = setting(types.ActionPrintingToLocalDevice)
	r.TimeZone, _ = setting(types.ActionAutoTimeZoneRedirection)
	return r
}
