package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/objects"
	"github.com/oriel-project/oriel/internal/store"
	"uuid"
)

// passComposition is one pass over the image of an Elastic fleet.
func (e *Engine) passComposition(ctx context.Context, head appstream.Meta) error {
	var s appstream.CompositionSnapshot
	err := e.Store.View(ctx, func(tx store.Tx) error {
		if err := tx.Find(head.ID, &s.Composition); err != nil {
			return err
		}
		c := &s.Composition
		var fleet appstream.Fleet
		err := tx.Get(appstream.Key{Account: c.Account, Region: c.Region, Noun: appstream.NounFleet, Name: c.Fleet}, &fleet)
		if err := ignore(err, store.ErrNotFound); err != nil {
			return err
		}
		if fleet.ID == c.FleetID {
			s.Fleet = &fleet
		}
		for _, b := range c.Recipe.Blocks {
			var block appstream.AppBlock
			err := tx.Get(appstream.Key{Account: c.Account, Region: c.Region, Noun: appstream.NounAppBlock, Name: b.Name}, &block)
			if err == nil {
				s.Blocks = append(s.Blocks, block)
			} else if !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	c := &s.Composition
	c.Excuse(time.Since(head.Due), time.Now())
	return finish(ctx, e, *c, func() (d appstream.Decision[appstream.Composition], err error) {
		if s.Machine, err = e.observe(ctx, c.ID); err != nil {
			return d, err
		}
		if c.State == appstream.CompositionComposing || c.State == appstream.CompositionReady {
			if err = ask(ctx, func(ctx context.Context) (err error) { s.Exists, err = e.Provider.HasImage(ctx, c.Ref); return err }); err != nil {
				return d, err
			}
		}
		if s.Machine.Phase == appstream.MachineRunning && c.State == appstream.CompositionComposing && !c.Done {
			s.Agent = e.agent(ctx, c.ID, s.Machine, agentWait)
			if id := c.Job(); id != "" {
				s.Job = e.job(ctx, c.ID, id, jobWait)
			}
		}
		return appstream.PlanComposition(s, time.Now().UTC()), nil
	})
}

// elastic reads what an Elastic fleet is to be made of.
func elastic(tx store.Tx, f *appstream.Fleet) (*appstream.ElasticSnapshot, error) {
	s := &appstream.ElasticSnapshot{ID: "cmp-" + uuid.New().String(), Blocks: map[string]appstream.AppBlock{}}
	var err error
	if s.Compositions, err = compositionsOf(tx, f); err != nil {
		return nil, err
	}
	public, err := store.List[appstream.Image](tx, store.Query{Noun: appstream.NounImage, Region: f.Region, Accounts: []string{""}})
	if err != nil {
		return nil, err
	}
	base := appstream.PublicImageOf(public, f.View.Platform)
	if base == nil {
		s.Problem.Text = fmt.Sprintf("There is no public image of the platform %s any more. Stop the fleet, and give it another platform.", f.View.Platform)
		return s, nil
	}
	var apps []appstream.Application
	for _, name := range f.Applications {
		var app appstream.Application
		err := tx.Get(appstream.Key{Account: f.Account, Region: f.Region, Noun: appstream.NounApplication, Name: name}, &app)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		apps = append(apps, app)
		k, err := appstream.ParseARN(*app.View.AppBlockArn)
		if err != nil {
			continue // the recipe says so
		}
		var block appstream.AppBlock
		switch err := tx.Get(k, &block); {
		case err == nil:
			s.Blocks[k.Name] = block
		case !errors.Is(err, store.ErrNotFound):
			return nil, err
		}
	}
	s.Recipe, s.Catalogue, s.Problem = appstream.NewRecipe(f, base, apps, s.Blocks)
	return s, nil
}

func compositionsOf(tx store.Tx, f *appstream.Fleet) ([]appstream.Composition, error) {
	return store.List[appstream.Composition](tx, store.Query{Noun: appstream.NounComposition, Region: f.Region,
		Accounts: []string{f.Account}, Prefix: appstream.CompositionPrefix(f.Name)})
}

// A measured is a recipe whose objects have been looked at.
type measured struct {
	before string // its digest before that
	recipe appstream.Recipe
	at     time.Time
}

// measure looks at the objects of a recipe. Passes over a fleet are many when people come and go, and an object of S3 is a request: what was seen
// counts for a while, unless something is going on.
func (e *Engine) measure(ctx context.Context, f *appstream.Fleet, s *appstream.ElasticSnapshot) {
	before, err := s.Recipe.Digest(f.ID)
	if err != nil {
		s.Problem.Text = err.Error()
	}
	e.mu.Lock()
	seen, known := e.seen[f.ID]
	e.mu.Unlock()
	now := time.Now().UTC()
	if s.Looked = seen.at; known && seen.before == before && s.Problem.Text == "" && s.Settled(f, now) {
		s.Recipe = seen.recipe
		return
	}
	s.Looked = now
	for _, file := range s.Recipe.Files() {
		if s.Problem.Text != "" {
			return
		}
		info, err := e.stat(ctx, f.Account, file)
		switch {
		case errors.Is(err, objects.ErrNotFound):
			s.Problem = appstream.ElasticProblem{Block: s.Recipe.BlockOf(file), Text: fmt.Sprintf("The object %.300s/%.300s does not exist (any more). Put it there, or have the fleet not need it.", file.Bucket, file.Key)}
		case err != nil:
			s.Problem.Text = fmt.Sprintf("The object %.300s/%.300s cannot be looked at: %v", file.Bucket, file.Key, err)
		}
		file.Size, file.Modified = info.Size, info.Modified.UTC()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seen[f.ID] = measured{before, s.Recipe, now}
}

// forget forgets what was seen of the objects of a fleet that does not run.
func (e *Engine) forget(fleet string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.seen, fleet)
}

func (e *Engine) stat(ctx context.Context, account string, file *appstream.ObjectFile) (info objects.Info, err error) {
	if e.Objects == nil {
		return info, errors.New("this server has no place for objects")
	}
	err = ask(ctx, func(ctx context.Context) error {
		info, err = e.Objects.Stat(ctx, objects.Location{Account: account, Bucket: file.Bucket, Key: file.Key})
		return err
	})
	return info, err
}

// putFile has a machine have an object as a file, as the object was when it was looked at. Machines without agents have every file.
func (e *Engine) putFile(ctx context.Context, a appstream.EnsureFilePut) error {
	f := &a.File
	at := objects.Location{Account: a.Account, Bucket: f.Bucket, Key: f.Key}
	open := func(ctx context.Context) (io.ReadCloser, error) {
		r, info, err := e.Objects.Open(ctx, at)
		switch {
		case errors.Is(err, objects.ErrNotFound):
			return nil, &compute.Fault{Message: fmt.Sprintf("the object %s does not exist any more: put it there again", at), Cause: err}
		case err != nil:
			return nil, err
		case info.Size != f.Size || !info.Modified.Equal(f.Modified):
			r.Close()
			return nil, &compute.Fault{Message: fmt.Sprintf("the object %s has changed meanwhile", at)}
		}
		return r, nil
	}
	if e.Objects == nil {
		return &compute.Fault{Message: "this server has no place for objects"}
	}
	if e.Agents == nil {
		r, err := open(ctx)
		if err == nil {
			r.Close()
		}
		return err
	}
	return e.Agents.PutFile(ctx, a.Machine, f.Path, f.Mode, f.Size, open)
}
