// Command bench measures Oriel beside what each part of it is compared to, and prints one table in Markdown. Nothing passes or
// fails: the figures are for people. What is compared is measured by turns, so that a busy moment meets both, and the table has medians.
//
//	go run ./e2e/bench -bin bin -engine unix:///run/docker.sock [-only create,image] [-quick]
//
// Rows that need machines are left out without -engine (default ORIEL_TEST_ENGINE), those that need Chromium without
// ORIEL_TEST_BROWSER. The engine must have the base image.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/oriel-project/oriel/e2e/stage"
)

// A row is one line of the table.
type row struct {
	what           string
	oriel, beside  string
	ratio          float64 // Oriel's figure by the other's; 0 when there is no other
	goal, comparee string
}

// bench is one run.
type bench struct {
	bin, engine, dir string
	quick            bool
	rows             []row
}

// A part measures one thing and adds its rows.
type part struct {
	name     string
	machines bool // needs an engine
	browser  bool
	measure  func(*bench, context.Context) error
}

var parts = []part{
	{"describe", false, false, (*bench).describe},
	{"pages", false, false, (*bench).pages},
	{"operations", false, false, (*bench).operations},
	{"thousand", false, false, (*bench).thousand},
	{"ready", true, false, (*bench).ready},
	{"create", true, false, (*bench).create},
	{"image", true, false, (*bench).image},
	{"archive", true, false, (*bench).archive},
	{"frame", true, true, (*bench).frame},
	{"memory", true, false, (*bench).memory},
	{"claim", false, false, (*bench).claim},
	{"idle", false, false, (*bench).idle},
	{"session", true, true, (*bench).session},
	{"replace", true, false, (*bench).replace},
}

func main() {
	if len(os.Args) > 1 {
		var err error
		switch args := os.Args[1:]; {
		case args[0] == bareCommand:
			err = serveBare()
		case args[0] == displaysCommand && len(args) == 2:
			err = serveDisplays(args[1])
		case args[0] == gatewayCommand && len(args) == 3:
			err = serveGateway(args[1], args[2])
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
	}
	b := &bench{}
	flag.StringVar(&b.bin, "bin", os.Getenv("ORIEL_TEST_BIN"), "`directory` of oriel and oriel-agent; they are built when it is not set")
	flag.StringVar(&b.engine, "engine", os.Getenv("ORIEL_TEST_ENGINE"), "`address` of the container engine")
	flag.BoolVar(&b.quick, "quick", false, "fewer turns: to see that it works")
	only := flag.String("only", "", "`names` of the parts to measure, with commas between them")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := b.run(ctx, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (b *bench) run(ctx context.Context, only string) (err error) {
	if b.dir, err = os.MkdirTemp("", "oriel-bench"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if b.bin == "" {
		b.bin = filepath.Join(b.dir, "bin")
		if err := stage.Build(ctx, b.bin); err != nil {
			return err
		}
	}
	if b.bin, err = filepath.Abs(b.bin); err != nil {
		return err
	}
	about, err := machine(ctx, b.engine)
	if err != nil {
		return err
	}
	var failed []error
	for _, p := range parts {
		switch {
		case only != "" && !slices.Contains(strings.Split(only, ","), p.name):
		case p.machines && b.engine == "":
			fmt.Fprintf(os.Stderr, "%s is left out: there is no engine\n", p.name)
		case p.browser && os.Getenv("ORIEL_TEST_BROWSER") == "":
			fmt.Fprintf(os.Stderr, "%s is left out: ORIEL_TEST_BROWSER is not set\n", p.name)
		default:
			fmt.Fprintf(os.Stderr, "%s …\n", p.name)
			began := time.Now()
			if err := p.measure(b, ctx); err != nil {
				failed = append(failed, fmt.Errorf("%s: %w", p.name, err))
			}
			fmt.Fprintf(os.Stderr, "%s: %s\n", p.name, time.Since(began).Round(time.Second))
		}
	}
	fmt.Printf("%s\n\n%s", about, table(b.rows))
	return errors.Join(failed...)
}

func table(rows []row) string {
	var s strings.Builder
	s.WriteString("| what | Oriel | beside it | ratio | goal |\n|---|---:|---:|---:|---:|\n")
	for _, r := range rows {
		ratio, beside := "", r.beside
		if r.ratio > 0 {
			ratio = fmt.Sprintf("%.2f", r.ratio)
		}
		if r.comparee != "" {
			beside += " " + r.comparee
		}
		fmt.Fprintf(&s, "| %s | %s | %s | %s | %s |\n", r.what, r.oriel, beside, ratio, r.goal)
	}
	return s.String()
}

func (b *bench) add(r row) {
	b.rows = append(b.rows, r)
	fmt.Fprintf(os.Stderr, "  %s: %s; %s %s; %.2f\n", r.what, r.oriel, r.beside, r.comparee, r.ratio)
}

// turns is how often something is measured: n times, or a few in a quick run.
func (b *bench) turns(n int) int {
	if b.quick {
		return min(n, 3)
	}
	return n
}

// median gives the middle of the values; of an even number the mean of the two in the middle.
func median[T ~int64 | ~float64](values []T) T {
	v := slices.Sorted(slices.Values(values))
	if len(v)%2 == 0 {
		return (v[len(v)/2-1] + v[len(v)/2]) / 2
	}
	return v[len(v)/2]
}

// spread shows durations: the median, and the smallest and the largest.
func spread(values []time.Duration) string {
	return fmt.Sprintf("%s (%s–%s)", short(median(values)), short(slices.Min(values)), short(slices.Max(values)))
}

func short(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/1e6)
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", float64(d)/1e6)
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

// server starts a server and gives what ends it.
func (b *bench) server(ctx context.Context, name string, c stage.Config) (*stage.Server, func(), error) {
	c.Bin, c.Data = b.bin, filepath.Join(b.dir, name)
	s, err := stage.Start(ctx, c, true)
	if err != nil {
		return nil, nil, err
	}
	return s, func() { end(ctx, s) }, nil
}

// end ends a server and removes what it has made in the engine.
func end(ctx context.Context, s *stage.Server) {
	if err := s.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stop the server:", err)
	}
	if s.Engine == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if out, err := s.Oriel(ctx, true, "remove", "--yes").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "remove machines: %v\n%s", err, out)
	}
}
