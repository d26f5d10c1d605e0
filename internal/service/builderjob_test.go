package service_test

import (
	"encoding/json/v2"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/service"
	"github.com/oriel-project/oriel/internal/store"
)

// worker is an agent that takes jobs and files and does nothing with them.
type worker struct {
	jobs   map[string]agentapi.Job
	status agentapi.JobStatus
	ended  []string
	pieces []string // the queries and bodies of PUT /v1/files
	refuse int      // the HTTP status of every answer, if it is set
	text   string   // with it
}

// withWorker gives every machine the agent w.
func withWorker(t *testing.T, w *worker) func(*service.Config) {
	w.jobs = map[string]agentapi.Job{}
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), agentapi.SocketName))
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /v1/jobs/{id}", func(rw http.ResponseWriter, r *http.Request) {
		var job agentapi.Job
		if err := json.UnmarshalRead(r.Body, &job); err != nil {
			t.Error(err)
		}
		w.jobs[r.PathValue("id")] = job
	})
	mux.HandleFunc("GET /v1/jobs/{id}", func(rw http.ResponseWriter, r *http.Request) {
		if _, ok := w.jobs[r.PathValue("id")]; !ok {
			http.NotFound(rw, r)
			return
		}
		json.MarshalWrite(rw, w.status)
	})
	mux.HandleFunc("DELETE /v1/jobs/{id}", func(_ http.ResponseWriter, r *http.Request) { w.ended = append(w.ended, r.PathValue("id")) })
	mux.HandleFunc("PUT /v1/files", func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.pieces = append(w.pieces, r.URL.Query().Encode()+" "+string(body))
		io.WriteString(rw, `{"received":3,"complete":true}`)
	})
	server := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.refuse == 0 {
			mux.ServeHTTP(rw, r)
			return
		}
		rw.WriteHeader(w.refuse)
		json.MarshalWrite(rw, map[string]string{"message": w.text})
	})}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return func(cfg *service.Config) {
		cfg.Agents = func(string) *agentapi.Client { return agentapi.NewClient(agentapi.DialSocket(l.Addr().String())) }
	}
}

const (
	abc       = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	aBuilder  = "arn:aws:appstream:us-west-2:" + me + ":image-builder/hello "
	someImage = "hello"
)

func aJob(edit ...func(*service.StartImageBuilderJobInput)) *service.StartImageBuilderJobInput {
	in := &service.StartImageBuilderJobInput{ImageBuilderName: new(someImage), JobId: new("one"), Environment: map[string]string{"TOKEN": "s3cret"},
		Steps: []service.ImageBuilderJobStep{{Name: new("install"), Command: new("true"), TimeoutInSeconds: new(int32(5))}, {Name: new("try"), Application: new("app")}}}
	for _, fn := range edit {
		fn(in)
	}
	return in
}

func aFile(edit ...func(*service.PutImageBuilderFileInput)) *service.PutImageBuilderFileInput {
	in := &service.PutImageBuilderFileInput{ImageBuilderName: new(someImage), Path: new("/opt/x"), Mode: new("0755"), SizeInBytes: new(int64(3)), Sha256: new(abc), Data: []byte("abc")}
	for _, fn := range edit {
		fn(in)
	}
	return in
}

// What a client asks for reaches the agent as it is; what the agent says reaches the client.
func TestJobsOfImageBuilders(t *testing.T) {
	var w worker
	f := newFixture(t, withWorker(t, &w))
	f.running(someImage)
	out, err := f.StartImageBuilderJob(as(me), aJob())
	f.must(err)
	want := agentapi.Job{Steps: []agentapi.JobStep{{Name: "install", Command: "true", Seconds: 5}, {Name: "try", Launch: "app"}}, Environment: map[string]string{"TOKEN": "s3cret"}}
	if diff := cmp.Diff(want, w.jobs["one"]); diff != "" || *out.JobId != "one" {
		t.Errorf("the job %s (-want +got):\n%s", *out.JobId, diff)
	}
	out, err = f.StartImageBuilderJob(as(me), aJob(func(in *service.StartImageBuilderJobInput) { in.JobId = nil }))
	f.must(err)
	if id := *out.JobId; !strings.HasPrefix(id, "job-") || len(w.jobs[id].Steps) != 2 {
		t.Errorf("a job without an ID is %q", id)
	}

	began := time.Date(2026, 11, 21, 1, 2, 3, 0, time.UTC)
	w.status = agentapi.JobStatus{State: agentapi.JobRunning, Step: 1, StartedAt: began, Output: "50 %\x1b[1m\r\nbell\a"}
	describe := func() service.ImageBuilderJob {
		t.Helper()
		out, err := f.DescribeImageBuilderJob(as(me), &service.DescribeImageBuilderJobInput{ImageBuilderName: new(someImage), JobId: new("one")})
		f.must(err)
		return *out.Job
	}
	wantJob := service.ImageBuilderJob{JobId: new("one"), State: new("RUNNING"), StepIndex: new(int32(1)), Output: new("50 % [1m \nbell "), StartTime: &began}
	if diff := cmp.Diff(wantJob, describe()); diff != "" {
		t.Errorf("a job that runs (-want +got):\n%s", diff)
	}
	w.status = agentapi.JobStatus{State: agentapi.JobFailed, Problem: "try: no window", EndedAt: began}
	wantJob = service.ImageBuilderJob{JobId: new("one"), State: new("FAILED"), StepIndex: new(int32(0)), Problem: new("try: no window"), EndTime: &began}
	if diff := cmp.Diff(wantJob, describe()); diff != "" {
		t.Errorf("a job that failed (-want +got):\n%s", diff)
	}
	w.status = agentapi.JobStatus{State: agentapi.JobSucceeded}
	if got := describe(); *got.State != "SUCCEEDED" || got.Problem != nil {
		t.Errorf("a job that succeeded: %+v", got)
	}
	_, err = f.DescribeImageBuilderJob(as(me), &service.DescribeImageBuilderJobInput{ImageBuilderName: new(someImage), JobId: new("two")})
	refused(t, err, appstream.ResourceNotFound, "has no job two")

	_, err = f.StopImageBuilderJob(as(me), &service.StopImageBuilderJobInput{ImageBuilderName: new(someImage), JobId: new("one")})
	f.must(err)
	if diff := cmp.Diff([]string{"one"}, w.ended); diff != "" {
		t.Errorf("jobs that were ended (-want +got):\n%s", diff)
	}
	put, err := f.PutImageBuilderFile(as(me), aFile())
	f.must(err)
	if diff := cmp.Diff([]string{"mode=755&offset=0&path=%2Fopt%2Fx&sha256=" + abc + "&size=3 abc"}, w.pieces); diff != "" || *put.ReceivedBytes != 3 || !*put.Complete {
		t.Errorf("%+v; pieces of files (-want +got):\n%s", put, diff)
	}
	_, err = f.PutImageBuilderFile(as(me), aFile(func(in *service.PutImageBuilderFileInput) { in.Offset, in.Data = new(int64(2)), []byte("c") }))
	f.must(err)

	var ours []string
	for _, a := range slices.Backward(f.audits()) {
		if strings.HasPrefix(a.Operation, "oriel:") {
			ours = append(ours, a.Operation+" "+a.Resource+" "+a.Result)
		}
	}
	wantAudits := []string{"oriel:StartImageBuilderJob " + aBuilder, "oriel:StartImageBuilderJob " + aBuilder, "oriel:StopImageBuilderJob " + aBuilder, "oriel:PutImageBuilderFile " + aBuilder}
	if diff := cmp.Diff(wantAudits, ours); diff != "" {
		t.Errorf("the audit log (-want +got):\n%s", diff)
	}

	// The events tell how far jobs came, and nothing of what they did. The end of a job that another has replaced is nobody's news.
	var steps []string
	f.must(f.store.View(t.Context(), func(tx store.Tx) error {
		events, err := tx.Events(store.LogQuery{Name: someImage, Forward: true})
		for _, e := range events {
			if e.From == "" && e.To == "" {
				steps = append(steps, strings.ReplaceAll(e.Why, *out.JobId, "two"))
			}
		}
		return err
	}))
	wantSteps := []string{"begun: job one of 2 steps", "begun: step 1 of 2 of job one", "begun: job two of 2 steps", "begun: step 1 of 2 of job two"}
	if diff := cmp.Diff(wantSteps, steps); diff != "" {
		t.Errorf("the events (-want +got):\n%s", diff)
	}

	// Software waits for a client's job, which can be ended then, and nothing else can be done.
	f.setState(someImage, appstream.BuilderPendingSyncingApps, appstream.BuilderSyncingApps)
	_, err = f.StopImageBuilderJob(as(me), &service.StopImageBuilderJobInput{ImageBuilderName: new(someImage), JobId: new("two")})
	f.must(err)
	if !slices.Contains(w.ended, "two") {
		t.Errorf("the job that software waits for was not ended: %v", w.ended)
	}
	_, err = f.PutImageBuilderFile(as(me), aFile())
	refused(t, err, appstream.OperationNotPermitted, "is SYNCING_APPS")
}

// Each reason to refuse what is asked of an image builder.
func TestRefusedJobs(t *testing.T) {
	var w worker
	f := newFixture(t, withWorker(t, &w))
	f.running(someImage)
	start := func(edit func(*service.StartImageBuilderJobInput)) error {
		_, err := f.StartImageBuilderJob(as(me), aJob(edit))
		return err
	}
	put := func(edit func(*service.PutImageBuilderFileInput)) error {
		_, err := f.PutImageBuilderFile(as(me), aFile(edit))
		return err
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{start(func(in *service.StartImageBuilderJobInput) { in.Steps = nil }), "1 to 200 steps"},
		{start(func(in *service.StartImageBuilderJobInput) { in.Steps[0].Application = new("app") }), "step 1 must have a command or the name of an application, and not both"},
		{start(func(in *service.StartImageBuilderJobInput) { in.Environment = map[string]string{"A-B": ""} }), "is not the name of a variable"},
		{start(func(in *service.StartImageBuilderJobInput) { in.Environment = map[string]string{"A": "\x00"} }), "the value of the variable A is not text"},
		{put(func(in *service.PutImageBuilderFileInput) { in.Path = new("/a/../b") }), "is not the absolute path of a file"},
		{put(func(in *service.PutImageBuilderFileInput) { in.Path = new("a") }), "is not the absolute path of a file"},
		{put(func(in *service.PutImageBuilderFileInput) { in.Mode = new("9") }), "invalid syntax"},
		{put(func(in *service.PutImageBuilderFileInput) { in.Sha256 = new("abc") }), "64 lower-case hexadecimal digits"},
		{put(func(in *service.PutImageBuilderFileInput) { in.SizeInBytes = new(int64(2)) }), "Data has 3 bytes from Offset 0 on, beyond SizeInBytes 2"},
		{put(func(in *service.PutImageBuilderFileInput) { in.Offset = new(int64(-1)) }), "Offset -1"},
	} {
		refused(t, c.err, appstream.InvalidParameterValue, c.want)
	}
	if len(w.jobs)+len(w.pieces) > 0 {
		t.Errorf("the agent was asked: %v, %v", w.jobs, w.pieces)
	}
	none := func(*service.StartImageBuilderJobInput) {}
	for _, c := range []struct {
		status int
		text   string
		kind   appstream.Kind
		want   string
	}{
		{http.StatusConflict, "another job runs", appstream.ResourceInUse, "is at another job"},
		{http.StatusNotFound, "404 page not found", appstream.OperationNotPermitted, "too old for this"},
		{http.StatusInsufficientStorage, "the disk is full", appstream.OperationNotPermitted, "refuses it: the disk is full."},
		{http.StatusUnprocessableEntity, "a\x1bb", appstream.OperationNotPermitted, `refuses it: a\x1bb.`},
		{http.StatusInternalServerError, "", appstream.Unavailable, "does not answer"},
	} {
		w.refuse, w.text = c.status, c.text
		refused(t, start(none), c.kind, c.want)
	}
	f.setState(someImage, "STOPPING")
	refused(t, start(none), appstream.OperationNotPermitted, "hello is STOPPING")
	refused(t, put(func(*service.PutImageBuilderFileInput) {}), appstream.OperationNotPermitted, "hello is STOPPING")
	_, err := f.DescribeImageBuilderJob(as(other), &service.DescribeImageBuilderJobInput{ImageBuilderName: new(someImage), JobId: new("one")})
	refused(t, err, appstream.ResourceNotFound, "hello")
}

// Where machines are simulated, jobs are done at once and files arrive.
func TestSimulatedJobs(t *testing.T) {
	f := newFixture(t)
	f.running(someImage)
	_, err := f.StartImageBuilderJob(as(me), aJob())
	f.must(err)
	out, err := f.DescribeImageBuilderJob(as(me), &service.DescribeImageBuilderJobInput{ImageBuilderName: new(someImage), JobId: new("one")})
	f.must(err)
	put, err := f.PutImageBuilderFile(as(me), aFile())
	f.must(err)
	if *out.Job.State != "SUCCEEDED" || !*put.Complete || *put.ReceivedBytes != 3 {
		t.Errorf("%s; %v, %d bytes", *out.Job.State, *put.Complete, *put.ReceivedBytes)
	}
	put, err = f.PutImageBuilderFile(as(me), aFile(func(in *service.PutImageBuilderFileInput) { in.Data = in.Data[:2] }))
	f.must(err)
	if *put.Complete || *put.ReceivedBytes != 2 {
		t.Errorf("a piece of a file: %v, %d bytes", *put.Complete, *put.ReceivedBytes)
	}
}

// What comes of a job is an event, once, however often it is asked for; so is its end by StopImageBuilderJob.
func TestEventsOfJobs(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func(f *fixture, w *worker)
		want string
	}{
		{"success", func(f *fixture, w *worker) { w.status = agentapi.JobStatus{State: agentapi.JobSucceeded, Step: 1} }, "begun: step 2 of 2 of job one, done: job one"},
		{"failure", func(f *fixture, w *worker) {
			w.status = agentapi.JobStatus{State: agentapi.JobFailed, Step: 1, Problem: "s3cret", Output: "s3cret"}
		}, "begun: step 2 of 2 of job one, failed: step 2 of 2 of job one"},
		{"stop", func(f *fixture, w *worker) {
			w.status = agentapi.JobStatus{State: agentapi.JobFailed, Problem: "ended"}
			_, err := f.StopImageBuilderJob(as(me), &service.StopImageBuilderJobInput{ImageBuilderName: new(someImage), JobId: new("one")})
			f.must(err)
		}, "failed: job one was ended by StopImageBuilderJob"},
		{"repeated begin", func(f *fixture, w *worker) {
			_, err := f.StartImageBuilderJob(as(me), aJob())
			f.must(err)
			w.status = agentapi.JobStatus{State: agentapi.JobRunning}
		}, ""},
	} {
		var w worker
		f := newFixture(t, withWorker(t, &w))
		f.running(someImage)
		_, err := f.StartImageBuilderJob(as(me), aJob())
		f.must(err)
		test.do(f, &w)
		for range 2 {
			_, err := f.DescribeImageBuilderJob(as(me), &service.DescribeImageBuilderJobInput{ImageBuilderName: new(someImage), JobId: new("one")})
			f.must(err)
		}
		var steps []string
		f.must(f.store.View(t.Context(), func(tx store.Tx) error {
			events, err := tx.Events(store.LogQuery{Name: someImage, Forward: true})
			for _, e := range events[1:] { // the first is the builder's creation
				steps = append(steps, e.Why)
			}
			return err
		}))
		want := "begun: job one of 2 steps, begun: step 1 of 2 of job one"
		if test.want != "" {
			want += ", " + test.want
		}
		if got := strings.Join(steps, ", "); got != want {
			t.Errorf("%s: %s; want %s", test.name, got, want)
		}
	}
}
