package appstream

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var testCatalogue = map[string]Software{
	"Geany": {Name: "Geany", Installers: map[string]Installer{"DEBIAN_12": {"apt-get install geany", "apt-get purge geany"}}},
	"Suite": {Name: "Suite", License: "The suite", Installers: map[string]Installer{"DEBIAN_12": {"install suite", "remove suite"}}},
}

// deploying is a builder with pending software.
func deploying(state string, list ...Deployment) ImageBuilder {
	return builder(state, provisioned, func(b *ImageBuilder) { b.Software, b.View.Platform = list, "DEBIAN_12" })
}

func pending(name string) Deployment {
	return Deployment{Name: name, Status: pendingIn, Job: "software-" + name}
}
func leaving(name string) Deployment {
	return Deployment{Name: name, Status: pendingOut, Job: "software-" + name}
}

func TestPlanSoftware(t *testing.T) {
	running := Machine{ID: "ib-1", Phase: MachineRunning, IPv4: "10.0.0.2", AgentVersion: "11-21-2026"}
	ready := Agent{Answers: true, Ready: true}
	geany := deploying(BuilderSyncingApps, pending("Geany"))
	known, unknown := JobStatus{Answers: true, Known: true}, JobStatus{Answers: true}
	done := JobStatus{Answers: true, Known: true, Ended: true}
	failed := JobStatus{Answers: true, Known: true, Ended: true, Problem: "install Geany ended with code 100", Output: "E: no such package\n"}
	quiet := deploying(BuilderSyncingApps, pending("Geany"))
	quiet.SilentSince = t0
	starting := running
	starting.NextChange = t0.Add(silenceLimit + time.Second)
	for name, test := range map[string]struct {
		snapshot BuilderSnapshot
		after    time.Duration
		state    string
		do       []string
		software string // NAME STATUS, …
	}{
		"a new builder's software comes before RUNNING": {BuilderSnapshot{Builder: deploying(BuilderPending, pending("Geany")), Machine: running, Agent: ready}, 0,
			BuilderPendingSyncingApps, nil, "Geany PENDING_INSTALLATION"},
		"what is staged does not": {BuilderSnapshot{Builder: deploying(BuilderPending, Deployment{Name: "Geany", Status: stagedIn}), Machine: running, Agent: ready}, 0,
			BuilderRunning, nil, "Geany STAGED_FOR_INSTALLATION"},
		"the agent answers":            {BuilderSnapshot{Builder: deploying(BuilderPendingSyncingApps, pending("Geany")), Machine: running, Agent: ready}, 0, BuilderSyncingApps, nil, "Geany PENDING_INSTALLATION"},
		"the agent is waited for":      {BuilderSnapshot{Builder: deploying(BuilderPendingSyncingApps, pending("Geany")), Machine: running}, 0, BuilderPendingSyncingApps, nil, "Geany PENDING_INSTALLATION"},
		"the agent never answers":      {BuilderSnapshot{Builder: deploying(BuilderPendingSyncingApps, pending("Geany")), Machine: running}, 2 * time.Hour, BuilderFailed, nil, "Geany STAGED_FOR_INSTALLATION"},
		"a job is begun":               {BuilderSnapshot{Builder: geany, Machine: running, Job: unknown}, 0, BuilderSyncingApps, []string{"EnsureJobBegun"}, "Geany PENDING_INSTALLATION"},
		"a job is waited for":          {BuilderSnapshot{Builder: geany, Machine: running, Job: known}, 0, BuilderSyncingApps, nil, "Geany PENDING_INSTALLATION"},
		"a job is done":                {BuilderSnapshot{Builder: geany, Machine: running, Job: done}, 0, BuilderSyncingApps, nil, "Geany INSTALLED"},
		"a job is done at last":        {BuilderSnapshot{Builder: geany, Machine: running, Job: done}, 3 * time.Hour, BuilderSyncingApps, nil, "Geany INSTALLED"},
		"a job fails":                  {BuilderSnapshot{Builder: geany, Machine: running, Job: failed}, 0, BuilderSyncingApps, nil, "Geany FAILED_TO_INSTALL"},
		"a removal is done":            {BuilderSnapshot{Builder: deploying(BuilderSyncingApps, leaving("Geany"), pending("Suite")), Machine: running, Job: done}, 0, BuilderSyncingApps, nil, "Suite PENDING_INSTALLATION"},
		"a removal fails":              {BuilderSnapshot{Builder: deploying(BuilderSyncingApps, pending("Geany"), leaving("Suite")), Machine: running, Job: failed}, 0, BuilderSyncingApps, nil, "Geany PENDING_INSTALLATION, Suite FAILED_TO_UNINSTALL"},
		"a job takes too long":         {BuilderSnapshot{Builder: deploying(BuilderSyncingApps, pending("Geany"), pending("Suite")), Machine: running, Job: known}, 2 * time.Hour, BuilderFailed, nil, "Geany FAILED_TO_INSTALL, Suite STAGED_FOR_INSTALLATION"},
		"all have had their turn":      {BuilderSnapshot{Builder: deploying(BuilderSyncingApps, Deployment{Name: "Geany", Status: failedIn}), Machine: running, Job: unknown}, 0, BuilderRunning, nil, "Geany FAILED_TO_INSTALL"},
		"a machine that ended starts":  {BuilderSnapshot{Builder: geany, Machine: Machine{Phase: MachineStopped, ExitCode: ExitReboot}}, 0, BuilderSyncingApps, []string{"EnsureStarted"}, "Geany PENDING_INSTALLATION"},
		"one that was powered off too": {BuilderSnapshot{Builder: deploying(BuilderPendingSyncingApps, pending("Geany")), Machine: Machine{Phase: MachineStopped, ExitCode: ExitPowerOff}}, 0, BuilderPendingSyncingApps, []string{"EnsureStarted"}, "Geany PENDING_INSTALLATION"},
		"a machine that cannot be up":  {BuilderSnapshot{Builder: builder(BuilderSyncingApps, bootedOften, func(b *ImageBuilder) { b.Software = []Deployment{pending("Geany")} }), Machine: Machine{Phase: MachineStopped}}, 0, BuilderFailed, nil, "Geany FAILED_TO_INSTALL"},
		"a machine that vanished":      {BuilderSnapshot{Builder: geany}, 0, BuilderFailed, nil, "Geany STAGED_FOR_INSTALLATION"},
		"an agent that is silent":      {BuilderSnapshot{Builder: quiet, Machine: running}, silenceLimit - 1, BuilderSyncingApps, nil, "Geany PENDING_INSTALLATION"},
		"an agent silent for too long": {BuilderSnapshot{Builder: quiet, Machine: running}, silenceLimit, BuilderSyncingApps, []string{"EnsureStopped"}, "Geany PENDING_INSTALLATION"},
		"a machine that still starts":  {BuilderSnapshot{Builder: quiet, Machine: starting}, silenceLimit, BuilderSyncingApps, nil, "Geany PENDING_INSTALLATION"},
		"the command is there no more": {BuilderSnapshot{Builder: deploying(BuilderSyncingApps, pending("Gone")), Machine: running, Job: unknown}, 0, BuilderSyncingApps, nil, "Gone FAILED_TO_INSTALL"},
		"its removal is there no more": {BuilderSnapshot{Builder: deploying(BuilderSyncingApps, leaving("Gone")), Machine: running, Job: unknown}, 0, BuilderSyncingApps, nil, "Gone FAILED_TO_UNINSTALL"},
		"a fault that lasts":           {BuilderSnapshot{Builder: func() ImageBuilder { b := deploying(BuilderSyncingApps, pending("Geany")); faulty(&b); return b }(), Machine: running, Job: known}, 0, BuilderFailed, nil, "Geany FAILED_TO_INSTALL"},
	} {
		t.Run(name, func(t *testing.T) {
			test.snapshot.Software = testCatalogue
			d := PlanImageBuilder(test.snapshot, t0.Add(test.after))
			if d.Next.State != test.state || d.Remove {
				t.Errorf("state %s, want %s (why: %s)", d.Next.State, test.state, d.Why)
			}
			if diff := cmp.Diff(test.do, verbs(d.Do)); diff != "" {
				t.Errorf("actions (-want +got):\n%s", diff)
			}
			var got []string
			for _, s := range d.Next.Software {
				got = append(got, fmt.Sprint(s.Name, " ", s.Status))
				if (s.Status == failedIn || s.Status == failedOut) != (len(s.Error) == 1) && test.snapshot.Builder.status(s.Name) != s.Status {
					t.Errorf("%s is %s with the errors %v", s.Name, s.Status, s.Error)
				}
			}
			if got := strings.Join(got, ", "); got != test.software {
				t.Errorf("software: %s\nwant %s", got, test.software)
			}
			if d.Again.IsZero() && builderDeadlines[d.Next.State] > 0 {
				t.Error("nobody looks at it again")
			}
			if (d.Next.State == BuilderRunning) != (d.Next.View.NetworkAccessConfiguration != nil && d.Next.View.NetworkAccessConfiguration.EniPrivateIpAddress != nil) &&
				test.snapshot.Builder.State == BuilderSyncingApps {
				t.Errorf("%s with the network %+v", d.Next.State, d.Next.View.NetworkAccessConfiguration)
			}
		})
	}
}

// A job has the command that was asked for, under the ID that Job gives.
func TestSoftwareJob(t *testing.T) {
	for _, test := range []struct {
		what Deployment
		want JobStep
	}{
		{pending("Geany"), JobStep{Name: "install Geany", Command: "apt-get install geany", Time: installTime}},
		{leaving("Geany"), JobStep{Name: "uninstall Geany", Command: "apt-get purge geany", Time: installTime}},
	} {
		b := deploying(BuilderSyncingApps, test.what)
		d := PlanImageBuilder(BuilderSnapshot{Builder: b, Machine: Machine{Phase: MachineRunning}, Job: JobStatus{Answers: true}, Software: testCatalogue}, t0)
		want := []Action{EnsureJobBegun{Machine: b.ID, Job: Job{ID: b.Job(), Steps: []JobStep{test.want}}}}
		if diff := cmp.Diff(want, d.Do); diff != "" || b.Job() == "" {
			t.Errorf("job %q (-want +got):\n%s", b.Job(), diff)
		}
	}
	for _, state := range []string{BuilderRunning, BuilderPendingSyncingApps, BuilderPending, BuilderDeleting} {
		if b := deploying(state, pending("Geany")); b.Job() != "" {
			t.Errorf("a builder that is %s has the job %s", state, b.Job())
		}
	}
}

// What is told of a failure is bounded, is text, and has the end of what the command wrote.
func TestDeploymentError(t *testing.T) {
	b := deploying(BuilderSyncingApps, pending("Geany"))
	output := strings.Repeat("ü", 8000) + "the last line\n"
	d := PlanImageBuilder(BuilderSnapshot{Builder: b, Machine: Machine{Phase: MachineRunning}, Software: testCatalogue,
		Job: JobStatus{Answers: true, Known: true, Ended: true, Problem: "it ended with code 1", Output: output}}, t0)
	e := Associations(d.Next.Software)[0].DeploymentError[0]
	text := *e.ErrorMessage
	if *e.ErrorCode != "INSTALLATION_FAILED" || !strings.HasPrefix(text, "it ended with code 1 (The image builder has no way to the internet") ||
		!strings.HasSuffix(text, "ü"+"the last line") || len(text) > maxDeploymentError+300 || !utf8.ValidString(text) {
		t.Errorf("%d bytes: %.200s … %s", len(text), text, text[max(0, len(text)-60):])
	}
	b.View.EnableDefaultInternetAccess = new(true)
	if text := b.deploymentError(JobStatus{Problem: "it ended"}); text != "it ended" {
		t.Errorf("with a way to the internet: %q", text)
	}
}

// A machine that vanished took with it what was installed; the next one has what its image has, and the rest is staged.
func TestSoftwareOfAVanishedMachine(t *testing.T) {
	b := builder(BuilderRunning, func(b *ImageBuilder) {
		b.ImageSoftware = []string{"a", "b", "c"}
		b.Software = []Deployment{{Name: "a", Status: installed}, {Name: "b", Status: failedOut}, {Name: "d", Status: installed}, {Name: "e", Status: failedIn}, {Name: "f", Status: stagedOut}}
	})
	d := PlanImageBuilder(BuilderSnapshot{Builder: b}, t0)
	want := []Deployment{{Name: "a", Status: installed}, {Name: "b", Status: installed}, {Name: "c", Status: installed}, {Name: "d", Status: stagedIn}, {Name: "e", Status: stagedIn}}
	if diff := cmp.Diff(want, d.Next.Software); diff != "" || d.Next.State != BuilderFailed {
		t.Errorf("%s (-want +got):\n%s", d.Next.State, diff)
	}
}

// Whatever is asked for in whatever order: the list stays sorted and each name is there once, nothing is pending without a job, no two have the same job, and
// the record that it was before is not written into.
func TestSoftwareProperties(t *testing.T) {
	names := []string{"a", "b", "c"}
	rapid.Check(t, func(t *rapid.T) {
		b := builder(BuilderRunning)
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			before := b
			was := slices.Clone(b.Software)
			some := rapid.SliceOfN(rapid.SampledFrom(names), 1, 3).Draw(t, "names")
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0:
				b.Associate(some)
			case 1:
				_ = b.Disassociate(some)
			case 2:
				b.Deploy(rapid.Bool().Draw(t, "retry"))
			case 3:
				if d := b.current(); d != nil {
					b.failed(d, "why")
				}
			case 4:
				if d := b.current(); d != nil && d.Status == pendingIn {
					b.setStatus(d.Name, installed)
				}
			case 5:
				b.undeploy("why")
			}
			if !reflect.DeepEqual(was, before.Software) {
				t.Fatalf("%v has become %v", was, before.Software)
			}
			jobs := map[string]bool{}
			for n, d := range b.Software {
				if n > 0 && b.Software[n-1].Name >= d.Name {
					t.Fatalf("not in order: %v", b.Software)
				}
				if pending := d.Status == pendingIn || d.Status == pendingOut; pending && (d.Job == "" || jobs[d.Job]) {
					t.Fatalf("jobs: %v", b.Software)
				}
				jobs[d.Job] = true
			}
		}
	})
}

func TestMicrosoftSoftware(t *testing.T) {
	list := MicrosoftSoftware()
	if len(list) != 24 {
		t.Errorf("%d names, the API documents 24", len(list))
	}
	for _, name := range []string{"Microsoft_Office_2021_LTSC_Professional_Plus_32Bit", "Microsoft_Visio_2024_LTSC_Professional_64Bit", "Microsoft_Project_2021_Professional_32Bit",
		"Microsoft_Project_2024_Standard_64Bit", "Microsoft_Visio_2021_LTSC_Standard_64Bit", "Microsoft_Office_2024_LTSC_Standard_32Bit"} {
		s, ok := list[name]
		if version, bits := microsoft(name); !ok || len(s.Installers) > 0 || s.License == "" || !strings.Contains(name, "_"+version+"_") || !strings.HasSuffix(name, bits) {
			t.Errorf("%s: %+v, %s, %s", name, s, version, bits)
		}
	}
	if version, _ := microsoft("Microsoft_Paint"); version != "" {
		t.Error("Microsoft_Paint has a version")
	}
}

func TestPlanLicenses(t *testing.T) {
	late := time.Date(2026, 10, 31, 23, 59, 0, 0, time.UTC)
	i := Instance{Meta: Meta{ID: "i-1"}, Software: []string{"Geany", "Suite"}}
	i.Enter(InstanceInUse, late)
	session := Session{Meta: Meta{Key: Key{"123456789012", "us-east-1", NounSession, "fleet/x/s1"}, ID: "s1"}, UserID: "ada", AuthType: types.AuthenticationTypeApi,
		InstanceID: i.ID, MaxEnd: late.Add(time.Hour)}
	session.EnterPending(late)
	s := SessionSnapshot{Session: session, Instance: &i, Machine: Machine{Phase: MachineRunning}, Seat: SeatStatus{Answers: true, Known: true, Ready: true}, Software: testCatalogue}
	usage := func(d Decision[Session]) *LicenseUsage {
		for _, also := range d.Also {
			if u, ok := also.Record.(*LicenseUsage); ok {
				return u
			}
		}
		return nil
	}
	began := PlanSession(s, late)
	first := usage(began)
	if began.Next.State != SessionActive || first == nil || first.License != "The suite" || first.Name != UsagePrefix(late, "API", "ada")+"The suite" || !first.First.Equal(late) ||
		!first.Last.Equal(late) || first.State != LicenseRecorded || first.Due.IsZero() || first.Version != 0 {
		t.Fatalf("the session is %s and uses %+v", began.Next.State, first)
	}
	first.Version = 1

	// Its end in the same month renews the date; in the next month, it is a use of that one too.
	for _, test := range []struct {
		end   time.Time
		known []LicenseUsage
		first time.Time
	}{{late.Add(30 * time.Second), []LicenseUsage{*first}, late}, {late.Add(10 * time.Minute), nil, late.Add(10 * time.Minute)}} {
		s := s
		s.Session = began.Next
		s.Session.End(EndByUser, test.end)
		s.Session.Unseated = true
		s.Seat, s.Usages = SeatStatus{Answers: true}, test.known
		d := PlanSession(s, test.end.Add(time.Second))
		u := usage(d)
		if !d.Next.Cleared || u == nil || !u.First.Equal(test.first) || !u.Last.Equal(test.end) || *u.Describe().BillingPeriod != BillingPeriod(test.end) {
			t.Errorf("at the end: %+v", u)
		}
		s.Session = d.Next
		if d = PlanSession(s, test.end.Add(2*time.Second)); usage(d) != nil {
			t.Errorf("cleared already, and counts %+v", usage(d))
		}
	}

	// One that ended before another began, and is cleared after that, takes no date back.
	other := *first
	other.Last = late.Add(time.Minute)
	earlier := s
	earlier.Session = began.Next
	earlier.Session.End(EndByUser, late.Add(30*time.Second))
	earlier.Session.Unseated = true
	earlier.Seat, earlier.Usages = SeatStatus{Answers: true}, []LicenseUsage{other}
	if d := PlanSession(earlier, late.Add(2*time.Minute)); !d.Next.Cleared || usage(d) != nil {
		t.Errorf("cleared late: %+v", usage(d))
	}

	// A session that had no desktop used nothing, and neither did one without such software.
	s.Session.End(EndNotStarted, late)
	s.Session.Unseated = true
	s.Seat = SeatStatus{Answers: true}
	if u := usage(PlanSession(s, late)); u != nil {
		t.Errorf("it never began, and counts %+v", u)
	}
	s.Session, s.Seat, i.Software = session, SeatStatus{Answers: true, Known: true, Ready: true}, []string{"Geany", "removed from the configuration"}
	if d := PlanSession(s, late); usage(d) != nil || d.Next.State != SessionActive {
		t.Errorf("without licensed software: %+v", usage(d))
	}

	if d := PlanLicenseUsage(*first, late.Add(usageMemory-1)); d.Remove || !d.Again.Equal(late.Add(usageMemory)) {
		t.Errorf("before its time: %+v", d)
	}
	if d := PlanLicenseUsage(*first, late.Add(usageMemory)); !d.Remove {
		t.Error("it is remembered for ever")
	}
}
