package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/oriel-project/oriel/internal/telemetry"
)

// status tells a person how far something is: on a terminal in one line that changes, elsewhere in a line for each step.
type status struct {
	w        io.Writer
	terminal bool
	start    time.Time
	step     string // the last that was told
	drawn    time.Time
	width    int // of the line on the terminal
}

func newStatus(w io.Writer) *status {
	return &status{w: w, terminal: telemetry.IsTerminal(w), start: time.Now()}
}

// redraw is how often a line changes at most; more cannot be read.
const redraw = 100 * time.Millisecond

// tell shows a step; detail is shown on a terminal only, percent too unless it is negative.
func (s *status) tell(step, detail string, percent float64) {
	if !s.terminal {
		if step != s.step {
			fmt.Fprintf(s.w, "%s  %s\n", s.elapsed(), step)
		}
		s.step = step
		return
	}
	if step == s.step && time.Since(s.drawn) < redraw {
		return
	}
	s.step, s.drawn = step, time.Now()
	line := s.elapsed() + "  "
	if percent >= 0 {
		const cells = 20
		full := min(cells, int(percent/100*cells))
		line += strings.Repeat("█", full) + strings.Repeat("░", cells-full) + fmt.Sprintf(" %3.0f %%  ", percent)
	}
	line += step
	if detail != "" {
		line += "  " + detail
	}
	s.draw(line)
}

// done ends the line with what came of it.
func (s *status) done(format string, args ...any) {
	text := s.elapsed() + "  " + fmt.Sprintf(format, args...)
	if s.terminal {
		s.draw(text)
	} else {
		fmt.Fprint(s.w, text)
	}
	fmt.Fprintln(s.w)
}

// clear takes the line away, for an error message to follow.
func (s *status) clear() {
	if s.terminal && s.width > 0 {
		fmt.Fprintf(s.w, "\r%s\r", strings.Repeat(" ", s.width))
		s.width = 0
	}
}

// draw replaces the line. One that is wider than most terminals would not go away again.
func (s *status) draw(line string) {
	runes := []rune(line)
	runes = runes[:min(len(runes), 79)]
	fmt.Fprintf(s.w, "\r%s%s", string(runes), strings.Repeat(" ", max(0, s.width-len(runes))))
	s.width = len(runes)
}

func (s *status) elapsed() string {
	t := time.Since(s.start).Round(time.Second)
	return fmt.Sprintf("%2d:%02d", t/time.Minute, t%time.Minute/time.Second)
}

// quote makes a word that a shell reads as it is.
func quote(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/_.,:=@%+-", r)
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
