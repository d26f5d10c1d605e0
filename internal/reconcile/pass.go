package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"syscall"
	"time"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/objects"
	"github.com/oriel-project/oriel/internal/store"
)

// passImageBuilder is one pass over an image builder.
func (e *Engine) passImageBuilder(ctx context.Context, head appstream.Meta) error {
	s := appstream.BuilderSnapshot{Sizes: e.Sizes, Software: e.Software}
	err := e.Store.View(ctx, func(tx store.Tx) error {
		if err := tx.Find(head.ID, &s.Builder); err != nil {
			return err
		}
		if s.Builder.Capturing == "" {
			return nil
		}
		var image appstream.Image
		err := tx.Get(appstream.Key{Account: head.Account, Region: head.Region, Noun: appstream.NounImage, Name: s.Builder.Capturing}, &image)
		if err == nil {
			s.Capture = &image
		}
		return ignore(err, store.ErrNotFound)
	})
	if err != nil {
		return err
	}
	s.Builder.Excuse(time.Since(head.Due), time.Now())
	return finish(ctx, e, s.Builder, func() (appstream.Decision[appstream.ImageBuilder], error) {
		if s.Machine, err = e.observe(ctx, s.Builder.ID); err != nil {
			return appstream.Decision[appstream.ImageBuilder]{}, err
		}
		if s.Machine.Phase == appstream.MachineRunning {
			switch s.Builder.State {
			case appstream.BuilderPending, appstream.BuilderUpdatingAgent, appstream.BuilderRebooting, appstream.BuilderPendingSyncingApps,
				appstream.BuilderUpdating, appstream.BuilderPendingImageImport, appstream.BuilderPendingQualification:
				s.Agent = e.agent(ctx, s.Builder.ID, s.Machine, agentWait)
			case appstream.BuilderRunning:
				s.Agent = e.agent(ctx, s.Builder.ID, s.Machine, 0)
			}
			if id := s.Builder.Job(); id != "" {
				s.Job = e.job(ctx, s.Builder.ID, id, jobWait)
			}
		}
		return appstream.PlanImageBuilder(s, time.Now().UTC()), nil
	})
}

// observe asks the provider for a machine. A provider that does not answer is not available.
func (e *Engine) observe(ctx context.Context, id string) (m appstream.Machine, err error) {
	err = ask(ctx, func(ctx context.Context) error {
		m, err = e.Provider.Observe(ctx, id)
		return err
	})
	return m, err
}

func ask(ctx context.Context, question func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	err := question(limited)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: no answer within %s", compute.ErrUnavailable, askTime)
	}
	return err
}

// agent asks the agent of a running machine, and waits for one that is still starting.
func (e *Engine) agent(ctx context.Context, id string, m appstream.Machine, wait time.Duration) (a appstream.Agent) {
	if e.Agents == nil {
		return appstream.Agent{Answers: true, Ready: m.NextChange.IsZero()}
	}
	e.aside(func() { a = e.Agents.Status(ctx, id, wait) })
	return a
}

// job asks the agent of a running machine for a job. Machines without agents have done every job as soon as it is asked for.
func (e *Engine) job(ctx context.Context, machine, job string, wait time.Duration) (s appstream.JobStatus) {
	if e.Agents == nil {
		return appstream.JobStatus{Answers: true, Known: true, Ended: true}
	}
	e.aside(func() { s = e.Agents.Job(ctx, machine, job, wait) })
	return s
}

// passImage is one pass over an image.
func (e *Engine) passImage(ctx context.Context, head appstream.Meta) error {
	var s appstream.ImageSnapshot
	err := e.Store.View(ctx, func(tx store.Tx) error {
		if err := tx.Find(head.ID, &s.Image); err != nil {
			return err
		}
		if s.Image.BuilderID == "" {
			return nil
		}
		var builder appstream.ImageBuilder
		err := tx.Find(s.Image.BuilderID, &builder)
		if err == nil {
			s.Builder = &builder
		}
		return ignore(err, store.ErrNotFound)
	})
	if err != nil {
		return err
	}
	s.Image.Excuse(time.Since(head.Due), time.Now())
	return finish(ctx, e, s.Image, func() (appstream.Decision[appstream.Image], error) {
		switch s.Image.State {
		case appstream.ImagePending, appstream.ImageCopying, appstream.ImageCreating, appstream.ImageImporting:
			err := ask(ctx, func(ctx context.Context) (err error) {
				s.Exists, err = e.Provider.HasImage(ctx, s.Image.Awaited())
				return err
			})
			if err == nil && s.Builder != nil {
				s.Machine, err = e.observe(ctx, s.Builder.ID)
			}
			if err != nil {
				return appstream.Decision[appstream.Image]{}, err
			}
		}
		return appstream.PlanImage(s, time.Now().UTC()), nil
	})
}

// passExport is one pass over the export of an image.
func (e *Engine) passExport(ctx context.Context, head appstream.Meta) error {
	var t appstream.ExportImageTask
	if err := e.Store.View(ctx, func(tx store.Tx) error { return tx.Find(head.ID, &t) }); err != nil {
		return err
	}
	t.Excuse(time.Since(head.Due), time.Now())
	return finish(ctx, e, t, func() (appstream.Decision[appstream.ExportImageTask], error) {
		return appstream.PlanExportImageTask(t, time.Now().UTC()), nil
	})
}

// export writes an image as an archive.
func (e *Engine) export(ctx context.Context, a appstream.EnsureExported) error {
	if e.Archives == nil {
		return &compute.Fault{Message: "this server has no place for archives"}
	}
	err := e.Archives.Save(ctx, a.Archive, func(w io.Writer) error { return e.Provider.SaveImage(ctx, a.Ref, a.Notes, w) })
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return &compute.Fault{Message: "there is no space left for the archive; make room and export the image again", Cause: err}
	}
	return err
}

// read gives read an archive. One that is not there will not come by itself.
func (e *Engine) read(ctx context.Context, name string, read func(*io.SectionReader) error) error {
	if e.Archives == nil {
		return &compute.Fault{Message: "this server has no place for archives"}
	}
	err := e.Archives.Read(ctx, name, read)
	if errors.Is(err, fs.ErrNotExist) {
		return &compute.Fault{Message: "the archive " + name + " does not exist (any more): put it there, and import it again", Cause: err}
	}
	return err
}

// inspect looks whether an archive is whole and its image can be a machine.
func (e *Engine) inspect(ctx context.Context, a appstream.EnsureArchiveValid) error {
	return e.read(ctx, a.Archive, func(archive *io.SectionReader) error {
		facts, err := e.Provider.InspectArchive(ctx, archive)
		if err == nil && a.Facts != nil {
			*a.Facts = facts
		}
		return err
	})
}

// imported makes an image of an archive. An image that is there needs no archive any more.
func (e *Engine) imported(ctx context.Context, a appstream.EnsureImported) error {
	if has, err := e.Provider.HasImage(ctx, a.Ref); has || err != nil {
		return err
	}
	return e.read(ctx, a.Archive, func(archive *io.SectionReader) error {
		return e.Provider.EnsureImageImported(ctx, archive, a.Ref)
	})
}

// finish decides, acts and commits. rec is the record as it was read.
func finish[R any, P interface {
	*R
	appstream.Record
}](ctx context.Context, e *Engine, rec R, decide func() (appstream.Decision[R], error)) error {
	d, err := decide()
	if err == nil {
		err = e.act(ctx, d.Do)
	}
	switch cause := context.Cause(ctx); {
	case cause == errTooLong: // tell why: what follows is short
		err = errTooLong
		ctx = context.WithoutCancel(ctx)
	case cause != nil:
		return cause
	}
	now := time.Now().UTC()
	old := P(&rec).Head()
	if err != nil {
		was := *old
		problem(old, err, now)
		log := e.Log
		if fault, ok := errors.AsType[*compute.Fault](err); ok && fault.Cause != nil {
			log = log.With("cause", fault.Cause) // users see the message, administrators both
		}
		level := slog.LevelWarn
		if was.Problem != nil && was.Problem.Message == old.Problem.Message {
			level = slog.LevelDebug // it was said
		}
		log.Log(ctx, level, "pass will be repeated", "noun", was.Noun, "name", was.Name, "state", was.State, "err", err, "again", old.Due)
		return e.Store.Update(ctx, func(tx store.Tx) error { return tx.Put(P(&rec)) })
	}
	next := P(&d.Next).Head()
	next.Due = d.Again
	if next.State == old.State {
		next.Problem = nil
	}
	return e.Store.Update(ctx, func(tx store.Tx) error {
		if d.Remove {
			err = tx.Delete(P(&d.Next))
		} else {
			err = tx.Put(P(&d.Next))
		}
		if err != nil {
			return err
		}
		for _, also := range d.Also {
			if err := e.writeAlso(tx, also, now); err != nil {
				return err
			}
		}
		for _, key := range d.Wake {
			if err := tx.Wake(key, now); err != nil {
				return err
			}
		}
		if s, ok := any(P(&d.Next)).(appstream.Stepped[R]); ok && !d.Remove {
			for _, step := range s.Steps(rec) {
				if err := tx.AddEvent(store.Event{At: now, ID: step.ID, Key: step.Key, Why: step.What}); err != nil {
					return err
				}
			}
		}
		event := store.Event{At: now, ID: old.ID, Key: old.Key, From: old.State, To: next.State, Why: d.Why}
		if d.Remove {
			event.To = ""
		}
		if event.From == event.To {
			return nil
		}
		e.Log.Info("state changed", "noun", old.Noun, "name", old.Name, "id", old.ID, "from", event.From, "to", event.To, "why", d.Why)
		return tx.AddEvent(event)
	})
}

// writeAlso writes a record that another's decision concerns.
func (e *Engine) writeAlso(tx store.Tx, also appstream.Also, now time.Time) error {
	head, write := also.Record.Head(), tx.Put
	if head.Version == 0 {
		write = tx.Insert
	}
	if err := write(also.Record); err != nil {
		return err
	}
	if head.State == also.From {
		return nil
	}
	e.Log.Info("state changed", "noun", head.Noun, "name", head.Name, "id", head.ID, "from", also.From, "to", head.State, "why", also.Why)
	return tx.AddEvent(store.Event{At: now, ID: head.ID, Key: head.Key, From: also.From, To: head.State, Why: also.Why})
}

// problem notes on a record why a pass did not succeed, and when to try again.
func problem(head *appstream.Meta, err error, now time.Time) {
	p := &appstream.Problem{Message: err.Error(), Count: 1, At: now}
	if fault, ok := errors.AsType[*compute.Fault](err); ok {
		p.Code, p.Lasting = fault.Code, true
	}
	p.Outage = errors.Is(err, compute.ErrUnavailable)
	if last := head.Problem; last != nil {
		p.Count = last.Count + 1
		if p.Outage && last.Outage && !head.Deadline.IsZero() {
			head.Deadline = head.Deadline.Add(now.Sub(last.At))
		}
	}
	head.Problem = p
	head.Due = now.Add(p.Backoff())
	if later, ok := errors.AsType[interface {
		error
		Pause(count int) time.Duration
	}](err); ok {
		head.Due = now.Add(later.Pause(p.Count))
	}
	if p.Lasting && p.Count == 1 {
		head.Due = now // the Plan decides at once what to make of it
	}
}

// act does the actions in order.
func (e *Engine) act(ctx context.Context, actions []appstream.Action) error {
	for _, action := range actions {
		var err error
		switch a := action.(type) {
		case appstream.EnsureMade:
			err = e.Provider.EnsureMade(ctx, a.Spec)
		case appstream.EnsureRunning:
			err = e.Provider.EnsureRunning(ctx, a.Spec)
		case appstream.EnsureStarted:
			err = e.Provider.EnsureStarted(ctx, a.Spec)
		case appstream.EnsureStopped:
			err = e.Provider.EnsureStopped(ctx, a.ID)
		case appstream.EnsureGone:
			err = e.Provider.EnsureGone(ctx, a.ID)
		case appstream.EnsureCaptured:
			err = e.Provider.EnsureCaptured(ctx, a.ID, a.Ref)
		case appstream.EnsureImageCopied:
			err = e.Provider.EnsureImageCopied(ctx, a.From, a.To)
		case appstream.EnsureExported:
			err = e.export(ctx, a)
		case appstream.EnsureArchiveValid:
			err = e.inspect(ctx, a)
		case appstream.EnsureImported:
			err = e.imported(ctx, a)
		case appstream.EnsureArchiveGone:
			if e.Archives != nil {
				err = e.Archives.Remove(ctx, a.Archive)
			}
		case appstream.EnsurePackaged:
			err = e.pack(ctx, a)
		case appstream.EnsureObjectGone:
			if e.Objects != nil {
				err = e.Objects.Remove(ctx, objects.Location{Account: a.Account, Bucket: a.Bucket, Key: a.Key})
			}
		case appstream.EnsureImageGone:
			err = e.Provider.EnsureImageGone(ctx, a.Ref)
		case appstream.EnsureReported:
			err = e.report(ctx, a)
		case appstream.EnsureCatalogueRead:
			if e.Catalogue != nil {
				*a.Catalogue, err = e.Catalogue(ctx, a.Machine, a.Platform)
				if appstream.KindOf(err) == appstream.OperationNotPermitted { // what there is is no catalogue, and will be none
					err = &compute.Fault{Message: err.Error(), Cause: err}
				}
			}
		case appstream.EnsureJobBegun:
			if e.Agents != nil {
				err = e.Agents.BeginJob(ctx, a.Machine, a.Job)
			}
		case appstream.EnsureFilePut:
			err = e.putFile(ctx, a)
		case appstream.EnsureDelivered:
			err = e.deliver(ctx, a.Letter)
		case appstream.EnsureSeated:
			if e.Agents != nil {
				err = e.Agents.Begin(ctx, a.Instance, a.Seat)
			}
		case appstream.EnsureUnseated:
			if e.Agents != nil {
				err = e.Agents.End(ctx, a.Instance, a.Session)
			}
		case appstream.EnsureScriptLogsKept:
			e.keepScriptLogs(ctx, a)
		default:
			err = fmt.Errorf("no provider verb for the action %T", action)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", verb(action), err)
		}
	}
	return nil
}

// verb names an action in a message to people.
func verb(a appstream.Action) string {
	switch a.(type) {
	case appstream.EnsureMade:
		return "making the machine"
	case appstream.EnsureRunning, appstream.EnsureStarted:
		return "starting the machine"
	case appstream.EnsureStopped:
		return "stopping the machine"
	case appstream.EnsureGone:
		return "removing the machine"
	case appstream.EnsureCaptured:
		return "capturing the disk"
	case appstream.EnsureImageCopied:
		return "copying the image"
	case appstream.EnsureExported:
		return "exporting the image"
	case appstream.EnsureArchiveValid:
		return "checking the archive"
	case appstream.EnsureImported:
		return "importing the image"
	case appstream.EnsureArchiveGone:
		return "removing the archive"
	case appstream.EnsurePackaged:
		return "writing the package"
	case appstream.EnsureObjectGone:
		return "removing the package"
	case appstream.EnsureReported:
		return "writing the usage report"
	case appstream.EnsureCatalogueRead:
		return "reading the catalogue"
	case appstream.EnsureJobBegun:
		return "beginning the job"
	case appstream.EnsureFilePut:
		return "putting a file on the machine"
	case appstream.EnsureDelivered:
		return "sending the mail"
	case appstream.EnsureSeated:
		return "beginning the session"
	case appstream.EnsureUnseated:
		return "ending the session"
	}
	return "removing the image"
}

// ignore turns an expected error into none.
func ignore(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}
