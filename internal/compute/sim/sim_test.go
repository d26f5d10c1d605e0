package sim_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/compute/computetest"
	"github.com/oriel-project/oriel/internal/compute/sim"
)

const base = "base"

func config(dir string, delay time.Duration) sim.Config {
	return sim.Config{Dir: dir, Delay: delay, Images: []compute.PublicImage{{Name: base}}, Agents: []string{"11-21-2026", "12-31-2025"}}
}

func open(t *testing.T, c sim.Config) *sim.Provider {
	t.Helper()
	p, err := sim.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func spec(id string) appstream.MachineSpec {
	return appstream.MachineSpec{ID: id, ImageRef: base, AgentVersion: "11-21-2026", Subnet: "subnet-any"}
}

func TestConformance(t *testing.T) {
	for _, delay := range []time.Duration{0, 3 * time.Millisecond} {
		t.Run(delay.String(), func(t *testing.T) {
			computetest.Run(t, func(t *testing.T) computetest.Subject {
				dir, n := t.TempDir(), 0
				return computetest.Subject{
					Provider:  open(t, config(dir, delay)),
					ImageRef:  base,
					Ref:       func() string { n++; return fmt.Sprint("oriel/image:", n) },
					AnySubnet: true,
					Reopen:    func() compute.Provider { return open(t, config(dir, delay)) },
					Count: func(_ context.Context, id string) (int, error) {
						files, err := filepath.Glob(filepath.Join(dir, "machines", id+"*"))
						return len(files), err
					},
					Steps: 1000,
				}
			})
		})
	}
}

// TestPhases follows a machine on the clock: each change takes the delay, says so, and survives a restart on the way.
func TestPhases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const delay = 2 * time.Second
		ctx, dir := t.Context(), t.TempDir()
		p := open(t, config(dir, delay))
		type look struct {
			Phase appstream.Phase
			Next  time.Duration // until NextChange; 0 when there is none
		}
		want := func(id string, want look) {
			t.Helper()
			m, err := p.Observe(ctx, id)
			if err != nil {
				t.Fatal(err)
			}
			got := look{Phase: m.Phase}
			if !m.NextChange.IsZero() {
				got.Next = time.Until(m.NextChange)
			}
			if got != want {
				t.Fatalf("machine %s: %+v, want %+v", id, got, want)
			}
		}
		ok := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		ok(p.EnsureRunning(ctx, spec("m")))
		want("m", look{appstream.MachineRunning, delay})
		time.Sleep(delay - time.Nanosecond)
		p = open(t, config(dir, delay))
		want("m", look{appstream.MachineRunning, time.Nanosecond})
		time.Sleep(time.Nanosecond)
		want("m", look{appstream.MachineRunning, 0})

		ok(p.EnsureStopped(ctx, "m"))
		time.Sleep(delay / 2)
		ok(p.EnsureStopped(ctx, "m")) // does not begin again
		want("m", look{appstream.MachineRunning, delay / 2})
		if err := p.EnsureCaptured(ctx, "m", "ref"); err == nil {
			t.Error("a machine that is being stopped was captured")
		}
		time.Sleep(delay / 2)
		want("m", look{appstream.MachineStopped, 0})

		ok(p.EnsureCaptured(ctx, "m", "ref"))
		want("m", look{appstream.MachineStopped, delay})
		for _, exists := range []bool{false, true} {
			if has, err := p.HasImage(ctx, "ref"); err != nil || has != exists {
				t.Errorf("HasImage = %v, %v, want %v", has, err, exists)
			}
			time.Sleep(delay)
		}

		ok(p.EnsureCaptured(ctx, "m", "lost"))
		time.Sleep(delay / 2)
		ok(p.EnsureGone(ctx, "m"))
		want("m", look{appstream.MachineStopped, delay})
		time.Sleep(delay)
		want("m", look{appstream.MachineAbsent, 0})
		if refs, err := p.ListImages(ctx); err != nil || !cmp.Equal(refs, []string{"ref"}) {
			t.Errorf("ListImages = %v, %v: the capture of a machine that is gone does not succeed", refs, err)
		}
		if left, _ := os.ReadDir(filepath.Join(dir, "machines")); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}

func TestInject(t *testing.T) {
	ctx := t.Context()
	crash := errors.New("crash")
	for _, when := range []sim.When{sim.Before, sim.After} {
		var calls []string
		c := config(t.TempDir(), 0)
		c.Inject = func(method, id string, w sim.When) error {
			calls = append(calls, method+" "+id+" "+string(w))
			if method == "EnsureRunning" && w == when {
				return crash
			}
			return nil
		}
		p := open(t, c)
		if err := p.EnsureRunning(ctx, spec("m")); !errors.Is(err, crash) {
			t.Fatalf("%s: %v", when, err)
		}
		m, err := p.Observe(ctx, "m")
		if made := m.Phase != appstream.MachineAbsent; err != nil || made != (when == sim.After) {
			t.Errorf("crash %s the work: made %v, %v", when, made, err)
		}
		want := []string{"EnsureRunning m before", "EnsureRunning m after", "Observe m before", "Observe m after"}
		if when == sim.Before {
			want = append(want[:1], want[2:]...)
		}
		if diff := cmp.Diff(want, calls); diff != "" {
			t.Error(diff)
		}
	}
}

func TestNew(t *testing.T) {
	dir := t.TempDir()
	p := open(t, config(dir, time.Second))
	if got, want := p.AgentVersions(), []string{"12-31-2025", "11-21-2026"}; !cmp.Equal(got, want) {
		t.Errorf("agent versions %v, want %v", got, want)
	}
	if _, err := sim.New(sim.Config{Dir: dir, Delay: -1}); err == nil {
		t.Error("a negative delay was accepted")
	}
	half := filepath.Join(dir, "machines", "m.json.new") // what a crash in the middle of a write leaves
	if err := os.WriteFile(half, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, config(dir, 0))
	if _, err := os.Stat(half); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half a file is still there: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "machines", "m.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sim.New(config(dir, 0)); err == nil {
		t.Error("a broken file was accepted")
	}
	blocked := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sim.New(config(blocked, 0)); err == nil {
		t.Error("a directory that cannot be made was accepted")
	}
}

// TestAddressesDiffer: also machines whose IDs stand for the same address get their own.
func TestAddressesDiffer(t *testing.T) {
	p := open(t, config(t.TempDir(), 0))
	seen := map[string]bool{}
	for n := range 2000 { // 2000 of 65531: some thirty pairs stand for the same one
		id := fmt.Sprint("m", n)
		if err := p.EnsureRunning(t.Context(), spec(id)); err != nil {
			t.Fatal(err)
		}
		m, err := p.Observe(t.Context(), id)
		if err != nil || seen[m.IPv4] || seen[m.ENI] || seen[m.IPv6[0]] {
			t.Fatalf("%+v, %v: seen before", m, err)
		}
		seen[m.IPv4], seen[m.ENI], seen[m.IPv6[0]] = true, true, true
	}
}

func BenchmarkThousandMachines(b *testing.B) {
	for b.Loop() {
		p, err := sim.New(config(b.TempDir(), 0))
		if err != nil {
			b.Fatal(err)
		}
		for n := range 1000 {
			if err := p.EnsureRunning(b.Context(), spec(fmt.Sprint("m", n))); err != nil {
				b.Fatal(err)
			}
		}
	}
}
