package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/moby/moby/client"

	"github.com/oriel-project/oriel/e2e/stage"
)

// desktops makes a fleet show desktops: nothing needs to be started on them.
func desktops(f *appstream.CreateFleetInput, _ *appstream.CreateStackInput) {
	f.StreamView = types.StreamViewDesktop
}

// TestInstanceFaults does to instances with people on them what should not happen, while their session is PENDING and while it is
// ACTIVE. The session ends and the page says so, the machine is gone, and another takes its place.
func TestInstanceFaults(t *testing.T) {
	needBrowser(t)
	t.Parallel()
	w := withMachines(t, "")
	const fleet = "faulty"
	w.publish(t, fleet, stage.BaseImage, 1, desktops)
	faults := []struct {
		name string
		do   func(t *testing.T, id string)
	}{
		{"killed agent", func(t *testing.T, id string) {
			m := must(w.engine.ContainerInspect(limit(t), id, client.ContainerInspectOptions{}))(t).Container
			if err := syscall.Kill(m.State.Pid, syscall.SIGKILL); err != nil {
				t.Skipf("skipped: the machine's first process cannot be killed from here: %v", err)
			}
		}},
		{"removed", func(t *testing.T, id string) {
			must(w.engine.ContainerRemove(limit(t), id, client.ContainerRemoveOptions{Force: true}))(t)
		}},
	}
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			s := w.sit(t, fleet, "ann", w.link(t, fleet, "ann"))
			began := time.Now()
			fault.do(t, s.machine)
			check(t, s.State(limit(t), "ended"))
			s.says(t, "#veil-title", "The machine was lost")
			w.replaced(t, fleet, s.session, s.machine)
			t.Logf("replaced after %s", time.Since(began).Round(time.Millisecond))
		})
		t.Run(fault.name+" while PENDING", func(t *testing.T) {
			v := w.come(t, fleet, "bob")
			pending := w.session(t, fleet, v.Session)
			machine := must(w.engine.Instance(limit(t), w.Server, *pending.InstanceId))(t).ID
			fault.do(t, machine)
			if pending.State != types.SessionStatePending {
				t.Logf("the session was %s already", pending.State)
			}
			w.replaced(t, fleet, v.Session, machine)
			if status, text, err := v.Ask(limit(t), "GET", "info", ""); err != nil || status != http.StatusOK || !strings.Contains(text, "EXPIRED") {
				t.Errorf("the page is told %d, %v\n%s", status, err, text)
			}
		})
	}
	w.withdraw(t, fleet)
	w.checkEmpty(t)
}

// replaced waits until a session and its machine are gone and somebody else can come.
func (w *world) replaced(t testing.TB, fleet, session, machine string) {
	t.Helper()
	w.over(t, fleet, session)
	w.awaitFree(t, fleet, 1)
	until(t, "the machine is gone", func() error {
		list := must(w.engine.Machines(limit(t), w.Server))(t)
		for _, m := range list {
			if m.ID == machine {
				return fmt.Errorf("it is %s", m.State)
			}
		}
		if len(list) != 1 {
			return fmt.Errorf("there are %d machines", len(list))
		}
		return nil
	})
}

// TestSessionFaults breaks what is around a session that goes on.
func TestSessionFaults(t *testing.T) {
	needBrowser(t)
	t.Parallel()
	w := withMachines(t, "")
	const fleet = "robust"
	w.publish(t, fleet, stage.BaseImage, 1, desktops)

	t.Run("server killed while PENDING", func(t *testing.T) {
		v := w.come(t, fleet, "ann")
		w.Kill()
		check(t, w.Again(limit(t)))
		w.awaitSession(t, fleet, v.Session, types.SessionStateActive)
	})

	s := w.sit(t, fleet, "ann", w.link(t, fleet, "ann"))
	w.inside(t, s.machine, "for folder in /home/*/MyFiles; do echo kept > $folder/kept; done")

	t.Run("server killed", func(t *testing.T) {
		w.Kill()
		check(t, s.State(limit(t), "reconnecting"))
		check(t, w.Again(limit(t)))
		check(t, s.State(limit(t), "connected"))
		w.connection(t, fleet, s.session, types.SessionConnectionStateConnected)
		if got := s.file(t, "kept"); got != "kept" {
			t.Errorf("the session's file has %q", got)
		}
	})

	t.Run("display killed", func(t *testing.T) {
		check(t, s.Passes(limit(t), func() {
			w.inside(t, s.machine, `kill -9 $(grep -lx Xvnc /proc/[0-9]*/comm | cut -d/ -f3)`)
		}, "reconnecting", "waiting"))
		check(t, s.State(limit(t), "connected"))
		if got := w.session(t, fleet, s.session); got == nil || got.State != types.SessionStateActive {
			t.Errorf("the session is %+v", got)
		}
		until(t, "a desktop", func() error {
			pic := must(s.Picture(limit(t)))(t)
			if pic.Colours < 100 {
				return fmt.Errorf("that is none: %+v", pic)
			}
			return nil
		})
		if got := s.file(t, "kept"); got != "kept" {
			t.Errorf("the session's file has %q", got)
		}
	})

	t.Run("browser killed", func(t *testing.T) {
		other := must(stage.OpenBrowser(context.WithoutCancel(t.Context())))(t)
		page := other.Page("doomed")
		if status := must(page.Open(limit(t), w.link(t, fleet, "ann")))(t); status != http.StatusOK {
			t.Fatalf("the streaming URL leads to %d", status)
		}
		check(t, page.State(limit(t), "connected"))
		check(t, s.State(limit(t), "ended")) // it was taken over
		other.Kill()
		w.connection(t, fleet, s.session, types.SessionConnectionStateNotConnected)
		if got := w.session(t, fleet, s.session); got.State != types.SessionStateActive {
			t.Errorf("the session is %s", got.State)
		}
	})

	t.Run("browser silent", func(t *testing.T) {
		v := w.come(t, fleet, "ann")
		ws := must(v.Stream(t.Context()))(t)
		defer ws.CloseNow()
		w.connection(t, fleet, s.session, types.SessionConnectionStateConnected)
		began := time.Now()
		w.connection(t, fleet, s.session, types.SessionConnectionStateNotConnected) // nobody reads, so no ping is answered
		t.Logf("noticed after %s", time.Since(began).Round(time.Millisecond))
	})

	t.Run("display killed while PENDING", func(t *testing.T) {
		must(w.aws.ExpireSession(limit(t), &appstream.ExpireSessionInput{SessionId: &s.session}))(t)
		w.awaitFree(t, fleet, 1)
		v := w.come(t, fleet, "bob")
		machine := must(w.engine.Instance(limit(t), w.Server, *w.session(t, fleet, v.Session).InstanceId))(t).ID
		_, _, err := w.engine.Exec(limit(t), machine, "root", `kill -9 $(grep -lx Xvnc /proc/[0-9]*/comm | cut -d/ -f3)`)
		check(t, err)
		w.awaitSession(t, fleet, v.Session, types.SessionStateActive)
		must(w.aws.ExpireSession(limit(t), &appstream.ExpireSessionInput{SessionId: &v.Session}))(t)
		w.awaitFree(t, fleet, 1)
	})
	w.withdraw(t, fleet)
	w.checkEmpty(t)
}
