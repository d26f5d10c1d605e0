package main

import (
	"context"
	"errors"
	"testing"

	"github.com/oriel-project/oriel/internal/imagebuild"
)

// What is left of a build that was interrupted is said, whatever else went wrong.
func TestInterrupted(t *testing.T) {
	kept := &imagebuild.StepError{Kept: "build-x"}
	for _, c := range []struct {
		err  error
		want string
	}{
		{context.Canceled, "interrupted"},
		{errors.Join(context.Canceled), "interrupted"},
		{errors.Join(context.Canceled, errors.New("the image builder build-x is left")), "interrupted; the image builder build-x is left"},
		{errors.Join(kept), "interrupted; the image builder build-x is kept"},
	} {
		if got := interrupted(c.err).Error(); got != c.want {
			t.Errorf("%v: %s, want %s", c.err, got, c.want)
		}
	}
}
