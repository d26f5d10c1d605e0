package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	appstreamapi "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/compute/sim"
	"github.com/oriel-project/oriel/internal/objects"
	"pgregory.net/rapid"
)

func TestLifeOfAFleet(t *testing.T) {
	inFleets(t, 1, func(w *world, c *crew) {
		w.fleet("lab", types.FleetTypeAlwaysOn, 2, 1)
		if took := w.reachFleet("lab", types.FleetStateRunning, 2); took > delay+time.Second {
			t.Errorf("two instances were there only after %s; a start takes %s", took, delay)
		}
		session, err := w.open("lab", "ada")
		w.must(err)
		if session.State != appstream.SessionPending {
			t.Errorf("a new session is %s", session.State)
		}
		if again, err := w.open("lab", "ada"); err != nil || again.ID != session.ID {
			t.Errorf("the same person gets the session %s, %v; want %s", again.ID, err, session.ID)
		}
		if took := w.reachSession(session.ID, appstream.SessionActive); took > desktopTime+100*time.Millisecond {
			t.Errorf("PENDING → ACTIVE took %s, the desktop %s", took, desktopTime)
		}
		session = w.session(session.ID)
		if n := session.Network; n == nil || aws.ToString(n.EniPrivateIpAddress) == "" || len(n.EniIpv6Addresses) == 0 {
			t.Errorf("its network is %+v", n)
		}
		s := w.describeFleet("lab").ComputeCapacityStatus
		if *s.InUse != 1 || *s.Available != 1 || *s.Running != 2 || *s.Desired != 2 {
			t.Errorf("with one session: in use %d, available %d, running %d", *s.InUse, *s.Available, *s.Running)
		}
		w.must(w.svc.EndSession(w.ctx(), session.ID))
		if took := w.reachFleet("lab", types.FleetStateRunning, 2); took > delay+time.Second {
			t.Errorf("the instance was replaced only after %s; a start takes %s", took, delay)
		}
		if got := w.session(session.ID); got.State != appstream.SessionExpired || got.EndCode != appstream.EndByUser || !got.Cleared {
			t.Errorf("the session is %s (%s), cleared %v", got.State, got.EndCode, got.Cleared)
		}
		if slices.ContainsFunc(w.instances("lab"), func(i appstream.Instance) bool {
			return i.ID == session.InstanceID && i.State != appstream.InstanceDeleting
		}) {
			t.Error("the instance of a session that is over is still there")
		}
		w.reachSession(session.ID, "") // forgotten

		session = w.sit("lab", "ada")
		w.must(w.stopFleet("lab"))
		w.reachFleet("lab", types.FleetStateStopped, 0)
		if got := w.session(session.ID); got.State != appstream.SessionExpired || got.EndCode != appstream.EndFleetStopped {
			t.Errorf("the session of a stopped fleet is %s (%s)", got.State, got.EndCode)
		}
		w.checkFleets()
	})
}

func TestOnDemandMachinesRunOnlyInUse(t *testing.T) {
	inFleets(t, 1, func(w *world, c *crew) {
		w.fleet("lab", types.FleetTypeOnDemand, 3, 1)
		w.reachFleet("lab", types.FleetStateRunning, 3)
		if n := *w.describeFleet("lab").ComputeCapacityStatus.Running; n != 0 {
			t.Errorf("%d machines run before anyone has come", n)
		}
		w.checkFleets()
		session, err := w.open("lab", "ada")
		w.must(err)
		if took := w.reachSession(session.ID, appstream.SessionActive); took > delay+desktopTime+200*time.Millisecond {
			t.Errorf("PENDING → ACTIVE took %s; a start takes %s, the desktop %s", took, delay, desktopTime)
		}
		s := w.describeFleet("lab").ComputeCapacityStatus
		if *s.Running != 1 || *s.InUse != 1 || *s.Available != 2 {
			t.Errorf("with one session: running %d, in use %d, available %d", *s.Running, *s.InUse, *s.Available)
		}
		w.must(w.svc.EndSession(w.ctx(), session.ID))
		w.reachFleet("lab", types.FleetStateRunning, 3)
		w.settleFleets("lab")
		w.checkFleets()
	})
}

// settleFleets waits until no instance is on its way.
func (w *world) settleFleets(fleet string) {
	w.t.Helper()
	w.wait("rest", 4*time.Hour, func() bool {
		for _, i := range w.instances(fleet) {
			if i.State == appstream.InstancePending || i.State == appstream.InstanceDeleting {
				return false
			}
		}
		return true
	})
}

func TestSeveralPeopleOnAnInstance(t *testing.T) {
	inFleets(t, 3, func(w *world, c *crew) {
		w.fleet("lab", types.FleetTypeAlwaysOn, 6, 3)
		w.reachFleet("lab", types.FleetStateRunning, 2)
		var all []appstream.Session
		for n := range 4 {
			all = append(all, w.sit("lab", fmt.Sprint("user", n)))
			w.checkSeats("lab")
		}
		if all[0].InstanceID != all[1].InstanceID || all[1].InstanceID != all[2].InstanceID || all[3].InstanceID == all[0].InstanceID {
			t.Error("an instance is not filled before the next one is begun")
		}
		s := w.describeFleet("lab").ComputeCapacityStatus
		if *s.ActiveUserSessions != 4 || *s.AvailableUserSessions != 2 || *s.ActualUserSessions != 6 || *s.DesiredUserSessions != 6 {
			t.Errorf("with four sessions: active %d, available %d, actual %d", *s.ActiveUserSessions, *s.AvailableUserSessions, *s.ActualUserSessions)
		}
		for n := range 2 {
			all = append(all, w.sit("lab", fmt.Sprint("user", 4+n)))
		}
		if _, err := w.open("lab", "user6"); appstream.KindOf(err) != appstream.InsufficientCapacity {
			t.Errorf("a seventh person on six seats: %v", err)
		}
		// One goes: his seat is free again, the others stay where they are.
		w.must(w.svc.EndSession(w.ctx(), all[0].ID))
		w.wait("a free seat", time.Minute, func() bool { return *w.describeFleet("lab").ComputeCapacityStatus.AvailableUserSessions == 1 })
		if seven := w.sit("lab", "user6"); seven.InstanceID != all[0].InstanceID {
			t.Error("the free seat was not used")
		}
		// A drained instance takes nobody, and goes when its people have.
		_, err := w.svc.DrainSessionInstance(w.ctx(), &appstreamapi.DrainSessionInstanceInput{SessionId: &all[3].ID})
		w.must(err)
		w.must(w.svc.EndSession(w.ctx(), all[3].ID))
		w.wait("cleared", time.Minute, func() bool { return w.session(all[3].ID).Cleared })
		w.reachFleet("lab", types.FleetStateRunning, 1) // a new one in its place
		w.must(w.svc.EndSession(w.ctx(), all[4].ID))
		w.must(w.svc.EndSession(w.ctx(), all[5].ID))
		w.wait("the drained instance is gone", time.Minute, func() bool {
			return !slices.ContainsFunc(w.instances("lab"), func(i appstream.Instance) bool { return i.ID == all[3].InstanceID })
		})
		w.settleFleets("lab")
		w.checkSeats("lab")
		w.checkFleets()
	})
}

// A session that cannot be cleared leaves its instance to nobody else.
func TestSeatThatCannotBeCleared(t *testing.T) {
	inFleets(t, 2, func(w *world, c *crew) {
		w.fleet("lab", types.FleetTypeAlwaysOn, 2, 2)
		w.reachFleet("lab", types.FleetStateRunning, 1)
		one, two := w.sit("lab", "one"), w.sit("lab", "two")
		c.mu.Lock()
		c.stuck = true
		c.mu.Unlock()
		w.must(w.svc.EndSession(w.ctx(), one.ID))
		w.wait("given up", 10*time.Minute, func() bool { return w.session(one.ID).Cleared })
		if got := w.session(two.ID); got.State != appstream.SessionActive {
			t.Errorf("the other session is %s", got.State)
		}
		w.wait("another instance", time.Minute, func() bool { _, err := w.open("lab", "three"); return err == nil })
		for _, s := range w.sessions("lab") {
			if s.UserID == "three" && s.InstanceID == one.InstanceID {
				t.Error("a person was put on an instance that could not be cleared")
			}
		}
		w.checkSeats("lab")
	})
}

func TestTwoHundredForTwenty(t *testing.T) {
	inFleets(t, 1, func(w *world, c *crew) {
		w.fleet("lab", types.FleetTypeAlwaysOn, 20, 1)
		w.reachFleet("lab", types.FleetStateRunning, 20)
		var mu sync.Mutex
		var sessions, refused int
		var wg sync.WaitGroup
		for n := range 200 {
			wg.Go(func() {
				_, err := w.open("lab", fmt.Sprint("user", n))
				mu.Lock()
				defer mu.Unlock()
				switch appstream.KindOf(err) {
				case "":
					sessions++
				case appstream.InsufficientCapacity:
					refused++
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if sessions != 20 || refused != 180 {
			t.Errorf("%d sessions and %d without a place, want 20 and 180", sessions, refused)
		}
		w.wait("all ACTIVE", time.Minute, func() bool {
			return !slices.ContainsFunc(w.sessions("lab"), func(s appstream.Session) bool { return s.State != appstream.SessionActive })
		})
		w.checkSeats("lab")
	})
}

func TestSessionTimeouts(t *testing.T) {
	with := func(most, away int32) func(*appstreamapi.CreateFleetInput) {
		return func(in *appstreamapi.CreateFleetInput) {
			in.MaxUserDurationInSeconds, in.DisconnectTimeoutInSeconds = &most, &away
		}
	}
	for _, c := range []struct {
		name string
		do   func(w *world, id string)
		want appstream.EndCode
		in   time.Duration
	}{
		{"never connected", func(*world, string) {}, appstream.EndAway, 10 * time.Minute},
		{"connected to the end", func(w *world, id string) { w.must(w.svc.SessionConnected(w.ctx(), id, laptop)) }, appstream.EndDuration, 2 * time.Hour},
		{"gone after an hour", func(w *world, id string) {
			w.must(w.svc.SessionConnected(w.ctx(), id, laptop))
			time.Sleep(time.Hour)
			w.must(w.svc.SessionDisconnected(w.ctx(), id))
		}, appstream.EndAway, 70 * time.Minute},
		{"gone and back", func(w *world, id string) {
			for range 3 {
				w.must(w.svc.SessionConnected(w.ctx(), id, laptop))
				time.Sleep(20 * time.Minute)
				w.must(w.svc.SessionDisconnected(w.ctx(), id))
				time.Sleep(9 * time.Minute)
			}
		}, appstream.EndAway, 88 * time.Minute},
		{"the server was away when it was disconnected", func(w *world, id string) {
			w.must(w.svc.SessionConnected(w.ctx(), id, laptop))
			time.Sleep(time.Hour)
			w.kill()
			w.restart()
		}, appstream.EndAway, 70 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			inFleets(t, 1, func(w *world, _ *crew) {
				w.fleet("lab", types.FleetTypeAlwaysOn, 1, 1, with(7200, 600))
				w.reachFleet("lab", types.FleetStateRunning, 1)
				session := w.sit("lab", "ada")
				began := time.Now()
				c.do(w, session.ID)
				w.reachSession(session.ID, appstream.SessionExpired)
				got := w.session(session.ID)
				if took := time.Since(began); got.EndCode != c.want || took < c.in-time.Minute || took > c.in+2*time.Minute {
					t.Errorf("it ended by %q after %s, want %q after %s", got.EndCode, took, c.want, c.in)
				}
				w.reachFleet("lab", types.FleetStateRunning, 1)
			})
		})
	}
}

// Termination scripts have their time, and the next person does not wait for it.
func TestScriptsAtTheEnd(t *testing.T) {
	inFleets(t, 1, func(w *world, c *crew) {
		c.scripts = 45 * time.Second
		w.fleet("lab", types.FleetTypeAlwaysOn, 1, 1)
		w.reachFleet("lab", types.FleetStateRunning, 1)
		session := w.sit("lab", "ada")
		w.must(w.svc.EndSession(w.ctx(), session.ID))
		took := w.wait("cleared", 5*time.Minute, func() bool { return w.session(session.ID).Cleared })
		if took < c.scripts || took > c.scripts+10*time.Second {
			t.Errorf("cleared after %s; the scripts take %s", took, c.scripts)
		}
		w.reachFleet("lab", types.FleetStateRunning, 1)

		// What they have written is where AppStream puts it; the session ends if it cannot be had, too.
		c.written = "the words"
		session = w.sit("lab", "bob")
		w.must(w.svc.EndSession(w.ctx(), session.ID))
		w.wait("cleared", 5*time.Minute, func() bool { return w.session(session.ID).Cleared })
		bucket := appstream.LogsBucket(caller.Account, caller.Region)
		list, err := w.files.List(w.ctx(), caller.Account, bucket, "", "", 10)
		w.must(err)
		want := "lab/lab/custom/81b637d8fcd2c6da6359e6963113a1170de795e4b725b84d1e0b4cfd9ec58ce9/" + session.ID + "/SessionScriptsLogs/SessionStart/2.log" // sha256 of bob
		if len(list) != 1 || list[0].Key != want {
			t.Fatalf("the objects are %v, want %s", list, want)
		}
		text, err := objects.Read(w.ctx(), w.files, objects.Location{Account: caller.Account, Bucket: bucket, Key: want}, 1<<10)
		if w.must(err); string(text) != "the words of bob" {
			t.Errorf("it says %q", text)
		}
	})
}

func TestScalingAndRolling(t *testing.T) {
	inFleets(t, 1, func(w *world, c *crew) {
		w.fleet("lab", types.FleetTypeAlwaysOn, 2, 1)
		w.reachFleet("lab", types.FleetStateRunning, 2)
		scale := func(n int32) {
			t.Helper()
			_, err := w.svc.UpdateFleet(w.ctx(), &appstreamapi.UpdateFleetInput{Name: aws.String("lab"), ComputeCapacity: &types.ComputeCapacity{DesiredInstances: &n}})
			w.must(err)
		}
		scale(15) // more than are made at a time
		w.reachFleet("lab", types.FleetStateRunning, 15)
		session := w.sit("lab", "ada")
		scale(0)
		w.reachFleet("lab", types.FleetStateRunning, 0)
		if got := w.session(session.ID); got.State != appstream.SessionActive {
			t.Fatalf("a session is %s after its fleet has shrunk", got.State)
		}
		scale(5)
		w.reachFleet("lab", types.FleetStateRunning, 4)

		// A new image: unused instances are replaced, without a moment in which fewer are ready; the session stays where it is.
		w.must(w.create("maker"))
		w.reach("maker", "RUNNING")
		w.must(w.do("image", "maker"))
		w.reach("maker", "STOPPED")
		_, err := w.svc.UpdateFleet(w.ctx(), &appstreamapi.UpdateFleetInput{Name: aws.String("lab"), ImageName: aws.String("image-of-maker")})
		w.must(err)
		least := 100
		w.wait("the new image everywhere", time.Hour, func() bool {
			least = min(least, int(*w.describeFleet("lab").ComputeCapacityStatus.Available))
			for _, i := range w.instances("lab") {
				if i.Spec.ImageRef == "base-new" && i.State != appstream.InstanceInUse {
					return false
				}
			}
			return *w.describeFleet("lab").ComputeCapacityStatus.Available == 4
		})
		if least < 4 {
			t.Errorf("only %d of 4 were available on the way", least)
		}
		if got := w.session(session.ID); got.State != appstream.SessionActive {
			t.Errorf("a session is %s after its fleet got a new image", got.State)
		}
		w.settleFleets("lab")
		w.checkFleets()
	})
}

// A fleet whose machines cannot be made says why, tries ever more seldom, and recovers by itself.
func TestFleetThatCannotHaveMachines(t *testing.T) {
	inFleets(t, 1, func(w *world, c *crew) {
		var mu sync.Mutex
		broken, tries := true, 0
		w.setInject(func(method, _ string, when sim.When) error {
			mu.Lock()
			defer mu.Unlock()
			if method == "EnsureRunning" && when == sim.Before && broken {
				tries++
				return &compute.Fault{Code: string(types.FleetErrorCodeSubnetNotFound), Message: "the subnet subnet-x does not exist"}
			}
			return nil
		})
		w.fleet("lab", types.FleetTypeAlwaysOn, 5, 1)
		time.Sleep(time.Hour)
		synctest.Wait()
		f := w.describeFleet("lab")
		if f.State != types.FleetStateStarting || len(f.FleetErrors) != 1 || f.FleetErrors[0].ErrorCode != types.FleetErrorCodeSubnetNotFound {
			t.Errorf("it is %s, with the errors %+v", f.State, f.FleetErrors)
		}
		if tries > 90 {
			t.Errorf("%d tries in an hour", tries)
		}
		mu.Lock()
		broken = false
		mu.Unlock()
		if took := w.reachFleet("lab", types.FleetStateRunning, 5); took > 2*time.Minute {
			t.Errorf("it recovered only after %s", took)
		}
		if f := w.describeFleet("lab"); len(f.FleetErrors) > 0 {
			t.Errorf("its errors stay: %+v", f.FleetErrors)
		}
		w.setInject(func(method, _ string, when sim.When) error {
			return fmt.Errorf("connection refused: %w", compute.ErrUnavailable)
		})
		w.must(w.stopFleet("lab"))
		time.Sleep(time.Hour)
		w.setInject(nil)
		w.reachFleet("lab", types.FleetStateStopped, 0)
		w.checkFleets()
	})
}

// A fleet whose machines end as soon as they are ready makes them ever more seldom, says why, and recovers by itself.
func TestFleetOfShortLivedMachines(t *testing.T) {
	inFleets(t, 1, func(w *world, c *crew) {
		w.fleet("lab", types.FleetTypeAlwaysOn, 2, 1)
		w.reachFleet("lab", types.FleetStateRunning, 2)
		seen := map[string]bool{}
		for end := time.Now().Add(time.Hour); time.Now().Before(end); time.Sleep(5 * time.Second) {
			for _, i := range w.instances("lab") {
				if i.State == appstream.InstanceAvailable {
					seen[i.ID] = true
					w.must(w.provider.EnsureStopped(w.ctx(), i.ID))
					w.must(w.wakeKey(i.Key))
				}
			}
			synctest.Wait()
		}
		if len(seen) > 90 {
			t.Errorf("%d machines were made in an hour", len(seen))
		}
		if f := w.describeFleet("lab"); len(f.FleetErrors) == 0 || !strings.Contains(*f.FleetErrors[0].ErrorMessage, "after it was ready") {
			t.Errorf("its errors are %+v", f.FleetErrors)
		}
		w.reachFleet("lab", types.FleetStateRunning, 2)
		w.wait("its errors are forgotten", 10*time.Minute, func() bool { return len(w.describeFleet("lab").FleetErrors) == 0 })
		w.settleFleets("lab")
		w.checkFleets()
	})
}

// An instance that ends, vanishes or falls silent takes its session with it, and is replaced.
func TestInstanceLost(t *testing.T) {
	for name, lose := range map[string]func(w *world, c *crew, id string){
		"stopped":  func(w *world, _ *crew, id string) { w.must(w.provider.EnsureStopped(w.ctx(), id)) },
		"vanished": func(w *world, _ *crew, id string) { w.must(w.provider.EnsureGone(w.ctx(), id)) },
		"silent": func(w *world, c *crew, id string) {
			c.mu.Lock()
			c.silent = true
			c.mu.Unlock()
			for _, i := range w.instances("lab") { // what attend does when its line is cut
				w.must(w.wakeKey(i.Key))
			}
			time.Sleep(90 * time.Second)
			c.mu.Lock()
			c.silent = false
			c.mu.Unlock()
		},
	} {
		t.Run(name, func(t *testing.T) {
			inFleets(t, 1, func(w *world, c *crew) {
				w.fleet("lab", types.FleetTypeAlwaysOn, 2, 1)
				w.reachFleet("lab", types.FleetStateRunning, 2)
				session := w.sit("lab", "ada")
				lose(w, c, session.InstanceID)
				if took := w.reachSession(session.ID, appstream.SessionExpired); took > 2*time.Minute {
					t.Errorf("noticed only after %s", took)
				}
				if got := w.session(session.ID); got.EndCode != appstream.EndInstanceLost {
					t.Errorf("it ended by %q", got.EndCode)
				}
				w.reachFleet("lab", types.FleetStateRunning, 2)
				w.settleFleets("lab")
				w.checkFleets()
				w.checkSeats("lab")
			})
		})
	}
}

// Whatever people and administrators do in whatever order, with crashes and faults at random moments: never two on a seat, and in the end
// every session is over and the fleet has what it shall have.
func TestRandomSessions(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type step struct {
			Op   string
			User int
			Wait time.Duration
		}
		steps := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
			return step{
				rapid.SampledFrom([]string{"open", "open", "open", "connect", "disconnect", "end", "expire", "drain", "grow", "shrink", "stop", "start", "lose", "kill"}).Draw(t, "op"),
				rapid.IntRange(0, 5).Draw(t, "user"),
				time.Duration(rapid.IntRange(0, 5000).Draw(t, "wait ms")) * time.Millisecond,
			}
		}), 1, 30).Draw(rt, "steps")
		seats := rapid.SampledFrom([]int{1, 1, 2, 3}).Draw(rt, "seats")
		kind := rapid.SampledFrom([]types.FleetType{types.FleetTypeAlwaysOn, types.FleetTypeOnDemand}).Draw(rt, "type")
		faults := rapid.SliceOfN(rapid.IntRange(0, 30), 64, 64).Draw(rt, "faults")
		inFleets(t, seats, func(w *world, c *crew) {
			n := 0
			w.fleet("lab", kind, 2*seats, seats)
			w.setInject(func(string, string, sim.When) error {
				n++
				switch faults[n%len(faults)] {
				case 0:
					return fmt.Errorf("injected: %w", compute.ErrUnavailable)
				case 1:
					return errors.New("injected")
				}
				return nil
			})
			capacity := func(n int) *types.ComputeCapacity {
				if seats > 1 {
					return &types.ComputeCapacity{DesiredSessions: aws.Int32(int32(n * seats))}
				}
				return &types.ComputeCapacity{DesiredInstances: aws.Int32(int32(n))}
			}
			for _, s := range steps {
				user := fmt.Sprint("user", s.User)
				id := ""
				for _, session := range w.sessions("lab") {
					if session.UserID == user && session.State != appstream.SessionExpired {
						id = session.ID
					}
				}
				var err error
				switch s.Op {
				case "open":
					_, err = w.open("lab", user)
				case "connect":
					err = w.svc.SessionConnected(w.ctx(), id, laptop)
				case "disconnect":
					err = w.svc.SessionDisconnected(w.ctx(), id)
				case "end":
					err = w.svc.EndSession(w.ctx(), id)
				case "expire":
					if id != "" {
						_, err = w.svc.ExpireSession(w.ctx(), &appstreamapi.ExpireSessionInput{SessionId: &id})
					}
				case "drain":
					if id != "" {
						_, err = w.svc.DrainSessionInstance(w.ctx(), &appstreamapi.DrainSessionInstanceInput{SessionId: &id})
					}
				case "grow":
					_, err = w.svc.UpdateFleet(w.ctx(), &appstreamapi.UpdateFleetInput{Name: aws.String("lab"), ComputeCapacity: capacity(4)})
				case "shrink":
					_, err = w.svc.UpdateFleet(w.ctx(), &appstreamapi.UpdateFleetInput{Name: aws.String("lab"), ComputeCapacity: capacity(1)})
				case "stop":
					err = w.stopFleet("lab")
				case "start":
					err = w.startFleet("lab")
				case "lose":
					if list := w.instances("lab"); len(list) > 0 {
						_ = w.provider.EnsureGone(w.ctx(), list[s.User%len(list)].ID)
					}
				case "kill":
					w.kill()
					w.restart()
				}
				if kind := appstream.KindOf(err); kind == appstream.Internal {
					t.Fatalf("%s %s: %v", s.Op, user, err)
				}
				w.checkSeats("lab")
				time.Sleep(s.Wait)
				synctest.Wait()
				w.checkSeats("lab")
			}
			w.setInject(nil)
			w.must(w.svc.ForgetConnections(w.ctx()))
			w.wait("every session over", 24*time.Hour, func() bool { w.checkSeats("lab"); return len(w.sessions("lab")) == 0 })
			w.wait("not on its way", time.Hour, func() bool {
				state := w.describeFleet("lab").State
				return state == types.FleetStateRunning || state == types.FleetStateStopped
			})
			want := 0
			if f := w.describeFleet("lab"); f.State == types.FleetStateRunning {
				want = int(*f.ComputeCapacityStatus.Desired)
			}
			w.wait("capacity is back", time.Hour, func() bool { return int(*w.describeFleet("lab").ComputeCapacityStatus.Available) == want })
			w.settleFleets("lab")
			time.Sleep(2 * time.Minute) // a sweep or two
			synctest.Wait()
			w.settleFleets("lab")
			w.checkFleets()
		})
		if t.Failed() {
			rt.Fatalf("%s, %d seats, steps: %+v", kind, seats, steps)
		}
	})
}

// late are agents that never become ready, save those of some machines, and whose answer is waited for.
type late struct {
	*crew
	ready []string
}

func (l *late) Status(ctx context.Context, id string, wait time.Duration) appstream.Agent {
	if slices.Contains(l.ready, id) {
		return l.crew.Status(ctx, id, wait)
	}
	select {
	case <-time.After(wait):
	case <-ctx.Done():
	}
	return appstream.Agent{Answers: true}
}

// tardy agents get a request to begin a session only when nobody waits for its answer any more.
type tardy struct{ *crew }

func (a tardy) Begin(ctx context.Context, instance string, seat appstream.Seat) error {
	<-ctx.Done()
	time.AfterFunc(10*time.Second, func() { _ = a.crew.Begin(context.Background(), instance, seat) })
	return ctx.Err()
}

// A session that ends while it is begun on its instance does not begin there afterwards.
func TestEndWhileItBegins(t *testing.T) {
	inFleets(t, 2, func(w *world, c *crew) {
		w.agents = tardy{c}
		w.restart()
		w.fleet("lab", types.FleetTypeAlwaysOn, 2, 2)
		w.reachFleet("lab", types.FleetStateRunning, 1)
		session, err := w.open("lab", "ada")
		w.must(err)
		time.Sleep(time.Second)
		synctest.Wait()
		w.must(w.svc.EndSession(w.ctx(), session.ID))
		w.wait("cleared", time.Minute, func() bool { return w.session(session.ID).Cleared })
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(c.seats[session.InstanceID]); n != 0 {
			t.Errorf("%d people are on the instance, whose session is over", n)
		}
		w.settleFleets("lab")
	})
}

// However many machines take long to become ready, people get their desktops on those that are.
func TestSlowMachinesKeepNobodyWaiting(t *testing.T) {
	inFleets(t, 1, func(w *world, c *crew) {
		w.fleet("lab", types.FleetTypeAlwaysOn, 1, 1)
		w.reachFleet("lab", types.FleetStateRunning, 1)
		w.agents = &late{c, []string{w.instances("lab")[0].ID}}
		w.restart()
		for n := range 9 {
			w.fleet(fmt.Sprint("other", n), types.FleetTypeAlwaysOn, appstream.FleetBatch, 1)
		}
		time.Sleep(delay + time.Second) // all those machines run
		session, err := w.open("lab", "ada")
		w.must(err)
		if took := w.reachSession(session.ID, appstream.SessionActive); took > desktopTime+100*time.Millisecond {
			t.Errorf("PENDING → ACTIVE took %s, the desktop %s", took, desktopTime)
		}
	})
}
