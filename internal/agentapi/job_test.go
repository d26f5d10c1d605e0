package agentapi

import (
	"encoding/json/v2"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestJobCheck(t *testing.T) {
	step := func(change func(*JobStep)) Job {
		s := JobStep{Name: "Install", Command: "true"}
		change(&s)
		return Job{Steps: []JobStep{{Command: "true"}, s}}
	}
	for want, job := range map[string]Job{
		"":                    step(func(s *JobStep) { s.Seconds = int(MaxJobTime / time.Second) }),
		"1 to 200 steps":      {},
		"not 201":             {Steps: make([]JobStep, MaxJobSteps+1)},
		"step 2 must have":    step(func(s *JobStep) { s.Command = "" }),
		"and not both":        step(func(s *JobStep) { s.Launch = "editor" }),
		"member that is too":  step(func(s *JobStep) { s.Command = strings.Repeat("x", MaxJobCommand+1) }),
		"2 has a member that": step(func(s *JobStep) { s.Name = strings.Repeat("x", maxJobName+1) }),
		"a member that is":    step(func(s *JobStep) { s.Command, s.Launch = "", strings.Repeat("x", maxJobLaunch+1) }),
		"not UTF-8":           step(func(s *JobStep) { s.Command = "\xff" }),
		"NUL":                 step(func(s *JobStep) { s.Command = "a\x00b" }),
		"not 14401":           step(func(s *JobStep) { s.Seconds = 14401 }),
		"not -1":              step(func(s *JobStep) { s.Seconds = -1 }),
	} {
		if err := job.Check(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestJobCalls(t *testing.T) {
	var got []string
	note := func(r *http.Request) { got = append(got, r.Method+" "+r.RequestURI) }
	status := JobStatus{State: JobFailed, Step: 1, StartedAt: time.Unix(1e9, 0).UTC(), EndedAt: time.Unix(1e9+1, 0).UTC(), Output: "a\n", Problem: "Try: it ended with code 1"}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /v1/jobs/{id}", func(w http.ResponseWriter, r *http.Request) {
		note(r)
		var job Job
		if err := json.UnmarshalRead(r.Body, &job); err != nil || len(job.Steps) != 2 || job.Steps[0].Command != "true" || job.Steps[1].Launch != "editor" || job.Steps[1].Seconds != 5 {
			t.Errorf("%+v, %v", job, err)
		}
		if r.PathValue("id") == "other" {
			w.WriteHeader(http.StatusConflict)
			io.WriteString(w, `{"message":"another job runs"}`)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /v1/jobs/{id}", func(w http.ResponseWriter, r *http.Request) {
		note(r)
		if r.PathValue("id") != "a" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		json.MarshalWrite(w, status)
	})
	mux.HandleFunc("DELETE /v1/jobs/{id}", func(w http.ResponseWriter, r *http.Request) {
		note(r)
		switch r.PathValue("id") {
		case "a":
			w.WriteHeader(http.StatusNoContent)
		case "stuck":
			w.WriteHeader(http.StatusInternalServerError)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	})
	c := serve(t, mux)
	ctx := t.Context()
	job := Job{Steps: []JobStep{{Name: "One", Command: "true"}, {Name: "Two", Launch: "editor", Seconds: 5}}}
	if err := c.BeginJob(ctx, "a", job); err != nil {
		t.Error(err)
	}
	var refused *CallError
	if err := c.BeginJob(ctx, "other", job); !errors.As(err, &refused) || refused.Status != http.StatusConflict || err.Error() != "agent: another job runs" {
		t.Error(err)
	}
	s, err := c.Job(ctx, "a", 2*time.Hour)
	if diff := cmp.Diff(status, s); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if _, err := c.Job(ctx, "a/b", 1500*time.Millisecond); err != ErrNoJob {
		t.Error(err)
	}
	for id, want := range map[string]int{"a": 0, "none": 0, "stuck": http.StatusInternalServerError} {
		if err := c.EndJob(ctx, id); (err == nil) != (want == 0) || err != nil && (!errors.As(err, &refused) || refused.Status != want) {
			t.Errorf("%s: %v", id, err)
		}
	}
	if diff := cmp.Diff([]string{"PUT /v1/jobs/a", "PUT /v1/jobs/other", "GET /v1/jobs/a?wait=30.000", "GET /v1/jobs/a%2Fb?wait=1.500"}, got[:4]); diff != "" {
		t.Error(diff)
	}
}

// What an agent says of a job is bounded and made text before it is kept: it comes from inside an instance.
func TestTail(t *testing.T) {
	if got := tail("a\tb\r\n\x1b[1mc\xff\n", 100); got != "a\tb \n [1mc\n" {
		t.Errorf("%q", got)
	}
	if got := tail(strings.Repeat("€", MaxJobOutput), MaxJobOutput); len(got) > MaxJobOutput || !utf8.ValidString(got) || !strings.HasSuffix(got, "€€") {
		t.Errorf("%d bytes", len(got))
	}
}
