package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/oriel-project/oriel/internal/agentapi"
)

func TestRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newRequests()
		ctx := t.Context()
		soon, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if p := q.next(soon); p != nil {
			t.Errorf("%+v", p)
		}
		// Nobody takes it.
		takeBy, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		if _, err := q.ask(ctx, takeBy, agentapi.Request{Kind: agentapi.KindCreateImage}); err != errNotPickedUp {
			t.Error(err)
		}
		// It is taken, and answered, at the last moment.
		for range 20 {
			over, end := context.WithCancel(ctx)
			result := make(chan error)
			go func() {
				_, err := q.ask(over, over, agentapi.Request{Kind: agentapi.KindCreateImage})
				result <- err
			}()
			synctest.Wait()
			q.mu.Lock() // so that who asks finds the time over and the request taken
			end()
			p := q.waiting[0]
			q.waiting, q.taken[p.ID] = nil, p
			close(p.taken)
			p.answer <- agentapi.Answer{}
			q.mu.Unlock()
			if err := <-result; err != nil {
				t.Fatal(err)
			}
		}
		// It is taken, and no answer comes.
		taken := make(chan *pending)
		go func() { taken <- q.next(ctx) }()
		ask, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		if _, err := q.ask(ask, ask, agentapi.Request{Kind: agentapi.KindCreateImage}); err != errNoAnswer {
			t.Error(err)
		}
		late := <-taken
		if err := q.answerTo(late.ID, agentapi.Answer{}); err != errUnknownAnswer {
			t.Error(err)
		}
		// In order, each to its author.
		results := make(chan string, 2)
		for _, name := range []string{"a", "b"} {
			go func() {
				a, err := q.ask(ctx, ctx, agentapi.Request{CreateImage: &agentapi.CreateImage{Name: name}})
				if err != nil {
					t.Error(err)
				}
				results <- name + a.Message
			}()
			synctest.Wait()
		}
		first, second := q.next(ctx), q.next(ctx)
		if first.CreateImage.Name != "a" || second.CreateImage.Name != "b" || first.ID == second.ID {
			t.Errorf("%+v, %+v", first, second)
		}
		for _, p := range []*pending{second, first} {
			if err := q.answerTo(p.ID, agentapi.Answer{Message: " was " + p.CreateImage.Name}); err != nil {
				t.Error(err)
			}
			if got, want := <-results, p.CreateImage.Name+" was "+p.CreateImage.Name; got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
		// Full.
		for range maxRequests {
			if _, err := q.add(agentapi.Request{}); err != nil {
				t.Error(err)
			}
		}
		if _, err := q.add(agentapi.Request{}); err != errQueueFull {
			t.Error(err)
		}
	})
}

func TestParsePower(t *testing.T) {
	for line, want := range map[string]agentapi.Kind{
		"reboot": agentapi.KindReboot, "reboot -f": agentapi.KindReboot, "poweroff": agentapi.KindPowerOff, "halt -p": agentapi.KindPowerOff,
		"shutdown": agentapi.KindPowerOff, "shutdown -h now": agentapi.KindPowerOff, "shutdown -r now": agentapi.KindReboot,
		"shutdown -rf +0 good bye": agentapi.KindReboot, "shutdown --reboot": agentapi.KindReboot,
		"shutdown +5": "", "shutdown 22:00": "", "shutdown -c": "", "reboot now": "", "reboot -x": "", "poweroff --x": "",
	} {
		args := strings.Fields(line)
		asked := agentapi.Kind("")
		var out, errs bytes.Buffer
		code := power(args[0], args[1:], &out, &errs, func(k agentapi.Kind) error { asked = k; return nil })
		if asked != want || (code == 0) != (want != "") || (errs.Len() == 0) != (want != "") {
			t.Errorf("%s: %q, %d, %s", line, asked, code, &errs)
		}
	}
	var out, errs bytes.Buffer
	if code := power("reboot", []string{"--help"}, &out, &errs, nil); code != 0 || !strings.Contains(out.String(), "usage") {
		t.Error(code, out.String())
	}
	if code := power("reboot", nil, &out, &errs, func(agentapi.Kind) error { return errors.New("refused") }); code != 1 || errs.String() != "reboot: refused\n" {
		t.Error(code, errs.String())
	}
}

func TestXauthority(t *testing.T) {
	want := "\xff\xff\x00\x00\x00\x010\x00\x12MIT-MAGIC-COOKIE-1\x00\x03abc"
	if got := string(xauthority("0", []byte("abc"))); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A real shell is the judge.
func TestShellQuote(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[^\x00]{0,20}`).Draw(t, "word")
		out, err := exec.Command("/bin/sh", "-c", "printf %s "+shellQuote(word)).Output()
		if err != nil || string(out) != word {
			t.Fatalf("%q became %q, %v", word, out, err)
		}
	})
}

func TestLocale(t *testing.T) {
	file := filepath.Join(t.TempDir(), "locale")
	os.WriteFile(file, []byte("# comment\nLANG=\"de_DE.UTF-8\"\nLC_TIME=C\nLD_PRELOAD=x\n"), 0o600)
	if got := locale(file); !slices.Equal(got, []string{"LANG=de_DE.UTF-8", "LC_TIME=C"}) {
		t.Error(got)
	}
	if got := locale(file + "x"); !slices.Equal(got, []string{"LANG=C.UTF-8"}) {
		t.Error(got)
	}
}

func TestImageEnv(t *testing.T) {
	file := filepath.Join(t.TempDir(), "environment")
	os.WriteFile(file, []byte("# comment=x\n\nTHEME=Adwaita\nPLACES=$HOME/a:/b\n=x\nno name=x\nlower=x\n"), 0o600)
	if got := imageEnv(file, "/home/ann"); !slices.Equal(got, []string{"THEME=Adwaita", "PLACES=/home/ann/a:/b"}) {
		t.Error(got)
	}
	if got := imageEnv(file+"x", "/home/ann"); len(got) > 0 {
		t.Error(got)
	}
}

func TestOutputIsBounded(t *testing.T) {
	var log bytes.Buffer
	r, w := io.Pipe()
	go func() {
		for range 3 * linesPerMinute {
			io.WriteString(w, "again\n")
		}
		io.WriteString(w, strings.Repeat("x", 5000)+"\n\n  \nlast words")
		w.Close()
	}()
	o := &output{}
	o.read(r, slog.New(slog.NewTextHandler(&log, nil)))
	if n := strings.Count(log.String(), "again"); n != linesPerMinute {
		t.Errorf("%d lines in the log", n)
	}
	if o.lastLine() != "last words" {
		t.Errorf("%q", o.lastLine())
	}
}

// What was written before is read when settle returns, though something holds the pipe, and however slowly it is read. Who writes for ever does not hold it up.
func TestDrain(t *testing.T) {
	var mu sync.Mutex
	var got []byte
	d, w, err := newDrain(func(r io.Reader) {
		for buf := make([]byte, 7); ; {
			n, err := r.Read(buf)
			time.Sleep(time.Microsecond)
			mu.Lock()
			got = append(got, buf[:n]...)
			mu.Unlock()
			if err != nil {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	want := ""
	for n := range 200 {
		text := strings.Repeat("x", n%40) + "\n"
		io.WriteString(w, text)
		want += text
		d.settle()
		mu.Lock()
		if string(got) != want {
			t.Fatalf("%d bytes were read of %d", len(got), len(want))
		}
		mu.Unlock()
	}
	io.WriteString(w, "end")
	w.Close()
	<-d.done
	d.settle()
	if string(got) != want+"end" {
		t.Errorf("%d bytes were read of %d", len(got), len(want)+3)
	}

	endless, w, err := newDrain(func(r io.Reader) { io.Copy(io.Discard, r) })
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for text := bytes.Repeat([]byte("y\n"), 8<<10); ; {
			if _, err := w.Write(text); err != nil {
				return
			}
		}
	}()
	endless.settle()
	w.Close()
}

func TestWaitForPixels(t *testing.T) {
	serve := func(pixel func() byte) func() (net.Conn, error) {
		socket := filepath.Join(t.TempDir(), "rfb")
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go serveRFB(c, 1280, 720, pixel)
			}
		}()
		return func() (net.Conn, error) { return net.Dial("unix", socket) }
	}
	n := 0
	if err := waitForPixels(t.Context(), serve(func() byte { n++; return byte(n / 3) })); err != nil || n < 3 {
		t.Errorf("after %d pictures: %v", n, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := waitForPixels(ctx, serve(func() byte { return 0 })); err == nil {
		t.Error("black was taken for a picture")
	}
}

func FuzzPixelProbe(f *testing.F) {
	hello := "RFB 003.008\n\x01\x01\x00\x00\x00\x00" + "\x00\x10\x00\x10" + strings.Repeat("\x00", 16) + "\x00\x00\x00\x02hi"
	f.Add([]byte(hello + "\x00\x00\x00\x01\x00\x00\x00\x00\x00\x10\x00\x10\x00\x00\x00\x00" + strings.Repeat("\xff", 256)))
	f.Add([]byte(hello + "\x02\x03\x00\x00\x00\x00\x00\x00\x01x\x01\x00\x00\x00\x00\x01123456"))
	f.Add([]byte(hello + "\x00\x00\x00\x01\x00\x00\x00\x00\x00\x01\x00\x01\xff\xff\xff\x1112345"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p := &pixelProbe{rw: struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(text), io.Discard}}
		if p.handshake() == nil && p.wait() == nil && p.seen < enoughPixels {
			t.Error("a picture was seen where there is none")
		}
		if cap(p.buf) > 1<<20 {
			t.Errorf("a buffer of %d bytes", cap(p.buf))
		}
	})
}

func TestAccounts(t *testing.T) {
	etc := t.TempDir()
	lists := map[string]string{"passwd": "root:x:0:0:root:/root:/bin/sh", "group": "root:x:0:\n", "gshadow": "root:*::\n", "shadow": "root:*:1::::::\n"}
	for name, text := range lists {
		os.WriteFile(filepath.Join(etc, name), []byte(text), 0o640)
	}
	os.MkdirAll(filepath.Join(etc, "skel/.config/x"), 0o755)
	os.WriteFile(filepath.Join(etc, "skel/.config/x/tool"), []byte("#!/bin/sh\n"), 0o755)
	os.Symlink("/nowhere", filepath.Join(etc, "skel/link"))
	as := &accounts{etc: etc, home: filepath.Join(t.TempDir(), "home"), counter: filepath.Join(t.TempDir(), "a/b"), self: true}
	one, err := as.add(true)
	if err != nil {
		t.Fatal(err)
	}
	two, err := as.add(true)
	if err != nil || one.name != sessionUser+"-1" || two.name != sessionUser+"-2" || one.number != firstUID || two.number != firstUID+1 {
		t.Errorf("%+v, %+v, %v", one, two, err)
	}
	if info, err := os.Stat(filepath.Join(one.home, ".config/x/tool")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the skeleton's file: %v, %v", info, err)
	}
	if link, err := os.Readlink(filepath.Join(one.home, "link")); link != "/nowhere" {
		t.Error(link, err)
	}
	if err := as.remove(one); err != nil {
		t.Fatal(err)
	}
	if err := as.remove(one); err != nil { // again
		t.Fatal(err)
	}
	if left, err := as.leftOver(); err != nil || len(left) != 1 || left[0].name != two.name || left[0].uid != firstUID+1 {
		t.Errorf("%+v, %v", left, err)
	}
	if text, _ := os.ReadFile(filepath.Join(etc, "passwd")); string(text) != lists["passwd"]+"\nas2-streaming-user-2:x:20001:20001:Streaming user:"+two.home+":/bin/bash\n" {
		t.Errorf("passwd: %s", text)
	}
	if text, _ := os.ReadFile(filepath.Join(etc, "shadow")); string(text) != lists["shadow"]+"as2-streaming-user-2:!:::::::\n" {
		t.Errorf("shadow: %s", text)
	}
	if text, _ := os.ReadFile(filepath.Join(etc, "gshadow")); string(text) != lists["gshadow"]+"as2-streaming-user-2:!::\n" {
		t.Errorf("gshadow: %s", text)
	}
	if info, _ := os.Stat(filepath.Join(etc, "shadow")); info.Mode().Perm() != 0o640 {
		t.Errorf("shadow has the mode %v", info.Mode())
	}
}

// Only files of the account go, and nothing that a link leads to.
func TestRemoveOwned(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipped: only root can give files away")
	}
	dir, outside := t.TempDir(), t.TempDir()
	own := func(uid int, paths ...string) {
		for _, p := range paths {
			if err := os.Lchown(filepath.Join(dir, p), uid, uid); err != nil {
				t.Fatal(err)
			}
		}
	}
	os.MkdirAll(filepath.Join(dir, "theirs/deep/er"), 0o755)
	os.MkdirAll(filepath.Join(dir, "public/mine"), 0o755)
	os.MkdirAll(filepath.Join(dir, "another's"), 0o755)
	for _, f := range []string{"theirs/deep/er/x", "theirs/mine", "another's/theirs", "public/theirs", "public/mine/x", "public/mine/theirs"} {
		os.WriteFile(filepath.Join(dir, f), nil, 0o600)
	}
	os.WriteFile(filepath.Join(outside, "precious"), nil, 0o600)
	os.Lchown(filepath.Join(outside, "precious"), 20000, 20000)
	os.Symlink(outside, filepath.Join(dir, "link"))
	own(20000, "theirs", "theirs/deep", "theirs/deep/er", "theirs/deep/er/x", "public/theirs", "public/mine/theirs", "another's/theirs", "link")
	own(20001, "another's")
	if err := removeOwned(dir, 20000); err != nil {
		t.Fatal(err)
	}
	var left []string
	filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		left = append(left, strings.TrimPrefix(path, dir))
		return err
	})
	if want := []string{"", "/another's", "/another's/theirs", "/public", "/public/mine", "/public/mine/x"}; !slices.Equal(left, want) {
		t.Errorf("left: %q, want %q", left, want)
	}
	if _, err := os.Stat(filepath.Join(outside, "precious")); err != nil {
		t.Error(err)
	}
	if err := removeOwned(filepath.Join(dir, "nothing"), 1); err != nil {
		t.Error(err)
	}
}

// A person can make folders in folders deeper than files can be open, and
// folders fuller than the agent should remember.
func TestRemoveAll(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	precious := filepath.Join(outside, "precious")
	os.WriteFile(precious, nil, 0o600)
	os.Mkdir(filepath.Join(dir, "tree"), 0o700)
	fd, err := unix.Open(filepath.Join(dir, "tree"), unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.Repeat("x", 200)
	for n := range 3000 {
		unix.Symlinkat(outside, fd, "link")
		for file := range n % 3 {
			unix.Mknodat(fd, "file"+strconv.Itoa(file), unix.S_IFREG|0o600, 0)
		}
		err := errors.Join(unix.Mkdirat(fd, name, 0o700), unix.Mkdirat(fd, "empty", 0))
		sub, e := unix.Openat(fd, name, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		unix.Close(fd)
		if fd = sub; err != nil || e != nil {
			t.Fatal(err, e)
		}
	}
	for n := range 3 * someNames {
		unix.Mknodat(fd, strconv.Itoa(n), unix.S_IFIFO|0o600, 0)
	}
	unix.Close(fd)

	var limit, few unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	few = limit
	few.Cur = 128
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	err = removeAll(filepath.Join(dir, "tree"))
	unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	if err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
	for _, gone := range []string{"tree", "no/where"} {
		if err := removeAll(filepath.Join(dir, gone)); err != nil {
			t.Error(err)
		}
	}
}

func TestIPCOf(t *testing.T) {
	const table = `       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap
         0          3  1600                  4096   568     0      0 20000 20000 20000 20000          0          0 1795263894                     0                     0
         0          4  1600                  4096 20000     0      0     0     0     0     0          0          0 1795263894                     0                     0
         0          5  1600                  4096   568     0      0     0     0 20000     0          0          0 1795263894                     0                     0
`
	if got := ipcOf([]byte(table), 20000); !slices.Equal(got, []int{3, 5}) {
		t.Error(got)
	}
	if got := ipcOf([]byte("key\nx"), 0); got != nil {
		t.Error(got)
	}
}

func TestHasUID(t *testing.T) {
	status := []byte("Name:\tUid: 7\nUid:\t1\t2\t3\t20000\nGid:\t9\t9\t9\t9\n")
	for uid, want := range map[int]bool{1: true, 3: true, 20000: true, 9: false, 7: false, 2000: false} {
		if hasUID(status, uid) != want {
			t.Errorf("%d: %v", uid, !want)
		}
	}
}

// The agent's first thread is somebody's for files once it has looked at his, and stays so. That is no process of his that could end.
func TestCountUID(t *testing.T) {
	proc := t.TempDir()
	for name, uids := range map[string]string{"1": "0\t0\t0\t20000", "14": "20000\t20000\t20000\t20000", "15": "0\t0\t0\t0", "16": "20001\t20001\t20001\t20001", "self": "20000\t0\t0\t0"} {
		if err := errors.Join(os.Mkdir(filepath.Join(proc, name), 0o700),
			os.WriteFile(filepath.Join(proc, name, "status"), []byte("Name:\tx\nUid:\t"+uids+"\n"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := countUID(proc, 20000); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := countUID(filepath.Join(proc, "none"), 20000); err == nil {
		t.Error("no processes can be counted where there is no list")
	}
}

func TestHasLocale(t *testing.T) {
	list := []string{"C", "C.utf8", "POSIX", "en_US.utf8", "de_DE.iso88591"}
	for name, want := range map[string]bool{"en_US.UTF-8": true, "C.UTF-8": true, "de_DE.ISO-8859-1": true, "de_DE.UTF-8": false, "fr_FR.UTF-8": false} {
		if hasLocale(list, name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}

func FuzzZoneFile(f *testing.F) {
	dir := f.TempDir()
	os.MkdirAll(filepath.Join(dir, "zones/Europe"), 0o755)
	os.WriteFile(filepath.Join(dir, "zones/Europe/Berlin"), []byte("TZif2"), 0o600)
	os.WriteFile(filepath.Join(dir, "secret"), []byte("TZif2"), 0o600)
	os.Symlink("../secret", filepath.Join(dir, "zones/out"))
	for _, zone := range []string{"Europe/Berlin", "../secret", "out", "/etc/passwd", "Europe//Berlin", ""} {
		f.Add(zone)
	}
	f.Fuzz(func(t *testing.T, zone string) {
		file, err := zoneFile(filepath.Join(dir, "zones"), zone)
		if err == nil && file != filepath.Join(dir, "zones/Europe/Berlin") {
			t.Errorf("%q leads to %s", zone, file)
		}
	})
}
