package service_test

import (
	"context"
	"strings"
	"testing"
	"time"

	api "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/service"
	"github.com/oriel-project/oriel/internal/store"
)

func newPackager(name string) *api.CreateAppBlockBuilderInput {
	return &api.CreateAppBlockBuilderInput{Name: &name, InstanceType: new("stream.standard.small"), Platform: "DEBIAN_12", VpcConfig: &types.VpcConfig{SecurityGroupIds: []string{"sg-1"}},
		DisplayName: new("Packages"), EnableDefaultInternetAccess: new(true)}
}

// inactive makes an app block whose package is to be made here.
func (f *fixture) inactive(name string) {
	f.t.Helper()
	_, err := f.CreateAppBlock(as(me), &api.CreateAppBlockInput{Name: &name, PackagingType: types.PackagingTypeAppstream2, SourceS3Location: inBucket("")})
	f.must(err)
}

// appBlockBuilder makes an app block builder that is associated with the app block suite, in a state.
func (f *fixture) appBlockBuilder(name, state string) (b appstream.AppBlockBuilder) {
	f.t.Helper()
	f.inactive("suite")
	_, err := f.CreateAppBlockBuilder(as(me), newPackager(name))
	f.must(err)
	_, err = f.AssociateAppBlockBuilderAppBlock(as(me), &api.AssociateAppBlockBuilderAppBlockInput{AppBlockBuilderName: &name, AppBlockArn: new(arnPrefix + "app-block/suite")})
	f.must(err)
	path := map[string][]string{appstream.AppBlockBuilderStarting: {"STARTING"}, appstream.AppBlockBuilderRunning: {"STARTING", "RUNNING"},
		appstream.AppBlockBuilderStopping: {"STARTING", "STOPPING"}}[state]
	for _, next := range path {
		f.editPackager(name, func(b *appstream.AppBlockBuilder) { b.Enter(next, time.Now()) })
	}
	return f.editPackager(name, func(*appstream.AppBlockBuilder) {})
}

// editPackager changes an app block builder in the store, and gives it as it is then.
func (f *fixture) editPackager(name string, fn func(*appstream.AppBlockBuilder)) (b appstream.AppBlockBuilder) {
	f.t.Helper()
	f.must(f.store.Update(context.Background(), func(tx store.Tx) error {
		if err := tx.Get(appstream.Key{Account: me, Region: "us-west-2", Noun: appstream.NounAppBlockBuilder, Name: name}, &b); err != nil {
			return err
		}
		fn(&b)
		return tx.Put(&b)
	}))
	return b
}

func appBlockBuilderRows() []row {
	const suite, office = arnPrefix + "app-block/suite", arnPrefix + "app-block/office"
	in := func(state string) func(*fixture) { return func(f *fixture) { f.appBlockBuilder("b", state) } }
	stopped, starting, running, stopping := in("STOPPED"), in("STARTING"), in("RUNNING"), in("STOPPING")
	create := func(fn func(*api.CreateAppBlockBuilderInput)) *api.CreateAppBlockBuilderInput {
		return edited(newPackager("new"), fn)
	}
	alone := func(f *fixture) { _, err := f.CreateAppBlockBuilder(as(me), newPackager("alone")); f.must(err) }
	update := func(fn func(*api.UpdateAppBlockBuilderInput)) *api.UpdateAppBlockBuilderInput {
		return edited(&api.UpdateAppBlockBuilderInput{Name: new("b")}, fn)
	}
	names := func(out *api.DescribeAppBlockBuildersOutput) (names []*string) {
		for _, b := range out.AppBlockBuilders {
			names = append(names, b.Name)
		}
		return names
	}
	token := func(out *api.DescribeAppBlockBuildersOutput) *string { return out.NextToken }
	pairs := func(out *api.DescribeAppBlockBuilderAppBlockAssociationsOutput) (list []*string) {
		for _, a := range out.AppBlockBuilderAppBlockAssociations {
			list = append(list, new(*a.AppBlockBuilderName+"/"+strings.TrimPrefix(*a.AppBlockArn, arnPrefix+"app-block/")))
		}
		return list
	}
	pairsToken := func(out *api.DescribeAppBlockBuilderAppBlockAssociationsOutput) *string { return out.NextToken }
	two := func(f *fixture) {
		stopped(f)
		alone(f)
		_, err := f.CreateAppBlockBuilder(as(me), newPackager("c"))
		f.must(err)
		_, err = f.AssociateAppBlockBuilderAppBlock(as(me), &api.AssociateAppBlockBuilderAppBlockInput{AppBlockBuilderName: new("c"), AppBlockArn: new(suite)})
		f.must(err)
	}
	associate := func(builder, block string) *api.AssociateAppBlockBuilderAppBlockInput {
		return &api.AssociateAppBlockBuilderAppBlockInput{AppBlockBuilderName: &builder, AppBlockArn: &block}
	}
	disassociate := func(builder, block string) *api.DisassociateAppBlockBuilderAppBlockInput {
		return &api.DisassociateAppBlockBuilderAppBlockInput{AppBlockBuilderName: &builder, AppBlockArn: &block}
	}
	has := func(builder, block string) func(*testing.T, *fixture, any) {
		return func(t *testing.T, f *fixture, _ any) {
			t.Helper()
			if b := f.editPackager(builder, func(*appstream.AppBlockBuilder) {}); b.AppBlock != block {
				t.Errorf("it is associated with %q", b.AppBlock)
			}
		}
	}
	return []row{
		{name: "success", in: newPackager("new"), then: func(t *testing.T, _ *fixture, out any) {
			b := out.(*api.CreateAppBlockBuilderOutput).AppBlockBuilder
			if b.State != "STOPPED" || *b.Arn != arnPrefix+"app-block-builder/new" || *b.DisplayName != "Packages" || b.VpcConfig.SecurityGroupIds[0] != "sg-1" || b.CreatedTime == nil {
				t.Errorf("%+v", *b)
			}
		}},
		{name: "type", in: create(func(in *api.CreateAppBlockBuilderInput) { in.InstanceType = new("stream.huge.small") }), want: appstream.InvalidParameterCombination, says: "stream.huge"},
		{name: "family", in: create(func(in *api.CreateAppBlockBuilderInput) { in.InstanceType = new("stream.graphics.g5.xlarge") }), want: appstream.InvalidParameterCombination, says: "not supported"},
		{name: "two subnets, as AppStream wants it", in: create(func(in *api.CreateAppBlockBuilderInput) { in.VpcConfig.SubnetIds = []string{"subnet-1", "subnet-2"} }),
			then: state(func(out *api.CreateAppBlockBuilderOutput) any { return len(out.AppBlockBuilder.VpcConfig.SubnetIds) }, 2)},
		{name: "endpoint", in: create(func(in *api.CreateAppBlockBuilderInput) {
			in.AccessEndpoints = []types.AccessEndpoint{{EndpointType: "STREAMING"}}
		}), want: appstream.InvalidParameterCombination, says: "AccessEndpoints[0]"},
		{name: "role", in: create(func(in *api.CreateAppBlockBuilderInput) { in.IamRoleArn = new(theirRole) }), want: appstream.InvalidRole, says: "encountered an error because your IAM role"},
		{name: "quota", given: alone, setup: quota(func(q *service.Quotas) { q.AppBlockBuilders = 1 }), in: newPackager("new"), want: appstream.LimitExceeded, says: "The app block builder limit for account"},
		{name: "taken", given: alone, in: newPackager("alone"), want: appstream.ResourceAlreadyExists, says: "alone already exists"},
		{name: "platform", in: create(func(in *api.CreateAppBlockBuilderInput) { in.Platform = "WINDOWS_SERVER_2019" }), want: appstream.ResourceNotAvailable, says: "no public image of the platform WINDOWS_SERVER_2019"},
		{name: "unknown platform", in: create(func(in *api.CreateAppBlockBuilderInput) { in.Platform = "BEOS" }), want: appstream.Validation, says: "BEOS"},

		{name: "success", given: two, in: &api.DescribeAppBlockBuildersInput{}, then: lists(names, token, "alone b c", false)},
		{name: "named", given: two, in: &api.DescribeAppBlockBuildersInput{Names: []string{"c", "b"}}, then: lists(names, token, "b c", false)},
		{name: "a page", given: two, in: &api.DescribeAppBlockBuildersInput{MaxResults: new(int32(1))}, then: lists(names, token, "alone", true)},
		{name: "a page is 25 at most", given: func(f *fixture) {
			for n := range 26 {
				_, err := f.CreateAppBlockBuilder(as(me), newPackager(string(rune('A'+n))))
				f.must(err)
			}
		}, setup: quota(func(q *service.Quotas) { q.AppBlockBuilders = 26 }), in: &api.DescribeAppBlockBuildersInput{MaxResults: new(int32(100))}, then: lists(names, token, "A B C D E F G H I J K L M N O P Q R S T U V W X Y", true)},
		{name: "missing", in: &api.DescribeAppBlockBuildersInput{Names: []string{"nope"}}, want: appstream.ResourceNotFound, says: "The app block builder nope"},

		{name: "success", given: stopped, in: update(func(in *api.UpdateAppBlockBuilderInput) {
			in.InstanceType, in.AttributesToDelete = new("stream.standard.medium"), []types.AppBlockBuilderAttribute{types.AppBlockBuilderAttributeVpcConfigurationSecurityGroupIds}
		}), then: func(t *testing.T, _ *fixture, out any) {
			b := out.(*api.UpdateAppBlockBuilderOutput).AppBlockBuilder
			if *b.InstanceType != "stream.standard.medium" || len(b.VpcConfig.SecurityGroupIds) != 0 || *b.DisplayName != "Packages" {
				t.Errorf("%+v", *b)
			}
		}},
		{name: "its words while it runs", given: running, in: update(func(in *api.UpdateAppBlockBuilderInput) { in.Description = new("busy") }),
			then: state(func(out *api.UpdateAppBlockBuilderOutput) any { return *out.AppBlockBuilder.Description }, "busy")},
		{name: "its type while it runs", given: running, in: update(func(in *api.UpdateAppBlockBuilderInput) { in.InstanceType = new("stream.standard.medium") }), want: appstream.OperationNotPermitted, says: "b is RUNNING"},
		{name: "while it stops", given: stopping, in: update(func(in *api.UpdateAppBlockBuilderInput) { in.Description = new("busy") }), want: appstream.OperationNotPermitted, says: "b is STOPPING"},
		{name: "both", given: stopped, in: update(func(in *api.UpdateAppBlockBuilderInput) {
			in.IamRoleArn, in.AttributesToDelete = new("arn:aws:iam::"+me+":role/x"), []types.AppBlockBuilderAttribute{types.AppBlockBuilderAttributeIamRoleArn}
		}), want: appstream.InvalidParameterCombination, says: "AttributesToDelete has IAM_ROLE_ARN"},
		{name: "role", given: stopped, in: update(func(in *api.UpdateAppBlockBuilderInput) { in.IamRoleArn = new(theirRole) }), want: appstream.InvalidRole, says: "IAM role"},
		{name: "platform", given: stopped, in: update(func(in *api.UpdateAppBlockBuilderInput) { in.Platform = "WINDOWS_SERVER_2022" }), want: appstream.ResourceNotAvailable, says: "WINDOWS_SERVER_2022"},
		{name: "missing", in: update(func(*api.UpdateAppBlockBuilderInput) {}), want: appstream.ResourceNotFound, says: "The app block builder b"},

		{name: "success", given: stopped, in: &api.StartAppBlockBuilderInput{Name: new("b")}, then: func(t *testing.T, f *fixture, out any) {
			b := f.editPackager("b", func(*appstream.AppBlockBuilder) {})
			if out.(*api.StartAppBlockBuilderOutput).AppBlockBuilder.State != "STARTING" || b.ImageARN != baseARN || b.AgentVersion != "11-21-2026" || b.Due.IsZero() {
				t.Errorf("%+v", b)
			}
		}},
		{name: "state", given: running, in: &api.StartAppBlockBuilderInput{Name: new("b")}, want: appstream.OperationNotPermitted, says: "b is RUNNING"},
		{name: "without an app block", given: alone, in: &api.StartAppBlockBuilderInput{Name: new("alone")}, want: appstream.OperationNotPermitted, says: "AssociateAppBlockBuilderAppBlock first"},
		{name: "no image any more", given: func(f *fixture) {
			stopped(f)
			f.editPackager("b", func(b *appstream.AppBlockBuilder) { b.View.Platform = "WINDOWS_SERVER_2019" })
		}, in: &api.StartAppBlockBuilderInput{Name: new("b")}, want: appstream.ResourceNotAvailable, says: "no public image"},
		{name: "missing", in: &api.StartAppBlockBuilderInput{Name: new("nope")}, want: appstream.ResourceNotFound, says: "nope"},

		{name: "success", given: running, in: &api.StopAppBlockBuilderInput{Name: new("b")}, then: state(func(out *api.StopAppBlockBuilderOutput) any { return out.AppBlockBuilder.State }, "STOPPING")},
		{name: "one that starts", given: starting, in: &api.StopAppBlockBuilderInput{Name: new("b")}, then: state(func(out *api.StopAppBlockBuilderOutput) any { return out.AppBlockBuilder.State }, "STOPPING")},
		{name: "state", given: stopped, in: &api.StopAppBlockBuilderInput{Name: new("b")}, want: appstream.OperationNotPermitted, says: "b is STOPPED"},
		{name: "missing", in: &api.StopAppBlockBuilderInput{Name: new("nope")}, want: appstream.ResourceNotFound, says: "nope"},

		{name: "success", given: alone, in: &api.DeleteAppBlockBuilderInput{Name: new("alone")}, then: func(t *testing.T, f *fixture, _ any) {
			if out, err := f.DescribeAppBlockBuilders(as(me), &api.DescribeAppBlockBuildersInput{}); err != nil || len(out.AppBlockBuilders) != 0 {
				t.Error(out, err)
			}
		}},
		{name: "state", given: running, in: &api.DeleteAppBlockBuilderInput{Name: new("b")}, want: appstream.OperationNotPermitted, says: "b is RUNNING"},
		{name: "in use", given: stopped, in: &api.DeleteAppBlockBuilderInput{Name: new("b")}, want: appstream.ResourceInUse, says: "the app block suite"},
		{name: "missing", in: &api.DeleteAppBlockBuilderInput{Name: new("nope")}, want: appstream.ResourceNotFound, says: "nope"},

		{name: "success", given: running, in: &api.CreateAppBlockBuilderStreamingURLInput{AppBlockBuilderName: new("b"), Validity: new(int64(60))}, then: func(t *testing.T, _ *fixture, out any) {
			if o := out.(*api.CreateAppBlockBuilderStreamingURLOutput); !strings.HasPrefix(*o.StreamingURL, "https://oriel.test/authenticate?") || time.Until(*o.Expires) > 61*time.Second {
				t.Error(*o.Expires)
			}
		}},
		{name: "validity", given: running, in: &api.CreateAppBlockBuilderStreamingURLInput{AppBlockBuilderName: new("b"), Validity: new(int64(604801))}, want: appstream.Validation, says: "604801"},
		{name: "state", given: stopped, in: &api.CreateAppBlockBuilderStreamingURLInput{AppBlockBuilderName: new("b")}, want: appstream.OperationNotPermitted, says: "b is STOPPED"},
		{name: "missing", in: &api.CreateAppBlockBuilderStreamingURLInput{AppBlockBuilderName: new("nope")}, want: appstream.ResourceNotFound, says: "nope"},

		{name: "success", given: func(f *fixture) { alone(f); f.inactive("suite") }, in: associate("alone", suite), then: has("alone", "suite")},
		{name: "twice", given: running, in: associate("b", suite), then: has("b", "suite")},
		{name: "another one", given: func(f *fixture) { stopped(f); f.inactive("other") }, in: associate("b", arnPrefix+"app-block/other"), want: appstream.LimitExceeded, says: "Limit: 1"},
		{name: "packaged otherwise", given: func(f *fixture) { alone(f); f.appBlock("office") }, in: associate("alone", office), want: appstream.InvalidParameterCombination, says: "office has PackagingType CUSTOM"},
		{name: "state", given: func(f *fixture) { running(f); f.inactive("other") }, in: associate("b", arnPrefix+"app-block/other"), want: appstream.OperationNotPermitted, says: "b is RUNNING"},
		{name: "no app block", given: alone, in: associate("alone", suite), want: appstream.ResourceNotFound, says: "The app block suite"},
		{name: "another's app block", given: alone, in: associate("alone", strings.Replace(suite, me, other, 1)), want: appstream.ResourceNotFound, says: "does not exist"},
		{name: "no builder", given: func(f *fixture) { f.inactive("suite") }, in: associate("nope", suite), want: appstream.ResourceNotFound, says: "The app block builder nope"},

		{name: "success", given: stopped, in: disassociate("b", suite), then: has("b", "")},
		{name: "not associated", given: func(f *fixture) { stopped(f); f.inactive("other") }, in: disassociate("b", arnPrefix+"app-block/other"), then: has("b", "suite")},
		{name: "state", given: running, in: disassociate("b", suite), want: appstream.OperationNotPermitted, says: "b is RUNNING"},
		{name: "no app block", given: stopped, in: disassociate("b", office), want: appstream.ResourceNotFound, says: "The app block office"},
		{name: "no builder", in: disassociate("nope", suite), want: appstream.ResourceNotFound, says: "The app block builder nope"},

		{name: "success", given: two, in: &api.DescribeAppBlockBuilderAppBlockAssociationsInput{}, then: lists(pairs, pairsToken, "b/suite c/suite", false)},
		{name: "of a builder", given: two, in: &api.DescribeAppBlockBuilderAppBlockAssociationsInput{AppBlockBuilderName: new("c")}, then: lists(pairs, pairsToken, "c/suite", false)},
		{name: "of an app block", given: two, in: &api.DescribeAppBlockBuilderAppBlockAssociationsInput{AppBlockArn: new(suite)}, then: lists(pairs, pairsToken, "b/suite c/suite", false)},
		{name: "of none", given: two, in: &api.DescribeAppBlockBuilderAppBlockAssociationsInput{AppBlockArn: new(office)}, then: lists(pairs, pairsToken, "", false)},
		{name: "a page", given: two, in: &api.DescribeAppBlockBuilderAppBlockAssociationsInput{MaxResults: new(int32(1))}, then: lists(pairs, pairsToken, "b/suite", true)},
	}
}

func TestCreateAppBlockPackage(t *testing.T) {
	f := newFixture(t)
	ask := func() (*service.CreateAppBlockPackageOutput, error) {
		return f.CreateAppBlockPackage(as(me), &service.CreateAppBlockPackageInput{AppBlockBuilderName: new("b")})
	}
	_, err := ask()
	refused(t, err, appstream.ResourceNotFound, "The app block builder b")
	f.appBlockBuilder("b", "STOPPED")
	_, err = ask()
	refused(t, err, appstream.OperationNotPermitted, "b is STOPPED")
	f.editPackager("b", func(b *appstream.AppBlockBuilder) { b.Enter("STARTING", time.Now()) })
	f.editPackager("b", func(b *appstream.AppBlockBuilder) { b.Enter("RUNNING", time.Now()) })
	out, err := ask()
	f.must(err)
	b := f.editPackager("b", func(*appstream.AppBlockBuilder) {})
	if *out.AppBlockArn != arnPrefix+"app-block/suite" || *out.SourceS3Location.S3Bucket != "brand" || !strings.HasPrefix(*out.SourceS3Location.S3Key, "suite-") ||
		b.State != "STOPPING" || b.Packaging == nil || b.Packaging.Key != *out.SourceS3Location.S3Key || b.Due.IsZero() {
		t.Errorf("%+v, %+v", *out.SourceS3Location, b)
	}
	_, err = ask()
	refused(t, err, appstream.OperationNotPermitted, "b is STOPPING")
	stop := func() (*api.StopAppBlockBuilderOutput, error) {
		return f.StopAppBlockBuilder(as(me), &api.StopAppBlockBuilderInput{Name: new("b")})
	}
	stopped, err := stop()
	f.must(err)
	after := f.editPackager("b", func(*appstream.AppBlockBuilder) {})
	if s := stopped.AppBlockBuilder; s.State != "STOPPING" || !strings.Contains(*s.StateChangeReason.Message, "The package was not made") || after.Packaging != nil ||
		after.Abandoned == nil || after.Abandoned.Key != b.Packaging.Key || !after.Due.After(b.Due) || !after.Deadline.Before(b.Deadline) {
		t.Errorf("%+v, %+v", *s, after)
	}
	_, err = stop()
	refused(t, err, appstream.OperationNotPermitted, "b is STOPPING")
}
