package service_test

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	api "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/google/go-cmp/cmp"
	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/service"
	"github.com/oriel-project/oriel/internal/store"
)

const office64, visio64, office32, visio2024 = "Microsoft_Office_2021_LTSC_Standard_64Bit", "Microsoft_Visio_2021_LTSC_Standard_64Bit",
	"Microsoft_Office_2021_LTSC_Standard_32Bit", "Microsoft_Visio_2024_LTSC_Professional_64Bit"

// withSoftware has a catalogue: two programs for Debian, Microsoft's for Windows as far as they have installers, and the others.
func withSoftware(cfg *service.Config) {
	cfg.Software = appstream.MicrosoftSoftware()
	for _, name := range []string{"Geany", "GIMP"} {
		cfg.Software[name] = appstream.Software{Name: name, Installers: map[string]appstream.Installer{"DEBIAN_12": {Install: "install", Uninstall: "remove"}}}
	}
	for _, name := range []string{office64, visio64, office32, visio2024} {
		s := cfg.Software[name]
		s.Installers = map[string]appstream.Installer{"WINDOWS_SERVER_2019": {Install: "i", Uninstall: "u"}, "WINDOWS_SERVER_2022": {Install: "i", Uninstall: "u"}}
		cfg.Software[name] = s
	}
}

func (f *fixture) addSoftware(builder string, names ...string) error {
	_, err := f.AssociateSoftwareToImageBuilder(as(me), &api.AssociateSoftwareToImageBuilderInput{ImageBuilderName: &builder, SoftwareNames: names})
	return err
}

func (f *fixture) dropSoftware(builder string, names ...string) error {
	_, err := f.DisassociateSoftwareFromImageBuilder(as(me), &api.DisassociateSoftwareFromImageBuilderInput{ImageBuilderName: &builder, SoftwareNames: names})
	return err
}

func (f *fixture) deploy(builder string, retry bool) error {
	_, err := f.StartSoftwareDeploymentToImageBuilder(as(me), &api.StartSoftwareDeploymentToImageBuilderInput{ImageBuilderName: &builder, RetryFailedDeployments: &retry})
	return err
}

// software gives the software of a resource as the API shows it: NAME STATUS.
func (f *fixture) software(arn string) (list []string) {
	f.t.Helper()
	out, err := f.DescribeSoftwareAssociations(as(me), &api.DescribeSoftwareAssociationsInput{AssociatedResource: &arn})
	f.must(err)
	if *out.AssociatedResource != arn {
		f.t.Errorf("AssociatedResource = %s", *out.AssociatedResource)
	}
	for _, a := range out.SoftwareAssociations {
		list = append(list, fmt.Sprint(*a.SoftwareName, " ", a.Status))
	}
	return list
}

// status gives software a status, as the engine would.
func (f *fixture) status(builder, name string, status types.SoftwareDeploymentStatus) {
	f.t.Helper()
	f.edit(builder, func(b *appstream.ImageBuilder) {
		n := slices.IndexFunc(b.Software, func(d appstream.Deployment) bool { return d.Name == name })
		b.Software[n].Status = status
	})
}

func builderARN(name string) string {
	return "arn:aws:appstream:us-west-2:" + me + ":image-builder/" + name
}

func (f *fixture) has(arn string, want ...string) {
	f.t.Helper()
	if diff := cmp.Diff(want, f.software(arn)); diff != "" {
		f.t.Errorf("software of %s (-want +got):\n%s", arn, diff)
	}
}

// Each status, and where Associate, Disassociate and Start take it. A name that is sent twice counts once.
func TestSoftwareStatuses(t *testing.T) {
	f := newFixture(t, withSoftware)
	f.running("hello")
	hello := builderARN("hello")
	for _, test := range []struct{ status, associated, disassociated, started, retried string }{
		{"STAGED_FOR_INSTALLATION", "STAGED_FOR_INSTALLATION", "", "PENDING_INSTALLATION", "PENDING_INSTALLATION"},
		{"INSTALLED", "INSTALLED", "STAGED_FOR_UNINSTALLATION", "refused", "refused"},
		{"FAILED_TO_INSTALL", "STAGED_FOR_INSTALLATION", "", "refused", "PENDING_INSTALLATION"},
		{"STAGED_FOR_UNINSTALLATION", "INSTALLED", "STAGED_FOR_UNINSTALLATION", "PENDING_UNINSTALLATION", "PENDING_UNINSTALLATION"},
		{"FAILED_TO_UNINSTALL", "STAGED_FOR_INSTALLATION", "STAGED_FOR_UNINSTALLATION", "refused", "PENDING_UNINSTALLATION"},
	} {
		for action, want := range map[string]string{"associate": test.associated, "disassociate": test.disassociated, "start": test.started, "retry": test.retried} {
			f.edit("hello", func(b *appstream.ImageBuilder) {
				b.Software = []appstream.Deployment{{Name: "Geany", Status: types.SoftwareDeploymentStatus(test.status)}}
				if b.State != appstream.BuilderRunning {
					b.Enter(appstream.BuilderSyncingApps, time.Now())
				}
			})
			if f.builder(me, "hello").State == appstream.BuilderSyncingApps {
				f.setState("hello", "RUNNING")
			}
			var err error
			switch action {
			case "associate":
				err = f.addSoftware("hello", "Geany", "Geany")
			case "disassociate":
				err = f.dropSoftware("hello", "Geany", "Geany")
			default:
				err = f.deploy("hello", action == "retry")
			}
			t.Run(action+" "+test.status, func(t *testing.T) {
				f.t = t
				if want == "refused" {
					refused(t, err, appstream.OperationNotPermitted, "No software is staged on the image builder hello")
					want = test.status
				} else {
					f.must(err)
				}
				if want == "" {
					f.has(hello)
				} else {
					f.has(hello, "Geany "+want)
				}
				state := appstream.BuilderRunning
				if strings.HasPrefix(want, "PENDING") {
					state = appstream.BuilderPendingSyncingApps
				}
				if got := f.builder(me, "hello"); got.State != state || (state != appstream.BuilderRunning && got.Due.IsZero()) {
					t.Errorf("the builder is %s, due %s", got.State, got.Due)
				}
			})
		}
	}
}

// Every attempt is a job of its own: the agent remembers those that have ended.
func TestEveryAttemptIsAnotherJob(t *testing.T) {
	f := newFixture(t, withSoftware)
	clients := regexp.MustCompile(regexp.MustCompile(`(?m)^string OrielJobId .* (\S+)$`).FindStringSubmatch(service.ExtensionLimits)[1])
	f.running("hello")
	f.must(f.addSoftware("hello", "Geany", "GIMP"))
	seen := map[string]bool{}
	for range 3 {
		f.must(f.deploy("hello", true))
		for _, d := range f.builder(me, "hello").Software {
			if d.Job == "" || seen[d.Job] {
				t.Errorf("%s has the job %q", d.Name, d.Job)
			}
			if !agentapi.IsID(d.Job) || clients.MatchString(d.Job) { // the agent would take a client's job for it
				t.Errorf("the agent does not take %q, or StartImageBuilderJob does too", d.Job)
			}
			seen[d.Job] = true
		}
		f.setState("hello", "SYNCING_APPS", "RUNNING")
		f.status("hello", "Geany", types.SoftwareDeploymentStatusFailedToInstall)
		f.status("hello", "GIMP", types.SoftwareDeploymentStatusFailedToUninstall)
	}
}

func TestSoftwareAtCreate(t *testing.T) {
	f := newFixture(t, withSoftware)
	f.addImage(me, "office", appstream.ImageAvailable, func(i *appstream.Image) { i.Software = []string{"Geany"} })
	create := func(name string, install, uninstall []string) error {
		_, err := f.CreateImageBuilder(as(me), input(name, func(in *api.CreateImageBuilderInput) {
			in.ImageName, in.SoftwaresToInstall, in.SoftwaresToUninstall = new("office"), install, uninstall
		}))
		return err
	}
	f.must(create("plain", nil, nil))
	f.has(builderARN("plain"), "Geany INSTALLED")
	f.must(create("both", []string{"GIMP"}, []string{"Geany"}))
	f.has(builderARN("both"), "GIMP PENDING_INSTALLATION", "Geany PENDING_UNINSTALLATION")
	f.must(create("again", []string{"Geany"}, nil))
	f.has(builderARN("again"), "Geany INSTALLED")

	refused(t, create("x", []string{"GIMP"}, []string{"GIMP"}), appstream.InvalidParameterCombination, "both name GIMP")
	refused(t, create("x", nil, []string{"GIMP"}), appstream.InvalidParameterCombination, "the image office does not have. It has Geany.")
}

// softwareRows is the part of the table that is about software.
func softwareRows() []row {
	// Builders that run, on two platforms, one of which is stopped, and one at work; an image of another account.
	world := func(f *fixture) {
		f.addImage("", "windows", appstream.ImageAvailable, func(i *appstream.Image) { i.View.Platform = types.PlatformTypeWindowsServer2019 })
		f.addImage(other, "theirs", appstream.ImageAvailable, func(i *appstream.Image) {
			i.Software, i.Permissions = []string{"GIMP", "Geany"}, map[string]types.ImagePermissions{me: {}}
		})
		f.addImage(other, "hidden", appstream.ImageAvailable)
		f.running("hello")
		for _, name := range []string{"stopped", "syncing"} {
			_, err := f.CreateImageBuilder(as(me), input(name))
			f.must(err)
		}
		f.setState("stopped", "RUNNING", "STOPPING", "STOPPED")
		f.setState("syncing", "RUNNING", "PENDING_SYNCING_APPS", "SYNCING_APPS")
		_, err := f.CreateImageBuilder(as(me), input("win", func(in *api.CreateImageBuilderInput) {
			in.ImageName, in.SoftwaresToInstall = new("windows"), []string{office64}
		}))
		f.must(err)
		f.setState("win", "RUNNING")
	}
	staged := func(f *fixture) { world(f); f.must(f.addSoftware("hello", "Geany", "GIMP", "Geany")) }
	add := func(builder string, names ...string) any {
		return &api.AssociateSoftwareToImageBuilderInput{ImageBuilderName: &builder, SoftwareNames: names}
	}
	drop := func(builder string, names ...string) any {
		return &api.DisassociateSoftwareFromImageBuilderInput{ImageBuilderName: &builder, SoftwareNames: names}
	}
	start := func(builder string) any {
		return &api.StartSoftwareDeploymentToImageBuilderInput{ImageBuilderName: &builder}
	}
	describe := func(arn string, size int) any {
		return &api.DescribeSoftwareAssociationsInput{AssociatedResource: &arn, MaxResults: new(int32(size))}
	}
	usage := func(month string) any { return &api.DescribeAppLicenseUsageInput{BillingPeriod: &month} }
	create := func(fn func(*api.CreateImageBuilderInput)) any { return input("new", fn) }
	install := func(names ...string) func(*api.CreateImageBuilderInput) {
		return func(in *api.CreateImageBuilderInput) { in.SoftwaresToInstall = names }
	}
	has := func(arn string, want ...string) func(*testing.T, *fixture, any) {
		return func(t *testing.T, f *fixture, _ any) {
			if diff := cmp.Diff(want, f.software(arn)); diff != "" {
				t.Errorf("software (-want +got):\n%s", diff)
			}
		}
	}
	names := func(out *api.DescribeSoftwareAssociationsOutput) (names []*string) {
		for _, a := range out.SoftwareAssociations {
			names = append(names, a.SoftwareName)
		}
		return names
	}
	token := func(out *api.DescribeSoftwareAssociationsOutput) *string { return out.NextToken }
	const image = "arn:aws:appstream:us-west-2:" + other + ":image/"
	list := []row{
		{name: "success", in: add("hello", "Geany", "GIMP", "Geany"), then: has(builderARN("hello"), "GIMP STAGED_FOR_INSTALLATION", "Geany STAGED_FOR_INSTALLATION")},
		{name: "stopped", in: add("stopped", "Geany"), then: has(builderARN("stopped"), "Geany STAGED_FOR_INSTALLATION")},
		{name: "of the same version and architecture", in: add("win", visio64), then: has(builderARN("win"), office64+" PENDING_INSTALLATION", visio64+" STAGED_FOR_INSTALLATION")},
		{name: "in place of what leaves", given: func(f *fixture) {
			world(f)
			f.status("win", office64, types.SoftwareDeploymentStatusInstalled)
			f.must(f.dropSoftware("win", office64))
		}, in: add("win", office32), then: has(builderARN("win"), office32+" STAGED_FOR_INSTALLATION", office64+" STAGED_FOR_UNINSTALLATION")},
		{name: "missing", in: add("nope", "Geany"), want: appstream.ResourceNotFound, says: "nope for account"},
		{name: "at work", in: add("syncing", "Geany"), want: appstream.OperationNotPermitted, says: "is SYNCING_APPS. The image builder must be in a RUNNING or STOPPED state"},
		{name: "nothing", in: add("hello", []string{}...), want: appstream.InvalidParameterCombination, says: "SoftwareNames is empty"},
		{name: "unknown", in: add("hello", "Geany", "Word"), want: appstream.ResourceNotFound, says: `no software named "Word". What this server can install on DEBIAN_12: GIMP, Geany.`},
		{name: "no installer", in: add("hello", "Microsoft_Project_2021_Professional_32Bit"), want: appstream.OperationNotPermitted,
			says: "No installer of Microsoft_Project_2021_Professional_32Bit is configured on this server."},
		{name: "no installer for the platform", in: add("win", "Geany"), want: appstream.IncompatibleImage, says: "Geany cannot be installed on WINDOWS_SERVER_2019. There are installers of it for DEBIAN_12."},
		{name: "2024 on Windows Server 2019", in: add("win", visio2024), want: appstream.IncompatibleImage, says: "Use an image of Windows Server 2022 or 2025."},
		{name: "another architecture", in: add("win", office32), want: appstream.InvalidParameterCombination, says: "same version and architecture"},

		{name: "success", given: staged, in: drop("hello", "Geany"), then: has(builderARN("hello"), "GIMP STAGED_FOR_INSTALLATION")},
		{name: "missing", in: drop("nope", "Geany"), want: appstream.ResourceNotFound, says: "nope for account"},
		{name: "not associated", in: drop("win", "Geany"), want: appstream.ResourceNotFound, says: "Associated are " + office64},
		{name: "at work", in: drop("syncing", "Geany"), want: appstream.OperationNotPermitted, says: "is SYNCING_APPS"},
		{name: "nothing", in: drop("hello", []string{}...), want: appstream.InvalidParameterCombination, says: "SoftwareNames is empty"},

		{name: "success", given: staged, in: start("hello"), then: has(builderARN("hello"), "GIMP PENDING_INSTALLATION", "Geany PENDING_INSTALLATION")},
		{name: "missing", in: start("nope"), want: appstream.ResourceNotFound, says: "nope for account"},
		{name: "stopped", in: start("stopped"), want: appstream.OperationNotPermitted, says: "is STOPPED. The image builder must be in a RUNNING state"},
		{name: "at work", in: start("syncing"), want: appstream.OperationNotPermitted, says: "is SYNCING_APPS"},
		{name: "nothing staged", in: start("hello"), want: appstream.OperationNotPermitted, says: "No software is staged on the image builder hello"},

		{name: "success", given: staged, in: describe(builderARN("hello"), 0), then: lists(names, token, "GIMP Geany", false)},
		{name: "a page", given: staged, in: describe(builderARN("hello"), 1), then: lists(names, token, "GIMP", true)},
		{name: "of a shared image", in: describe(image+"theirs", 1), then: lists(names, token, "GIMP", true)},
		{name: "of nothing", in: describe(builderARN("hello"), 0), then: lists(names, token, "", false)},
		{name: "missing", in: describe(builderARN("nope"), 0), want: appstream.ResourceNotFound, says: "does not exist"},
		{name: "another account's builder", in: describe("arn:aws:appstream:us-west-2:"+other+":image-builder/hello", 0), want: appstream.ResourceNotFound, says: "does not exist"},
		{name: "another region's builder", in: describe("arn:aws:appstream:eu-west-1:"+me+":image-builder/hello", 0), want: appstream.ResourceNotFound, says: "does not exist"},
		{name: "another account's image", in: describe(image+"hidden", 0), want: appstream.ResourceNotFound, says: "does not exist"},
		{name: "a fleet", in: describe("arn:aws:appstream:us-west-2:"+me+":fleet/x", 0), want: appstream.OperationNotPermitted, says: "not the ARN of an image or an image builder"},

		{name: "success", in: usage("2026-11")},
		{name: "another form", in: usage("11-2026"), want: appstream.InvalidParameterCombination, says: "yyyy-mm"},
		{name: "a thirteenth month", in: usage("2026-13"), want: appstream.InvalidParameterCombination, says: "yyyy-mm"},

		{name: "with software", in: create(install("Geany")), then: has(builderARN("new"), "Geany PENDING_INSTALLATION")},
		{name: "software for another platform", in: create(install(visio64)), want: appstream.IncompatibleImage, says: "There are installers of it for WINDOWS_SERVER_2019, WINDOWS_SERVER_2022."},
		{name: "software without an installer", in: create(install("Microsoft_Project_2024_Standard_64Bit")), want: appstream.OperationNotPermitted, says: "[[software]]"},
		{name: "unknown software", in: create(install("Gimp")), want: appstream.ResourceNotFound, says: `There is no software named "Gimp".`},
		{name: "software that the image does not have", in: create(func(in *api.CreateImageBuilderInput) { in.SoftwaresToUninstall = []string{"GIMP"} }),
			want: appstream.InvalidParameterCombination, says: "SoftwaresToUninstall names GIMP, which the image base does not have. It has none."},
		{name: "at work", in: &api.StopImageBuilderInput{Name: new("syncing")}, want: appstream.OperationNotPermitted, says: "is SYNCING_APPS"},
		{name: "at work", in: &api.CreateImageBuilderStreamingURLInput{Name: new("syncing")}, want: appstream.OperationNotPermitted, says: "is SYNCING_APPS"},
		{name: "at work", in: &api.DeleteImageBuilderInput{Name: new("syncing")}},
	}
	for n := range list {
		list[n].setup = withSoftware
		if list[n].given == nil {
			list[n].given = world
		}
	}
	return list
}

// What is installed goes on into the image, its copies, fleets of it and builders that are made of it.
func TestSoftwareOfAnImage(t *testing.T) {
	f := newFixture(t, withSoftware)
	f.running("hello")
	f.edit("hello", func(b *appstream.ImageBuilder) {
		for name, status := range map[string]types.SoftwareDeploymentStatus{"in": "INSTALLED", "half": "FAILED_TO_UNINSTALL", "leaving": "STAGED_FOR_UNINSTALLATION",
			"failed": "FAILED_TO_INSTALL", "staged": "STAGED_FOR_INSTALLATION"} {
			b.Software = append(b.Software, appstream.Deployment{Name: name, Status: status})
		}
		slices.SortFunc(b.Software, func(x, y appstream.Deployment) int { return strings.Compare(x.Name, y.Name) })
	})
	out, err := f.CreateImage(as(me), &service.CreateImageInput{ImageBuilderName: new("hello"), Name: new("office")})
	f.must(err)
	if !*out.Image.ManagedSoftwareIncluded {
		t.Error("ManagedSoftwareIncluded is false")
	}
	want := []string{"half INSTALLED", "in INSTALLED", "leaving INSTALLED"}
	f.has(*out.Image.Arn, want...)
	f.available("office")
	_, err = f.CopyImage(as(me), copyInput("office", "second", "us-west-2"))
	f.must(err)
	f.has("arn:aws:appstream:us-west-2:"+me+":image/second", want...)
	_, err = f.CreateImageBuilder(as(me), input("next", func(in *api.CreateImageBuilderInput) { in.ImageName = new("office") }))
	f.must(err)
	f.has(builderARN("next"), want...)
	f.fleet("people", appstream.FleetStopped, func(in *api.CreateFleetInput) { in.ImageName = new("office") })
	if fleet := f.editFleet("people", func(*appstream.Fleet) {}); !slices.Equal(fleet.Software, []string{"half", "in", "leaving"}) {
		t.Errorf("the fleet has %v", fleet.Software)
	}
	_, err = f.UpdateFleet(as(me), &api.UpdateFleetInput{Name: new("people"), ImageName: new("base")})
	f.must(err)
	if fleet := f.editFleet("people", func(*appstream.Fleet) {}); len(fleet.Software) > 0 {
		t.Errorf("with another image, the fleet has %v", fleet.Software)
	}
}

func TestDescribeAppLicenseUsage(t *testing.T) {
	f := newFixture(t)
	day := time.Date(2026, 10, 31, 23, 0, 0, 0, time.UTC)
	add := func(account, user, license string, auth types.AuthenticationType, at time.Time) {
		u := appstream.LicenseUsage{Meta: appstream.Meta{Key: appstream.Key{Account: account, Region: "us-west-2", Noun: appstream.NounLicenseUsage,
			Name: appstream.UsagePrefix(at, auth, user) + license}, ID: account + user + string(auth) + license + at.String()},
			Owner: account, UserID: user, AuthType: auth, License: license, First: at, Last: at.Add(time.Minute)}
		u.Enter(appstream.LicenseRecorded, at, 0)
		f.must(f.store.Update(context.Background(), func(tx store.Tx) error { return tx.Insert(&u) }))
	}
	add(me, "ada", "Microsoft Office", types.AuthenticationTypeApi, day)
	add(me, "ada", "Microsoft Visio", types.AuthenticationTypeApi, day)
	add(me, "ada", "Microsoft Office", types.AuthenticationTypeSaml, day)
	add(me, "ada", "Microsoft Office", types.AuthenticationTypeApi, day.Add(2*time.Hour)) // in the next month
	add(other, "bob", "Microsoft Office", types.AuthenticationTypeApi, day)
	in := &api.DescribeAppLicenseUsageInput{BillingPeriod: new("2026-10"), MaxResults: new(int32(2))}
	var got []string
	for pages := 0; ; pages++ {
		out, err := f.DescribeAppLicenseUsage(as(me), in)
		f.must(err)
		for _, u := range out.AppLicenseUsages {
			got = append(got, fmt.Sprint(*u.BillingPeriod, " ", *u.UserArn, " ", *u.UserId, " ", *u.LicenseType))
			if *u.OwnerAWSAccountId != me || !u.SubscriptionFirstUsedDate.Equal(day) || !u.SubscriptionLastUsedDate.Equal(day.Add(time.Minute)) {
				t.Errorf("record: %+v", u)
			}
		}
		if in.NextToken = out.NextToken; in.NextToken == nil {
			if pages != 1 {
				t.Errorf("%d pages", pages+1)
			}
			break
		}
	}
	slices.Sort(got)
	arn := "arn:aws:appstream:us-west-2:" + me + ":user/"
	if diff := cmp.Diff([]string{"2026-10 " + arn + "custom/ada ada Microsoft Office", "2026-10 " + arn + "custom/ada ada Microsoft Visio",
		"2026-10 " + arn + "federated/ada ada Microsoft Office"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	out, err := f.DescribeAppLicenseUsage(as(me), &api.DescribeAppLicenseUsageInput{BillingPeriod: new("2025-01")})
	f.must(err)
	if len(out.AppLicenseUsages) > 0 || out.NextToken != nil {
		t.Errorf("of a month without sessions: %+v", out)
	}
}

// The software of an image builder is told in its own region, as everything else of it is.
func TestSoftwareInAnotherRegion(t *testing.T) {
	f := newFixture(t, withSoftware)
	far := appstream.ImageBuilder{Meta: appstream.Meta{Key: appstream.Key{Account: me, Region: "eu-west-1", Noun: appstream.NounImageBuilder, Name: "far"}, ID: "ib-far"}}
	far.Enter(appstream.BuilderPending, time.Now())
	f.must(f.store.Update(t.Context(), func(tx store.Tx) error { return tx.Insert(&far) }))
	_, err := f.DescribeSoftwareAssociations(as(me), &api.DescribeSoftwareAssociationsInput{AssociatedResource: new(far.ARN())})
	refused(t, err, appstream.ResourceNotFound, "far for account "+me+" does not exist")
}

// Software is staged on image builders that run or are stopped; one that FAILED is repaired first.
func TestSoftwareOfABrokenBuilder(t *testing.T) {
	f := newFixture(t, withSoftware)
	f.running("hello")
	f.setState("hello", "FAILED")
	refused(t, f.addSoftware("hello", "Geany"), appstream.OperationNotPermitted, "The image builder hello is FAILED. The image builder must be in a RUNNING or STOPPED state")
}
