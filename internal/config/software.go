package config

import (
	_ "embed"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/oriel-project/oriel/internal/appstream"
)

// Software is a program that can be installed on image builders: one that ships with Oriel or that AppStream documents, with other texts or commands, or one
// more.
type Software struct {
	Name        string            `toml:"name"`
	Description string            `toml:"description"`
	License     string            `toml:"license"`   // as what DescribeAppLicenseUsage counts its users; "": not at all
	Install     map[string]string `toml:"install"`   // command by platform, for /bin/sh -e as root; "" removes one that ships
	Uninstall   map[string]string `toml:"uninstall"` // likewise
}

//go:embed software.toml
var softwareFile []byte

// shippedSoftware is what ships with Oriel, written as users write theirs.
var shippedSoftware = sync.OnceValue(func() []Software {
	c, err := parse(softwareFile, "software.toml")
	if err != nil {
		panic(err) // a test reads it
	}
	return c.Software
})

// Catalogue gives all software that image builders can be asked for, by name: what AppStream documents, what ships, and what is configured.
func (c *Config) Catalogue() map[string]appstream.Software {
	list := appstream.MicrosoftSoftware()
	for _, s := range slices.Concat(shippedSoftware(), c.Software) {
		list[s.Name] = s.over(list[s.Name])
	}
	return list
}

// over gives a software with what is configured in place of what it has.
func (s Software) over(old appstream.Software) appstream.Software {
	next := appstream.Software{Name: s.Name, Description: old.Description, License: old.License, Installers: map[string]appstream.Installer{}}
	maps.Copy(next.Installers, old.Installers)
	if s.Description != "" {
		next.Description = s.Description
	}
	if s.License != "" {
		next.License = s.License
	}
	for platform := range s.Install {
		next.Installers[platform] = appstream.Installer{Install: s.Install[platform], Uninstall: s.Uninstall[platform]}
		if strings.TrimSpace(s.Install[platform]) == "" {
			delete(next.Installers, platform)
		}
	}
	return next
}

var softwareForm = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

// maxSoftware is how many entries there may be.
const maxSoftware = 200

func (c *Config) checkSoftware(k *checker) {
	k.must(len(c.Software) <= maxSoftware, "software", "there are %d entries; at most %d are read", len(c.Software), maxSoftware)
	seen := map[string]bool{}
	for i, s := range c.Software {
		at := entry("software", i)
		k.must(softwareForm.MatchString(s.Name), at+"name", "%q does not match %s", s.Name, softwareForm)
		k.must(!seen[s.Name], at+"name", "%s is there twice", s.Name)
		seen[s.Name] = true
		k.must(len(s.Description) <= 256, at+"description", "it is longer than 256 bytes")
		k.must(len(s.License) <= appstream.MaxSoftwareLicense && utf8.ValidString(s.License) && !strings.ContainsFunc(s.License, isControl), at+"license",
			"it is not one line of at most %d bytes", appstream.MaxSoftwareLicense)
		for _, platform := range slices.Sorted(maps.Keys(s.Install)) {
			k.must(platformForm.MatchString(platform), at+"install", "%q is not a platform; for example DEBIAN_12", platform)
			empty := strings.TrimSpace(s.Install[platform]) == ""
			k.must(empty == (strings.TrimSpace(s.Uninstall[platform]) == ""), at+"uninstall."+platform,
				"a platform has commands for both, install and uninstall, or for neither")
			checkCommand(k, at+"install."+platform, s.Install[platform])
			checkCommand(k, at+"uninstall."+platform, s.Uninstall[platform])
		}
		for platform := range s.Uninstall {
			_, both := s.Install[platform]
			k.must(both, at+"install."+platform, "a platform has commands for both, install and uninstall, or for neither")
		}
	}
}

func checkCommand(k *checker, key, command string) {
	k.must(len(command) <= appstream.MaxSoftwareCommand, key, "the command has %d bytes; put what is longer than %d into a script that it fetches", len(command), appstream.MaxSoftwareCommand)
	k.must(utf8.ValidString(command) && !strings.ContainsRune(command, 0), key, "the command is not text")
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }
