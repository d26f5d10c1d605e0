//lint:file-ignore SA1019 old clients send members that are deprecated

package service_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	api "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/google/go-cmp/cmp"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/service"
	"github.com/oriel-project/oriel/internal/store"
	"pgregory.net/rapid"
)

// noSmithy leaves out what the SDK's types have beside their members.
var noSmithy = cmp.FilterPath(func(p cmp.Path) bool { return strings.Contains(p.Last().String(), "noSmithy") }, cmp.Ignore())

func fleetInput(name string, edit ...func(*api.CreateFleetInput)) *api.CreateFleetInput {
	in := &api.CreateFleetInput{Name: &name, ImageName: new("base"), InstanceType: new("stream.standard.medium"),
		ComputeCapacity: &types.ComputeCapacity{DesiredInstances: new(int32(2))}}
	for _, fn := range edit {
		fn(in)
	}
	return in
}

// fleet makes a fleet of an account's and gives it a state, as the engine would.
func (f *fixture) fleet(name, state string, edit ...func(*api.CreateFleetInput)) {
	f.t.Helper()
	_, err := f.CreateFleet(as(me), fleetInput(name, edit...))
	f.must(err)
	if state == appstream.FleetStopped {
		return
	}
	path := []string{appstream.FleetStarting, appstream.FleetRunning, appstream.FleetStopping}
	for _, next := range path[:slices.Index(path, state)+1] {
		f.editFleet(name, func(r *appstream.Fleet) { r.Enter(next, time.Now(), 0) })
	}
}

// editFleet changes a fleet in the store, and gives it as it is then.
func (f *fixture) editFleet(name string, fn func(*appstream.Fleet)) (r appstream.Fleet) {
	f.t.Helper()
	f.must(f.store.Update(context.Background(), func(tx store.Tx) error {
		if err := tx.Get(appstream.Key{Account: me, Region: "us-west-2", Noun: appstream.NounFleet, Name: name}, &r); err != nil {
			return err
		}
		fn(&r)
		return tx.Put(&r)
	}))
	return r
}

func (f *fixture) describeFleet(name string) types.Fleet {
	f.t.Helper()
	out, err := f.DescribeFleets(as(me), &api.DescribeFleetsInput{Names: []string{name}})
	f.must(err)
	return out.Fleets[0]
}

// instance puts an instance of a fleet into the store, in a state, as the engine would.
func (f *fixture) instance(fleet, state string, edit ...func(*appstream.Instance)) appstream.Instance {
	f.t.Helper()
	r := f.editFleet(fleet, func(*appstream.Fleet) {})
	f.instances++
	id := fmt.Sprintf("i-%017x", f.instances)
	i := appstream.Instance{Meta: appstream.Meta{Key: appstream.Key{Account: r.Account, Region: r.Region, Noun: appstream.NounInstance, Name: appstream.InstanceName(r.Name, id)}, ID: id},
		Fleet: r.Name, FleetID: r.ID, Max: r.PerInstance(), Spec: r.Spec(id, "11-21-2026", f.cfg.Sizes)}
	i.Enter(appstream.InstancePending, time.Now())
	path := []string{}
	switch state {
	case appstream.InstancePrepared, appstream.InstanceAvailable, appstream.InstanceDeleting:
		path = append(path, state)
	case appstream.InstanceInUse:
		path = append(path, appstream.InstanceAvailable, state)
	case appstream.InstanceDraining:
		path = append(path, appstream.InstanceAvailable, appstream.InstanceInUse, state)
	}
	f.must(f.store.Update(context.Background(), func(tx store.Tx) error {
		if err := tx.Insert(&i); err != nil {
			return err
		}
		for n, next := range path {
			i.Enter(next, time.Now())
			if n == len(path)-1 {
				for _, fn := range edit {
					fn(&i)
				}
			}
			if err := tx.Put(&i); err != nil {
				return err
			}
		}
		return nil
	}))
	return i
}

func TestCreateFleetAnswersAsAWSDoes(t *testing.T) {
	f := newFixture(t)
	f.addImage(me, "apps", appstream.ImageAvailable, func(i *appstream.Image) { i.View.AppstreamAgentVersion, i.VolumeGB = new("01-01-2026"), 250 })
	check := func(name string, got *types.Fleet, want types.Fleet) {
		t.Helper()
		if got.CreatedTime == nil || time.Since(*got.CreatedTime) > time.Minute {
			t.Errorf("CreatedTime = %v", got.CreatedTime)
		}
		want.Name, want.Arn, want.CreatedTime = &name, new("arn:aws:appstream:us-west-2:"+me+":fleet/"+name), got.CreatedTime
		if diff := cmp.Diff(want, *got, noSmithy); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(want, f.describeFleet(name), noSmithy); diff != "" {
			t.Errorf("%s described (-want +got):\n%s", name, diff)
		}
	}
	out, err := f.CreateFleet(as(me), fleetInput("least"))
	f.must(err)
	check("least", out.Fleet, types.Fleet{
		State: types.FleetStateStopped, FleetType: types.FleetTypeOnDemand, StreamView: types.StreamViewApp, InstanceType: new("stream.standard.medium"),
		ImageName: new("base"), ImageArn: new("arn:aws:appstream:us-west-2::image/base"), Platform: "DEBIAN_12",
		MaxUserDurationInSeconds: new(int32(57600)), DisconnectTimeoutInSeconds: new(int32(900)), IdleDisconnectTimeoutInSeconds: new(int32(0)),
		EnableDefaultInternetAccess: new(false), DisableIMDSV1: new(false), VpcConfig: &types.VpcConfig{},
		RootVolumeConfig:      &types.VolumeConfig{VolumeSizeInGb: new(int32(200))},
		ComputeCapacityStatus: &types.ComputeCapacityStatus{Desired: new(int32(2)), Running: new(int32(0)), InUse: new(int32(0)), Available: new(int32(0))},
	})
	out, err = f.CreateFleet(as(me), &api.CreateFleetInput{
		Name: new("most"), ImageArn: new("arn:aws:appstream:us-west-2:" + me + ":image/apps"), InstanceType: new("stream.standard.large"),
		FleetType: types.FleetTypeAlwaysOn, StreamView: types.StreamViewDesktop, Platform: "DEBIAN_12", Description: new("for tests"), DisplayName: new("Most"),
		MaxSessionsPerInstance: new(int32(5)), ComputeCapacity: &types.ComputeCapacity{DesiredSessions: new(int32(11))},
		MaxUserDurationInSeconds: new(int32(432000)), DisconnectTimeoutInSeconds: new(int32(60)), IdleDisconnectTimeoutInSeconds: new(int32(70)),
		EnableDefaultInternetAccess: new(true), DisableIMDSV1: new(true), IamRoleArn: new("arn:aws:iam::" + me + ":role/fleet"),
		DomainJoinInfo: &types.DomainJoinInfo{DirectoryName: new("")}, RootVolumeConfig: &types.VolumeConfig{VolumeSizeInGb: new(int32(300))},
		UsbDeviceFilterStrings: []string{"name,0,0,0,0,1,0,0"}, VpcConfig: &types.VpcConfig{SubnetIds: []string{"subnet-1", "subnet-2"}, SecurityGroupIds: []string{"sg-1"}},
		Tags: map[string]string{"team": "lab"},
	})
	f.must(err)
	n := func(n int32) *int32 { return &n }
	check("most", out.Fleet, types.Fleet{
		State: types.FleetStateStopped, FleetType: types.FleetTypeAlwaysOn, StreamView: types.StreamViewDesktop, InstanceType: new("stream.standard.large"),
		ImageName: new("apps"), ImageArn: new("arn:aws:appstream:us-west-2:" + me + ":image/apps"), Platform: "DEBIAN_12", Description: new("for tests"), DisplayName: new("Most"),
		MaxSessionsPerInstance: n(5), MaxUserDurationInSeconds: n(432000), DisconnectTimeoutInSeconds: n(60), IdleDisconnectTimeoutInSeconds: n(70),
		EnableDefaultInternetAccess: new(true), DisableIMDSV1: new(true), IamRoleArn: new("arn:aws:iam::" + me + ":role/fleet"),
		DomainJoinInfo: &types.DomainJoinInfo{DirectoryName: new("")}, RootVolumeConfig: &types.VolumeConfig{VolumeSizeInGb: n(300)},
		UsbDeviceFilterStrings: []string{"name,0,0,0,0,1,0,0"}, VpcConfig: &types.VpcConfig{SubnetIds: []string{"subnet-1", "subnet-2"}, SecurityGroupIds: []string{"sg-1"}},
		ComputeCapacityStatus: &types.ComputeCapacityStatus{Desired: n(3), Running: n(0), InUse: n(0), Available: n(0), Draining: n(0), DesiredUserSessions: n(11),
			ActualUserSessions: n(0), ActiveUserSessions: n(0), AvailableUserSessions: n(0), DrainModeActiveUserSessions: n(0), DrainModeUnusedUserSessions: n(0)},
	})
	r := f.editFleet("most", func(*appstream.Fleet) {})
	if r.Agent != "01-01-2026" || r.ImageRef != "ref" || r.VolumeGB != 300 {
		t.Errorf("agent %q, image %q, volume %d", r.Agent, r.ImageRef, r.VolumeGB)
	}
	tags, err := f.ListTagsForResource(as(me), &api.ListTagsForResourceInput{ResourceArn: out.Fleet.Arn})
	f.must(err)
	if tags.Tags["team"] != "lab" {
		t.Errorf("tags %v", tags.Tags)
	}
}

func TestCreateFleetRefusals(t *testing.T) {
	f := newFixture(t, func(c *service.Config) { c.Quotas.Fleets, c.Quotas.FleetInstances = 1, 100 })
	f.addImage(other, "theirs", appstream.ImageAvailable, func(i *appstream.Image) {
		i.Permissions = map[string]types.ImagePermissions{me: {AllowImageBuilder: new(true), AllowFleet: new(false)}}
	})
	f.addImage(other, "hidden", appstream.ImageAvailable)
	f.addImage(me, "big", appstream.ImageAvailable, func(i *appstream.Image) { i.VolumeGB = 300 })
	f.fleet("taken", appstream.FleetStopped)
	type edit = func(*api.CreateFleetInput)
	arn := func(account, name string) edit {
		return func(in *api.CreateFleetInput) {
			in.ImageName, in.ImageArn = nil, new("arn:aws:appstream:us-west-2:"+account+":image/"+name)
		}
	}
	n := func(n int32) *int32 { return &n }
	for name, test := range map[string]struct {
		edit edit
		kind appstream.Kind
		says string
	}{
		"no image":            {func(in *api.CreateFleetInput) { in.ImageName = nil }, appstream.InvalidParameterCombination, "ImageName and ImageArn"},
		"two images":          {func(in *api.CreateFleetInput) { in.ImageArn = new("arn:aws:appstream:us-west-2::image/base") }, appstream.InvalidParameterCombination, "ImageName and ImageArn"},
		"missing image":       {func(in *api.CreateFleetInput) { in.ImageName = new("nope") }, appstream.ResourceNotFound, "The image nope for account " + me + " does not exist."},
		"image of another":    {arn(other, "hidden"), appstream.ResourceNotFound, "does not exist"},
		"shared for builders": {arn(other, "theirs"), appstream.OperationNotPermitted, "allowFleet"},
		"deprecated":          {func(in *api.CreateFleetInput) { in.ImageName = new("old") }, appstream.ResourceNotAvailable, "The image old is DEPRECATED. The image must be in an AVAILABLE state for this action to succeed."},
		"unknown type":        {func(in *api.CreateFleetInput) { in.InstanceType = new("m5.large") }, appstream.InvalidParameterCombination, "m5.large"},
		"family":              {func(in *api.CreateFleetInput) { in.InstanceType = new("stream.memory.large") }, appstream.InvalidParameterCombination, "The combination of instance type stream.memory.large and image instance family General Purpose is not supported."},
		"no capacity":         {func(in *api.CreateFleetInput) { in.ComputeCapacity = nil }, appstream.InvalidParameterCombination, "ComputeCapacity"},
		"empty capacity":      {func(in *api.CreateFleetInput) { in.ComputeCapacity = &types.ComputeCapacity{} }, appstream.InvalidParameterCombination, "DesiredInstances"},
		"negative capacity":   {func(in *api.CreateFleetInput) { in.ComputeCapacity.DesiredInstances = n(-1) }, appstream.InvalidParameterCombination, "negative"},
		"sessions alone":      {func(in *api.CreateFleetInput) { in.ComputeCapacity = &types.ComputeCapacity{DesiredSessions: n(1)} }, appstream.InvalidParameterCombination, "MaxSessionsPerInstance"},
		"both capacities":     {func(in *api.CreateFleetInput) { in.ComputeCapacity.DesiredSessions = n(1) }, appstream.InvalidParameterCombination, "DesiredInstances"},
		"instances of multi":  {func(in *api.CreateFleetInput) { in.MaxSessionsPerInstance = n(2) }, appstream.InvalidParameterCombination, "DesiredSessions"},
		"capacity limit":      {func(in *api.CreateFleetInput) { in.ComputeCapacity.DesiredInstances = n(150) }, appstream.LimitExceeded, "The Instance type 'stream.standard.medium' capacity limit for fleet new' was exceeded. Requested: 150, Limit: 100"},
		"one session each":    {func(in *api.CreateFleetInput) { in.MaxSessionsPerInstance = n(1) }, appstream.InvalidParameterCombination, "MaxSessionsPerInstance is 1. It must be between 2 and 50."},
		"51 sessions each":    {func(in *api.CreateFleetInput) { in.MaxSessionsPerInstance = n(51) }, appstream.InvalidParameterCombination, "MaxSessionsPerInstance"},
		"short session":       {func(in *api.CreateFleetInput) { in.MaxUserDurationInSeconds = n(599) }, appstream.InvalidParameterCombination, "MaxUserDurationInSeconds is 599. It must be between 600 and 432000."},
		"long session":        {func(in *api.CreateFleetInput) { in.MaxUserDurationInSeconds = n(432001) }, appstream.InvalidParameterCombination, "MaxUserDurationInSeconds"},
		"short disconnect":    {func(in *api.CreateFleetInput) { in.DisconnectTimeoutInSeconds = n(59) }, appstream.InvalidParameterCombination, "DisconnectTimeoutInSeconds"},
		"no disconnect":       {func(in *api.CreateFleetInput) { in.DisconnectTimeoutInSeconds = n(0) }, appstream.InvalidParameterCombination, "DisconnectTimeoutInSeconds"},
		"long disconnect":     {func(in *api.CreateFleetInput) { in.DisconnectTimeoutInSeconds = n(36001) }, appstream.InvalidParameterCombination, "DisconnectTimeoutInSeconds"},
		"short idle":          {func(in *api.CreateFleetInput) { in.IdleDisconnectTimeoutInSeconds = n(59) }, appstream.InvalidParameterCombination, "IdleDisconnectTimeoutInSeconds is 59. It must be 0, or between 60 and 36000."},
		"negative idle":       {func(in *api.CreateFleetInput) { in.IdleDisconnectTimeoutInSeconds = n(-60) }, appstream.InvalidParameterCombination, "IdleDisconnectTimeoutInSeconds"},
		"concurrent sessions": {func(in *api.CreateFleetInput) { in.MaxConcurrentSessions = n(5) }, appstream.InvalidParameterCombination, "MaxConcurrentSessions"},
		"scripts":             {func(in *api.CreateFleetInput) { in.SessionScriptS3Location = &types.S3Location{S3Bucket: new("b")} }, appstream.InvalidParameterCombination, "SessionScriptS3Location"},
		"platform":            {func(in *api.CreateFleetInput) { in.Platform = types.PlatformTypeWindows }, appstream.InvalidParameterCombination, "Platform is WINDOWS"},
		"role of another":     {func(in *api.CreateFleetInput) { in.IamRoleArn = new("arn:aws:iam::" + other + ":role/r") }, appstream.InvalidRole, "encountered an error because your IAM role"},
		"volume below the image": {func(in *api.CreateFleetInput) {
			in.ImageName, in.RootVolumeConfig = new("big"), &types.VolumeConfig{VolumeSizeInGb: n(250)}
		}, appstream.InvalidParameterCombination, "between 300 and 500"},
		"volume too large": {func(in *api.CreateFleetInput) { in.RootVolumeConfig = &types.VolumeConfig{VolumeSizeInGb: n(501)} }, appstream.InvalidParameterCombination, "VolumeSizeInGb"},
		"taken":            {func(in *api.CreateFleetInput) { in.Name = new("taken") }, appstream.ResourceAlreadyExists, "The fleet taken already exists"},
		"one more":         {func(*api.CreateFleetInput) {}, appstream.LimitExceeded, "Limit: 1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.CreateFleet(as(me), fleetInput("new", test.edit))
			refused(t, err, test.kind, test.says)
		})
	}
	out, err := f.DescribeFleets(as(me), &api.DescribeFleetsInput{})
	f.must(err)
	if len(out.Fleets) != 1 {
		t.Errorf("%d fleets are there after the refusals", len(out.Fleets))
	}
}

// However sessions and instances are chosen, there is room for the sessions and no instance too many.
func TestDesiredInstances(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		f := newFixture(t, func(c *service.Config) { c.Quotas.FleetInstances = 1_000_000 })
		per := rapid.Int32Range(2, 50).Draw(rt, "per")
		sessions := rapid.Int32Range(0, 1_000_000).Draw(rt, "sessions")
		f.fleet("pool", appstream.FleetStopped, func(in *api.CreateFleetInput) {
			in.MaxSessionsPerInstance, in.ComputeCapacity = &per, &types.ComputeCapacity{DesiredSessions: &sessions}
		})
		r := f.editFleet("pool", func(*appstream.Fleet) {})
		if room := r.Desired * int(per); room < int(sessions) || room >= int(sessions+per) {
			rt.Errorf("%d instances of %d for %d sessions", r.Desired, per, sessions)
		}
	})
}

// What may be updated depends on the state; what is sent as it is already may always be.
func TestUpdateFleetByState(t *testing.T) {
	n := func(n int32) *int32 { return &n }
	members := map[string]struct {
		edit    func(*api.UpdateFleetInput)
		running bool
	}{
		"DisplayName":     {func(in *api.UpdateFleetInput) { in.DisplayName = new("new") }, true},
		"ComputeCapacity": {func(in *api.UpdateFleetInput) { in.ComputeCapacity = &types.ComputeCapacity{DesiredInstances: n(7)} }, true},
		"ImageName":       {func(in *api.UpdateFleetInput) { in.ImageName = new("newer") }, true},
		"ImageArn": {func(in *api.UpdateFleetInput) {
			in.ImageArn = new("arn:aws:appstream:us-west-2:" + me + ":image/newer")
		}, true},
		"IdleDisconnectTimeoutInSeconds": {func(in *api.UpdateFleetInput) { in.IdleDisconnectTimeoutInSeconds = n(60) }, true},
		"DisconnectTimeoutInSeconds":     {func(in *api.UpdateFleetInput) { in.DisconnectTimeoutInSeconds = n(60) }, true},
		"Description":                    {func(in *api.UpdateFleetInput) { in.Description = new("new") }, false},
		"DisableIMDSV1":                  {func(in *api.UpdateFleetInput) { in.DisableIMDSV1 = new(true) }, false},
		"DomainJoinInfo":                 {func(in *api.UpdateFleetInput) { in.DomainJoinInfo = &types.DomainJoinInfo{DirectoryName: new("d")} }, false},
		"EnableDefaultInternetAccess":    {func(in *api.UpdateFleetInput) { in.EnableDefaultInternetAccess = new(true) }, false},
		"IamRoleArn":                     {func(in *api.UpdateFleetInput) { in.IamRoleArn = new("arn:aws:iam::" + me + ":role/r") }, false},
		"InstanceType":                   {func(in *api.UpdateFleetInput) { in.InstanceType = new("stream.standard.large") }, false},
		"MaxSessionsPerInstance":         {func(in *api.UpdateFleetInput) { in.MaxSessionsPerInstance = n(5) }, false},
		"MaxUserDurationInSeconds":       {func(in *api.UpdateFleetInput) { in.MaxUserDurationInSeconds = n(600) }, false},
		"RootVolumeConfig":               {func(in *api.UpdateFleetInput) { in.RootVolumeConfig = &types.VolumeConfig{VolumeSizeInGb: n(400)} }, false},
		"StreamView":                     {func(in *api.UpdateFleetInput) { in.StreamView = types.StreamViewDesktop }, false},
		"UsbDeviceFilterStrings":         {func(in *api.UpdateFleetInput) { in.UsbDeviceFilterStrings = []string{"x,0,0,0,0,1,0,0"} }, false},
		"VpcConfig":                      {func(in *api.UpdateFleetInput) { in.VpcConfig = &types.VpcConfig{SubnetIds: []string{"subnet-2"}} }, false},
		"VpcConfig deleted":              {func(in *api.UpdateFleetInput) { in.DeleteVpcConfig = new(true) }, false},
		"VpcConfig in AttributesToDelete": {func(in *api.UpdateFleetInput) {
			in.AttributesToDelete = []types.FleetAttribute{types.FleetAttributeVpcConfiguration}
		}, false},
	}
	for _, state := range []string{appstream.FleetStopped, appstream.FleetStarting, appstream.FleetRunning, appstream.FleetStopping} {
		for member, test := range members {
			t.Run(state+" "+member, func(t *testing.T) {
				f := newFixture(t)
				f.addImage(me, "newer", appstream.ImageAvailable, func(i *appstream.Image) { i.VolumeGB, i.Ref = 220, "newer" })
				f.fleet("pool", state, func(in *api.CreateFleetInput) { in.VpcConfig = &types.VpcConfig{SubnetIds: []string{"subnet-1"}} })
				before := f.describeFleet("pool")
				in := &api.UpdateFleetInput{Name: new("pool")}
				test.edit(in)
				out, err := f.UpdateFleet(as(me), in)
				if state == appstream.FleetStopped || state == appstream.FleetRunning && test.running {
					f.must(err)
					if diff := cmp.Diff(*out.Fleet, f.describeFleet("pool"), noSmithy); diff != "" {
						t.Errorf("the answer is not what is described (-answer +described):\n%s", diff)
					}
					if cmp.Equal(before, *out.Fleet, noSmithy) {
						t.Error("nothing has changed")
					}
					again, err := f.UpdateFleet(as(me), in) // what is deleted or set already
					f.must(err)
					if diff := cmp.Diff(out.Fleet, again.Fleet, noSmithy); diff != "" {
						t.Errorf("updated twice (-once +twice):\n%s", diff)
					}
					return
				}
				says := "Cannot update the attribute for fleet pool when it is " + state
				if state == appstream.FleetRunning {
					says = "Cannot update the attribute for fleet pool when it is ACTIVE. The fleet must be stopped to complete this action."
				}
				refused(t, err, appstream.ResourceInUse, says)
				refused(t, err, appstream.ResourceInUse, strings.Fields(member)[0])
				if diff := cmp.Diff(before, f.describeFleet("pool"), noSmithy); diff != "" {
					t.Errorf("refused, and changed (-before +after):\n%s", diff)
				}
			})
		}
	}
}

func TestUpdateFleetOfAnyState(t *testing.T) {
	f := newFixture(t)
	for _, state := range []string{appstream.FleetStarting, appstream.FleetRunning, appstream.FleetStopping} {
		f.fleet(state, state, func(in *api.CreateFleetInput) { in.Description = new("as it was") })
		before := f.editFleet(state, func(r *appstream.Fleet) { r.Due = time.Time{} })
		_, err := f.UpdateFleet(as(me), &api.UpdateFleetInput{Name: &state, Description: new("as it was"), InstanceType: new("stream.standard.medium"), ImageName: new("base"),
			VpcConfig: &types.VpcConfig{}, MaxUserDurationInSeconds: new(int32(57600)), ComputeCapacity: &types.ComputeCapacity{DesiredInstances: new(int32(2))}})
		f.must(err)
		after := f.editFleet(state, func(*appstream.Fleet) {})
		if after.Due.IsZero() {
			t.Errorf("%s: the engine is not woken", state)
		}
		if before.View.State != after.View.State || after.State != state {
			t.Errorf("%s became %s", state, after.State)
		}
	}
}

// A new image brings its reference, its agent, its platform and at least its volume.
func TestUpdateFleetTakesANewImage(t *testing.T) {
	f := newFixture(t)
	f.addImage(me, "newer", appstream.ImageAvailable, func(i *appstream.Image) {
		i.Ref, i.VolumeGB, i.View.AppstreamAgentVersion, i.View.Platform = "newer", 260, new("01-01-2026"), "ROCKY_LINUX8"
	})
	f.addImage(me, "memory", appstream.ImageAvailable, func(i *appstream.Image) { i.View.SupportedInstanceFamilies = []string{"Memory Optimized"} })
	f.fleet("pool", appstream.FleetRunning)
	out, err := f.UpdateFleet(as(me), &api.UpdateFleetInput{Name: new("pool"), ImageName: new("newer")})
	f.must(err)
	r := f.editFleet("pool", func(*appstream.Fleet) {})
	if r.ImageRef != "newer" || r.Agent != "01-01-2026" || r.VolumeGB != 260 || *out.Fleet.RootVolumeConfig.VolumeSizeInGb != 260 ||
		out.Fleet.Platform != "ROCKY_LINUX8" || *out.Fleet.ImageName != "newer" || *out.Fleet.ImageArn != "arn:aws:appstream:us-west-2:"+me+":image/newer" {
		t.Errorf("image %q, agent %q, volume %d: %+v", r.ImageRef, r.Agent, r.VolumeGB, out.Fleet)
	}
	_, err = f.UpdateFleet(as(me), &api.UpdateFleetInput{Name: new("pool"), ImageName: new("memory")})
	refused(t, err, appstream.InvalidParameterCombination, "image instance family Memory Optimized")
	_, err = f.UpdateFleet(as(me), &api.UpdateFleetInput{Name: new("pool"), ImageName: new("old")})
	refused(t, err, appstream.ResourceNotAvailable, "DEPRECATED")
	f.editFleet("pool", func(r *appstream.Fleet) { r.Enter(appstream.FleetStopping, time.Now(), 0) })
	f.editFleet("pool", func(r *appstream.Fleet) { r.Enter(appstream.FleetStopped, time.Now(), 0) })
	// Both at once fit.
	out, err = f.UpdateFleet(as(me), &api.UpdateFleetInput{Name: new("pool"), ImageName: new("memory"), InstanceType: new("stream.memory.large"),
		AttributesToDelete: []types.FleetAttribute{types.FleetAttributeVolumeConfiguration}})
	f.must(err)
	if *out.Fleet.RootVolumeConfig.VolumeSizeInGb != 200 || f.editFleet("pool", func(*appstream.Fleet) {}).Agent != "" {
		t.Errorf("%+v", out.Fleet)
	}
	_, err = f.UpdateFleet(as(me), &api.UpdateFleetInput{Name: new("pool"), InstanceType: new("stream.standard.large")})
	refused(t, err, appstream.InvalidParameterCombination, "stream.standard.large")
}

func TestUpdateFleetRefusals(t *testing.T) {
	f := newFixture(t)
	f.fleet("pool", appstream.FleetStopped)
	n := func(n int32) *int32 { return &n }
	for name, test := range map[string]struct {
		in   *api.UpdateFleetInput
		kind appstream.Kind
		says string
	}{
		"no name":            {&api.UpdateFleetInput{}, appstream.InvalidParameterCombination, "Name is missing"},
		"missing":            {&api.UpdateFleetInput{Name: new("nope")}, appstream.ResourceNotFound, "The fleet nope for account " + me + " does not exist."},
		"two images":         {&api.UpdateFleetInput{Name: new("pool"), ImageName: new("base"), ImageArn: new("arn")}, appstream.InvalidParameterCombination, "not both"},
		"set and deleted":    {&api.UpdateFleetInput{Name: new("pool"), IamRoleArn: new("r"), AttributesToDelete: []types.FleetAttribute{types.FleetAttributeIamRoleArn}}, appstream.InvalidParameterCombination, "IAM_ROLE_ARN"},
		"vpc deleted":        {&api.UpdateFleetInput{Name: new("pool"), VpcConfig: &types.VpcConfig{}, DeleteVpcConfig: new(true)}, appstream.InvalidParameterCombination, "VPC_CONFIGURATION"},
		"range":              {&api.UpdateFleetInput{Name: new("pool"), DisconnectTimeoutInSeconds: n(1)}, appstream.InvalidParameterCombination, "DisconnectTimeoutInSeconds is 1"},
		"concurrent":         {&api.UpdateFleetInput{Name: new("pool"), MaxConcurrentSessions: n(1)}, appstream.InvalidParameterCombination, "MaxConcurrentSessions"},
		"unknown type":       {&api.UpdateFleetInput{Name: new("pool"), InstanceType: new("x")}, appstream.InvalidParameterCombination, "instance type x"},
		"capacity limit":     {&api.UpdateFleetInput{Name: new("pool"), ComputeCapacity: &types.ComputeCapacity{DesiredInstances: n(101)}}, appstream.LimitExceeded, "Requested: 101, Limit: 100"},
		"sessions":           {&api.UpdateFleetInput{Name: new("pool"), ComputeCapacity: &types.ComputeCapacity{DesiredSessions: n(1)}}, appstream.InvalidParameterCombination, "DesiredInstances"},
		"role of another":    {&api.UpdateFleetInput{Name: new("pool"), IamRoleArn: new("arn:aws:iam::" + other + ":role/r")}, appstream.InvalidRole, "your IAM role"},
		"volume":             {&api.UpdateFleetInput{Name: new("pool"), RootVolumeConfig: &types.VolumeConfig{VolumeSizeInGb: n(100)}}, appstream.InvalidParameterCombination, "VolumeSizeInGb is 100"},
		"platform":           {&api.UpdateFleetInput{Name: new("pool"), Platform: types.PlatformTypeWindows}, appstream.InvalidParameterCombination, "Platform"},
		"scripts, elsewhere": {&api.UpdateFleetInput{Name: new("pool"), SessionScriptS3Location: &types.S3Location{S3Bucket: new("b")}}, appstream.InvalidParameterCombination, "SessionScriptS3Location"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.UpdateFleet(as(me), test.in)
			refused(t, err, test.kind, test.says)
		})
	}
}

// A fleet can become one of shared instances and back. The number of its instances stays when no other is asked for; between two
// multi-session sizes, the number of its sessions does.
func TestUpdateFleetSessionsPerInstance(t *testing.T) {
	f := newFixture(t)
	f.fleet("pool", appstream.FleetStopped)
	n := func(n int32) *int32 { return &n }
	for _, step := range []struct {
		in                *api.UpdateFleetInput
		desired, sessions int
	}{
		{&api.UpdateFleetInput{MaxSessionsPerInstance: n(4)}, 2, 8},
		{&api.UpdateFleetInput{MaxSessionsPerInstance: n(3)}, 3, 8},
		{&api.UpdateFleetInput{DisplayName: new("same")}, 3, 8},
		{&api.UpdateFleetInput{MaxSessionsPerInstance: n(10), ComputeCapacity: &types.ComputeCapacity{DesiredSessions: n(11)}}, 2, 11},
		{&api.UpdateFleetInput{AttributesToDelete: []types.FleetAttribute{types.FleetAttributeMaxSessionsPerInstance}}, 2, 0},
		{&api.UpdateFleetInput{ComputeCapacity: &types.ComputeCapacity{DesiredInstances: n(0)}}, 0, 0},
	} {
		step.in.Name = new("pool")
		_, err := f.UpdateFleet(as(me), step.in)
		f.must(err)
		if r := f.editFleet("pool", func(*appstream.Fleet) {}); r.Desired != step.desired || r.DesiredSessions != step.sessions {
			t.Errorf("after %+v: %d instances, %d sessions", step.in, r.Desired, r.DesiredSessions)
		}
	}
}

func TestUpdateFleetDeletes(t *testing.T) {
	f := newFixture(t)
	f.fleet("pool", appstream.FleetStopped, func(in *api.CreateFleetInput) {
		in.VpcConfig = &types.VpcConfig{SubnetIds: []string{"subnet-1"}, SecurityGroupIds: []string{"sg-1"}}
		in.IamRoleArn, in.DomainJoinInfo, in.UsbDeviceFilterStrings = new("arn:aws:iam::"+me+":role/r"), &types.DomainJoinInfo{DirectoryName: new("d")}, []string{"x,0,0,0,0,1,0,0"}
		in.RootVolumeConfig = &types.VolumeConfig{VolumeSizeInGb: new(int32(300))}
	})
	del := func(attributes ...types.FleetAttribute) types.Fleet {
		t.Helper()
		out, err := f.UpdateFleet(as(me), &api.UpdateFleetInput{Name: new("pool"), AttributesToDelete: attributes})
		f.must(err)
		return *out.Fleet
	}
	if v := del(types.FleetAttributeVpcConfigurationSecurityGroupIds).VpcConfig; len(v.SecurityGroupIds) != 0 || len(v.SubnetIds) != 1 {
		t.Errorf("without security groups: %+v", v)
	}
	got := del(types.FleetAttributeVpcConfiguration, types.FleetAttributeDomainJoinInfo, types.FleetAttributeIamRoleArn, types.FleetAttributeUsbDeviceFilterStrings,
		types.FleetAttributeSessionScriptS3Location, types.FleetAttributeVolumeConfiguration)
	if len(got.VpcConfig.SubnetIds) != 0 || got.DomainJoinInfo != nil || got.IamRoleArn != nil || got.UsbDeviceFilterStrings != nil || *got.RootVolumeConfig.VolumeSizeInGb != 200 {
		t.Errorf("%+v", got)
	}
}

func TestFleetLife(t *testing.T) {
	for _, test := range []struct {
		op    string
		state string
		next  string // "" for gone
		kind  appstream.Kind
		says  string
	}{
		{"StartFleet", appstream.FleetStopped, appstream.FleetStarting, "", ""},
		{"StartFleet", appstream.FleetStarting, "", appstream.OperationNotPermitted, "The fleet pool is STARTING. The fleet must be in a STOPPED state for this action to succeed."},
		{"StartFleet", appstream.FleetRunning, "", appstream.OperationNotPermitted, "RUNNING"},
		{"StartFleet", appstream.FleetStopping, "", appstream.OperationNotPermitted, "STOPPING"},
		{"StopFleet", appstream.FleetStopped, appstream.FleetStopped, "", ""},
		{"StopFleet", appstream.FleetStarting, appstream.FleetStopping, "", ""},
		{"StopFleet", appstream.FleetRunning, appstream.FleetStopping, "", ""},
		{"StopFleet", appstream.FleetStopping, appstream.FleetStopping, "", ""},
		{"DeleteFleet", appstream.FleetStopped, "", "", ""},
		{"DeleteFleet", appstream.FleetStarting, "", appstream.ResourceInUse, "STARTING"},
		{"DeleteFleet", appstream.FleetRunning, "", appstream.ResourceInUse, "The fleet pool is RUNNING. The fleet must be in a STOPPED state for this action to succeed."},
		{"DeleteFleet", appstream.FleetStopping, "", appstream.ResourceInUse, "STOPPING"},
	} {
		t.Run(test.op+" "+test.state, func(t *testing.T) {
			f := newFixture(t)
			f.fleet("pool", test.state)
			f.editFleet("pool", func(r *appstream.Fleet) {
				r.Failures, r.Retry, r.View.FleetErrors = 3, time.Now(), []types.FleetError{{ErrorMessage: new("it failed")}}
			})
			call := func(name string) (err error) {
				switch test.op {
				case "StartFleet":
					_, err = f.StartFleet(as(me), &api.StartFleetInput{Name: &name})
				case "StopFleet":
					_, err = f.StopFleet(as(me), &api.StopFleetInput{Name: &name})
				case "DeleteFleet":
					_, err = f.DeleteFleet(as(me), &api.DeleteFleetInput{Name: &name})
				}
				return err
			}
			err := call("pool")
			refused(t, call("nope"), appstream.ResourceNotFound, "The fleet nope for account")
			if test.kind != "" {
				refused(t, err, test.kind, test.says)
				test.next = test.state
			} else {
				f.must(err)
			}
			out, err := f.DescribeFleets(as(me), &api.DescribeFleetsInput{})
			f.must(err)
			if test.next == "" {
				if len(out.Fleets) != 0 {
					t.Errorf("the fleet is %s", out.Fleets[0].State)
				}
				_, err := f.DescribeFleets(as(me), &api.DescribeFleetsInput{Names: []string{"pool"}})
				refused(t, err, appstream.ResourceNotFound, "pool")
				return
			}
			if got := out.Fleets[0]; string(got.State) != test.next || len(got.FleetErrors) != 0 != (test.next != appstream.FleetStarting || test.state == test.next) {
				t.Errorf("the fleet is %s with %d errors", got.State, len(got.FleetErrors))
			}
			if r := f.editFleet("pool", func(*appstream.Fleet) {}); test.next == appstream.FleetStarting && test.kind == "" && (r.Failures != 0 || !r.Retry.IsZero() || r.Due.IsZero()) {
				t.Errorf("started with %d failures, the next try at %v, due at %v", r.Failures, r.Retry, r.Due)
			}
		})
	}
}

// A fleet starts from its image as that is now, and an update has the engine try again at once.
func TestFleetTriesAnew(t *testing.T) {
	f := newFixture(t)
	f.fleet("pool", appstream.FleetStopped)
	f.must(f.store.Update(context.Background(), func(tx store.Tx) error {
		var image appstream.Image
		if err := tx.Get(appstream.Key{Region: "us-west-2", Noun: appstream.NounImage, Name: "base"}, &image); err != nil {
			return err
		}
		image.Ref = "built anew"
		return tx.Put(&image)
	}))
	_, err := f.StartFleet(as(me), &api.StartFleetInput{Name: new("pool")})
	f.must(err)
	r := f.editFleet("pool", func(r *appstream.Fleet) {
		r.Enter(appstream.FleetRunning, time.Now(), 0)
		r.Failures, r.Retry, r.Due = 3, time.Now().Add(time.Minute), time.Now().Add(time.Minute)
	})
	if r.ImageRef != "built anew" {
		t.Errorf("its machines are made from %q", r.ImageRef)
	}
	_, err = f.UpdateFleet(as(me), &api.UpdateFleetInput{Name: new("pool"), DisplayName: new("Pool")})
	f.must(err)
	if r = f.editFleet("pool", func(*appstream.Fleet) {}); r.Failures != 0 || !r.Retry.IsZero() || r.Due.After(time.Now()) {
		t.Errorf("after an update: %d failures, the next try at %v, due at %v", r.Failures, r.Retry, r.Due)
	}
}

// A fleet whose instance type was taken out of the configuration cannot start; another type helps.
func TestStartFleetWithoutItsType(t *testing.T) {
	f := newFixture(t)
	f.fleet("pool", appstream.FleetStopped)
	delete(f.cfg.Sizes, "stream.standard.medium")
	_, err := f.StartFleet(as(me), &api.StartFleetInput{Name: new("pool")})
	refused(t, err, appstream.ResourceNotAvailable, "The instance type stream.standard.medium of the fleet pool is not there any more.")
	_, err = f.UpdateFleet(as(me), &api.UpdateFleetInput{Name: new("pool"), InstanceType: new("stream.standard.large")})
	f.must(err)
	_, err = f.StartFleet(as(me), &api.StartFleetInput{Name: new("pool")})
	f.must(err)
}

// A fleet starts only if its image is there and may still be used; one that runs goes on without permission.
func TestFleetAndItsImage(t *testing.T) {
	f := newFixture(t)
	permit := func(yes bool) {
		t.Helper()
		_, err := f.UpdateImagePermissions(as(other), &api.UpdateImagePermissionsInput{Name: new("theirs"), SharedAccountId: new(me), ImagePermissions: &types.ImagePermissions{AllowFleet: &yes}})
		f.must(err)
	}
	f.addImage(other, "theirs", appstream.ImageAvailable)
	f.addImage(me, "mine", appstream.ImageAvailable)
	permit(true)
	f.fleet("pool", appstream.FleetStopped, func(in *api.CreateFleetInput) {
		in.ImageName, in.ImageArn = nil, new("arn:aws:appstream:us-west-2:"+other+":image/theirs")
	})
	f.fleet("own", appstream.FleetRunning, func(in *api.CreateFleetInput) { in.ImageName = new("mine") })
	permit(false)
	_, err := f.StartFleet(as(me), &api.StartFleetInput{Name: new("pool")})
	refused(t, err, appstream.OperationNotPermitted, "allowFleet")
	permit(true)
	_, err = f.StartFleet(as(me), &api.StartFleetInput{Name: new("pool")})
	f.must(err)

	_, err = f.DeleteImagePermissions(as(other), &api.DeleteImagePermissionsInput{Name: new("theirs"), SharedAccountId: new(me)})
	f.must(err)
	if got := f.describeFleet("pool"); got.State != types.FleetStateStarting {
		t.Errorf("the fleet is %s without permission", got.State)
	}
	_, err = f.DeleteImage(as(other), &api.DeleteImageInput{Name: new("theirs")})
	refused(t, err, appstream.ResourceInUse, "a fleet of another account")
	if strings.Contains(fmt.Sprint(err), "pool") {
		t.Errorf("another account's fleet is named: %v", err)
	}
	_, err = f.DeleteImage(as(me), &api.DeleteImageInput{Name: new("mine")})
	refused(t, err, appstream.ResourceInUse, "the fleet own")
	_, err = f.UpdateFleet(as(me), &api.UpdateFleetInput{Name: new("own"), ImageName: new("base")})
	f.must(err)
	_, err = f.DeleteImage(as(me), &api.DeleteImageInput{Name: new("mine")})
	f.must(err)
}

func TestDescribeFleets(t *testing.T) {
	f := newFixture(t, func(c *service.Config) { c.Quotas.Fleets = 1000 })
	const many = 120
	for n := range many {
		f.fleet(fmt.Sprintf("pool-%03d", n), appstream.FleetStopped)
	}
	_, err := f.CreateFleet(as(other), fleetInput("theirs"))
	f.must(err)
	f.instance("pool-001", appstream.InstanceAvailable)
	f.instance("pool-001", appstream.InstancePrepared)
	f.instance("pool-001", appstream.InstanceInUse, func(i *appstream.Instance) { i.Sessions = []string{"s"} })
	f.instance("pool-001", appstream.InstancePending)
	f.instance("pool-002", appstream.InstanceAvailable, func(i *appstream.Instance) { i.FleetID = "fleet-of-before" })
	want := &types.ComputeCapacityStatus{Desired: new(int32(2)), Running: new(int32(2)), InUse: new(int32(1)), Available: new(int32(2))}
	none := &types.ComputeCapacityStatus{Desired: new(int32(2)), Running: new(int32(0)), InUse: new(int32(0)), Available: new(int32(0))}
	var names []string
	var token *string
	for pages := 0; pages == 0 || token != nil; pages++ {
		out, err := f.DescribeFleets(as(me), &api.DescribeFleetsInput{NextToken: token})
		f.must(err)
		for _, fleet := range out.Fleets {
			names = append(names, *fleet.Name)
			w := none
			if *fleet.Name == "pool-001" {
				w = want
			}
			if diff := cmp.Diff(w, fleet.ComputeCapacityStatus, noSmithy); diff != "" {
				t.Errorf("%s (-want +got):\n%s", *fleet.Name, diff)
			}
		}
		token = out.NextToken
	}
	if len(names) != many || !slices.IsSorted(names) || slices.Contains(names, "theirs") {
		t.Errorf("%d fleets: %v", len(names), names)
	}
	if diff := cmp.Diff(want, f.describeFleet("pool-001").ComputeCapacityStatus, noSmithy); diff != "" {
		t.Errorf("alone (-want +got):\n%s", diff)
	}
	_, err = f.DescribeFleets(as(me), &api.DescribeFleetsInput{Names: []string{"pool-001", "theirs"}})
	refused(t, err, appstream.ResourceNotFound, "The fleet theirs for account "+me+" does not exist.")
	_, err = f.DescribeFleets(as(me), &api.DescribeFleetsInput{NextToken: new("forged")})
	refused(t, err, appstream.Validation, "NextToken")
}
