package compute

import (
	"path"
	"strings"
)

// Paths on a machine's disk that are of use on that machine alone, as patterns of package path, from / without the slash. What is below one
// is so too.
var volatile = []string{
	"dev", "proc", "sys", "run", "tmp", "var/run", "var/tmp", "opt/oriel",
	".dockerenv", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf", "etc/machine-id", "var/lib/dbus/machine-id",
	"etc/.pwd.lock", "var/lib/systemd/random-seed", "etc/profile.d/appstream_system_vars.sh", "etc/oriel/applications.json", "etc/oriel/icons",
	"var/cache/apt", "var/cache/dnf", "var/cache/yum", "var/lib/apt/lists", "var/lib/apt/periodic",
	"root/.cache", "root/.bash_history", "root/.wget-hsts",
	"home/*/.cache", "home/*/.bash_history", "home/*/.wget-hsts", "home/*/.Xauthority", "home/*/.ICEauthority", "home/*/.xsession-errors",
	"home/*/.local/share/recently-used.xbel", "home/*/.local/share/Trash",
}

// logs are folders whose files are left out while their folders stay: a service finds its own there.
const logs = "var/log/"

// Volatile tells whether what is at a path of a machine's disk does not belong into a package that is made of it. The path is from /, without
// the slash at either end.
func Volatile(name string, folder bool) bool {
	if !folder && strings.HasPrefix(name, logs) {
		return true
	}
	parts := strings.Split(name, "/")
	for _, pattern := range volatile {
		depth := strings.Count(pattern, "/") + 1
		if depth > len(parts) {
			continue
		}
		if match, _ := path.Match(pattern, strings.Join(parts[:depth], "/")); match {
			return true
		}
	}
	return false
}
