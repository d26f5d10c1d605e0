package service_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	api "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/google/go-cmp/cmp"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/blob"
	"github.com/oriel-project/oriel/internal/objects"
	"github.com/oriel-project/oriel/internal/password"
	"github.com/oriel-project/oriel/internal/service"
	"github.com/oriel-project/oriel/internal/store"
	"github.com/oriel-project/oriel/internal/store/sqlite"
	"github.com/oriel-project/oriel/internal/ticket"
	"pgregory.net/rapid"
)

const me, other = "123456789012", "210987654321"

// fixture is the operations over a real store, without an engine: records stay as the operations leave them.
type fixture struct {
	*service.Service
	t     testing.TB
	store store.Store
	cfg   service.Config

	instances int // that fixture.instance has made
}

// emptyStore gives the bytes of a store without records: to make one takes longer than most tests.
func emptyStore(t testing.TB) []byte {
	t.Helper()
	emptyOnce.Do(func() {
		file := filepath.Join(t.TempDir(), "oriel.db")
		st, err := sqlite.Open(context.Background(), file, sqlite.WithoutSync())
		if err == nil {
			err = st.Close()
		}
		if err == nil {
			empty, err = os.ReadFile(file)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	return empty
}

var (
	emptyOnce sync.Once
	empty     []byte
)

func newFixture(t testing.TB, edit ...func(*service.Config)) *fixture {
	dir := t.TempDir()
	file := filepath.Join(dir, "oriel.db")
	if err := os.WriteFile(file, emptyStore(t), 0o600); err != nil {
		t.Fatal(err)
	}
	st, err := sqlite.Open(context.Background(), file, sqlite.WithoutSync())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	blobs, err := blob.Open(filepath.Join(dir, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := objects.OpenDir(filepath.Join(dir, "objects"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { files.Close() })
	tickets, err := ticket.NewSigner(bytes.Repeat([]byte{1}, ticket.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	cfg := service.Config{
		Store: st, Blobs: blobs, Objects: files, Secrets: testSecrets(t), Passwords: password.New(password.Cost{Memory: 8, Passes: 1}, 2), Tickets: tickets, Sizes: appstream.InstanceTypes(), Log: slog.New(slog.DiscardHandler),
		Regions:       []string{"us-west-2", "eu-west-1"},
		AgentVersions: func() []string { return []string{"01-01-2026", "11-21-2026"} },
	}
	for _, fn := range edit {
		fn(&cfg)
	}
	f := &fixture{t: t, store: st, cfg: cfg, Service: service.New(cfg)}
	f.addImage("", "base", appstream.ImageAvailable)
	f.addImage("", "old", appstream.ImageDeprecated)
	return f
}

func as(account string) context.Context {
	return appstream.WithCaller(context.Background(), appstream.Caller{
		Account: account, Region: "us-west-2", Principal: "arn:aws:iam::" + account + ":root", BaseURL: "https://oriel.test", RequestID: "r-1"})
}

// addImage puts an image into the store.
func (f *fixture) addImage(account, name, state string, edit ...func(*appstream.Image)) {
	f.t.Helper()
	i := appstream.Image{Meta: appstream.Meta{Key: appstream.Key{Account: account, Region: "us-west-2", Noun: appstream.NounImage, Name: name},
		ID: "img-" + account + name, Created: time.Now().UTC()}, Ref: "ref",
		View: types.Image{ImageBuilderSupported: new(true), Platform: "DEBIAN_12", SupportedInstanceFamilies: []string{"General Purpose"}}}
	first := state
	if account != "" {
		first = appstream.ImagePending
	}
	i.Enter(first, time.Now())
	for _, fn := range edit {
		fn(&i)
	}
	f.must(f.store.Update(context.Background(), func(tx store.Tx) error {
		if err := tx.Insert(&i); err != nil || first == state {
			return err
		}
		i.Enter(state, time.Now())
		return tx.Put(&i)
	}))
}

// setState moves a builder along states, as the engine would.
func (f *fixture) setState(name string, states ...string) {
	f.t.Helper()
	for _, state := range states {
		f.edit(name, func(b *appstream.ImageBuilder) { b.Enter(state, time.Now()) })
	}
}

// edit changes a builder in the store, and gives it as it is then.
func (f *fixture) edit(name string, fn func(*appstream.ImageBuilder)) (b appstream.ImageBuilder) {
	f.t.Helper()
	f.must(f.store.Update(context.Background(), func(tx store.Tx) error {
		if err := tx.Get(appstream.Key{Account: me, Region: "us-west-2", Noun: appstream.NounImageBuilder, Name: name}, &b); err != nil {
			return err
		}
		fn(&b)
		return tx.Put(&b)
	}))
	return b
}

// running makes a builder that runs.
func (f *fixture) running(name string) appstream.ImageBuilder {
	f.t.Helper()
	_, err := f.CreateImageBuilder(as(me), input(name))
	f.must(err)
	return f.edit(name, func(b *appstream.ImageBuilder) { b.Enter(appstream.BuilderRunning, time.Now()) })
}

// builder reads a builder of an account from the store.
func (f *fixture) builder(account, name string) (b appstream.ImageBuilder) {
	f.t.Helper()
	f.must(f.store.View(context.Background(), func(tx store.Tx) error {
		return tx.Get(appstream.Key{Account: account, Region: "us-west-2", Noun: appstream.NounImageBuilder, Name: name}, &b)
	}))
	return b
}

// available makes an image AVAILABLE, as the engine would.
func (f *fixture) available(name string) {
	f.t.Helper()
	f.must(f.store.Update(context.Background(), func(tx store.Tx) error {
		var i appstream.Image
		if err := tx.Get(appstream.Key{Account: me, Region: "us-west-2", Noun: appstream.NounImage, Name: name}, &i); err != nil {
			return err
		}
		i.Enter(appstream.ImageAvailable, time.Now())
		return tx.Put(&i)
	}))
}

// refused checks that err is of a kind and says something.
func refused(t *testing.T, err error, kind appstream.Kind, says string) {
	t.Helper()
	if appstream.KindOf(err) != kind || !strings.Contains(fmt.Sprint(err), says) {
		t.Errorf("got %v\nwant %s … %q", err, kind, says)
	}
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func input(name string, edit ...func(*api.CreateImageBuilderInput)) *api.CreateImageBuilderInput {
	in := &api.CreateImageBuilderInput{Name: &name, ImageName: new("base"), InstanceType: new("stream.standard.medium")}
	for _, fn := range edit {
		fn(in)
	}
	return in
}

func TestCreateImageBuilderAnswersAsAWSDoes(t *testing.T) {
	f := newFixture(t)
	out, err := f.CreateImageBuilder(as(me), input("hello", func(in *api.CreateImageBuilderInput) {
		in.DisplayName, in.Tags = new("Hello"), map[string]string{"team": "lab"}
		in.VpcConfig = &types.VpcConfig{SubnetIds: []string{"subnet-1"}, SecurityGroupIds: []string{"sg-1", "sg-2"}}
		in.AccessEndpoints = []types.AccessEndpoint{{EndpointType: types.AccessEndpointTypeStreaming, VpceId: new("vpce-1")}}
		in.DomainJoinInfo = &types.DomainJoinInfo{DirectoryName: new("corp.example.com")}
		in.IamRoleArn = new("arn:aws:iam::" + me + ":role/builder")
		in.DisableIMDSV1 = new(true)
	}))
	f.must(err)
	got := *out.ImageBuilder
	if got.CreatedTime == nil || time.Since(*got.CreatedTime) > time.Minute {
		t.Errorf("CreatedTime = %v", got.CreatedTime)
	}
	got.CreatedTime = nil
	want := types.ImageBuilder{
		Name: new("hello"), Arn: new("arn:aws:appstream:us-west-2:" + me + ":image-builder/hello"), State: types.ImageBuilderStatePending,
		ImageArn: new("arn:aws:appstream:us-west-2::image/base"), DisplayName: new("Hello"), InstanceType: new("stream.standard.medium"), Platform: "DEBIAN_12",
		AppstreamAgentVersion: new("11-21-2026"), LatestAppstreamAgentVersion: types.LatestAppstreamAgentVersionTrue,
		EnableDefaultInternetAccess: new(false), DisableIMDSV1: new(true), IamRoleArn: new("arn:aws:iam::" + me + ":role/builder"),
		NetworkAccessConfiguration: &types.NetworkAccessConfiguration{}, RootVolumeConfig: &types.VolumeConfig{VolumeSizeInGb: new(int32(200))},
		VpcConfig:       &types.VpcConfig{SubnetIds: []string{"subnet-1"}, SecurityGroupIds: []string{"sg-1", "sg-2"}},
		AccessEndpoints: []types.AccessEndpoint{{EndpointType: types.AccessEndpointTypeStreaming, VpceId: new("vpce-1")}},
		DomainJoinInfo:  &types.DomainJoinInfo{DirectoryName: new("corp.example.com")},
	}
	ignore := cmp.FilterPath(func(p cmp.Path) bool { return strings.Contains(p.Last().String(), "noSmithy") }, cmp.Ignore())
	if diff := cmp.Diff(want, got, ignore); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	again, err := f.DescribeImageBuilders(as(me), &api.DescribeImageBuildersInput{Names: []string{"hello", "hello"}})
	f.must(err)
	again.ImageBuilders[0].CreatedTime = nil
	if diff := cmp.Diff([]types.ImageBuilder{want}, again.ImageBuilders, ignore); diff != "" {
		t.Errorf("DescribeImageBuilders (-want +got):\n%s", diff)
	}
	tags, err := f.ListTagsForResource(as(me), &api.ListTagsForResourceInput{ResourceArn: want.Arn})
	f.must(err)
	if diff := cmp.Diff(map[string]string{"team": "lab"}, tags.Tags); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
}

func TestRefusals(t *testing.T) {
	f := newFixture(t)
	f.addImage(other, "theirs", appstream.ImageAvailable)
	f.addImage(other, "lent", appstream.ImageAvailable, func(i *appstream.Image) {
		i.Permissions = map[string]types.ImagePermissions{me: {AllowFleet: new(true)}}
	})
	f.addImage(me, "mine", appstream.ImageAvailable)
	f.addImage(me, "unfinished", appstream.ImagePending)
	for _, name := range []string{"pending", "running", "stopped", "deleting"} {
		_, err := f.CreateImageBuilder(as(me), input(name))
		f.must(err)
	}
	f.setState("running", "RUNNING")
	f.setState("stopped", "RUNNING", "STOPPING", "STOPPED")
	f.setState("deleting", "DELETING")
	create := func(edit func(*api.CreateImageBuilderInput)) func() error {
		return func() error { _, err := f.CreateImageBuilder(as(me), input("new", edit)); return err }
	}
	for name, test := range map[string]struct {
		call func() error
		kind appstream.Kind
		says string
	}{
		"no such image": {create(func(in *api.CreateImageBuilderInput) { in.ImageName = new("nope") }),
			appstream.ResourceNotFound, "The image nope for account 123456789012 does not exist."},
		"no such image ARN": {create(func(in *api.CreateImageBuilderInput) {
			in.ImageName, in.ImageArn = nil, new("arn:aws:appstream:us-west-2::image/nope")
		}), appstream.ResourceNotFound, "does not exist"},
		"an image of another region": {create(func(in *api.CreateImageBuilderInput) {
			in.ImageName, in.ImageArn = nil, new("arn:aws:appstream:eu-west-1::image/base")
		}), appstream.ResourceNotFound, "does not exist"},
		"an image of another account": {create(func(in *api.CreateImageBuilderInput) {
			in.ImageName, in.ImageArn = nil, new("arn:aws:appstream:us-west-2:"+other+":image/theirs")
		}), appstream.ResourceNotFound, "does not exist"},
		"an image shared for fleets only": {create(func(in *api.CreateImageBuilderInput) {
			in.ImageName, in.ImageArn = nil, new("arn:aws:appstream:us-west-2:"+other+":image/lent")
		}), appstream.OperationNotPermitted, "allowImageBuilder"},
		"a deprecated image": {create(func(in *api.CreateImageBuilderInput) { in.ImageName = new("old") }),
			appstream.ResourceNotAvailable, "The image old is DEPRECATED. The image must be in an AVAILABLE state for this action to succeed."},
		"an unfinished image": {create(func(in *api.CreateImageBuilderInput) { in.ImageName = new("unfinished") }),
			appstream.ResourceNotAvailable, "is PENDING"},
		"neither name nor ARN": {create(func(in *api.CreateImageBuilderInput) { in.ImageName = nil }),
			appstream.InvalidParameterCombination, "exactly one"},
		"both name and ARN": {create(func(in *api.CreateImageBuilderInput) { in.ImageArn = new("arn:aws:appstream:us-west-2::image/base") }),
			appstream.InvalidParameterCombination, "exactly one"},
		"two subnets": {create(func(in *api.CreateImageBuilderInput) {
			in.VpcConfig = &types.VpcConfig{SubnetIds: []string{"subnet-1", "subnet-2"}}
		}), appstream.InvalidParameterCombination, "only one subnet"},
		"an unknown instance type": {create(func(in *api.CreateImageBuilderInput) { in.InstanceType = new("stream.huge") }),
			appstream.InvalidParameterCombination, "stream.huge"},
		"a family that the image does not support": {create(func(in *api.CreateImageBuilderInput) { in.InstanceType = new("stream.graphics.g5.xlarge") }),
			appstream.InvalidParameterCombination, "The combination of instance type stream.graphics.g5.xlarge and image instance family General Purpose is not supported."},
		"a role of another account": {create(func(in *api.CreateImageBuilderInput) { in.IamRoleArn = new("arn:aws:iam::" + other + ":role/x") }),
			appstream.InvalidRole, "encountered an error because your IAM role"},
		"an agent that is not installed": {create(func(in *api.CreateImageBuilderInput) { in.AppstreamAgentVersion = new("12-31-1999") }),
			appstream.ResourceNotAvailable, "12-31-1999"},
		"a volume below AppStream's least": {create(func(in *api.CreateImageBuilderInput) {
			in.RootVolumeConfig = &types.VolumeConfig{VolumeSizeInGb: new(int32(100))}
		}), appstream.InvalidParameterCombination, "between 200 and 500"},
		"a name that is taken": {func() error { _, err := f.CreateImageBuilder(as(me), input("running")); return err },
			appstream.ResourceAlreadyExists, "running already exists"},
		"start what runs": {func() error {
			_, err := f.StartImageBuilder(as(me), &api.StartImageBuilderInput{Name: new("running")})
			return err
		},
			appstream.ResourceNotAvailable, "The image builder running is RUNNING."},
		"start what is not there": {func() error {
			_, err := f.StartImageBuilder(as(me), &api.StartImageBuilderInput{Name: new("nope")})
			return err
		},
			appstream.ResourceNotFound, "The image builder nope"},
		"stop what is stopped": {func() error {
			_, err := f.StopImageBuilder(as(me), &api.StopImageBuilderInput{Name: new("stopped")})
			return err
		},
			appstream.OperationNotPermitted, "is STOPPED"},
		"delete twice": {func() error {
			_, err := f.DeleteImageBuilder(as(me), &api.DeleteImageBuilderInput{Name: new("deleting")})
			return err
		},
			appstream.OperationNotPermitted, "already"},
		"stream what does not run": {func() error {
			_, err := f.CreateImageBuilderStreamingURL(as(me), &api.CreateImageBuilderStreamingURLInput{Name: new("pending")})
			return err
		}, appstream.OperationNotPermitted, "is PENDING. The image builder must be in a RUNNING state"},
		"a validity beyond the limit": {func() error {
			_, err := f.CreateImageBuilderStreamingURL(as(me), &api.CreateImageBuilderStreamingURLInput{Name: new("running"), Validity: new(int64(604801))})
			return err
		}, appstream.Validation, "604800"},
		"another account's builder": {func() error {
			_, err := f.DescribeImageBuilders(as(other), &api.DescribeImageBuildersInput{Names: []string{"running"}})
			return err
		}, appstream.ResourceNotFound, "running"},
		"a forged page token": {func() error {
			_, err := f.DescribeImageBuilders(as(me), &api.DescribeImageBuildersInput{NextToken: new("abc")})
			return err
		}, appstream.Validation, "NextToken"},
		"names and ARNs": {func() error {
			_, err := f.DescribeImages(as(me), &api.DescribeImagesInput{Names: []string{"base"}, Arns: []string{"x"}})
			return err
		}, appstream.InvalidParameterCombination, "not both"},
		"delete a public image": {func() error { _, err := f.DeleteImage(as(me), &api.DeleteImageInput{Name: new("base")}); return err },
			appstream.ResourceNotFound, "base"},
		"image of a stopped builder": {func() error {
			_, err := f.CreateImage(as(me), &service.CreateImageInput{ImageBuilderName: new("stopped"), Name: new("img")})
			return err
		}, appstream.OperationNotPermitted, "is STOPPED"},
		"an image name that is taken": {func() error {
			_, err := f.CreateImage(as(me), &service.CreateImageInput{ImageBuilderName: new("running"), Name: new("mine")})
			return err
		}, appstream.ResourceAlreadyExists, "An image with the given name already exists"},
		"the name of a public image": {func() error {
			_, err := f.CreateImage(as(me), &service.CreateImageInput{ImageBuilderName: new("running"), Name: new("base")})
			return err
		}, appstream.ResourceAlreadyExists, "public image"},
		"a reserved image name": {func() error {
			_, err := f.CreateImage(as(me), &service.CreateImageInput{ImageBuilderName: new("running"), Name: new("AmazonThing")})
			return err
		}, appstream.Validation, "reserved"},
		"share with oneself": {func() error {
			_, err := f.UpdateImagePermissions(as(me), &api.UpdateImagePermissionsInput{Name: new("mine"), SharedAccountId: new(me), ImagePermissions: &types.ImagePermissions{}})
			return err
		}, appstream.InvalidParameterValue, "another account"},
		"share what is not finished": {func() error {
			_, err := f.UpdateImagePermissions(as(me), &api.UpdateImagePermissionsInput{Name: new("unfinished"), SharedAccountId: new(other), ImagePermissions: &types.ImagePermissions{}})
			return err
		}, appstream.ResourceNotAvailable, "PENDING"},
		"tags of a stranger's image": {func() error {
			_, err := f.ListTagsForResource(as(me), &api.ListTagsForResourceInput{ResourceArn: new("arn:aws:appstream:us-west-2:" + other + ":image/theirs")})
			return err
		}, appstream.ResourceNotFound, "theirs"},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, test.call(), test.kind, test.says)
		})
	}
	if out, err := f.DescribeImageBuilders(as(me), &api.DescribeImageBuildersInput{}); err != nil || len(out.ImageBuilders) != 4 {
		t.Errorf("a refused call left something: %d builders, %v", len(out.ImageBuilders), err)
	}
}

func TestQuotaMessageEndsWithTheLimit(t *testing.T) {
	f := newFixture(t)
	for n := range 10 {
		_, err := f.CreateImageBuilder(as(me), input(fmt.Sprint("b", n)))
		f.must(err)
	}
	_, err := f.CreateImageBuilder(as(me), input("b10"))
	if appstream.KindOf(err) != appstream.LimitExceeded || !strings.HasSuffix(err.Error(), "10") {
		t.Errorf("the eleventh: %v", err)
	}
	if _, err := f.CreateImageBuilder(as(other), input("b10")); err != nil {
		t.Errorf("another account has its own quota: %v", err)
	}
}

// Pages show every builder that is there all the time exactly once, in order, whatever comes and goes between them.
func TestPaging(t *testing.T) {
	f := newFixture(t)
	account := 0
	rapid.Check(t, func(t *rapid.T) {
		account++ // every try has its own
		ctx := as(fmt.Sprintf("%012d", account))
		stay := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z]{1,4}`), 1, 9, rapid.ID[string]).Draw(t, "stay")
		for _, name := range stay {
			_, err := f.CreateImageBuilder(ctx, input("s-"+name))
			f.must(err)
		}
		size := int32(rapid.IntRange(1, 4).Draw(t, "size"))
		var seen []string
		var token *string
		for page := 0; ; page++ {
			out, err := f.DescribeImageBuilders(ctx, &api.DescribeImageBuildersInput{MaxResults: &size, NextToken: token})
			f.must(err)
			if len(out.ImageBuilders) > int(size) {
				t.Fatalf("a page of %d, wanted %d", len(out.ImageBuilders), size)
			}
			for _, b := range out.ImageBuilders {
				if strings.HasPrefix(*b.Name, "s-") {
					seen = append(seen, *b.Name)
				}
			}
			if token = out.NextToken; token == nil {
				break
			}
			if page == 0 { // something comes between the pages, before or behind
				_, err := f.CreateImageBuilder(ctx, input(rapid.SampledFrom([]string{"a", "z", "s"}).Draw(t, "new")))
				f.must(err)
			}
		}
		want := make([]string, len(stay))
		for n, name := range stay {
			want[n] = "s-" + name
		}
		slices.Sort(want)
		if diff := cmp.Diff(want, seen); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

func TestSharedImages(t *testing.T) {
	f := newFixture(t)
	f.addImage(me, "mine", appstream.ImageAvailable, func(i *appstream.Image) { i.View.ImageBuilderName = new("hello") })
	arn := "arn:aws:appstream:us-west-2:" + me + ":image/mine"
	share := func(perm types.ImagePermissions) {
		_, err := f.UpdateImagePermissions(as(me), &api.UpdateImagePermissionsInput{Name: new("mine"), SharedAccountId: new(other), ImagePermissions: &perm})
		f.must(err)
	}
	if _, err := f.DescribeImages(as(other), &api.DescribeImagesInput{Arns: []string{arn}}); appstream.KindOf(err) != appstream.ResourceNotFound {
		t.Fatalf("before sharing: %v", err)
	}
	share(types.ImagePermissions{AllowFleet: new(true), AllowImageBuilder: new(true)})
	out, err := f.DescribeImages(as(other), &api.DescribeImagesInput{Type: types.VisibilityTypeShared})
	f.must(err)
	if len(out.Images) != 1 || out.Images[0].Visibility != types.VisibilityTypeShared || out.Images[0].ImageBuilderName != nil || !aws.ToBool(out.Images[0].ImagePermissions.AllowImageBuilder) {
		t.Errorf("the other account sees %+v", out.Images)
	}
	if _, err := f.CreateImageBuilder(as(other), input("x", func(in *api.CreateImageBuilderInput) { in.ImageName, in.ImageArn = nil, &arn })); err != nil {
		t.Errorf("a builder from a shared image: %v", err)
	}
	perms, err := f.DescribeImagePermissions(as(me), &api.DescribeImagePermissionsInput{Name: new("mine")})
	f.must(err)
	if len(perms.SharedImagePermissionsList) != 1 || aws.ToString(perms.SharedImagePermissionsList[0].SharedAccountId) != other {
		t.Errorf("DescribeImagePermissions = %+v", perms.SharedImagePermissionsList)
	}
	if _, err := f.DeleteImage(as(me), &api.DeleteImageInput{Name: new("mine")}); appstream.KindOf(err) != appstream.OperationNotPermitted {
		t.Errorf("delete of a shared image: %v", err)
	}
	unshare := &api.DeleteImagePermissionsInput{Name: new("mine"), SharedAccountId: new(other)}
	_, err = f.DeleteImagePermissions(as(me), unshare)
	f.must(err)
	if _, err := f.DeleteImagePermissions(as(me), unshare); appstream.KindOf(err) != appstream.ResourceNotFound {
		t.Errorf("unshare twice: %v", err)
	}
	if out, err := f.DescribeImages(as(other), &api.DescribeImagesInput{}); err != nil || len(out.Images) != 2 {
		t.Errorf("afterwards the other account sees %d images, want the 2 public ones (%v)", len(out.Images), err)
	}
	// The other account's builder is still being made of it.
	if _, err := f.DeleteImage(as(me), &api.DeleteImageInput{Name: new("mine")}); appstream.KindOf(err) != appstream.ResourceInUse {
		t.Errorf("delete of an image in use: %v", err)
	}
}

func TestTags(t *testing.T) {
	f := newFixture(t)
	out, err := f.CreateImageBuilder(as(me), input("hello"))
	f.must(err)
	arn := out.ImageBuilder.Arn
	many := map[string]string{}
	for n := range 50 {
		many[fmt.Sprint("k", n)] = "v"
	}
	_, err = f.TagResource(as(me), &api.TagResourceInput{ResourceArn: arn, Tags: many})
	f.must(err)
	_, err = f.TagResource(as(me), &api.TagResourceInput{ResourceArn: arn, Tags: map[string]string{"k1": "changed"}})
	f.must(err)
	_, err = f.TagResource(as(me), &api.TagResourceInput{ResourceArn: arn, Tags: map[string]string{"one more": "v"}})
	if appstream.KindOf(err) != appstream.LimitExceeded {
		t.Errorf("the 51st tag: %v", err)
	}
	_, err = f.UntagResource(as(me), &api.UntagResourceInput{ResourceArn: arn, TagKeys: []string{"k0", "not there"}})
	f.must(err)
	got, err := f.ListTagsForResource(as(me), &api.ListTagsForResourceInput{ResourceArn: arn})
	f.must(err)
	delete(many, "k0")
	many["k1"] = "changed"
	if diff := cmp.Diff(many, got.Tags); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCreateImage(t *testing.T) {
	f := newFixture(t)
	_, err := f.CreateImageBuilder(as(me), input("hello"))
	f.must(err)
	f.setState("hello", "RUNNING")
	in := &service.CreateImageInput{ImageBuilderName: new("hello"), Name: new("img"), DryRun: new(true), UseLatestAgentVersion: new(true),
		Applications: []types.Application{{Name: new("calc"), LaunchPath: new("/usr/bin/calc")}}}
	out, err := f.CreateImage(as(me), in)
	f.must(err)
	if out.Image.State != types.ImageStatePending || aws.ToString(out.Image.AppstreamAgentVersion) != "LATEST" {
		t.Errorf("dry run: %+v", out.Image)
	}
	if _, err := f.DescribeImages(as(me), &api.DescribeImagesInput{Names: []string{"img"}}); appstream.KindOf(err) != appstream.ResourceNotFound {
		t.Errorf("the dry run left an image: %v", err)
	}
	in.DryRun = nil
	_, err = f.CreateImage(as(me), in)
	f.must(err)
	images, err := f.DescribeImages(as(me), &api.DescribeImagesInput{Names: []string{"img"}})
	f.must(err)
	if i := images.Images[0]; aws.ToString(i.ImageBuilderName) != "hello" || len(i.Applications) != 1 || i.Visibility != types.VisibilityTypePrivate {
		t.Errorf("image = %+v", i)
	}
	builders, err := f.DescribeImageBuilders(as(me), &api.DescribeImageBuildersInput{Names: []string{"hello"}})
	f.must(err)
	if state := builders.ImageBuilders[0].State; state != types.ImageBuilderStateSnapshotting {
		t.Errorf("the builder is %s", state)
	}
	if _, err := f.CreateImage(as(me), in); appstream.KindOf(err) != appstream.OperationNotPermitted {
		t.Errorf("a second image at the same time: %v", err)
	}
}

// Every change leaves a line in the audit log that names who did what to what.
func TestAudit(t *testing.T) {
	f := newFixture(t)
	_, err := f.CreateImageBuilder(as(me), input("hello"))
	f.must(err)
	_, err = f.DeleteImageBuilder(as(me), &api.DeleteImageBuilderInput{Name: new("hello")})
	f.must(err)
	var lines []store.Audit
	f.must(f.store.View(context.Background(), func(tx store.Tx) error { lines, err = tx.Audits(store.LogQuery{Limit: 10}); return err }))
	if len(lines) != 2 || lines[0].Operation != "appstream:DeleteImageBuilder" || lines[0].Principal != "arn:aws:iam::"+me+":root" ||
		lines[0].Resource != "arn:aws:appstream:us-west-2:"+me+":image-builder/hello" || lines[0].RequestID != "r-1" {
		t.Errorf("audit = %+v", lines)
	}
}
