// Package stage sets up what end-to-end tests and benchmarks act on: a server as users run it, the container engine under
// it, and a browser in front of it. Everything is a process of its own and is reached the way users reach it.
package stage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Root is the directory of this module, found from the working directory upwards.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return d, nil
		}
		if d == filepath.Dir(d) {
			return "", fmt.Errorf("%s is not in a Go module", dir)
		}
	}
}

// Build compiles oriel and oriel-agent into dir, as make build does.
func Build(ctx context.Context, dir string) error {
	root, err := Root()
	if err != nil {
		return err
	}
	c := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", dir+"/", "./cmd/oriel", "./cmd/oriel-agent")
	c.Dir = root
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
}

// Clean is the environment without what configures Oriel, AWS's programs and container engines: tests say all of that
// themselves.
func Clean() (env []string) {
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "ORIEL_") && !strings.HasPrefix(e, "AWS_") && !strings.HasPrefix(e, "DOCKER_") {
			env = append(env, e)
		}
	}
	return env
}

// Until calls ok until it gives nil, a few times a second at most, and gives its last error when ctx ends.
func Until(ctx context.Context, ok func() error) error {
	const first, most = 5 * time.Millisecond, 200 * time.Millisecond
	for pause := first; ; pause = min(2*pause, most) {
		err := ok()
		if err == nil {
			return nil
		}
		if final, is := errors.AsType[finalError](err); is {
			return final.error
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return fmt.Errorf("%w; waited in vain", err)
		}
	}
}

type finalError struct{ error }

// Final marks an error as one that waiting does not cure: Until gives up.
func Final(err error) error { return finalError{err} }
