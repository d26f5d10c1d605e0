package sqlite

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

// crashEnv makes the test binary the process that is to be killed.
const crashEnv = "ORIEL_TEST_CRASH_DB"

func TestMain(m *testing.M) {
	if path := os.Getenv(crashEnv); path != "" {
		if err := writeForEver(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// writeForEver commits as fast as it can from several goroutines and prints the name of each record after its commit.
func writeForEver(path string) error {
	s, err := Open(context.Background(), path)
	if err != nil {
		return err
	}
	errs := make(chan error)
	for worker := range 4 {
		go func() {
			for n := 0; ; n++ {
				b := builder(fmt.Sprintf("w%d-%d-%d", os.Getpid(), worker, n))
				b.ImageRef = strings.Repeat("x", n%5000)
				b.Due = time.Unix(int64(n), 0)
				err := s.Update(context.Background(), func(tx store.Tx) error {
					if err := tx.Insert(b); err != nil {
						return err
					}
					b.State = appstream.BuilderRunning
					if err := tx.Put(b); err != nil {
						return err
					}
					return tx.AddEvent(store.Event{ID: b.ID, Key: b.Key, To: b.State})
				})
				if err == nil {
					_, err = s.Claim(context.Background(), time.Unix(int64(n), 0), time.Unix(int64(n+1), 0), 2)
				}
				if err != nil {
					errs <- err
					return
				}
				// One write: a line is whole or not there.
				os.Stdout.WriteString(b.Name + "\n")
			}
		}()
	}
	return <-errs
}

// TestKilled kills a process in the middle of its commits, again and again on the same file. What it had acknowledged is
// there, whole, and the file is sound.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "oriel.db")
	var acknowledged []string
	for round := range 5 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), crashEnv+"="+path)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			acknowledged = append(acknowledged, lines.Text())
			if n == 50+37*round {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("the writer ended by itself: %v", err)
		}

		s, err := Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		err = s.View(t.Context(), func(tx store.Tx) error {
			for _, name := range acknowledged {
				var b appstream.ImageBuilder
				if err := tx.Get(builder(name).Key, &b); err != nil {
					return err
				}
				n, err := strconv.Atoi(name[strings.LastIndex(name, "-")+1:])
				if err != nil {
					return err
				}
				events, err := tx.Events(store.LogQuery{ID: b.ID, Limit: 10})
				if err != nil || len(events) != 1 || b.Version != 2 || b.State != appstream.BuilderRunning || len(b.ImageRef) != n%5000 {
					t.Errorf("%s: %d events, version %d, state %s, %d bytes, %v", name, len(events), b.Version, b.State, len(b.ImageRef), err)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		var result string
		if err := raw(t, path).QueryRow("PRAGMA integrity_check").Scan(&result); err != nil || result != "ok" {
			t.Errorf("integrity_check: %s, %v", result, err)
		}
	}
	if len(acknowledged) < 5*50 {
		t.Errorf("only %d commits were acknowledged", len(acknowledged))
	}
}
