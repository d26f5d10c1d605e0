package server

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/gateway"
)

// Rates are those between one scrape and the next, and a new stream of the same session begins at its own beginning.
func TestStreamFigures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stat := gateway.StreamStat{Session: &appstream.Session{Meta: appstream.Meta{ID: "s1"}}, Since: time.Now(), RoundTrip: 25 * time.Millisecond}
		f := &streamFigures{streams: func() []gateway.StreamStat { return []gateway.StreamStat{stat} }}
		for _, step := range []struct {
			wait                time.Duration
			frames, sent        int64
			wantFrames, wantOut float64
		}{
			{0, 0, 0, 0, 0}, // scraped in the moment that it began
			{10 * time.Second, 300, 1_250_000, 30, 1000},
			{20 * time.Second, 300, 1_250_000, 0, 0},
			{10 * time.Second, 310, 1_262_500, 1, 10},
		} {
			time.Sleep(step.wait)
			stat.Frames, stat.Sent = step.frames, step.sent
			got := f.sessions()
			if len(got) != 1 || got[0].Frames != step.wantFrames || got[0].Out != step.wantOut || got[0].RoundTrip != 25 {
				t.Errorf("after %s: %+v, want %v frames/s and %v kbit/s", step.wait, got, step.wantFrames, step.wantOut)
			}
		}
		stat.Since, stat.Frames, stat.Sent = time.Now(), 0, 0
		time.Sleep(time.Second)
		stat.Frames = 5
		if got := f.sessions(); got[0].Frames != 5 || got[0].Out != 0 || got[0].Connected != 1 {
			t.Errorf("a new stream: %+v", got)
		}
	})
}
