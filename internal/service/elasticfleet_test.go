package service_test

import (
	"testing"

	api "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/service"
)

func elasticInput(name string, edit ...func(*api.CreateFleetInput)) *api.CreateFleetInput {
	in := &api.CreateFleetInput{Name: &name, FleetType: types.FleetTypeElastic, Platform: "DEBIAN_12", InstanceType: new("stream.standard.medium"), MaxConcurrentSessions: new(int32(5))}
	for _, fn := range edit {
		fn(in)
	}
	return in
}

func elasticRows() []row {
	create := func(fn func(*api.CreateFleetInput)) *api.CreateFleetInput { return elasticInput("new", fn) }
	update := func(fn func(*api.UpdateFleetInput)) *api.UpdateFleetInput {
		return edited(&api.UpdateFleetInput{Name: new("pool")}, fn)
	}
	is := func(state string) func(*fixture) {
		return func(f *fixture) {
			packages(f)
			_, err := f.CreateFleet(as(me), elasticInput("pool"))
			f.must(err)
			if state == appstream.FleetRunning {
				f.editFleet("pool", func(r *appstream.Fleet) { r.State = appstream.FleetStarting })
				f.editFleet("pool", func(r *appstream.Fleet) { r.State = state })
			}
		}
	}
	n := func(n int32) *int32 { return &n }
	return []row{
		{name: "elastic", given: packages, in: create(func(in *api.CreateFleetInput) { in.SessionScriptS3Location = inBucket("pkg/setup.sh") }), then: func(t *testing.T, _ *fixture, out any) {
			v := out.(*api.CreateFleetOutput).Fleet
			if v.State != "STOPPED" || v.ComputeCapacityStatus != nil || v.ImageArn != nil || v.ImageName != nil || v.Platform != "DEBIAN_12" || *v.MaxConcurrentSessions != 5 || *v.SessionScriptS3Location.S3Key != "pkg/setup.sh" {
				t.Errorf("it is %+v", v)
			}
		}},
		{name: "elastic with an image", in: create(func(in *api.CreateFleetInput) { in.ImageName = new("base") }), want: appstream.InvalidParameterCombination, says: "ImageName is not for Elastic fleets"},
		{name: "elastic with an image's ARN", in: create(func(in *api.CreateFleetInput) { in.ImageArn = new("arn:aws:appstream:us-west-2::image/base") }), want: appstream.InvalidParameterCombination, says: "specify Platform"},
		{name: "elastic with a capacity", in: create(func(in *api.CreateFleetInput) {
			in.ComputeCapacity = &types.ComputeCapacity{DesiredInstances: n(1)}
		}),
			want: appstream.InvalidParameterCombination, says: "Specify MaxConcurrentSessions instead"},
		{name: "elastic without a platform", in: create(func(in *api.CreateFleetInput) { in.Platform = "" }), want: appstream.InvalidParameterCombination, says: "Platform is missing"},
		{name: "elastic of another platform", in: create(func(in *api.CreateFleetInput) { in.Platform = types.PlatformTypeRhel8 }), want: appstream.ResourceNotAvailable, says: "public image of the platform RHEL8"},
		{name: "elastic of a type that the image does not support", in: create(func(in *api.CreateFleetInput) { in.InstanceType = new("stream.graphics.g5.xlarge") }), want: appstream.InvalidParameterCombination, says: "stream.graphics.g5.xlarge"},
		{name: "elastic without a maximum", in: create(func(in *api.CreateFleetInput) { in.MaxConcurrentSessions = nil }), want: appstream.InvalidParameterCombination, says: "MaxConcurrentSessions is missing"},
		{name: "elastic for nobody", in: create(func(in *api.CreateFleetInput) { in.MaxConcurrentSessions = n(0) }), want: appstream.InvalidParameterCombination, says: "at least 1"},
		{name: "elastic for too many", setup: quota(func(q *service.Quotas) { q.FleetInstances = 4 }), in: create(func(*api.CreateFleetInput) {}), want: appstream.LimitExceeded, says: "Requested: 5, Limit: 4"},
		{name: "elastic and shared", in: create(func(in *api.CreateFleetInput) { in.MaxSessionsPerInstance = n(2) }), want: appstream.InvalidParameterCombination, says: "an instance of its own"},
		{name: "elastic in a domain", in: create(func(in *api.CreateFleetInput) { in.DomainJoinInfo = &types.DomainJoinInfo{} }), want: appstream.InvalidParameterCombination, says: "DomainJoinInfo is not for Elastic fleets"},

		{name: "elastic, running", given: is("RUNNING"), in: update(func(in *api.UpdateFleetInput) {
			in.DisplayName, in.MaxConcurrentSessions, in.SessionScriptS3Location, in.UsbDeviceFilterStrings = new("Pool"), n(7), inBucket("pkg/setup.sh"), []string{"Webcam,046D,0892,0003,1,1,1,0"}
		}), then: state(func(out *api.UpdateFleetOutput) any { return *out.Fleet.MaxConcurrentSessions }, int32(7))},
		{name: "elastic, running, scripts deleted", given: is("RUNNING"), in: update(func(in *api.UpdateFleetInput) {
			in.AttributesToDelete = []types.FleetAttribute{types.FleetAttributeSessionScriptS3Location}
		}), then: state(func(out *api.UpdateFleetOutput) any { return out.Fleet.SessionScriptS3Location == nil }, true)},
		{name: "elastic, running, type", given: is("RUNNING"), in: update(func(in *api.UpdateFleetInput) { in.InstanceType = new("stream.standard.large") }), want: appstream.ResourceInUse, says: "InstanceType"},
		{name: "elastic, stopped, type", given: is("STOPPED"), in: update(func(in *api.UpdateFleetInput) { in.InstanceType = new("stream.standard.large") }),
			then: state(func(out *api.UpdateFleetOutput) any { return *out.Fleet.InstanceType }, "stream.standard.large")},
		{name: "elastic, an image", given: is("STOPPED"), in: update(func(in *api.UpdateFleetInput) { in.ImageName = new("base") }), want: appstream.InvalidParameterCombination, says: "ImageName is not for Elastic fleets"},
		{name: "elastic, a capacity", given: is("STOPPED"), in: update(func(in *api.UpdateFleetInput) { in.ComputeCapacity = &types.ComputeCapacity{} }), want: appstream.InvalidParameterCombination, says: "ComputeCapacity is not for Elastic fleets"},
		{name: "elastic, a platform", given: is("STOPPED"), in: update(func(in *api.UpdateFleetInput) { in.Platform = types.PlatformTypeRhel8 }), want: appstream.ResourceNotAvailable, says: "RHEL8"},
		{name: "elastic, a type that the image does not support", given: is("STOPPED"), in: update(func(in *api.UpdateFleetInput) { in.InstanceType = new("stream.graphics.g5.xlarge") }), want: appstream.InvalidParameterCombination, says: "stream.graphics.g5.xlarge"},
		{name: "elastic, a platform that its applications are not for", given: func(f *fixture) {
			f.application("writer")
			f.elastic("pool", "writer")
			f.addImage("", "redhat", appstream.ImageAvailable, func(i *appstream.Image) { i.View.Platform = types.PlatformTypeRhel8 })
		}, in: update(func(in *api.UpdateFleetInput) { in.Platform, in.MaxConcurrentSessions = types.PlatformTypeRhel8, n(5) }), want: appstream.InvalidParameterCombination, says: "The application writer is for [DEBIAN_12], and the fleet pool is RHEL8"},
		{name: "elastic, missing scripts", given: is("STOPPED"), in: update(func(in *api.UpdateFleetInput) { in.SessionScriptS3Location = inBucket("none.zip") }), want: appstream.OperationNotPermitted, says: "brand/none.zip"},
		{name: "elastic", given: is("STOPPED"), in: &api.StartFleetInput{Name: new("pool")}, then: func(t *testing.T, f *fixture, _ any) {
			if v := f.describeFleet("pool"); v.State != "STARTING" || v.ComputeCapacityStatus != nil {
				t.Errorf("it is %+v", v)
			}
		}},
	}
}
