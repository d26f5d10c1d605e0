package reconcile_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/oriel-project/oriel/internal/appstream"
)

// labour is the work that the agents of simulated machines do. A job takes a while, whatever it is; a machine that goes down forgets its jobs.
type labour struct {
	up    func(machine string) bool
	takes time.Duration // each job

	mu    sync.Mutex
	begun map[string]map[string]time.Time // machine → job → since when
	steps map[string][]appstream.JobStep  // job → what it is
	fails map[string]string               // the name of a step → why it fails
	count map[string]int                  // job → how often it was begun
	files map[string]map[string]string    // machine → path → content
	tries map[string]int                  // machine → how many jobs were begun on its disk
	done  map[string]bool                 // machine → whether one succeeded on it
}

func newLabour(up func(string) bool) *labour {
	return &labour{up: up, takes: 500 * time.Millisecond, begun: map[string]map[string]time.Time{}, steps: map[string][]appstream.JobStep{}, fails: map[string]string{}, count: map[string]int{}, files: map[string]map[string]string{}, tries: map[string]int{}, done: map[string]bool{}}
}

// renew is for a machine that has gone: the next of its ID has another disk.
func (l *labour) renew(machine string) {
	l.forget(machine)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.files, machine)
	delete(l.tries, machine)
	delete(l.done, machine)
}

// forget has a machine that has gone down forget its jobs.
func (l *labour) forget(machine string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.begun, machine)
}

func (l *labour) BeginJob(_ context.Context, machine string, job appstream.Job) error {
	if !l.up(machine) {
		l.forget(machine)
		return errors.New("no answer")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.begun[machine] == nil {
		l.begun[machine] = map[string]time.Time{}
	}
	if _, ok := l.begun[machine][job.ID]; ok {
		return nil
	}
	for other, since := range l.begun[machine] {
		if time.Since(since) < l.takes {
			return errors.New("another job runs: " + other)
		}
	}
	l.begun[machine][job.ID] = time.Now()
	l.steps[job.ID] = job.Steps
	l.count[job.ID]++
	l.tries[machine]++
	return nil
}

func (l *labour) Job(ctx context.Context, machine, job string, wait time.Duration) appstream.JobStatus {
	if !l.up(machine) {
		l.forget(machine)
		return appstream.JobStatus{}
	}
	l.mu.Lock()
	since, known := l.begun[machine][job]
	l.mu.Unlock()
	if !known {
		return appstream.JobStatus{Answers: true}
	}
	select {
	case <-time.After(min(wait, max(0, time.Until(since.Add(l.takes))))):
	case <-ctx.Done():
	}
	if !l.up(machine) { // it went down meanwhile
		l.forget(machine)
		return appstream.JobStatus{}
	}
	s := appstream.JobStatus{Answers: true, Known: true, Ended: !time.Now().Before(since.Add(l.takes))}
	if !s.Ended {
		return s
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for n, step := range l.steps[job] {
		s.Step = n
		if why := l.fails[step.Name]; why != "" {
			s.Problem, s.Output = why, "the last line of "+step.Name
			break
		}
	}
	l.done[machine] = s.Problem == ""
	return s
}

func (l *labour) PutFile(ctx context.Context, machine, path string, _ uint32, size int64, open func(context.Context) (io.ReadCloser, error)) error {
	if !l.up(machine) {
		return errors.New("no answer")
	}
	r, err := open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if int64(len(content)) != size {
		return errors.New("another size")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.files[machine] == nil {
		l.files[machine] = map[string]string{}
	}
	l.files[machine][path] = string(content)
	return nil
}
