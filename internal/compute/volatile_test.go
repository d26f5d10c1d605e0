package compute

import "testing"

func TestVolatile(t *testing.T) {
	for name, want := range map[string]bool{
		"opt/writer/bin/writer": false, "usr/bin/tmp": false, "etc/passwd": false, "var/lib/dpkg/status": false, "tmpfiles": false,
		"home/ann/.config/writer": false, "home/.cache": false, "opt/home/ann/.cache": false, "var/cache/fontconfig/x": false,
		"tmp": true, "tmp/x/y": true, "run/writer.pid": true, "etc/machine-id": true, "var/lib/apt/lists/partial": true, "var/log/dpkg.log": true,
		"var/log/writer/today": true, "home/ann/.cache": true, "home/ann/.cache/fonts/x": true, "opt/oriel/bin": true, ".dockerenv": true, "etc/profile.d/appstream_system_vars.sh": true, "etc/oriel/icons/a.png": true, "etc/oriel/session": false,
	} {
		if got := Volatile(name, false); got != want {
			t.Errorf("Volatile(%s) = %v", name, got)
		}
	}
	if Volatile("var/log/writer", true) {
		t.Error("the folder of a service's logs is left out")
	}
}
