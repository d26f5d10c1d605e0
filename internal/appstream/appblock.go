package appstream

import (
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
)

// An AppBlock is a package with the files of applications, and the script that sets it up on a machine. Elastic fleets have their
// applications from app blocks.
//
//	CreateAppBlock ──▶ ACTIVE ──────────────── DeleteAppBlock ──▶ (gone)
//	       └─────────▶ INACTIVE ──package made──▶ ACTIVE
//
// One that a customer has packaged himself (CUSTOM) is ACTIVE from the start; one that is packaged here (APPSTREAM2) becomes so when an
// app block builder has made its package.
type AppBlock struct {
	Meta
	View types.AppBlock // what clients see, but for the members that Describe fills from the rest
}

// The states of an app block, as in the SDK.
const (
	AppBlockInactive = string(types.AppBlockStateInactive)
	AppBlockActive   = string(types.AppBlockStateActive)
)

var appBlockTransitions = []Transition{
	{"", AppBlockActive, "CreateAppBlock with a package"},
	{"", AppBlockInactive, "CreateAppBlock, for a package that is to be made here"},
	{AppBlockInactive, AppBlockActive, "an app block builder has made the package"},
	{AppBlockActive, "", "DeleteAppBlock"},
	{AppBlockInactive, "", "DeleteAppBlock"},
}

// Describe gives what the API shows of the app block.
func (b *AppBlock) Describe() types.AppBlock {
	v := b.View
	v.Name, v.Arn, v.CreatedTime, v.State = new(b.Name), new(b.ARN()), new(b.Created), types.AppBlockState(b.State)
	v.AppBlockErrors = slices.Clone(b.View.AppBlockErrors)
	return v
}

// An Application says how a program of an app block is started, and what people see of it. The fleets that have it are in Fleet.Applications.
//
//	CreateApplication ──▶ AVAILABLE ──DeleteApplication──▶ (gone)
type Application struct {
	Meta
	View types.Application // what clients see, but for the members that Describe fills from the rest
	Icon string            // name of the icon in the blob store
}

// ApplicationAvailable is the one state of an application. The API does not show it.
const ApplicationAvailable = "AVAILABLE"

var applicationTransitions = []Transition{
	{"", ApplicationAvailable, "CreateApplication"},
	{ApplicationAvailable, "", "DeleteApplication"},
}

// Describe gives what the API shows of the application. icon turns the name of an icon in the blob store into an address for the caller.
func (a *Application) Describe(icon func(blob string) string) types.Application {
	v := a.View
	v.Name, v.Arn, v.CreatedTime = new(a.Name), new(a.ARN()), new(a.Created)
	v.IconURL, v.Enabled, v.Metadata = new(icon(a.Icon)), new(true), map[string]string{}
	return v
}
