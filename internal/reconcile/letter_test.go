package reconcile_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
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
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			defer func() { w.stop() }()
			sent, calls := 0, 0
			w.post = func(l appstream.Letter) error {
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
			w.wait("the letter is sent", 3*time.Hour, func() bool {
				if w.dead.Load() {
					w.restart()
				}
				return w.queued() == 0
			})
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
func (later) Pause(n int) time.Duration { return time.Duration(n) * time.Minute }

// A letter that is not taken is tried again, after the pauses that the post asks for, and given up when it is refused, or after two days.
func TestLettersThatAreNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer func() { w.stop() }()
		var tries []string
		start := time.Now()
		answer := error(fmt.Errorf("wrapped: %w", later{}))
		w.post = func(appstream.Letter) error {
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

		answer = errors.New("the line is cut")
		w.invite("jim@example.com")
		time.Sleep(47 * time.Hour)
		if w.queued() != 1 {
			t.Error("the letter is given up too early")
		}
		w.wait("the letter is given up", 2*time.Hour, func() bool { return w.queued() == 0 })
	})
}
