package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/oriel-project/oriel/internal/server"
)

type doctorCommand struct {
	place
	machines
}

// Run prints what was found; the exit code is 1 when something is missing.
func (c *doctorCommand) Run(ctx context.Context) error {
	cfg, err := load(c.place, c.machines, serving{})
	if err != nil {
		return err
	}
	findings := server.Doctor(ctx, quiet(cfg))
	width, missing := 0, 0
	for _, f := range findings {
		width = max(width, len(f.What))
	}
	for _, f := range findings {
		word := "ok     "
		if !f.OK {
			word = "MISSING"
			missing++
		}
		indent := "\n" + strings.Repeat(" ", len(word)+2+width+2)
		text := strings.ReplaceAll(f.Info, "\n", indent)
		if !f.OK && f.Hint != "" {
			text += indent + "→ " + strings.ReplaceAll(f.Hint, "\n", indent+"  ")
		}
		fmt.Printf("%s  %-*s  %s\n", word, width, f.What, text)
	}
	switch missing {
	case 0:
		fmt.Println("\nOriel can run here.")
		return nil
	case 1:
		fmt.Fprintln(os.Stderr, "\nOne thing is missing.")
	default:
		fmt.Fprintf(os.Stderr, "\n%d things are missing.\n", missing)
	}
	return errors.New("not ready")
}
