package reconcile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	appstreamapi "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/blob"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/compute/sim"
	"github.com/oriel-project/oriel/internal/objects"
	"github.com/oriel-project/oriel/internal/reconcile"
	"github.com/oriel-project/oriel/internal/service"
	"github.com/oriel-project/oriel/internal/store"
	"github.com/oriel-project/oriel/internal/store/sqlite"
	"github.com/oriel-project/oriel/internal/ticket"
)

const delay = 2 * time.Second

type injector func(method, id string, when sim.When) error

// world is a whole Oriel without its wire: the real store, the real operations, the real engine, simulated machines. It can be
// killed and started again at any moment. It lives in a synctest bubble, so time passes only while everything waits.
type world struct {
	t   testing.TB
	dir string
	log *bytes.Buffer

	// inject is called around every verb of the provider and of the agents; it may return an error, or kill the world.
	inject   injector
	injectMu sync.Mutex                                        // injectors have state, and passes call them at the same time
	wrap     func(compute.Provider) compute.Provider           // puts something between the engine and the provider; nil for nothing
	post     func(context.Context, appstream.Letter) error     // sends a letter; nil: there is no mail server
	agents   reconcile.Agents                                  // nil: machines without agents
	reading  func(machine string) (appstream.Catalogue, error) // what engines read as the catalogue of a machine; nil: nothing
	images   []compute.PublicImage                             // on offer

	looks     atomic.Int64  // how often engines have looked at an object
	retention time.Duration // of events; zero: for ever
	lags      bool          // engines are told that there were changes, and not which

	store    *sqlite.Store
	provider *sim.Provider
	archives *blob.Archives
	files    *objects.Dir
	svc      *service.Service
	config   service.Config
	dead     *atomic.Bool // of the running incarnation: a killed process does nothing any more
	stop     func()

	engineStop func() // the engine alone
}

var caller = appstream.Caller{Account: "123456789012", Region: "us-east-1", Principal: "arn:aws:iam::123456789012:root", BaseURL: "http://oriel.test"}

// newWorld makes a world and starts it. prepare sets what it begins with.
func newWorld(t testing.TB, prepare ...func(*world)) *world {
	w := &world{t: t, dir: t.TempDir(), log: &bytes.Buffer{}, images: []compute.PublicImage{
		{Name: "base", Platform: "DEBIAN_12", Released: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), Ref: "base-new"},
		{Name: "base", Platform: "DEBIAN_12", Released: time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC), Ref: "base-old"},
		{Name: "old", Platform: "DEBIAN_12", State: appstream.ImageDeprecated},
	}}
	for _, fn := range prepare {
		fn(w)
	}
	w.start()
	t.Cleanup(func() {
		if t.Failed() {
			lines := strings.Split(w.log.String(), "\n")
			t.Logf("the end of the engine's log:\n%s", strings.Join(lines[max(0, len(lines)-40):], "\n"))
		}
	})
	return w
}

// errKilled is what a killed incarnation gets of everything that it still tries.
var errKilled = errors.New("killed")

func (w *world) start() {
	w.t.Helper()
	dead := &atomic.Bool{}
	st, err := sqlite.Open(context.Background(), filepath.Join(w.dir, "oriel.db"), sqlite.WithoutSync())
	if err != nil {
		w.t.Fatal(err)
	}
	inject := func(method, id string, when sim.When) error {
		if dead.Load() {
			return errKilled
		}
		w.injectMu.Lock()
		defer w.injectMu.Unlock()
		if w.inject != nil {
			err := w.inject(method, id, when)
			if dead.Load() {
				return errKilled
			}
			return err
		}
		return nil
	}
	provider, err := sim.New(sim.Config{
		Dir: filepath.Join(w.dir, "sim"), Delay: delay, Agents: []string{"01-01-2026", "11-21-2026"},
		Images: w.images,
		Inject: inject,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	blobs, err := blob.Open(filepath.Join(w.dir, "blobs"))
	if err != nil {
		w.t.Fatal(err)
	}
	archives, err := blob.OpenArchives(filepath.Join(w.dir, "exports"))
	if err != nil {
		w.t.Fatal(err)
	}
	files, err := objects.OpenDir(filepath.Join(w.dir, "objects"))
	if err != nil {
		w.t.Fatal(err)
	}
	tickets, err := ticket.NewSigner(bytes.Repeat([]byte{1}, ticket.KeySize))
	if err != nil {
		w.t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(w.log, nil))
	ctx, cancel := context.WithCancel(context.Background())
	var machines compute.Provider = provider
	if w.wrap != nil {
		machines = w.wrap(provider)
	}
	w.store, w.provider, w.archives, w.files, w.dead = st, provider, archives, files, dead // agents use them as soon as the engine runs
	config := reconcile.Config{Store: mortal{st, dead, w.lags}, Provider: machines, Archives: shaky{archives, inject}, Objects: shakyObjects{files, inject, &w.looks}, Post: letterbox{w, inject}, Sizes: appstream.InstanceTypes(), Software: catalogue, Regions: []string{"us-east-1"}, Log: log,
		Retention: reconcile.Retention{Events: w.retention}}
	if w.agents != nil {
		config.Agents = shakyAgents{w.agents, inject}
	}
	if reading := w.reading; reading != nil {
		config.Catalogue = func(_ context.Context, machine string, _ types.PlatformType) (c appstream.Catalogue, err error) {
			return c, injector(inject).around("EnsureCatalogueRead", machine, func() error {
				c, err = reading(machine)
				return err
			})
		}
	}
	engine := reconcile.New(config)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := engine.Run(ctx); err != nil {
			w.t.Error(err)
		}
	})
	w.config = service.Config{Store: st, Blobs: blobs, Objects: files, Archives: archives, Tickets: tickets, Sizes: appstream.InstanceTypes(), Software: catalogue, AgentVersions: provider.AgentVersions,
		Regions: []string{"us-east-1", "eu-west-1"}, Mail: true, Log: log}
	w.svc = service.New(w.config)
	w.engineStop = func() {
		cancel()
		wg.Wait()
	}
	w.stop = func() {
		w.engineStop()
		if err := errors.Join(st.Close(), files.Close()); err != nil {
			w.t.Error(err)
		}
	}
	w.settle()
	w.must(w.svc.ForgetConnections(w.ctx())) // as a server does
}

// setInject has fn called around every verb of the provider and of the agents; nil for nothing.
func (w *world) setInject(fn injector) {
	w.injectMu.Lock()
	defer w.injectMu.Unlock()
	w.inject = fn
}

// kill ends the engine as SIGKILL would: from now on nothing that it does has an effect, leases stay.
func (w *world) kill() { w.dead.Store(true) }

// restart brings a killed or running world back up.
func (w *world) restart() {
	w.stop()
	w.start()
}

// wake makes the engine look at a builder.
func (w *world) wake(name string) error {
	return w.wakeKey(appstream.Key{Account: caller.Account, Region: caller.Region, Noun: appstream.NounImageBuilder, Name: name})
}

func (w *world) wakeKey(k appstream.Key) error {
	return w.store.Update(context.Background(), func(tx store.Tx) error { return tx.Wake(k, time.Now()) })
}

// settle lets time pass until everything waits for something that is not due soon.
func (w *world) settle() {
	time.Sleep(time.Millisecond)
	synctest.Wait()
}

// wait lets time pass until ok, and fails after limit. It asks after every commit, and now and then: most of the time nothing happens, and asking is dear.
// A server that is killed meanwhile is started again.
func (w *world) wait(what string, limit time.Duration, ok func() bool) time.Duration {
	w.t.Helper()
	start, asked, commits := time.Now(), time.Time{}, uint64(0)
	for {
		took := time.Since(start)
		if w.dead.Load() {
			w.restart()
			asked = time.Time{}
		}
		if n := w.store.Generation(); n != commits || time.Since(asked) >= max(100*time.Millisecond, took/20) {
			asked, commits = time.Now(), n
			if ok() {
				return took
			}
		}
		if took > limit {
			w.t.Fatalf("%s: not within %s; records: %v", what, limit, w.states())
		}
		time.Sleep(min(max(10*time.Millisecond, took/100), 5*time.Second))
		synctest.Wait()
	}
}

// mortal is a store that a killed process can no longer use.
type mortal struct {
	store.Store
	dead *atomic.Bool
	lags bool
}

func (m mortal) Watch(ctx context.Context) <-chan store.Change {
	changes := m.Store.Watch(ctx)
	if !m.lags {
		return changes
	}
	lagged := make(chan store.Change, 1)
	go func() {
		defer close(lagged)
		for range changes {
			select {
			case lagged <- store.Change{Lagged: true}:
			case <-ctx.Done():
			}
		}
	}()
	return lagged
}

func (m mortal) View(ctx context.Context, fn func(store.Tx) error) error {
	if m.dead.Load() {
		return errKilled
	}
	return m.Store.View(ctx, fn)
}

func (m mortal) Update(ctx context.Context, fn func(store.Tx) error) error {
	if m.dead.Load() {
		return errKilled
	}
	return m.Store.Update(ctx, fn)
}

func (m mortal) Claim(ctx context.Context, now, until time.Time, limit int) ([]appstream.Meta, error) {
	if m.dead.Load() {
		return nil, errKilled
	}
	return m.Store.Claim(ctx, now, until, limit)
}

func (m mortal) Release(ctx context.Context, id string) error {
	if m.dead.Load() {
		return errKilled
	}
	return m.Store.Release(ctx, id)
}

// shaky has archives be injected into as the provider's verbs are.
type shaky struct {
	*blob.Archives
	inject injector
}

func (s shaky) Save(ctx context.Context, name string, write func(io.Writer) error) error {
	return s.inject.around("EnsureExported", name, func() error { return s.Archives.Save(ctx, name, write) })
}

func (s shaky) Remove(ctx context.Context, name string) error {
	return s.inject.around("EnsureArchiveGone", name, func() error { return s.Archives.Remove(ctx, name) })
}

// letterbox has letters be injected into in the same way.
type letterbox struct {
	*world
	inject injector
}

func (b letterbox) Deliver(ctx context.Context, l appstream.Letter) error {
	return b.inject.around("EnsureDelivered", l.ID, func() error { return b.post(ctx, l) })
}

// shakyObjects has objects be injected into in the same way.
type shakyObjects struct {
	*objects.Dir
	inject injector
	looks  *atomic.Int64 // counts the calls of Stat
}

func (s shakyObjects) Stat(ctx context.Context, at objects.Location) (objects.Info, error) {
	s.looks.Add(1)
	return s.Dir.Stat(ctx, at)
}

func (s shakyObjects) Put(ctx context.Context, at objects.Location, r io.Reader) error {
	return s.inject.around("EnsureReported", at.Key, func() error { return s.Dir.Put(ctx, at, r) })
}

func (s shakyObjects) Remove(ctx context.Context, at objects.Location) error {
	return s.inject.around("EnsureObjectGone", at.Key, func() error { return s.Dir.Remove(ctx, at) })
}

// shakyAgents has agents be injected into in the same way.
type shakyAgents struct {
	reconcile.Agents
	inject injector
}

func (s shakyAgents) Begin(ctx context.Context, instance string, seat appstream.Seat) error {
	return s.inject.around("EnsureSeated", instance, func() error { return s.Agents.Begin(ctx, instance, seat) })
}

func (s shakyAgents) End(ctx context.Context, instance, session string) error {
	return s.inject.around("EnsureUnseated", instance, func() error { return s.Agents.End(ctx, instance, session) })
}

func (s shakyAgents) BeginJob(ctx context.Context, machine string, job appstream.Job) error {
	return s.inject.around("EnsureJobBegun", machine, func() error { return s.Agents.BeginJob(ctx, machine, job) })
}

func (s shakyAgents) PutFile(ctx context.Context, machine, path string, mode uint32, size int64, open func(context.Context) (io.ReadCloser, error)) error {
	return s.inject.around("EnsureFilePut", machine, func() error { return s.Agents.PutFile(ctx, machine, path, mode, size, open) })
}

func (inject injector) around(method, name string, do func() error) error {
	err := inject(method, name, sim.Before)
	if err == nil {
		err = do()
	}
	if err == nil {
		err = inject(method, name, sim.After)
	}
	return err
}

// The operations, as one account calls them.

func (w *world) ctx() context.Context { return appstream.WithCaller(context.Background(), caller) }

func (w *world) create(name string) error {
	_, err := w.svc.CreateImageBuilder(w.ctx(), &appstreamapi.CreateImageBuilderInput{
		Name: &name, ImageName: aws.String("base"), InstanceType: aws.String("stream.standard.small")})
	return err
}

func (w *world) do(op, name string) error {
	var err error
	switch op {
	case "create":
		err = w.create(name)
	case "start":
		_, err = w.svc.StartImageBuilder(w.ctx(), &appstreamapi.StartImageBuilderInput{Name: &name})
	case "stop":
		_, err = w.svc.StopImageBuilder(w.ctx(), &appstreamapi.StopImageBuilderInput{Name: &name})
	case "delete":
		_, err = w.svc.DeleteImageBuilder(w.ctx(), &appstreamapi.DeleteImageBuilderInput{Name: &name})
	case "image":
		image := "image-of-" + name
		_, err = w.svc.CreateImage(w.ctx(), &service.CreateImageInput{ImageBuilderName: &name, Name: &image})
	case "delete image":
		image := "image-of-" + name
		_, err = w.svc.DeleteImage(w.ctx(), &appstreamapi.DeleteImageInput{Name: &image})
	case "copy":
		_, err = w.svc.CopyImage(w.ctx(), &appstreamapi.CopyImageInput{SourceImageName: aws.String("image-of-" + name),
			DestinationImageName: aws.String("copy-of-" + name), DestinationRegion: aws.String("us-east-1")})
	case "export":
		_, err = w.svc.CreateExportImageTask(w.ctx(), &appstreamapi.CreateExportImageTaskInput{ImageName: aws.String("image-of-" + name),
			AmiName: aws.String(fmt.Sprintf("export-of-%s-%d", name, time.Now().UnixNano())), IamRoleArn: aws.String("arn:aws:iam::123456789012:role/x")})
	case "update":
		_, err = w.svc.CreateUpdatedImage(w.ctx(), &appstreamapi.CreateUpdatedImageInput{ExistingImageName: aws.String("image-of-" + name), NewImageName: aws.String("update-of-" + name)})
	case "import", "import and test", "import and add":
		in := &appstreamapi.CreateImportedImageInput{Name: aws.String("import-of-" + name), SourceAmiId: aws.String("ami-0123456789abcdef0")}
		if op != "import" {
			in.RuntimeValidationConfig = &types.RuntimeValidationConfig{IntendedInstanceType: aws.String("stream.standard.medium")}
		}
		if op == "import and add" {
			in.AppCatalogConfig = []types.ApplicationConfig{{Name: aws.String("xterm"), AbsoluteAppPath: aws.String("/usr/bin/xterm")}, {Name: aws.String("gimp"), AbsoluteAppPath: aws.String("/usr/bin/gimp")}}
		}
		_, err = w.svc.CreateImportedImage(w.ctx(), in)
	case "delete import":
		image := "import-of-" + name
		_, err = w.svc.DeleteImage(w.ctx(), &appstreamapi.DeleteImageInput{Name: &image})
	case "delete update":
		image := "update-of-" + name
		_, err = w.svc.DeleteImage(w.ctx(), &appstreamapi.DeleteImageInput{Name: &image})
	case "delete copy":
		image := "copy-of-" + name
		_, err = w.svc.DeleteImage(w.ctx(), &appstreamapi.DeleteImageInput{Name: &image})
	}
	return err
}

// builder gives the state of a builder, "" when there is none.
func (w *world) builder(name string) string {
	b := w.describe(name)
	if b == nil {
		return ""
	}
	return string(b.State)
}

func (w *world) describe(name string) *types.ImageBuilder {
	w.t.Helper()
	out, err := w.svc.DescribeImageBuilders(w.ctx(), &appstreamapi.DescribeImageBuildersInput{Names: []string{name}})
	if appstream.KindOf(err) == appstream.ResourceNotFound {
		return nil
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return &out.ImageBuilders[0]
}

// image gives an image, nil when there is none.
func (w *world) image(name string) *types.Image {
	w.t.Helper()
	out, err := w.svc.DescribeImages(w.ctx(), &appstreamapi.DescribeImagesInput{Names: []string{name}})
	if appstream.KindOf(err) == appstream.ResourceNotFound {
		return nil
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return &out.Images[0]
}

// exports gives the exports, the oldest first.
func (w *world) exports() []types.ExportImageTask {
	w.t.Helper()
	out, err := w.svc.ListExportImageTasks(w.ctx(), &appstreamapi.ListExportImageTasksInput{MaxResults: new(int32(500))})
	if err != nil {
		w.t.Fatal(err)
	}
	return out.ExportImageTasks
}

func (w *world) states() map[string]string {
	states := map[string]string{}
	err := w.store.View(context.Background(), func(tx store.Tx) error {
		for _, noun := range []appstream.Noun{appstream.NounImageBuilder, appstream.NounImage, appstream.NounExportTask} {
			err := tx.Scan(store.Query{Noun: noun}, func(head appstream.Meta, _ func(appstream.Record) error) error {
				states[fmt.Sprintf("%s/%s", noun, head.Name)] = head.State
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return states
}

// steady tells whether no record is on its way.
func (w *world) steady() bool {
	passing := []string{"RUNNING", "STOPPED", "FAILED", "AVAILABLE", "DEPRECATED", "COMPLETED", "TIMED_OUT"}
	for _, state := range w.states() {
		if !slices.Contains(passing, state) {
			return false
		}
	}
	return true
}

// check looks for what must never be: a machine or image without a record, a record whose machine is not as its state says, a
// change of state that is not in the table, a history with a gap.
func (w *world) check() {
	w.t.Helper()
	machines, err := w.provider.List(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	phase := map[string]appstream.Phase{}
	for _, m := range machines {
		phase[m.ID] = m.Phase
	}
	refs, err := w.provider.ListImages(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	allowed := map[string]bool{}
	for noun, table := range appstream.Transitions() {
		for _, tr := range table {
			allowed[fmt.Sprint(noun, tr.From, "→", tr.To)] = true
		}
	}
	err = w.store.View(context.Background(), func(tx store.Tx) error {
		builders, err := store.List[appstream.ImageBuilder](tx, store.Query{Noun: appstream.NounImageBuilder})
		if err != nil {
			return err
		}
		for _, b := range builders {
			want := map[string]appstream.Phase{"RUNNING": appstream.MachineRunning, "STOPPED": appstream.MachineStopped}[b.State]
			if b.State != "FAILED" && phase[b.ID] != want {
				w.t.Errorf("%s is %s, its machine %q", b.Name, b.State, phase[b.ID])
			}
			if b.Capturing != "" {
				w.t.Errorf("%s is %s and still captures %s", b.Name, b.State, b.Capturing)
			}
			delete(phase, b.ID)
			w.history(tx, b.Meta, allowed)
		}
		images, err := store.List[appstream.Image](tx, store.Query{Noun: appstream.NounImage, Accounts: []string{caller.Account}})
		if err != nil {
			return err
		}
		for _, i := range images {
			if has := slices.Contains(refs, i.Ref); has != (i.State == "AVAILABLE") {
				w.t.Errorf("image %s is %s, its data exist: %v", i.Name, i.State, has)
			}
			refs = slices.DeleteFunc(refs, func(ref string) bool { return ref == i.Ref })
			w.history(tx, i.Meta, allowed)
		}
		tasks, err := store.List[appstream.ExportImageTask](tx, store.Query{Noun: appstream.NounExportTask})
		if err != nil {
			return err
		}
		archives, err := w.archives.Count(context.Background(), caller.Account)
		if err != nil {
			return err
		}
		for _, e := range tasks {
			has, err := w.archives.Has(context.Background(), e.Archive())
			if err != nil || has != (e.State == "COMPLETED") {
				w.t.Errorf("export %s is %s, its archive exists: %v, %v", e.Name, e.State, has, err)
			}
			if has {
				archives--
			}
			w.history(tx, e.Meta, allowed)
		}
		if given, err := w.archives.Has(w.ctx(), givenArchive); err != nil {
			return err
		} else if given {
			archives--
		}
		if archives != 0 {
			w.t.Errorf("%d archives without a record", archives)
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if len(phase) > 0 {
		w.t.Errorf("machines without a record: %v", phase)
	}
	if len(refs) > 0 {
		w.t.Errorf("images without a record: %v", refs)
	}
}

// steps are the steps of work on a resource, in their order.
func (w *world) steps(noun appstream.Noun, name string) (list []string) {
	w.t.Helper()
	w.must(w.store.View(context.Background(), func(tx store.Tx) error {
		events, err := tx.Events(store.LogQuery{Account: new(caller.Account), Noun: noun, Name: name, Forward: true})
		for _, e := range events {
			if e.From == "" && e.To == "" {
				list = append(list, e.Why)
			}
		}
		return err
	}))
	return list
}

func (w *world) history(tx store.Tx, head appstream.Meta, allowed map[string]bool) {
	w.t.Helper()
	events, err := tx.Events(store.LogQuery{ID: head.ID})
	if err != nil {
		w.t.Fatal(err)
	}
	slices.Reverse(events)
	at := ""
	for _, e := range events {
		if e.From == "" && e.To == "" { // a step
			continue
		}
		if e.From != at || !allowed[fmt.Sprint(head.Noun, e.From, "→", e.To)] {
			w.t.Errorf("history of %s %s: %q → %q after %q", head.Noun, head.Name, e.From, e.To, at)
		}
		at = e.To
	}
	if at != head.State {
		w.t.Errorf("history of %s %s ends with %q, it is %s", head.Noun, head.Name, at, head.State)
	}
}
