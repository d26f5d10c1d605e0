package config

import (
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/oriel-project/oriel/internal/appstream"
)

// What ships obeys the rules for what users write, is documented, and has commands that a shell can read.
func TestShippedSoftware(t *testing.T) {
	c := Default()
	c.Software = shippedSoftware()
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/software.md")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range shippedSoftware() {
		names = append(names, s.Name)
		if s.License != "" || s.Description == "" {
			t.Errorf("%s: license %q, description %q", s.Name, s.License, s.Description)
		}
		if !strings.Contains(string(page), "| `"+s.Name+"` |") {
			t.Errorf("docs/software.md does not list %s", s.Name)
		}
		for _, command := range []string{s.Install["DEBIAN_12"], s.Uninstall["DEBIAN_12"]} {
			sh := exec.Command("/bin/sh", "-n", "-e")
			sh.Stdin = strings.NewReader(command)
			if out, err := sh.CombinedOutput(); err != nil || command == "" {
				t.Errorf("%s: %v: %s", s.Name, err, out)
			}
		}
	}
	if want := []string{"LibreOffice", "Firefox_ESR", "GIMP", "Geany"}; !slices.Equal(names, want) {
		t.Errorf("what ships is %v", names)
	}
}

func TestCatalogue(t *testing.T) {
	c, err := load(t, `
		[[software]]
		name = "LibreOffice"
		license = "Support contract"
		[[software]]
		name = "Geany"
		install.DEBIAN_12 = ""
		[[software]]
		name = "GIMP"
		description = "Ours"
		install.DEBIAN_12 = "ours"
		uninstall.DEBIAN_12 = "not ours"
		[[software]]
		name = "Microsoft_Project_2021_Standard_64Bit"
		install.WINDOWS_SERVER_2022 = "setup.exe"
		uninstall.WINDOWS_SERVER_2022 = "setup.exe /remove"
		[[software]]
		name = "Payroll"
		license = "Payroll"
		[software.install]
		DEBIAN_12 = "a"
		ROCKY_LINUX8 = "b"
		[software.uninstall]
		DEBIAN_12 = "c"
		ROCKY_LINUX8 = "d"`)
	if err != nil {
		t.Fatal(err)
	}
	list := c.Catalogue()
	if n := len(list); n != 24+4+1 {
		t.Errorf("%d entries: %v", n, slices.Sorted(maps.Keys(list)))
	}
	plain := Default()
	ships := plain.Catalogue()["LibreOffice"]
	if got := list["LibreOffice"]; got.License != "Support contract" || got.Description != ships.Description || got.Installers["DEBIAN_12"] != ships.Installers["DEBIAN_12"] || ships.License != "" {
		t.Errorf("LibreOffice: %+v", got)
	}
	if got := list["Geany"]; len(got.Installers) > 0 {
		t.Errorf("Geany: %+v", got)
	}
	if got := list["GIMP"]; got.Description != "Ours" || got.Installers["DEBIAN_12"] != (appstream.Installer{Install: "ours", Uninstall: "not ours"}) {
		t.Errorf("GIMP: %+v", got)
	}
	if got := list["Microsoft_Project_2021_Standard_64Bit"]; got.License != "Microsoft Project" || len(got.Installers) != 1 {
		t.Errorf("Microsoft Project: %+v", got)
	}
	if got := list["Payroll"]; got.License != "Payroll" || got.Installers["ROCKY_LINUX8"] != (appstream.Installer{Install: "b", Uninstall: "d"}) || len(got.Installers) != 2 {
		t.Errorf("Payroll: %+v", got)
	}
	if again := c.Catalogue()["GIMP"]; again.Description != "Ours" || plain.Catalogue()["GIMP"].Description == "Ours" {
		t.Error("a configuration changes what ships")
	}
}
