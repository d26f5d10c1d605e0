package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/oriel-project/oriel/e2e/stage"
)

// thousand has a thousand simulated image builders made and waits until all run.
func (b *bench) thousand(ctx context.Context) error {
	const n, workers = 1000, 16
	for _, delay := range []string{"0s", "2s"} {
		s, end, err := b.server(ctx, "thousand-"+delay, stage.Config{Flags: []string{"--sim-delay=" + delay}, TOML: "[quotas]\nimage_builders = 1000\n"})
		if err != nil {
			return err
		}
		begin := time.Now()
		err = fillWith(ctx, s, n, workers)
		took := time.Since(begin)
		memory := resident(s.PID())
		end()
		if err != nil {
			return err
		}
		b.add(row{what: fmt.Sprintf("1,000 simulated image builders to RUNNING, each change takes %s, %d clients", delay, workers), oriel: short(took)})
		if delay == "0s" {
			b.add(row{what: "memory of the server then (RSS)", oriel: megabytes(memory)})
		}
	}
	return nil
}

func megabytes(n int64) string { return fmt.Sprintf("%.0f MB", float64(n)/1e6) }

// ready measures from the start of the process to the first 200 of /readyz: on an empty data directory, and again on the same.
func (b *bench) ready(ctx context.Context) error {
	var first, again []time.Duration
	var servers []*stage.Server
	// Removed at the end of all: the engine may still be making the networks that a server had asked for when it was stopped.
	defer func() {
		for _, s := range servers {
			end(ctx, s)
		}
	}()
	for n := range b.turns(10) {
		s, _, err := b.server(ctx, fmt.Sprintf("ready-%d", n), stage.Config{Engine: b.engine})
		if err != nil {
			return err
		}
		servers = append(servers, s)
		// The port of a server that has ended is free, and known before the next one starts: asking begins with the process.
		took, err := b.restart(ctx, s)
		if err != nil {
			return err
		}
		again = append(again, took)
		if err := s.Stop(); err != nil {
			return err
		}
		fresh := &stage.Server{Config: s.Config, URL: s.URL}
		fresh.Data += "-fresh"
		servers = append(servers, fresh)
		if took, err = b.readyAfter(ctx, fresh); err != nil {
			return err
		}
		first = append(first, took)
		if err := fresh.Stop(); err != nil {
			return err
		}
	}
	b.add(row{what: "start of the process to /readyz, first start", oriel: spread(first)})
	b.add(row{what: "start of the process to /readyz, any later start", oriel: spread(again)})
	return nil
}

// restart ends a server and starts it again.
func (b *bench) restart(ctx context.Context, s *stage.Server) (time.Duration, error) {
	if err := s.Stop(); err != nil {
		return 0, err
	}
	return b.readyAfter(ctx, s)
}

// readyAfter starts a server and asks without a pause.
func (b *bench) readyAfter(ctx context.Context, s *stage.Server) (time.Duration, error) {
	begin := time.Now()
	done := make(chan error, 1)
	go func() { done <- s.Again(ctx) }()
	var took time.Duration
	for took == 0 {
		if r, err := http.Get(s.URL + "/readyz"); err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				took = time.Since(begin)
			}
		}
		select {
		case err := <-done:
			if err != nil {
				return 0, err
			}
			done = nil
		case <-time.After(500 * time.Microsecond):
		}
	}
	if done != nil {
		if err := <-done; err != nil {
			return 0, err
		}
	}
	return took, nil
}

// memory measures the server's memory with nothing to do, and with ten image builders that run.
func (b *bench) memory(ctx context.Context) error {
	s, end, err := b.server(ctx, "memory", stage.Config{Engine: b.engine})
	if err != nil {
		return err
	}
	defer end()
	idle := resident(s.PID())
	const n = 10
	begin := time.Now()
	if err := fillWith(ctx, s, n, n); err != nil {
		return err
	}
	b.add(row{what: fmt.Sprintf("%d image builders at once to RUNNING", n), oriel: short(time.Since(begin))})
	b.add(row{what: "memory of the server, idle (RSS)", oriel: megabytes(idle)})
	b.add(row{what: fmt.Sprintf("memory of the server with %d image builders that run", n), oriel: megabytes(resident(s.PID()))})
	return nil
}
