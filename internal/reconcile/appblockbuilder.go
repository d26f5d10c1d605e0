package reconcile

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"syscall"
	"time"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/objects"
	"github.com/oriel-project/oriel/internal/store"
)

// passAppBlockBuilder is one pass over an app block builder.
func (e *Engine) passAppBlockBuilder(ctx context.Context, head appstream.Meta) error {
	s := appstream.AppBlockBuilderSnapshot{Sizes: e.Sizes}
	err := e.Store.View(ctx, func(tx store.Tx) error {
		if err := tx.Find(head.ID, &s.Builder); err != nil || s.Builder.AppBlock == "" {
			return err
		}
		var block appstream.AppBlock
		err := tx.Get(s.Builder.AppBlockKey(), &block)
		if err == nil {
			s.AppBlock = &block
		}
		return ignore(err, store.ErrNotFound)
	})
	if err != nil {
		return err
	}
	s.Builder.Excuse(time.Since(head.Due), time.Now())
	return finish(ctx, e, s.Builder, func() (d appstream.Decision[appstream.AppBlockBuilder], err error) {
		if s.Machine, err = e.observe(ctx, s.Builder.ID); err != nil {
			return d, err
		}
		if s.Machine.Phase == appstream.MachineRunning {
			switch s.Builder.State {
			case appstream.AppBlockBuilderStarting:
				s.Agent = e.agent(ctx, s.Builder.ID, s.Machine, agentWait)
			case appstream.AppBlockBuilderRunning:
				s.Agent = e.agent(ctx, s.Builder.ID, s.Machine, 0)
			}
		}
		return appstream.PlanAppBlockBuilder(s, time.Now().UTC()), nil
	})
}

// pack writes the package of a machine. What is written again is the same: nothing happens on a machine that is stopped.
func (e *Engine) pack(ctx context.Context, a appstream.EnsurePackaged) error {
	if e.Objects == nil {
		return &compute.Fault{Message: "this server has no place for packages"}
	}
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	saved := make(chan error, 1)
	go func() {
		err := e.Provider.SaveChanges(ctx, a.Machine, w)
		w.CloseWithError(err) // nil is the end of the package
		saved <- err
	}()
	at := objects.Location{Account: a.Account, Bucket: a.Bucket, Key: a.Key}
	err := e.Objects.Put(ctx, at, r)
	r.CloseWithError(errors.Join(err, io.ErrClosedPipe))
	cancel()
	if cause := <-saved; cause != nil && (err == nil || errors.Is(err, cause)) {
		err = cause // without what was to be done with it
	}
	name, bad := errors.AsType[*objects.NameError](err)
	switch {
	case bad:
		return &compute.Fault{Message: name.Error(), Cause: err}
	case errors.Is(err, fs.ErrPermission):
		return &compute.Fault{Message: "the server may not write " + at.String() + "; let its user write into the bucket, and make the package again", Cause: err}
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &compute.Fault{Message: "there is no space left for " + at.String() + "; make room, and make the package again", Cause: err}
	}
	return err
}
