package attend_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/google/go-cmp/cmp"
	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/attend"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/service"
	"github.com/oriel-project/oriel/internal/store"
	"github.com/oriel-project/oriel/internal/store/sqlite"
)

const account, region = "123456789012", "us-west-2"

var errNoMachine = errors.New("no such machine")

// world is an attendant with a real store, agents that speak agentapi over pipes, and images that createImage makes. It lives in a
// bubble, so that whatever waits can be waited for.
type world struct {
	t             *testing.T
	store         store.Store
	watch         func(context.Context) <-chan store.Change              // nil: the store's own
	view          func(context.Context, func(store.Tx) error) error      // nil: the store's own
	createImage   func(context.Context, *service.CreateImageInput) error // nil: no error
	createPackage func(context.Context, *service.CreateAppBlockPackageInput) error
	log           bytes.Buffer // to be read after stop
	dials         atomic.Int32

	mu     sync.Mutex
	agents map[string]*agent // by record ID; who is not in it cannot be reached

	stop func() // ends Run, once, and waits for it
}

func in(t *testing.T, fn func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		st, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "oriel.db"), sqlite.WithoutSync())
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		w := &world{t: t, store: st, agents: map[string]*agent{}, stop: func() {}}
		defer func() {
			w.stop()
			for _, a := range w.agents {
				a.server.Close()
			}
		}()
		fn(w)
	})
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// run starts the attendant, and returns when it has nothing to do but wait.
func (w *world) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	a := attend.Attendant{Store: wrapped{w.store, w}, Agents: attend.Agents{Dialer: w}, Builders: creator{w}, Log: slog.New(slog.NewTextHandler(&w.log, nil))}
	go func() { done <- a.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Run = %v, want nil after its context has ended", err)
		}
	})
	synctest.Wait()
}

// wrapped is the store as the attendant sees it.
type wrapped struct {
	store.Store
	w *world
}

func (s wrapped) Watch(ctx context.Context) <-chan store.Change {
	if s.w.watch != nil {
		return s.w.watch(ctx)
	}
	return s.Store.Watch(ctx)
}

func (s wrapped) View(ctx context.Context, fn func(store.Tx) error) error {
	if s.w.view != nil {
		return s.w.view(ctx, fn)
	}
	return s.Store.View(ctx, fn)
}

// changes puts the test in the place of the store's Watch.
func (w *world) changes() chan<- store.Change {
	changes := make(chan store.Change)
	w.watch = func(ctx context.Context) <-chan store.Change {
		context.AfterFunc(ctx, func() { close(changes) })
		return changes
	}
	return changes
}

type creator struct{ w *world }

func (c creator) CreateImage(ctx context.Context, in *service.CreateImageInput) (*service.CreateImageOutput, error) {
	if c.w.createImage == nil {
		return &service.CreateImageOutput{}, nil
	}
	return nil, c.w.createImage(ctx, in)
}

func (c creator) CreateAppBlockPackage(ctx context.Context, in *service.CreateAppBlockPackageInput) (*service.CreateAppBlockPackageOutput, error) {
	return &service.CreateAppBlockPackageOutput{}, c.w.createPackage(ctx, in)
}

// Dial is compute.Dialer.
func (w *world) Dial(_ context.Context, id string) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dials.Add(1)
	a := w.agents[id]
	if a == nil {
		return nil, errNoMachine
	}
	here, there := net.Pipe()
	a.conns <- there
	return here, nil
}

func key(name string) appstream.Key {
	return appstream.Key{Account: account, Region: region, Noun: appstream.NounImageBuilder, Name: name}
}

// builder puts an image builder into the store, and moves it along states. Its ID is "ib-" and its name. Nothing is due.
func (w *world) builder(name string, states ...string) {
	w.t.Helper()
	b := appstream.ImageBuilder{Meta: appstream.Meta{Key: key(name), ID: "ib-" + name}}
	b.Enter(appstream.BuilderPending, time.Now())
	w.must(w.store.Update(context.Background(), func(tx store.Tx) error { return tx.Insert(&b) }))
	w.move(name, states...)
}

// move moves an image builder along states, as the engine would, and returns when the attendant has dealt with it. "" removes it.
func (w *world) move(name string, states ...string) {
	w.t.Helper()
	for _, state := range states {
		w.change(name, func(tx store.Tx, b *appstream.ImageBuilder) error {
			if state == "" {
				return tx.Delete(b)
			}
			b.Enter(state, time.Now())
			return tx.Put(b)
		})
	}
	synctest.Wait()
}

func (w *world) change(name string, fn func(store.Tx, *appstream.ImageBuilder) error) {
	w.t.Helper()
	w.must(w.store.Update(context.Background(), func(tx store.Tx) error {
		var b appstream.ImageBuilder
		if err := tx.Get(key(name), &b); err != nil {
			return err
		}
		return fn(tx, &b)
	}))
}

// due tells when the engine looks at an image builder next.
func (w *world) due(name string) (due time.Time) {
	w.t.Helper()
	w.change(name, func(_ store.Tx, b *appstream.ImageBuilder) error { due = b.Due; return nil })
	return due
}

// agent is the server's end of agentapi, in the machine of one image builder.
type agent struct {
	conns     chan net.Conn
	server    *http.Server
	requests  chan agentapi.Request
	answers   chan string // ID of the request and the answer
	status    agentapi.Status
	job       agentapi.Job // that was begun
	jobStatus agentapi.JobStatus
	file      []byte       // that was put
	silent    atomic.Bool  // it takes questions and does not answer
	lines     atomic.Int32 // who waits for a request now
	open      atomic.Int32 // connections
}

// agent gives the machine of an image builder an agent.
func (w *world) agent(name string) *agent {
	a := &agent{conns: make(chan net.Conn), requests: make(chan agentapi.Request, 10), answers: make(chan string, 10)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(rw http.ResponseWriter, r *http.Request) {
		if r.FormValue("wait") != "1.000" {
			http.Error(rw, "wait", http.StatusBadRequest)
			return
		}
		json.MarshalWrite(rw, a.status)
	})
	mux.HandleFunc("GET /v1/requests", a.nextRequest)
	mux.HandleFunc("PUT /v1/jobs/{id}", func(rw http.ResponseWriter, r *http.Request) {
		if r.PathValue("id") != "j1" {
			rw.WriteHeader(http.StatusConflict)
			json.MarshalWrite(rw, map[string]string{"message": "another job runs"})
			return
		}
		json.UnmarshalRead(r.Body, &a.job)
		rw.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /v1/jobs/{id}", func(rw http.ResponseWriter, r *http.Request) {
		if r.PathValue("id") != "j1" || r.FormValue("wait") != "2.000" {
			rw.WriteHeader(http.StatusNotFound)
			return
		}
		json.MarshalWrite(rw, a.jobStatus)
	})
	mux.HandleFunc("PUT /v1/files", func(rw http.ResponseWriter, r *http.Request) {
		piece, _ := io.ReadAll(r.Body)
		if r.FormValue("path") == "/full" {
			rw.WriteHeader(http.StatusInsufficientStorage)
			return
		}
		a.file = append(a.file, piece...)
		sum := sha256.Sum256(a.file)
		complete := r.FormValue("size") == strconv.Itoa(len(a.file)) && r.FormValue("sha256") == hex.EncodeToString(sum[:]) && r.FormValue("mode") == "755"
		json.MarshalWrite(rw, agentapi.PutStatus{Received: int64(len(a.file)), Complete: complete})
	})
	mux.HandleFunc("POST /v1/requests/{id}", func(rw http.ResponseWriter, r *http.Request) {
		var answer agentapi.Answer
		err := json.UnmarshalRead(r.Body, &answer)
		a.answers <- fmt.Sprintf("%s %s %s %v", r.PathValue("id"), answer.ErrorKind, answer.Message, err)
		rw.WriteHeader(http.StatusNoContent)
	})
	a.server = &http.Server{Handler: mux, ConnState: func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			a.open.Add(1)
		case http.StateClosed:
			a.open.Add(-1)
		}
	}}
	go a.server.Serve(pipes{a.conns, make(chan struct{})})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.agents["ib-"+name] = a
	return a
}

func (a *agent) nextRequest(w http.ResponseWriter, r *http.Request) {
	wait, err := time.ParseDuration(r.FormValue("wait") + "s")
	if err != nil || wait <= 0 || wait > agentapi.MaxWait {
		http.Error(w, "wait", http.StatusBadRequest)
		return
	}
	a.lines.Add(1)
	defer a.lines.Add(-1)
	if a.silent.Load() {
		<-r.Context().Done()
		return
	}
	select {
	case request := <-a.requests:
		json.MarshalWrite(w, request)
	case <-time.After(wait):
		w.WriteHeader(http.StatusNoContent)
	case <-r.Context().Done():
	}
}

// ask has someone inside ask for an image, and gives the answer.
func (a *agent) ask(want agentapi.CreateImage) string {
	a.requests <- agentapi.Request{ID: "r1", Kind: agentapi.KindCreateImage, CreateImage: &want}
	return a.answer()
}

func (a *agent) answer() string {
	select {
	case answer := <-a.answers:
		return answer
	case <-time.After(time.Minute):
		return "no answer"
	}
}

// closed checks that no connection to the agent is left open.
func (a *agent) closed(t *testing.T) {
	t.Helper()
	synctest.Wait()
	if n := a.open.Load(); n != 0 {
		t.Errorf("%d connections to the agent are left open", n)
	}
}

// pipes is a listener for the connections that come over a channel.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p pipes) Close() error   { close(p.closed); return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{} }

// lines checks how many lines there are to each agent.
func (w *world) lines(when string, want map[string]int32) {
	w.t.Helper()
	synctest.Wait()
	got := map[string]int32{}
	for id, a := range w.agents {
		got[strings.TrimPrefix(id, "ib-")] = a.lines.Load()
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("%s: lines to agents (-want +got):\n%s", when, diff)
	}
}

// There is one line to every image builder that is RUNNING, and none to any other, from the start and whatever happens.
func TestOneLineToEveryRunningBuilder(t *testing.T) {
	in(t, func(w *world) {
		for _, name := range []string{"early", "late", "stopped"} {
			w.agent(name)
		}
		w.builder("early", "RUNNING")
		w.builder("stopped", "RUNNING", "STOPPING", "STOPPED")
		w.builder("late")
		w.run()
		w.lines("at the start", map[string]int32{"early": 1, "late": 0, "stopped": 0})
		w.move("late", "RUNNING")
		w.lines("one came", map[string]int32{"early": 1, "late": 1, "stopped": 0})
		w.change("late", func(tx store.Tx, b *appstream.ImageBuilder) error { return tx.Put(b) })
		w.lines("it was written again", map[string]int32{"early": 1, "late": 1, "stopped": 0})
		time.Sleep(10 * time.Minute)
		w.lines("long afterwards", map[string]int32{"early": 1, "late": 1, "stopped": 0})
		w.move("early", "STOPPING")
		w.lines("one left", map[string]int32{"early": 0, "late": 1, "stopped": 0})
		w.move("early", "STOPPED", "PENDING", "RUNNING")
		w.lines("it came again", map[string]int32{"early": 1, "late": 1, "stopped": 0})
		w.move("late", "DELETING", "")
		w.lines("the other is gone", map[string]int32{"early": 1, "late": 0, "stopped": 0})
		w.stop()
		w.lines("the server has ended", map[string]int32{"early": 0, "late": 0, "stopped": 0})
	})
}

// A record may vanish without a change of its state being seen, and other nouns have a state RUNNING too.
func TestOtherChanges(t *testing.T) {
	in(t, func(w *world) {
		changes := w.changes()
		w.agent("hello")
		w.agent("fleet")
		w.builder("hello", "RUNNING")
		w.run()
		changes <- store.Change{Key: appstream.Key{Account: account, Region: region, Noun: "fleet", Name: "fleet"}, ID: "ib-fleet", State: "RUNNING"}
		w.lines("a fleet runs", map[string]int32{"hello": 1, "fleet": 0})
		changes <- store.Change{Key: key("hello"), ID: "ib-hello", State: appstream.BuilderRunning, Removed: true}
		w.lines("removed", map[string]int32{"hello": 0, "fleet": 0})
	})
}

// After changes were missed, the attendant looks for itself.
func TestLagged(t *testing.T) {
	in(t, func(w *world) {
		changes := w.changes()
		for _, name := range []string{"came", "left", "stayed", "vanished"} {
			w.agent(name)
		}
		w.builder("came")
		w.builder("left", "RUNNING")
		w.builder("stayed", "RUNNING")
		w.builder("vanished", "RUNNING")
		w.run()
		w.move("came", "RUNNING")
		w.move("left", "STOPPING")
		w.move("vanished", "DELETING", "")
		w.lines("unseen", map[string]int32{"came": 0, "left": 1, "stayed": 1, "vanished": 1})
		changes <- store.Change{Lagged: true}
		w.lines("lagged", map[string]int32{"came": 1, "left": 0, "stayed": 1, "vanished": 0})
	})
}

// A store that cannot be read at the start is read again; a server that ends meanwhile is not held.
func TestFirstLookFails(t *testing.T) {
	in(t, func(w *world) {
		var fails atomic.Bool
		fails.Store(true)
		w.view = func(ctx context.Context, fn func(store.Tx) error) error {
			if fails.Load() {
				return errors.New("the disk is gone")
			}
			return w.store.View(ctx, fn)
		}
		w.agent("hello")
		w.builder("hello", "RUNNING")
		w.run()
		time.Sleep(15 * time.Second)
		w.lines("unreadable", map[string]int32{"hello": 0})
		fails.Store(false)
		time.Sleep(10 * time.Second)
		w.lines("readable", map[string]int32{"hello": 1})
		w.stop()
		if !strings.Contains(w.log.String(), "the disk is gone") {
			t.Errorf("the log does not say why: %s", &w.log)
		}
		fails.Store(true)
		w.run()
		w.stop()
	})
}

// The engine is told to look at a machine whose agent does not answer, each time; the pauses grow to ten seconds, and
// are short again after an answer.
func TestSilentAgentWakesItsBuilder(t *testing.T) {
	in(t, func(w *world) {
		w.builder("hello", "RUNNING")
		w.builder("other")
		began := time.Now()
		w.run()
		if due := w.due("hello"); !due.Equal(began) {
			t.Errorf("the agent cannot be reached: the builder is due at %v, want now, %v", due, began)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		// 0, .1, .3, .7, 1.5, 3.1, 6.3, 12.7 and every 10 s
		if n := w.dials.Load(); n != 12 {
			t.Errorf("it was tried %d times in a minute, want 12", n)
		}
		w.change("hello", func(tx store.Tx, b *appstream.ImageBuilder) error { b.Due = time.Time{}; return tx.Put(b) })
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if due := w.due("hello"); !due.Equal(began.Add(62700 * time.Millisecond)) {
			t.Errorf("the builder is due at %v, want when the agent was last tried", due)
		}

		a := w.agent("hello")
		time.Sleep(10 * time.Second)
		w.lines("the agent is there", map[string]int32{"hello": 1})
		w.change("hello", func(tx store.Tx, b *appstream.ImageBuilder) error { b.Due = time.Time{}; return tx.Put(b) })
		time.Sleep(time.Minute)
		if due := w.due("hello"); !due.IsZero() {
			t.Errorf("the agent answers: the builder is due at %v, want never", due)
		}
		w.dials.Store(0)
		crashed := time.Now()
		w.mu.Lock()
		delete(w.agents, "ib-hello")
		w.mu.Unlock()
		a.server.Close()
		synctest.Wait()
		if due := w.due("hello"); !due.Equal(crashed) {
			t.Errorf("the line was cut at %v, the builder is due at %v", crashed, due)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := w.dials.Load(); n != 4 { // 0 (net/http, once), .1, .3, .7
			t.Errorf("the crashed agent was tried %d times in a second, want 4", n)
		}
		if due := w.due("other"); !due.IsZero() {
			t.Errorf("a builder that is not concerned is due at %v", due)
		}
		ended := time.Now()
		w.stop()
		if took := time.Since(ended); took != 0 {
			t.Errorf("the end waited %s for the next try", took)
		}
	})
}

// An agent that takes the question and says nothing is silent too.
func TestHungAgentWakesItsBuilder(t *testing.T) {
	in(t, func(w *world) {
		w.agent("hello").silent.Store(true)
		w.builder("hello", "RUNNING")
		w.run()
		time.Sleep(30 * time.Second) // longer than an agent that is well holds a question
		if due := w.due("hello"); !due.IsZero() {
			t.Errorf("the builder is due at %v already", due)
		}
		time.Sleep(10 * time.Second)
		if due := w.due("hello"); due.IsZero() {
			t.Error("the builder is not due")
		}
	})
}

// The image is asked for in the name of whoever is at the builder, with all that was said.
func TestRequestForAnImage(t *testing.T) {
	in(t, func(w *world) {
		var got *service.CreateImageInput
		var caller appstream.Caller
		w.createImage = func(ctx context.Context, in *service.CreateImageInput) error {
			got, caller = in, appstream.CallerFrom(ctx)
			return nil
		}
		a := w.agent("hello")
		w.builder("hello", "RUNNING")
		w.run()
		answer := a.ask(agentapi.CreateImage{Name: "img", DisplayName: "Image", Description: "all in it", Tags: map[string]string{"k": "v"},
			UseLatestAgentVersion: true, EnableDynamicAppCatalog: true, DryRun: true})
		if want := "r1   <nil>"; answer != want {
			t.Errorf("answer %q, want %q", answer, want)
		}
		want := &service.CreateImageInput{ImageBuilderName: new("hello"), Name: new("img"), DisplayName: new("Image"), Description: new("all in it"),
			Tags: map[string]string{"k": "v"}, UseLatestAgentVersion: new(true), EnableDynamicAppCatalog: new(true), DryRun: new(true)}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if caller.Account != account || caller.Region != region || caller.RequestID != "ib-hello" ||
			caller.Principal != "arn:aws:appstream:us-west-2:123456789012:image-builder/hello/ImageBuilderAdmin" {
			t.Errorf("caller = %+v", caller)
		}
		a.ask(agentapi.CreateImage{Name: "img"})
		want = &service.CreateImageInput{ImageBuilderName: new("hello"), Name: new("img"),
			UseLatestAgentVersion: new(false), EnableDynamicAppCatalog: new(false), DryRun: new(false)}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("least request (-want +got):\n%s", diff)
		}
	})
}

// Who is at an app block builder can have its package made; each kind of builder makes what it makes.
func TestRequestForAPackage(t *testing.T) {
	in(t, func(w *world) {
		var got string
		w.createPackage = func(ctx context.Context, in *service.CreateAppBlockPackageInput) error {
			got = *in.AppBlockBuilderName + " " + appstream.CallerFrom(ctx).Principal
			return nil
		}
		a, other := w.agent("maker"), w.agent("hello")
		b := &appstream.AppBlockBuilder{Meta: appstream.Meta{Key: appstream.Key{Account: account, Region: region, Noun: appstream.NounAppBlockBuilder, Name: "maker"}, ID: "ib-maker"}}
		for _, state := range []string{"STOPPED", "STARTING", "RUNNING"} {
			b.Enter(state, time.Now())
			w.must(w.store.Update(context.Background(), func(tx store.Tx) error {
				if b.Version == 0 {
					return tx.Insert(b)
				}
				return tx.Put(b)
			}))
		}
		w.builder("hello", "RUNNING")
		w.run()
		pack := agentapi.Request{ID: "r1", Kind: agentapi.KindCreatePackage}
		a.requests <- pack
		if answer := a.answer(); answer != "r1   <nil>" || got != "maker arn:aws:appstream:us-west-2:123456789012:app-block-builder/maker/ImageBuilderAdmin" {
			t.Errorf("answer %q, asked for %q", answer, got)
		}
		if answer := a.ask(agentapi.CreateImage{Name: "img"}); !strings.Contains(answer, "invalid This is an app block builder") {
			t.Errorf("an image of it: %q", answer)
		}
		other.requests <- pack
		if answer := other.answer(); !strings.Contains(answer, "invalid This is an image builder") {
			t.Errorf("a package of an image builder: %q", answer)
		}
		w.createPackage = func(context.Context, *service.CreateAppBlockPackageInput) error { return errors.New("secret detail") }
		a.requests <- pack
		if answer := a.answer(); !strings.Contains(answer, "internal The server could not do it") {
			t.Errorf("a fault: %q", answer)
		}
	})
}

// Notices need no answer, and the line goes on after them.
func TestNotices(t *testing.T) {
	in(t, func(w *world) {
		w.createImage = func(context.Context, *service.CreateImageInput) error { return errors.New("nobody asked for an image") }
		a := w.agent("hello")
		w.builder("hello", "RUNNING")
		w.run()
		a.requests <- agentapi.Request{ID: "r0", Kind: agentapi.KindReboot}
		a.requests <- agentapi.Request{ID: "r1", Kind: agentapi.KindPowerOff}
		w.lines("after the notices", map[string]int32{"hello": 1})
		if n := len(a.answers); n != 0 || len(a.requests) != 0 {
			t.Errorf("%d answers, %d notices are left", n, len(a.requests))
		}
		if due := w.due("hello"); !due.IsZero() {
			t.Errorf("the builder is due at %v", due)
		}
	})
}

// Whoever asked hears what he can mend, and nothing about the inside of the server.
func TestRefusals(t *testing.T) {
	const hidden = "internal The server could not do it. Try again; its log says why."
	for _, test := range []struct {
		name   string
		err    error
		answer string
		logged bool
	}{
		{"the name is taken", appstream.Errorf(appstream.ResourceAlreadyExists, "There is one: img."), "already-exists There is one: img.", false},
		{"the same, wrapped", fmt.Errorf("create: %w", appstream.Errorf(appstream.ResourceAlreadyExists, "There is one: img.")), "already-exists There is one: img.", false},
		{"a bad name", appstream.Errorf(appstream.Validation, "The name is bad."), "invalid The name is bad.", false},
		{"the quota", appstream.Errorf(appstream.LimitExceeded, "Limit: 10"), "invalid Limit: 10", false},
		{"a bug", errors.New("open /secret/oriel.db"), hidden, true},
		{"a bug with a message", appstream.Errorf(appstream.Internal, "open /secret/oriel.db"), hidden, true},
		{"an outage", appstream.Errorf(appstream.Unavailable, "open /secret/oriel.db"), hidden, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			in(t, func(w *world) {
				w.createImage = func(context.Context, *service.CreateImageInput) error { return test.err }
				a := w.agent("hello")
				w.builder("hello", "RUNNING")
				w.run()
				if got, want := a.ask(agentapi.CreateImage{Name: "img"}), "r1 "+test.answer+" <nil>"; got != want {
					t.Errorf("answer %q, want %q", got, want)
				}
				w.lines("after a refusal", map[string]int32{"hello": 1})
				w.stop()
				if logged := strings.Contains(w.log.String(), "/secret/oriel.db"); logged != test.logged {
					t.Errorf("logged = %t, want %t: %s", logged, test.logged, &w.log)
				}
			})
		})
	}
}

// Making the image ends the line on which it was asked for, and so does the end of the server: neither undoes the image, and the answer
// gets through.
func TestAnswerOnALineThatIsCut(t *testing.T) {
	for name, cut := range map[string]func(w *world){
		"by the image":  func(w *world) { w.move("hello", "SNAPSHOTTING") },
		"by the server": func(w *world) { go w.stop(); synctest.Wait() },
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(w *world) {
				asked, proceed := make(chan struct{}), make(chan struct{})
				w.createImage = func(ctx context.Context, _ *service.CreateImageInput) error {
					close(asked)
					<-proceed
					return ctx.Err()
				}
				a := w.agent("hello")
				w.builder("hello", "RUNNING")
				w.run()
				a.requests <- agentapi.Request{ID: "r1", Kind: agentapi.KindCreateImage, CreateImage: &agentapi.CreateImage{Name: "img"}}
				<-asked
				cut(w)
				close(proceed)
				if answer := a.answer(); answer != "r1   <nil>" {
					t.Errorf("answer %q", answer)
				}
				w.lines("after the answer", map[string]int32{"hello": 0})
				a.closed(t)
			})
		})
	}
}

// An agent that does not take the answer does not hold the server for long.
func TestAnswerThatIsNotTaken(t *testing.T) {
	in(t, func(w *world) {
		a := w.agent("hello")
		w.builder("hello", "RUNNING")
		w.run()
		for range cap(a.answers) { // the agent's handler will wait for room
			a.answers <- ""
		}
		a.requests <- agentapi.Request{ID: "r1", Kind: agentapi.KindCreateImage, CreateImage: &agentapi.CreateImage{Name: "img"}}
		synctest.Wait()
		began := time.Now()
		w.stop()
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("the end took %s", took)
		}
		if !strings.Contains(w.log.String(), "context deadline exceeded") {
			t.Errorf("the log does not say that the answer was lost: %s", &w.log)
		}
		<-a.answers
	})
}

func TestStatus(t *testing.T) {
	for _, test := range []struct {
		name   string
		status agentapi.Status
		want   appstream.Agent
	}{
		{"well", agentapi.Status{Version: "11-21-2026", Ready: true}, appstream.Agent{Answers: true, Ready: true, Version: "11-21-2026"}},
		{"starting", agentapi.Status{Version: "01-01-2026"}, appstream.Agent{Answers: true, Version: "01-01-2026"}},
		{"of no use", agentapi.Status{Problem: "no X server", LastDisplayError: "exit 1"}, appstream.Agent{Answers: true, Problem: "no X server"}},
		{"crashing", agentapi.Status{LastDisplayError: "exit 1"}, appstream.Agent{Answers: true, Problem: "exit 1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			in(t, func(w *world) {
				a := w.agent("hello")
				a.status = test.status
				got := attend.Agents{Dialer: w}.Status(w.t.Context(), "ib-hello", time.Second)
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				a.closed(t)
			})
		})
	}
	in(t, func(w *world) {
		got := attend.Agents{Dialer: w}.Status(w.t.Context(), "ib-hello", time.Second)
		if got.Answers || got.Ready || !strings.Contains(got.Problem, errNoMachine.Error()) {
			t.Errorf("nobody answers: %+v", got)
		}
	})
}

func TestJob(t *testing.T) {
	long := strings.Repeat("x", 1000)
	for _, test := range []struct {
		name   string
		status agentapi.JobStatus
		want   appstream.JobStatus
	}{
		{"running", agentapi.JobStatus{State: agentapi.JobRunning, Step: 1, Output: "a\n"}, appstream.JobStatus{Answers: true, Known: true, Step: 1, Output: "a\n"}},
		{"done", agentapi.JobStatus{State: agentapi.JobSucceeded, Step: 2}, appstream.JobStatus{Answers: true, Known: true, Ended: true, Step: 2}},
		{"failed", agentapi.JobStatus{State: agentapi.JobFailed, Problem: "Try:\n" + long}, appstream.JobStatus{Answers: true, Known: true, Ended: true, Problem: ("Try: " + long)[:300]}},
		{"failed without a word", agentapi.JobStatus{State: agentapi.JobFailed}, appstream.JobStatus{Answers: true, Known: true, Ended: true, Problem: "The job failed."}},
	} {
		t.Run(test.name, func(t *testing.T) {
			in(t, func(w *world) {
				a := w.agent("hello")
				a.jobStatus = test.status
				got := attend.Agents{Dialer: w}.Job(w.t.Context(), "ib-hello", "j1", 2*time.Second)
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				a.closed(t)
			})
		})
	}
	in(t, func(w *world) {
		agents := attend.Agents{Dialer: w}
		if got := agents.Job(w.t.Context(), "ib-hello", "j1", 2*time.Second); got != (appstream.JobStatus{}) {
			t.Errorf("nobody answers: %+v", got)
		}
		w.agent("hello")
		if got := agents.Job(w.t.Context(), "ib-hello", "j2", 2*time.Second); got != (appstream.JobStatus{Answers: true}) {
			t.Errorf("it is not known: %+v", got)
		}
	})
}

// The longest catalogue that an image can have can be tested: the agent takes such a job.
func TestLongestCatalogue(t *testing.T) {
	var apps []types.Application
	for n := range agentapi.MaxApplications {
		apps = append(apps, types.Application{Name: new(strings.Repeat("語", 254) + fmt.Sprintf("%02d", n))})
	}
	in(t, func(w *world) {
		a := w.agent("hello")
		if err := (attend.Agents{Dialer: w}).BeginJob(w.t.Context(), "ib-hello", appstream.Job{ID: "j1", Steps: appstream.LaunchSteps(apps)}); err != nil {
			t.Error(err)
		}
		if err := a.job.Check(); err != nil {
			t.Error(err)
		}
		a.closed(t)
	})
}

func TestBeginJob(t *testing.T) {
	in(t, func(w *world) {
		a := w.agent("hello")
		agents := attend.Agents{Dialer: w}
		job := appstream.Job{ID: "j1", Steps: []appstream.JobStep{{Name: "Install", Command: "true"}, {Name: "Start", Launch: "editor", Time: 89500 * time.Millisecond}}}
		if err := agents.BeginJob(w.t.Context(), "ib-hello", job); err != nil {
			t.Error(err)
		}
		want := agentapi.Job{Steps: []agentapi.JobStep{{Name: "Install", Command: "true"}, {Name: "Start", Launch: "editor", Seconds: 90}}}
		if diff := cmp.Diff(want, a.job); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		job.ID = "j2"
		if err := agents.BeginJob(w.t.Context(), "ib-hello", job); err == nil || !strings.Contains(err.Error(), "another job runs") {
			t.Error(err)
		}
		a.closed(t)
	})
}

// What is put arrives whole, in pieces; what cannot be put is told for what it is.
func TestPutFile(t *testing.T) {
	in(t, func(w *world) {
		agents := attend.Agents{Dialer: w}
		content := func(n int) func(context.Context) (io.ReadCloser, error) {
			return func(context.Context) (io.ReadCloser, error) {
				return io.NopCloser(bytes.NewReader(bytes.Repeat([]byte("x"), n))), nil
			}
		}
		a := w.agent("hello")
		for _, n := range []int{0, 7, agentapi.MaxPiece, 2*agentapi.MaxPiece + 5} {
			a.file = nil
			if err := agents.PutFile(w.t.Context(), "ib-hello", "/opt/x", 0o755, int64(n), content(n)); err != nil || len(a.file) != n {
				t.Errorf("of %d bytes %d have arrived: %v", n, len(a.file), err)
			}
		}
		a.file = nil
		if err := agents.PutFile(w.t.Context(), "ib-hello", "/opt/x", 0o755, 8, content(7)); err == nil || len(a.file) > 0 {
			t.Errorf("of another size: %v", err)
		}
		gone := errors.New("it is gone")
		if err := agents.PutFile(w.t.Context(), "ib-hello", "/opt/x", 0o755, 8, func(context.Context) (io.ReadCloser, error) { return nil, gone }); !errors.Is(err, gone) {
			t.Error(err)
		}
		for path, says := range map[string]string{"/full": "disk is full", "relative": "not the absolute path"} {
			err := agents.PutFile(w.t.Context(), "ib-hello", path, 0o755, 7, content(7))
			if _, lasting := errors.AsType[*compute.Fault](err); !lasting || !strings.Contains(err.Error(), says) {
				t.Errorf("%s: %v", path, err)
			}
		}
		a.closed(t)
	})
}
