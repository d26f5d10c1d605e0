package service

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	aws "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
	"uuid"
)

// keptExports is how many tasks of an account are remembered in a region. Those that have ended longest ago make room for new ones.
const keptExports = 500

// CreateExportImageTask begins to write an image of the caller as an archive.
func (s *Service) CreateExportImageTask(ctx context.Context, in *aws.CreateExportImageTaskInput) (*aws.CreateExportImageTaskOutput, error) {
	c := appstream.CallerFrom(ctx)
	if role := value(in.IamRoleArn); !roleOf(c.Account, role) {
		return nil, invalidRole(c, role)
	}
	from := key(c, appstream.NounImage, value(in.ImageName))
	id := uuid.NewV7().String() // tasks are listed in the order of their names: the oldest first
	task := appstream.ExportImageTask{Meta: appstream.Meta{Key: key(c, appstream.NounExportTask, id), ID: "exp-" + id}, AmiID: newAMI()}
	archives, counted := 0, time.Now()
	if s.cfg.Archives != nil { // they may be far away: no transaction waits for them
		var err error
		if archives, err = s.cfg.Archives.Count(ctx, c.Account); err != nil {
			return nil, err
		}
	}
	err := s.change(ctx, "appstream:CreateExportImageTask", from, func(tx store.Tx, now time.Time) error {
		var image appstream.Image
		if err := get(tx, from, &image); err != nil {
			return err
		}
		if image.State != appstream.ImageAvailable {
			return inState(appstream.ResourceNotAvailable, from, image.State, "an AVAILABLE")
		}
		if err := s.roomForExport(tx, task.Key, value(in.AmiName), archives, counted, now); err != nil {
			return err
		}
		task.Created, task.Ref = now, image.Ref
		task.View = types.ExportImageTask{ImageArn: new(from.ARN()), AmiName: in.AmiName, AmiDescription: in.AmiDescription, TagSpecifications: in.TagSpecifications}
		task.Enter(appstream.ExportExporting, now)
		if err := move(tx, &task.Meta, "", now, "CreateExportImageTask"); err != nil {
			return err
		}
		return tx.Insert(&task)
	})
	if err != nil {
		return nil, err
	}
	return &aws.CreateExportImageTaskOutput{ExportImageTask: new(task.Describe())}, nil
}

// newAMI makes an identifier in the form of Amazon EC2's.
func newAMI() string {
	var random [9]byte
	_, _ = rand.Read(random[:]) // it never fails
	return "ami-" + hex.EncodeToString(random[:])[:17]
}

// roomForExport refuses a task when there is an archive of that name, or there are as many archives as there may be, and forgets old tasks. So many
// archives were there when they were counted.
func (s *Service) roomForExport(tx store.Tx, k appstream.Key, name string, archives int, counted, now time.Time) error {
	tasks, err := store.List[appstream.ExportImageTask](tx, store.Query{Noun: k.Noun, Accounts: []string{k.Account}})
	if err != nil {
		return err
	}
	var ended []appstream.ExportImageTask
	here := 0
	for _, t := range tasks {
		exporting := t.State == appstream.ExportExporting
		if exporting || t.State == appstream.ExportCompleted && t.Since.After(counted) {
			archives++
		}
		if t.Region != k.Region {
			continue
		}
		if value(t.View.AmiName) == name && (exporting || t.State == appstream.ExportCompleted) {
			return appstream.Errorf(appstream.OperationNotPermitted, "The AMI name %s is taken by the export image task %s. Choose another name.", name, t.Name)
		}
		if here++; !exporting {
			ended = append(ended, t)
		}
	}
	if limit := s.cfg.Quotas.ImageExports; archives >= limit {
		return appstream.Errorf(appstream.LimitExceeded,
			"The exported image limit for account %s was exceeded. Remove an archive that is not needed from where the server keeps them. Limit: %d", k.Account, limit)
	}
	slices.SortFunc(ended, func(a, b appstream.ExportImageTask) int {
		return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.Name, b.Name))
	})
	for _, t := range ended[:min(max(0, here-keptExports+1), len(ended))] {
		if err := remove(tx, &t, now, "CreateExportImageTask: there are newer ones"); err != nil {
			return err
		}
	}
	return nil
}

// cancelExports ends the exports of an image that are under way, since the image goes.
func cancelExports(tx store.Tx, image appstream.Image, now time.Time) error {
	tasks, err := store.List[appstream.ExportImageTask](tx, store.Query{Noun: appstream.NounExportTask, Region: image.Region,
		Accounts: []string{image.Account}, States: []string{appstream.ExportExporting}})
	if err != nil {
		return err
	}
	for _, t := range tasks {
		if t.Ref != image.Ref {
			continue
		}
		t.Fail(appstream.ExportFailed, "The image "+image.Name+" was deleted before it was exported.", now)
		if err := move(tx, &t.Meta, appstream.ExportExporting, now, "DeleteImage"); err != nil {
			return err
		}
		if err := tx.Put(&t); err != nil {
			return err
		}
	}
	return nil
}

// GetExportImageTask describes one export of the caller.
func (s *Service) GetExportImageTask(ctx context.Context, in *aws.GetExportImageTaskInput) (*aws.GetExportImageTaskOutput, error) {
	if value(in.TaskId) == "" {
		return nil, appstream.Errorf(appstream.Validation, "TaskId is missing. CreateExportImageTask and ListExportImageTasks tell it.")
	}
	var task appstream.ExportImageTask
	err := s.cfg.Store.View(ctx, func(tx store.Tx) error {
		return get(tx, key(appstream.CallerFrom(ctx), appstream.NounExportTask, *in.TaskId), &task)
	})
	if err != nil {
		return nil, err
	}
	return &aws.GetExportImageTaskOutput{ExportImageTask: new(task.Describe())}, nil
}

// exportFilters are what ListExportImageTasks can be narrowed down by: names of members. A creation date is compared as far as the filter has it.
var exportFilters = map[string]func(t types.ExportImageTask, wanted string) bool{
	"TaskId":   func(t types.ExportImageTask, wanted string) bool { return value(t.TaskId) == wanted },
	"ImageArn": func(t types.ExportImageTask, wanted string) bool { return value(t.ImageArn) == wanted },
	"AmiName":  func(t types.ExportImageTask, wanted string) bool { return value(t.AmiName) == wanted },
	"AmiId":    func(t types.ExportImageTask, wanted string) bool { return value(t.AmiId) == wanted },
	"State":    func(t types.ExportImageTask, wanted string) bool { return string(t.State) == wanted },
	"CreatedDate": func(t types.ExportImageTask, wanted string) bool {
		return strings.HasPrefix(t.CreatedDate.UTC().Format(time.RFC3339), wanted)
	},
}

// ListExportImageTasks lists the exports of the caller in the region, the oldest first.
func (s *Service) ListExportImageTasks(ctx context.Context, in *aws.ListExportImageTasksInput) (*aws.ListExportImageTasksOutput, error) {
	c := appstream.CallerFrom(ctx)
	p, err := openPage(c, in, 50, 500)
	if err != nil {
		return nil, err
	}
	if len(in.Filters) > 20 {
		return nil, appstream.Errorf(appstream.Validation, "Filters has %d filters. Send at most 20.", len(in.Filters))
	}
	for n, f := range in.Filters {
		if exportFilters[value(f.Name)] == nil {
			return nil, appstream.Errorf(appstream.Validation, "Filters[%d] has the name %q. It must be one of AmiId, AmiName, CreatedDate, ImageArn, State, TaskId.", n, value(f.Name))
		}
		if len(f.Values) > 200 {
			return nil, appstream.Errorf(appstream.Validation, "Filters[%d] has %d values. Send at most 200.", n, len(f.Values))
		}
	}
	var list []appstream.ExportImageTask
	err = s.cfg.Store.View(ctx, func(tx store.Tx) error {
		list, err = pick(tx, p, store.Query{Noun: appstream.NounExportTask, Region: c.Region, Accounts: []string{c.Account}},
			func(t *appstream.ExportImageTask) bool { return matchesAll(t.Describe(), in.Filters) })
		return err
	})
	if err != nil {
		return nil, err
	}
	list, next := cut(p, list, place)
	out := &aws.ListExportImageTasksOutput{NextToken: next}
	for _, t := range list {
		out.ExportImageTasks = append(out.ExportImageTasks, t.Describe())
	}
	return out, nil
}

// matchesAll tells whether a task has, for each filter, one of its values.
func matchesAll(t types.ExportImageTask, filters []types.Filter) bool {
	for _, f := range filters {
		if !slices.ContainsFunc(f.Values, func(wanted string) bool { return exportFilters[*f.Name](t, wanted) }) {
			return false
		}
	}
	return true
}
