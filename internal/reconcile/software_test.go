package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	appstreamapi "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/compute/sim"
	"github.com/oriel-project/oriel/internal/store"
	"pgregory.net/rapid"
)

// catalogue is what can be installed in simulated worlds.
var catalogue = func() map[string]appstream.Software {
	list := map[string]appstream.Software{}
	for _, name := range []string{"Calc", "Draw", "Word"} {
		list[name] = appstream.Software{Name: name, Installers: map[string]appstream.Installer{"DEBIAN_12": {Install: "install " + name, Uninstall: "remove " + name}}}
	}
	word := list["Word"]
	word.License = "Words"
	list["Word"] = word
	return list
}()

// createWith makes a builder with software.
func (w *world) createWith(name, image string, install, uninstall []string) error {
	_, err := w.svc.CreateImageBuilder(w.ctx(), &appstreamapi.CreateImageBuilderInput{
		Name: &name, ImageName: &image, InstanceType: aws.String("stream.standard.small"), SoftwaresToInstall: install, SoftwaresToUninstall: uninstall})
	return err
}

func (w *world) stage(builder string, install bool, names ...string) error {
	var err error
	if install {
		_, err = w.svc.AssociateSoftwareToImageBuilder(w.ctx(), &appstreamapi.AssociateSoftwareToImageBuilderInput{ImageBuilderName: &builder, SoftwareNames: names})
	} else {
		_, err = w.svc.DisassociateSoftwareFromImageBuilder(w.ctx(), &appstreamapi.DisassociateSoftwareFromImageBuilderInput{ImageBuilderName: &builder, SoftwareNames: names})
	}
	return err
}

func (w *world) deploy(builder string, retry bool) error {
	_, err := w.svc.StartSoftwareDeploymentToImageBuilder(w.ctx(), &appstreamapi.StartSoftwareDeploymentToImageBuilderInput{ImageBuilderName: &builder, RetryFailedDeployments: &retry})
	return err
}

// software gives the software of a builder or an image: NAME STATUS, …
func (w *world) software(noun appstream.Noun, name string) string {
	w.t.Helper()
	k := appstream.Key{Account: caller.Account, Region: caller.Region, Noun: noun, Name: name}
	out, err := w.svc.DescribeSoftwareAssociations(w.ctx(), &appstreamapi.DescribeSoftwareAssociationsInput{AssociatedResource: aws.String(k.ARN())})
	w.must(err)
	var list []string
	for _, a := range out.SoftwareAssociations {
		list = append(list, fmt.Sprint(*a.SoftwareName, " ", a.Status))
		if failed := strings.HasPrefix(string(a.Status), "FAILED"); failed != (len(a.DeploymentError) == 1) {
			w.t.Errorf("%s is %s with the errors %v", *a.SoftwareName, a.Status, a.DeploymentError)
		}
	}
	return strings.Join(list, ", ")
}

func (w *world) has(noun appstream.Noun, name, want string) {
	w.t.Helper()
	if got := w.software(noun, name); got != want {
		w.t.Errorf("%s %s has %q, want %q", noun, name, got, want)
	}
}

// record reads the record of a builder.
func (w *world) record(name string) (b appstream.ImageBuilder) {
	w.t.Helper()
	w.must(w.store.View(w.ctx(), func(tx store.Tx) error {
		return tx.Get(appstream.Key{Account: caller.Account, Region: caller.Region, Noun: appstream.NounImageBuilder, Name: name}, &b)
	}))
	return b
}

func TestLifeOfSoftware(t *testing.T) {
	inWorkshop(t, func(w *world, work *labour) {
		work.fails["install Draw"] = "install Draw ended with code 100"
		w.must(w.createWith("hello", "base", []string{"Calc", "Draw", "Word"}, nil))
		seen := map[string]bool{}
		w.wait("hello RUNNING", time.Hour, func() bool {
			seen[w.builder("hello")] = true
			return w.builder("hello") == "RUNNING"
		})
		if !seen["SYNCING_APPS"] {
			t.Errorf("on its way it was %v", seen)
		}
		// One that fails does not keep the others from their turn, and says why.
		w.has(appstream.NounImageBuilder, "hello", "Calc INSTALLED, Draw FAILED_TO_INSTALL, Word INSTALLED")
		out, err := w.svc.DescribeSoftwareAssociations(w.ctx(), &appstreamapi.DescribeSoftwareAssociationsInput{AssociatedResource: w.describe("hello").Arn})
		w.must(err)
		if e := out.SoftwareAssociations[1].DeploymentError[0]; *e.ErrorCode != "INSTALLATION_FAILED" ||
			!strings.HasPrefix(*e.ErrorMessage, "install Draw ended with code 100") || !strings.HasSuffix(*e.ErrorMessage, "\nthe last line of install Draw") {
			t.Errorf("DeploymentError: %s: %s", *e.ErrorCode, *e.ErrorMessage)
		}
		if n := w.describe("hello").NetworkAccessConfiguration; n == nil || n.EniPrivateIpAddress == nil {
			t.Errorf("NetworkAccessConfiguration = %+v", n)
		}

		// Again, and this time with success; another one goes.
		delete(work.fails, "install Draw")
		w.must(w.stage("hello", false, "Calc"))
		w.must(w.deploy("hello", true))
		w.reach("hello", "RUNNING")
		w.has(appstream.NounImageBuilder, "hello", "Draw INSTALLED, Word INSTALLED")

		// The image has what is installed, and a builder of it begins with that.
		w.must(w.stage("hello", true, "Calc")) // staged, not installed
		w.must(w.do("image", "hello"))
		w.reach("hello", "STOPPED")
		w.has(appstream.NounImage, "image-of-hello", "Draw INSTALLED, Word INSTALLED")
		w.must(w.createWith("next", "image-of-hello", nil, []string{"Draw"}))
		w.reach("next", "RUNNING")
		w.has(appstream.NounImageBuilder, "next", "Word INSTALLED")

		// What was staged waits for its Start, through a stop and a start of the machine.
		w.must(w.do("start", "hello"))
		w.reach("hello", "RUNNING")
		w.has(appstream.NounImageBuilder, "hello", "Calc STAGED_FOR_INSTALLATION, Draw INSTALLED, Word INSTALLED")
		w.must(w.deploy("hello", false))
		w.reach("hello", "RUNNING")
		w.has(appstream.NounImageBuilder, "hello", "Calc INSTALLED, Draw INSTALLED, Word INSTALLED")
		w.check()
	})
}

// Where machines have no agents, software is there as soon as it is asked for.
func TestSoftwareWithoutAgents(t *testing.T) {
	in(t, func(w *world) {
		w.must(w.createWith("hello", "base", []string{"Calc"}, nil))
		w.reach("hello", "RUNNING")
		w.has(appstream.NounImageBuilder, "hello", "Calc INSTALLED")
		w.check()
	})
}

// A machine that goes down in the middle is started again, and its job begun anew.
func TestMachineGoesDownDuringAnInstallation(t *testing.T) {
	inWorkshop(t, func(w *world, work *labour) {
		w.must(w.createWith("hello", "base", []string{"Calc", "Draw"}, nil))
		w.reach("hello", "SYNCING_APPS")
		id := w.record("hello").ID
		w.wait("the first job", time.Minute, func() bool { work.mu.Lock(); defer work.mu.Unlock(); return len(work.count) == 1 })
		w.must(w.provider.EnsureStopped(context.Background(), id))
		w.reach("hello", "RUNNING")
		w.has(appstream.NounImageBuilder, "hello", "Calc INSTALLED, Draw INSTALLED")
		if work.count["_software-1"] != 2 || work.count["_software-2"] != 1 {
			t.Errorf("jobs: %v", work.count)
		}
		w.check()
	})
}

// A machine that vanishes takes with it what was installed: the next one begins without, and says so.
func TestMachineVanishesDuringAnInstallation(t *testing.T) {
	inWorkshop(t, func(w *world, _ *labour) {
		w.must(w.createWith("hello", "base", []string{"Calc", "Draw"}, nil))
		w.wait("Calc", time.Minute, func() bool {
			return strings.HasPrefix(w.software(appstream.NounImageBuilder, "hello"), "Calc INSTALLED")
		})
		w.must(w.provider.EnsureGone(context.Background(), w.record("hello").ID))
		w.reach("hello", "FAILED")
		w.has(appstream.NounImageBuilder, "hello", "Calc STAGED_FOR_INSTALLATION, Draw STAGED_FOR_INSTALLATION")
		w.must(w.do("start", "hello"))
		w.reach("hello", "RUNNING")
		w.must(w.deploy("hello", false))
		w.reach("hello", "RUNNING")
		w.has(appstream.NounImageBuilder, "hello", "Calc INSTALLED, Draw INSTALLED")
		w.check()
	})
}

// stuck are agents whose jobs never end.
type stuck struct{ *workers }

func (s stuck) Job(ctx context.Context, machine, job string, wait time.Duration) appstream.JobStatus {
	status := s.workers.Job(ctx, machine, job, wait)
	status.Ended = false
	return status
}

func TestInstallationThatNeverEnds(t *testing.T) {
	inWorkshop(t, func(w *world, _ *labour) {
		w.agents = stuck{w.agents.(*workers)}
		w.restart()
		w.must(w.createWith("hello", "base", []string{"Calc", "Draw"}, nil))
		w.reach("hello", "SYNCING_APPS")
		if took := w.wait("FAILED", 3*time.Hour, func() bool { return w.builder("hello") == "FAILED" }); took < time.Hour {
			t.Errorf("given up after %s", took)
		}
		w.has(appstream.NounImageBuilder, "hello", "Calc FAILED_TO_INSTALL, Draw STAGED_FOR_INSTALLATION")
		w.must(w.do("delete", "hello"))
		w.reach("hello", "")
		w.check()
	})
}

func TestDeleteDuringAnInstallation(t *testing.T) {
	for _, state := range []string{"PENDING_SYNCING_APPS", "SYNCING_APPS"} {
		t.Run(state, func(t *testing.T) {
			inWorkshop(t, func(w *world, _ *labour) {
				w.must(w.createWith("hello", "base", []string{"Calc", "Draw"}, nil))
				if state == "SYNCING_APPS" {
					w.reach("hello", state)
				} else {
					w.reach("hello", "RUNNING")
					w.must(w.stage("hello", true, "Word"))
					w.must(w.deploy("hello", false))
				}
				w.must(w.do("delete", "hello"))
				w.reach("hello", "")
				w.check()
			})
		})
	}
}

// Whatever is asked for in whatever order, with crashes, faults and machines that go down or vanish: in the end every builder rests, nothing is pending, and
// what an image says that it has was installed when it was made.
func TestRandomSoftware(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type step struct {
			Op, Name string
			Wait     time.Duration
		}
		steps := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
			return step{
				rapid.SampledFrom([]string{"create", "create", "stage", "stage", "unstage", "deploy", "deploy", "retry", "stop", "start", "image", "delete image", "delete", "kill", "restart", "machine stops", "machine goes"}).Draw(t, "op"),
				rapid.SampledFrom([]string{"Calc", "Draw", "Word"}).Draw(t, "software"),
				time.Duration(rapid.IntRange(0, 4000).Draw(t, "wait ms")) * time.Millisecond,
			}
		}), 1, 25).Draw(rt, "steps")
		faults := rapid.SliceOfN(rapid.IntRange(0, 40), 64, 64).Draw(rt, "faults")
		failing := rapid.SampledFrom([]string{"", "install Calc", "uninstall Calc"}).Draw(rt, "failing")
		inWorkshop(t, func(w *world, work *labour) {
			if failing != "" {
				work.fails[failing] = "injected"
			}
			n := 0
			w.setInject(func(method, _ string, _ sim.When) error {
				if n++; faults[n%len(faults)] == 1 && strings.HasPrefix(method, "Ensure") {
					return errors.New("injected")
				}
				return nil
			})
			for _, s := range steps {
				var err error
				switch s.Op {
				case "create":
					err = w.createWith("hello", "base", []string{s.Name}, nil)
				case "stage", "unstage":
					err = w.stage("hello", s.Op == "stage", s.Name)
				case "deploy", "retry":
					err = w.deploy("hello", s.Op == "retry")
				case "kill":
					w.kill()
					w.restart()
				case "restart":
					w.restart()
				case "machine stops", "machine goes":
					if b := w.describe("hello"); b != nil {
						if s.Op == "machine stops" {
							_ = w.provider.EnsureStopped(context.Background(), w.record("hello").ID)
						} else {
							_ = w.provider.EnsureGone(context.Background(), w.record("hello").ID)
						}
					}
				default:
					err = w.do(s.Op, "hello")
				}
				if kind := appstream.KindOf(err); err != nil && kind == appstream.Internal {
					t.Fatalf("%s: %v", s.Op, err)
				}
				time.Sleep(s.Wait)
				synctest.Wait()
			}
			w.setInject(nil)
			w.wait("rest", 4*time.Hour, w.steady)
			time.Sleep(2 * time.Minute) // a sweep or two
			synctest.Wait()
			w.wait("rest", time.Hour, w.steady)
			if w.describe("hello") != nil {
				if got := w.software(appstream.NounImageBuilder, "hello"); strings.Contains(got, "PENDING") {
					t.Errorf("at rest: %s", got)
				}
			}
			if i := w.image("image-of-hello"); i != nil {
				if got := w.software(appstream.NounImage, "image-of-hello"); (got != "") != *i.ManagedSoftwareIncluded {
					t.Errorf("ManagedSoftwareIncluded %v, software %q", *i.ManagedSoftwareIncluded, got)
				}
			}
			w.check()
		})
		if t.Failed() {
			rt.Fatalf("steps: %+v", steps)
		}
	})
}

// Who had a session on a fleet with licensed software is counted once in a month, whatever becomes of the server.
func TestLicensesOfSessions(t *testing.T) {
	inFleets(t, 1, func(w *world, c *crew) {
		w.must(w.createWith("hello", "base", []string{"Word", "Calc"}, nil))
		w.reach("hello", "RUNNING")
		w.must(w.do("image", "hello"))
		w.reach("hello", "STOPPED")
		w.fleet("lab", types.FleetTypeAlwaysOn, 2, 1, func(in *appstreamapi.CreateFleetInput) { in.ImageName = aws.String("image-of-hello") })
		w.fleet("plain", types.FleetTypeAlwaysOn, 2, 1)
		w.reachFleet("lab", types.FleetStateRunning, 2)
		w.reachFleet("plain", types.FleetStateRunning, 2)
		used := func(month time.Time) (list []string) {
			out, err := w.svc.DescribeAppLicenseUsage(w.ctx(), &appstreamapi.DescribeAppLicenseUsageInput{BillingPeriod: aws.String(appstream.BillingPeriod(month))})
			w.must(err)
			for _, u := range out.AppLicenseUsages {
				list = append(list, fmt.Sprint(*u.UserId, " ", *u.LicenseType))
				if u.SubscriptionLastUsedDate.Before(*u.SubscriptionFirstUsedDate) {
					t.Errorf("%s: from %s to %s", *u.UserId, u.SubscriptionFirstUsedDate, u.SubscriptionLastUsedDate)
				}
			}
			slices.Sort(list)
			return list
		}
		began := time.Now()
		ada := w.sit("lab", "ada")
		w.sit("plain", "bob") // without licensed software
		if got := used(began); !slices.Equal(got, []string{"ada Words"}) {
			t.Errorf("used: %v", got)
		}
		w.must(w.svc.EndSession(w.ctx(), ada.ID))
		w.wait("cleared", time.Minute, func() bool { return w.session(ada.ID).Cleared })
		w.reachFleet("lab", types.FleetStateRunning, 2)
		w.kill()
		w.restart()
		w.sit("lab", "ada")
		w.sit("lab", "eve")
		if got := used(began); !slices.Equal(got, []string{"ada Words", "eve Words"}) {
			t.Errorf("after a second session: %v", got)
		}

		// It is remembered when the fleet is gone.
		w.must(w.stopFleet("lab"))
		w.wait("STOPPED", time.Hour, func() bool { return w.describeFleet("lab").State == types.FleetStateStopped })
		if got := used(began); len(got) != 2 || len(used(began.AddDate(0, 1, 0))) != 0 {
			t.Errorf("afterwards: %v, and in the next month %v", got, used(began.AddDate(0, 1, 0)))
		}
	})
}
