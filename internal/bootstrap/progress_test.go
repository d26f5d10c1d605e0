package bootstrap

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTracker(t *testing.T) {
	var got []Progress
	track := &tracker{report: func(p Progress) { got = append(got, p) }}
	log := &lines{each: track.line}
	for _, part := range []string{
		"I: automatically chosen mode: root\nI: running apt-get upd", "ate...\nGet:1 http://deb.debian.org/debian bookworm InRelease [151 kB]\n",
		"I: downloading packages with apt...\n0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded.\n",
		"Get:1 http://deb.debian.org/debian bookworm/main amd64 bash amd64 5.2 [1491 kB]\n",
		"I: extracting archives...\nI: installing essential packages...\n",
		"Unpacking bash (5.2) ...\nUnpacking libc6:amd64 (2.36) ...\nSetting up bash (5.2) ...\n",
		"I: running special hook: tar-in early.tar /\n",
		"I: installing remaining packages inside the chroot...\n0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded.\n",
		"Get:1 http://deb.debian.org/debian bookworm/main amd64 xterm amd64 379 [1 kB]\nGet:2 http://x bookworm/main amd64 openbox amd64 3 [1 kB]\n",
		"Unpacking xterm (379) ...\nSetting up early (1) ...\nUnpacking openbox (3) ...\n",
		"Setting up xterm (379) ...\nSetting up openbox (3) ...\n",
		"I: running special hook: tar-in late.tar /\nI: creating tarball...\n",
	} {
		if _, err := log.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	track.packed(50e6, 100e6)
	track.packed(300e6, 100e6) // larger than expected
	track.begin(done)
	want := []Progress{
		{"Reading package lists", "", 0},
		{"Downloading the base system", "", 4},
		{"Downloading the base system", "1 of 2: bash", 5.5},
		{"Unpacking the base system", "", 7},
		{"Installing the base system", "", 19},
		{"Installing the base system", "1 of 2: bash", 21.25},
		{"Installing the base system", "1 of 2: libc6", 23.5},
		{"Installing the base system", "2 of 2: bash", 25.75},
		{"Downloading packages", "", 28},
		{"Downloading packages", "1 of 2: xterm", 36},
		{"Downloading packages", "2 of 2: openbox", 44},
		{"Unpacking packages", "", 44},
		{"Unpacking packages", "1 of 2: xterm", 57},
		{"Unpacking packages", "2 of 2: openbox", 70},
		{"Configuring packages", "", 70},
		{"Configuring packages", "1 of 2: xterm", 77},
		{"Configuring packages", "2 of 2: openbox", 84},
		{"Applying the recipe", "", 84},
		{"Packing the image", "", 90},
		{"Packing the image", "50 MB", 95},
		{"Packing the image", "300 MB", 100},
		{"Done", "", 100},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
}

func TestLinesBounded(t *testing.T) {
	log := &lines{each: func(s string) {
		if len(s) > maxLine {
			t.Errorf("a line of %d bytes", len(s))
		}
	}}
	for range 100 {
		if n, err := log.Write([]byte(strings.Repeat("x", 1<<16))); n != 1<<16 || err != nil {
			t.Fatal(n, err)
		}
	}
	if len(log.part) > maxLine {
		t.Errorf("holds %d bytes of a line", len(log.part))
	}
}

// FuzzOutput feeds the parser whatever a mirror, a package's script or a broken mmdebstrap may print.
func FuzzOutput(f *testing.F) {
	f.Add([]byte("I: running apt-get update...\nI: creating tarball...\n"))
	f.Add([]byte("I: installing essential packages...\n0 upgraded, 0 newly installed\nUnpacking \nSetting up \n"))
	f.Add([]byte("0 upgraded, 99999999999999999999 newly installed\nI: installing remaining packages\nGet:1 a b c d\nUnpacking x\n"))
	f.Add([]byte("\xff\x1b[2J\r\r\n\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		last := 0.0
		track := &tracker{report: func(p Progress) {
			if !(p.Percent >= last && p.Percent <= 100) { // in this form, NaN fails too
				t.Errorf("percent went from %v to %v", last, p.Percent)
			}
			if len(p.Detail) > maxLine+100 || strings.ContainsAny(p.Detail, "\x1b\n\r\x00") {
				t.Errorf("detail %q", p.Detail)
			}
			last = p.Percent
		}}
		log := &lines{each: track.line}
		for i := 0; i < len(data); i += 7 {
			if _, err := log.Write(data[i:min(i+7, len(data))]); err != nil {
				t.Fatal(err)
			}
		}
		log.flush()
		if len(log.tail) > maxTail {
			t.Errorf("%d lines kept", len(log.tail))
		}
	})
}

func TestMountsBelow(t *testing.T) {
	const table = `22 1 254:0 / / rw - ext4 /dev/vda rw
30 22 0:5 / /cache/.x-build-1/tmp\040dir/proc rw - proc proc rw
31 30 0:6 / /cache/.x-build-1/tmp\040dir/proc/sys rw - proc proc rw
32 22 0:7 / /cache/.x-build-12/proc rw - proc proc rw
33 22 0:8 / /cache/.x-build-1 rw - tmpfs tmpfs rw
short line
`
	want := []string{"/cache/.x-build-1", "/cache/.x-build-1/tmp dir/proc/sys", "/cache/.x-build-1/tmp dir/proc"}
	if diff := cmp.Diff(want, mountsBelow(table, "/cache/.x-build-1")); diff != "" {
		t.Errorf("mounts (-want +got):\n%s", diff)
	}
}

func FuzzMountsBelow(f *testing.F) {
	f.Add("30 22 0:5 / /d/x rw - proc proc rw\n", "/d")
	f.Add(`1 1 0:1 / /d\040\134 rw`, `/d`)
	f.Fuzz(func(t *testing.T, table, dir string) {
		for _, point := range mountsBelow(table, dir) {
			if point != dir && !strings.HasPrefix(point, dir+"/") {
				t.Errorf("%q is not below %q", point, dir)
			}
		}
	})
}
