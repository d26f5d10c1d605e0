package service_test

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	api "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/service"
	"github.com/oriel-project/oriel/internal/store"
)

func export(image, name string) *api.CreateExportImageTaskInput {
	return &api.CreateExportImageTaskInput{ImageName: &image, AmiName: &name, IamRoleArn: new("arn:aws:iam::" + me + ":role/export")}
}

// end moves an export to its end, as the engine would.
func (f *fixture) end(id *string, state string) {
	f.t.Helper()
	f.must(f.store.Update(context.Background(), func(tx store.Tx) error {
		var e appstream.ExportImageTask
		if err := tx.Get(appstream.Key{Account: me, Region: "us-west-2", Noun: appstream.NounExportTask, Name: *id}, &e); err != nil {
			return err
		}
		e.Enter(state, time.Now())
		return tx.Put(&e)
	}))
}

func TestCreateExportImageTask(t *testing.T) {
	f := newFixture(t)
	f.addImage(me, "mine", appstream.ImageAvailable)
	in := export("mine", "Backup (1)/a")
	in.AmiDescription, in.TagSpecifications = new("all of it"), map[string]string{"team": "red"}
	out, err := f.CreateExportImageTask(as(me), in)
	f.must(err)
	got := *out.ExportImageTask
	want := types.ExportImageTask{TaskId: got.TaskId, ImageArn: new("arn:aws:appstream:us-west-2:" + me + ":image/mine"), AmiName: new("Backup (1)/a"), CreatedDate: got.CreatedDate,
		AmiDescription: new("all of it"), State: types.ExportImageTaskStateExporting, TagSpecifications: map[string]string{"team": "red"}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(types.ExportImageTask{})); diff != "" {
		t.Errorf("the task (-want +got):\n%s", diff)
	}
	if !regexp.MustCompile(`^[a-f0-9]{8}(-[a-f0-9]{4}){3}-[a-f0-9]{12}$`).MatchString(*got.TaskId) || time.Since(*got.CreatedDate) > time.Minute {
		t.Errorf("TaskId %s, CreatedDate %s", *got.TaskId, got.CreatedDate)
	}
	f.end(got.TaskId, appstream.ExportCompleted)
	described, err := f.GetExportImageTask(as(me), &api.GetExportImageTaskInput{TaskId: got.TaskId})
	f.must(err)
	if e := described.ExportImageTask; e.State != types.ExportImageTaskStateCompleted || !regexp.MustCompile(`^ami-[a-z0-9]{17}$`).MatchString(aws.ToString(e.AmiId)) {
		t.Errorf("completed: %s, %s", e.State, aws.ToString(e.AmiId))
	}
	for _, account := range []string{me, other} {
		id := new("00000000-0000-0000-0000-000000000000")
		if account == other {
			id = got.TaskId
		}
		_, err := f.GetExportImageTask(as(account), &api.GetExportImageTaskInput{TaskId: id})
		refused(t, err, appstream.ResourceNotFound, "The export image task "+*id+" for account "+account+" does not exist.")
	}
	_, err = f.GetExportImageTask(as(me), &api.GetExportImageTaskInput{})
	refused(t, err, appstream.Validation, "TaskId is missing.")
}

type archives int

func (n archives) Count(context.Context, string) (int, error) { return int(n), nil }
func (n archives) Has(context.Context, string) (bool, error)  { return false, nil }

func TestExportIsRefused(t *testing.T) {
	f := newFixture(t, func(cfg *service.Config) { cfg.Archives, cfg.Quotas.ImageExports = archives(3), 5 })
	f.addImage(me, "mine", appstream.ImageAvailable)
	f.addImage(me, "pending", appstream.ImagePending)
	for _, test := range []struct {
		in   *api.CreateExportImageTaskInput
		kind appstream.Kind
		says string
	}{
		{export("none", "x-1"), appstream.ResourceNotFound, "The image none for account " + me + " does not exist."},
		{export("base", "x-1"), appstream.ResourceNotFound, "The image base for account " + me + " does not exist."},
		{export("pending", "x-1"), appstream.ResourceNotAvailable, "The image pending is PENDING."},
		{&api.CreateExportImageTaskInput{ImageName: new("mine"), AmiName: new("x-1"), IamRoleArn: new("arn:aws:iam::" + other + ":role/x")}, appstream.InvalidRole, "it must be a role of the account " + me},
	} {
		_, err := f.CreateExportImageTask(as(me), test.in)
		refused(t, err, test.kind, test.says)
	}
	out, err := f.CreateExportImageTask(as(me), export("mine", "x-1"))
	f.must(err)
	_, err = f.CreateExportImageTask(as(me), export("mine", "x-1"))
	refused(t, err, appstream.OperationNotPermitted, "The AMI name x-1 is taken by the export image task "+*out.ExportImageTask.TaskId)
	_, err = f.CreateExportImageTask(as(me), export("mine", "x-2"))
	f.must(err)
	_, err = f.CreateExportImageTask(as(me), export("mine", "x-3")) // three archives, and two on their way
	refused(t, err, appstream.LimitExceeded, "The exported image limit for account "+me+" was exceeded.")
	if !strings.HasSuffix(err.Error(), "Limit: 5") {
		t.Errorf("clients look for the limit at the end of %q", err)
	}
	f.end(out.ExportImageTask.TaskId, appstream.ExportFailed)
	_, err = f.CreateExportImageTask(as(me), export("mine", "x-1")) // what has failed has left no archive
	f.must(err)
}

// countedArchives calls what it is when archives are counted.
type countedArchives func() int

func (n countedArchives) Count(context.Context, string) (int, error) { return n(), nil }
func (n countedArchives) Has(context.Context, string) (bool, error)  { return false, nil }

// An export that is complete between the count of the archives and the transaction counts all the same.
func TestExportThatEndsMeanwhile(t *testing.T) {
	count := func() int { return 0 }
	f := newFixture(t, func(cfg *service.Config) {
		cfg.Archives, cfg.Quotas.ImageExports = countedArchives(func() int { return count() }), 1
	})
	f.addImage(me, "mine", appstream.ImageAvailable)
	out, err := f.CreateExportImageTask(as(me), export("mine", "x-1"))
	f.must(err)
	count = func() int {
		f.end(out.ExportImageTask.TaskId, appstream.ExportCompleted) // just after its archive was not there yet
		return 0
	}
	_, err = f.CreateExportImageTask(as(me), export("mine", "x-2"))
	refused(t, err, appstream.LimitExceeded, "Limit: 1")
}

// Who deletes an image gives its exports up, and no others.
func TestDeleteGivesExportsUp(t *testing.T) {
	f := newFixture(t)
	var tasks []*string
	for _, name := range []string{"mine", "another"} {
		f.addImage(me, name, appstream.ImageAvailable, func(i *appstream.Image) { i.Ref = name })
		out, err := f.CreateExportImageTask(as(me), export(name, "export-of-"+name))
		f.must(err)
		tasks = append(tasks, out.ExportImageTask.TaskId)
	}
	_, err := f.DeleteImage(as(me), &api.DeleteImageInput{Name: new("mine")})
	f.must(err)
	for n, want := range []types.ExportImageTaskState{types.ExportImageTaskStateFailed, types.ExportImageTaskStateExporting} {
		out, err := f.GetExportImageTask(as(me), &api.GetExportImageTaskInput{TaskId: tasks[n]})
		f.must(err)
		e := out.ExportImageTask
		if e.State != want {
			t.Errorf("%s is %s, not %s", *e.AmiName, e.State, want)
		}
		if told := len(e.ErrorDetails) == 1 && strings.Contains(*e.ErrorDetails[0].ErrorMessage, "was deleted before it was exported"); told != (n == 0) {
			t.Errorf("%s has the errors %+v", *e.AmiName, e.ErrorDetails)
		}
	}
}

func TestListExportImageTasks(t *testing.T) {
	f := newFixture(t, func(cfg *service.Config) { cfg.Quotas.ImageExports = 1000 })
	f.addImage(me, "mine", appstream.ImageAvailable)
	f.addImage(me, "another", appstream.ImageAvailable)
	var ids []string
	for n := range 60 {
		out, err := f.CreateExportImageTask(as(me), export([]string{"mine", "another"}[n%2], fmt.Sprintf("export-%02d", n)))
		f.must(err)
		ids = append(ids, *out.ExportImageTask.TaskId)
	}
	f.end(&ids[7], appstream.ExportCompleted)
	f.end(&ids[8], appstream.ExportFailed)
	list := func(size int32, filters ...types.Filter) (names []string, pages int) {
		t.Helper()
		in := &api.ListExportImageTasksInput{Filters: filters}
		if size > 0 {
			in.MaxResults = &size
		}
		for {
			out, err := f.ListExportImageTasks(as(me), in)
			f.must(err)
			for _, e := range out.ExportImageTasks {
				names = append(names, *e.TaskId)
			}
			pages++
			if in.NextToken = out.NextToken; in.NextToken == nil {
				return names, pages
			}
		}
	}
	for size, want := range map[int32]int{0: 2, 7: 9, 60: 1, 500: 1} {
		if got, pages := list(size); !slices.Equal(got, ids) || pages != want {
			t.Errorf("MaxResults %d: %d tasks on %d pages, want 60 on %d, the oldest first", size, len(got), pages, want)
		}
	}
	filter := func(name string, values ...string) types.Filter { return types.Filter{Name: &name, Values: values} }
	for _, test := range []struct {
		filters []types.Filter
		want    []string
	}{
		{[]types.Filter{filter("State", "COMPLETED", "FAILED")}, ids[7:9]},
		{[]types.Filter{filter("State", "COMPLETED", "FAILED"), filter("ImageArn", "arn:aws:appstream:us-west-2:"+me+":image/mine")}, ids[8:9]},
		{[]types.Filter{filter("AmiName", "export-03", "export-05")}, []string{ids[3], ids[5]}},
		{[]types.Filter{filter("TaskId", ids[4])}, ids[4:5]},
		{[]types.Filter{filter("CreatedDate", "20")}, ids},
		{[]types.Filter{filter("CreatedDate", "1999")}, nil},
		{[]types.Filter{filter("AmiId", "ami-00000000")}, nil},
	} {
		if got, _ := list(4, test.filters...); !slices.Equal(got, test.want) {
			t.Errorf("%v: got %d tasks, want %d", test.filters, len(got), len(test.want))
		}
	}
	_, err := f.ListExportImageTasks(as(me), &api.ListExportImageTasksInput{Filters: []types.Filter{filter("Color", "red")}})
	refused(t, err, appstream.Validation, `Filters[0] has the name "Color". It must be one of AmiId`)
	if out, err := f.ListExportImageTasks(as(other), &api.ListExportImageTasksInput{}); err != nil || len(out.ExportImageTasks) > 0 {
		t.Errorf("another account sees %d tasks, %v", len(out.ExportImageTasks), err)
	}
}

// Old tasks make room for new ones; those that are under way never do.
func TestExportsAreForgotten(t *testing.T) {
	f := newFixture(t, func(cfg *service.Config) { cfg.Quotas.ImageExports = 1000 })
	f.addImage(me, "mine", appstream.ImageAvailable)
	var ids []*string
	for n := range 502 {
		out, err := f.CreateExportImageTask(as(me), export("mine", fmt.Sprint("export-", n)))
		f.must(err)
		if ids = append(ids, out.ExportImageTask.TaskId); n > 0 {
			f.end(out.ExportImageTask.TaskId, appstream.ExportCompleted)
		}
	}
	out, err := f.ListExportImageTasks(as(me), &api.ListExportImageTasksInput{MaxResults: new(int32(500))})
	f.must(err)
	if got := out.ExportImageTasks; len(got) != 500 || out.NextToken != nil || *got[0].TaskId != *ids[0] || *got[1].TaskId != *ids[3] {
		t.Errorf("%d tasks are left", len(got))
	}
}
