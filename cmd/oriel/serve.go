package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/oriel-project/oriel/internal/server"
)

type serveCommand struct {
	place
	machines
	serving
}

// Run runs the server until a signal. SIGHUP has it read its certificate again.
func (c *serveCommand) Run(ctx context.Context) error {
	cfg, err := load(c.place, c.machines, c.serving)
	if err != nil {
		return err
	}
	// The heap is small and requests are many: collecting it less often costs some ten MB and gives a fifth more requests.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	s, err := server.Open(ctx, cfg)
	if err != nil {
		return err
	}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	served, done := context.WithCancel(ctx)
	defer done()
	go func() {
		for {
			select {
			case <-hangup:
				s.Reload()
			case <-served.Done():
				return
			}
		}
	}()
	return errors.Join(s.Run(ctx), s.Close())
}
