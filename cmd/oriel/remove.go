package main

import (
	"context"
	"errors"

	"github.com/oriel-project/oriel/internal/server"
)

type removeCommand struct {
	place
	machines
	Yes bool `help:"Really do it." required:""`
}

// Run removes what the server of the data directory has made in the container engine.
func (c *removeCommand) Run(ctx context.Context) error {
	if !c.Yes {
		return errors.New("nothing is removed without --yes")
	}
	cfg, err := load(c.place, c.machines, serving{})
	if err != nil {
		return err
	}
	return server.RemoveAll(ctx, quiet(cfg))
}
