package reconcile_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	appstreamapi "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/compute/sim"
	"github.com/oriel-project/oriel/internal/store"
)

func (w *world) invite(name string) {
	w.t.Helper()
	_, err := w.svc.CreateUser(w.ctx(), &appstreamapi.CreateUserInput{UserName: &name, AuthenticationType: types.AuthenticationTypeUserpool})
	w.must(err)
}

// queued counts the letters that are still to be sent.
func (w *world) queued() (n int) {
	w.must(w.store.View(w.t.Context(), func(tx store.Tx) (err error) {
		n, err = tx.Count(caller.Account, caller.Region, appstream.NounLetter)
		return err
	}))
	return n
}

// A letter is sent, once, and twice at most when the server is killed in the middle of it.
func TestLettersSurviveCrashes(t *testing.T) {
	for crash := range 3 {
		in(t, func(w *world) {
			sent, calls := 0, 0
			w.post = func(_ context.Context, l appstream.Letter) error {
				if l.Kind != appstream.LetterWelcome || l.UserID == "" {
					t.Errorf("the letter: %+v", l)
				}
				sent++
				return nil
			}
			w.setInject(func(method, _ string, _ sim.When) error {
				if method == "EnsureDelivered" {
					if calls++; calls == crash+1 {
						w.kill()
					}
				}
				return nil
			})
			w.invite("jane@example.com")
			w.wait("the letter is sent", 3*time.Hour, func() bool { return w.queued() == 0 })
			if want := []int{1, 2, 1}[crash]; sent != want {
				t.Errorf("crash %d: it was sent %d times, want %d", crash, sent, want)
			}
			if want := []int{3, 4, 2}[crash]; calls != want {
				t.Errorf("crash %d: %d calls, want %d", crash, calls, want)
			}
		})
	}
}

// later is an error with a pause.
type later struct{}

func (later) Error() string             { return "come again" }
func (later) Pause(n int) time.Duration { return time.Duration(min(n, 10)) * time.Minute }

// A letter that is not taken is tried again, after the pauses that the post asks for, and given up when it is refused, or after two days.
func TestLettersThatAreNotTaken(t *testing.T) {
	in(t, func(w *world) {
		var tries []string
		start := time.Now()
		answer := error(fmt.Errorf("wrapped: %w", later{}))
		w.post = func(context.Context, appstream.Letter) error {
			tries = append(tries, time.Since(start).Round(time.Second).String())
			return answer
		}
		w.invite("jane@example.com")
		time.Sleep(12 * time.Minute)
		if got := strings.Join(tries, " "); got != "0s 1m0s 3m0s 6m0s 10m0s" {
			t.Errorf("tries: %s", got)
		}
		answer = nil
		w.wait("the letter is sent", time.Hour, func() bool { return w.queued() == 0 })

		answer = &compute.Fault{Message: "no such mailbox"}
		w.invite("john@example.com")
		w.wait("the letter is given up", time.Minute, func() bool { return w.queued() == 0 })
		if !strings.Contains(w.log.String(), "no such mailbox") {
			t.Error("the log does not say why")
		}

		answer = later{}
		w.invite("jim@example.com")
		time.Sleep(47 * time.Hour)
		if w.queued() != 1 {
			t.Error("the letter is given up too early")
		}
		w.wait("the letter is given up", 2*time.Hour, func() bool { return w.queued() == 0 })
	})
}

// A server that stops lets a mail be handed over that is on its way, and cuts off one that takes too long: that one is sent again.
func TestLettersAtTheEnd(t *testing.T) {
	for name, test := range map[string]struct {
		takes time.Duration
		cut   bool
	}{"nearly done": {5 * time.Second, false}, "far from it": {time.Hour, true}} {
		in(t, func(w *world) {
			sent, cut := 0, 0
			w.post = func(ctx context.Context, _ appstream.Letter) error {
				select {
				case <-time.After(test.takes):
					sent++
					return nil
				case <-ctx.Done():
					cut++
					test.takes = 0
					return ctx.Err()
				}
			}
			w.invite("jane@example.com")
			time.Sleep(time.Second)
			start := time.Now()
			w.restart()
			if took := time.Since(start); took > 15*time.Second {
				t.Errorf("%s: the server stops after %s", name, took)
			}
			w.wait("the letter is sent", 3*time.Hour, func() bool { return w.queued() == 0 })
			if sent != 1 || (cut == 1) != test.cut {
				t.Errorf("%s: sent %d times, cut off %d times", name, sent, cut)
			}
		})
	}
}

// A mail server that takes its time keeps the machines from nothing.
func TestLettersDoNotHoldMachinesUp(t *testing.T) {
	in(t, func(w *world) {
		w.post = func(ctx context.Context, _ appstream.Letter) error {
			select {
			case <-time.After(time.Hour):
			case <-ctx.Done():
			}
			return ctx.Err()
		}
		for n := range 40 { // more than there are passes at a time
			w.invite(fmt.Sprintf("u%d@example.com", n))
		}
		time.Sleep(time.Second)
		w.must(w.create("builder"))
		w.wait("the builder runs", 10*time.Minute, func() bool { return w.builder("builder") == appstream.BuilderRunning })
	})
}
