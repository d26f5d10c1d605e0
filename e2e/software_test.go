package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/e2e/stage"
)

// ownSoftware is a catalogue of programs that need no network: one that is licensed, one that fails until it is helped, and one that takes a while.
const ownSoftware = `
[[software]]
name = "Note"
license = "Note for All"
install.DEBIAN_12 = '''
printf '#!/bin/sh\nexec mousepad "$@"\n' > /usr/local/bin/note
chmod 755 /usr/local/bin/note
AppStreamImageAssistant remove-application --name Note || true
AppStreamImageAssistant add-application --name Note --absolute-app-path /usr/local/bin/note
'''
uninstall.DEBIAN_12 = '''
AppStreamImageAssistant remove-application --name Note || true
rm -f /usr/local/bin/note
'''

[[software]]
name = "Fussy"
install.DEBIAN_12 = '''
echo Fussy looks for its file
test -e /opt/file || { echo the file is not there >&2; exit 7; }
'''
uninstall.DEBIAN_12 = "rm /opt/file"

[[software]]
name = "Slow"
install.DEBIAN_12 = '''
echo begun >> /opt/slow
sleep 5
echo done >> /opt/slow
'''
uninstall.DEBIAN_12 = "rm -f /opt/slow"
`

// software gives the software of a resource, as NAME STATUS, and the errors by name.
func (w *world) software(t testing.TB, arn string) (list []string, errs map[string]string) {
	t.Helper()
	out := must(w.aws.DescribeSoftwareAssociations(limit(t), &appstream.DescribeSoftwareAssociationsInput{AssociatedResource: &arn}))(t)
	errs = map[string]string{}
	for _, a := range out.SoftwareAssociations {
		list = append(list, fmt.Sprint(*a.SoftwareName, " ", a.Status))
		for _, e := range a.DeploymentError {
			errs[*a.SoftwareName] = *e.ErrorMessage
		}
	}
	return list, errs
}

func (w *world) hasSoftware(t testing.TB, arn string, want ...string) map[string]string {
	t.Helper()
	got, errs := w.software(t, arn)
	if !slices.Equal(got, want) {
		t.Errorf("%s has %v, want %v; errors: %v", arn, got, want, errs)
	}
	return errs
}

// awaitSoftware waits until a builder has had all of its software installed, as far as that can be.
func (w *world) awaitSoftware(t testing.TB, name string) {
	t.Helper()
	must(stage.AwaitBuilder(within(t, installTime), w.aws, name, types.ImageBuilderStateRunning))(t)
}

// TestSoftware installs software by name on an image builder, with one that fails and a server that is killed; what is installed is in the image, on a fleet
// made of it, where somebody uses it, and can be removed from a builder made of it.
func TestSoftware(t *testing.T) {
	t.Parallel()
	w := withMachines(t, ownSoftware)
	names, suite := []string{"Fussy", "Note"}, debianAnswers(t)
	if suite {
		names = append(names, "LibreOffice")
	}
	began := time.Now()
	must(w.aws.CreateImageBuilder(limit(t), &appstream.CreateImageBuilderInput{Name: new("maker"), ImageName: new(stage.BaseImage),
		InstanceType: new("stream.standard.medium"), EnableDefaultInternetAccess: new(true), SoftwaresToInstall: names}))(t)
	w.awaitSoftware(t, "maker")
	t.Logf("%v are installed after %s", names, time.Since(began).Round(time.Second))
	if log := w.events("maker"); !strings.Contains(log, string(types.ImageBuilderStateSyncingApps)) {
		t.Errorf("on its way it was not SYNCING_APPS:\n%s", log)
	}
	with := func(list ...string) []string {
		if suite {
			list = append(list, "LibreOffice INSTALLED")
		}
		slices.Sort(list)
		return list
	}
	maker := *must(stage.Builder(limit(t), w.aws, "maker"))(t).Arn
	why := w.hasSoftware(t, maker, with("Fussy FAILED_TO_INSTALL", "Note INSTALLED")...)["Fussy"]
	if !strings.Contains(why, "7") || !strings.HasSuffix(why, "Fussy looks for its file\nthe file is not there") {
		t.Errorf("Fussy says %q", why)
	}
	machine := w.machine(t, "maker")

	// The administrator helps, and tries again; the server is killed meanwhile, and the job goes on without it.
	w.inside(t, machine, "touch /opt/file")
	must(w.aws.AssociateSoftwareToImageBuilder(limit(t), &appstream.AssociateSoftwareToImageBuilderInput{ImageBuilderName: new("maker"), SoftwareNames: []string{"Slow"}}))(t)
	must(w.aws.StartSoftwareDeploymentToImageBuilder(limit(t), &appstream.StartSoftwareDeploymentToImageBuilderInput{ImageBuilderName: new("maker"), RetryFailedDeployments: new(true)}))(t)
	until(t, "Slow is being installed", func() error {
		if _, code, err := w.engine.Exec(limit(t), machine, "root", "test -e /opt/slow"); err != nil || code != 0 {
			return fmt.Errorf("not yet: %v", err)
		}
		return nil
	})
	w.Kill()
	check(t, w.Again(limit(t)))
	w.awaitSoftware(t, "maker")
	w.hasSoftware(t, maker, with("Fussy INSTALLED", "Note INSTALLED", "Slow INSTALLED")...)
	if got := w.inside(t, machine, "cat /opt/slow"); got != "begun\ndone" {
		t.Errorf("Slow was installed %q", got)
	}

	// A removal, which fails and is given up: the software stays.
	w.inside(t, machine, "rm /opt/file")
	must(w.aws.DisassociateSoftwareFromImageBuilder(limit(t), &appstream.DisassociateSoftwareFromImageBuilderInput{ImageBuilderName: new("maker"), SoftwareNames: []string{"Fussy", "Slow"}}))(t)
	must(w.aws.StartSoftwareDeploymentToImageBuilder(limit(t), &appstream.StartSoftwareDeploymentToImageBuilderInput{ImageBuilderName: new("maker")}))(t)
	w.awaitSoftware(t, "maker")
	w.hasSoftware(t, maker, with("Fussy FAILED_TO_UNINSTALL", "Note INSTALLED")...)

	check(t, w.CreateImage(limit(t), "maker", "office"))
	i := must(stage.AwaitImage(limit(t), w.aws, "office", types.ImageStateAvailable))(t)
	w.hasSoftware(t, *i.Arn, with("Fussy INSTALLED", "Note INSTALLED")...)
	applications := map[string]bool{}
	for _, a := range i.Applications {
		applications[*a.Name] = a.IconURL != nil
	}
	if !*i.ManagedSoftwareIncluded || suite && (!applications["LibreOffice_Calc"] || !applications["LibreOffice_Writer"]) {
		t.Errorf("ManagedSoftwareIncluded is %v; applications: %v", *i.ManagedSoftwareIncluded, applications)
	}
	w.remove(t, "maker")

	// A builder of it begins with what the image has, and removes some.
	must(w.aws.CreateImageBuilder(limit(t), &appstream.CreateImageBuilderInput{Name: new("next"), ImageName: new("office"),
		InstanceType: new("stream.standard.medium"), SoftwaresToUninstall: []string{"Note"}}))(t)
	w.awaitSoftware(t, "next")
	w.hasSoftware(t, *must(stage.Builder(limit(t), w.aws, "next"))(t).Arn, with("Fussy INSTALLED")...)
	if got := w.inside(t, w.machine(t, "next"), "ls /usr/local/bin/note 2>&1; AppStreamImageAssistant list-applications"); !strings.Contains(got, "No such file") || strings.Contains(got, `"Note"`) {
		t.Errorf("Note is still there: %s", got)
	}
	w.remove(t, "next")

	w.publish(t, "pool", "office", 1)
	w.use(t, suite)
	w.withdraw(t, "pool")
	w.removeImage(t, "office")
	w.checkEmpty(t)
}

// use has somebody use what is installed, with a browser if there is one, and looks for what is recorded of the license.
func (w *world) use(t *testing.T, suite bool) {
	t.Helper()
	month := func() string { return time.Now().UTC().Format("2006-01") }
	months := []string{month()}
	if suite && os.Getenv("ORIEL_TEST_BROWSER") != "" {
		ada := w.sit(t, "pool", "ada", w.link(t, "pool", "ada"))
		check(t, ada.Launch(limit(t), "LibreOffice_Calc"))
		check(t, ada.Click(limit(t), "[data-panel=windows]"))
		ada.says(t, "#windows-list", "LibreOffice Calc")
		check(t, ada.Desk(limit(t)))
		until(t, "the spreadsheet is drawn", func() error {
			if p := must(ada.Picture(limit(t)))(t); p.Colours < 100 {
				return fmt.Errorf("that is no spreadsheet: %+v", p)
			}
			return nil
		})
		ada.screenshot(limit(t), t, "calc")
		ada.end(t)
	} else {
		ada := w.come(t, "pool", "ada")
		w.awaitSession(t, "pool", ada.Session, types.SessionStateActive)
	}
	months = slices.Compact(append(months, month())) // it may have turned meanwhile
	var list []types.AdminAppLicenseUsageRecord
	for _, m := range months {
		list = append(list, must(w.aws.DescribeAppLicenseUsage(limit(t), &appstream.DescribeAppLicenseUsageInput{BillingPeriod: &m}))(t).AppLicenseUsages...)
	}
	if len(list) != 1 || *list[0].UserId != "ada" || *list[0].LicenseType != "Note for All" ||
		*list[0].UserArn != "arn:aws:appstream:us-east-1:123456789012:user/custom/ada" {
		t.Errorf("used in %s: %+v", months, list)
	}
}
