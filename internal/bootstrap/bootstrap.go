// Package bootstrap builds base images from Debian packages, so that a machine needs no registry to get its first one.
//
// Build runs mmdebstrap over a recipe (package images has one) and keeps the root file system's tar in a cache, named after all
// that went into it: asked again, it answers at once. It does not know any engine; compute/docker imports the tar.
package bootstrap

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Options says what to build and where.
type Options struct {
	Recipe   fs.FS  // images.Debian12(), or a directory of the same form
	CacheDir string // made when missing; holds one tar (about 600 MB) for each image, and the build's temporary files

	// Mirror stands for http://deb.debian.org, in the build and in the image's own apt sources: /debian and
	// /debian-security must be below it. "" means that address itself.
	Mirror string

	// Rebuild builds anew what the cache has, as for newer packages of the same recipe.
	Rebuild bool

	// Progress is called, from one goroutine at a time, whenever there is something to tell. It may be nil.
	Progress func(Progress)
}

// ErrNoSpace is what errors of Build are when the disk is full, or too full to begin.
var ErrNoSpace = errors.New("not enough disk space")

const (
	setupFile = "oriel-setup" // the recipe's setup, where it runs

	// A build needs the unpacked system, the packages and the tar at the same time.
	spaceFactor = 3

	stopGrace = 20 * time.Second // for mmdebstrap to remove what it mounted and unpacked
	lockRetry = 250 * time.Millisecond
)

// Describe reads a recipe and says what Build would make of it. An engine that has an image with the same
// LabelRecipe needs no build.
func Describe(o Options) (Image, error) {
	mirror, err := checkMirror(o.Mirror)
	if err != nil {
		return Image{}, err
	}
	r, err := readRecipe(o.Recipe, mirror, runtime.GOARCH)
	if err != nil {
		return Image{}, fmt.Errorf("read the image's recipe: %w", err)
	}
	return r.image, nil
}

// Build returns the image of a recipe with its tar, from the cache if that has it. Of two builds of an image at the
// same time, in one process or two, the second waits for the first and finds its tar. When ctx ends, the build
// does: nothing half-made stays, and the error is ctx's cause. It needs mmdebstrap, and root or (as mmdebstrap's
// "unshare" mode asks) user namespaces.
func Build(ctx context.Context, o Options) (Image, error) {
	mirror, err := checkMirror(o.Mirror)
	if err != nil {
		return Image{}, err
	}
	r, err := readRecipe(o.Recipe, mirror, runtime.GOARCH)
	if err != nil {
		return Image{}, fmt.Errorf("read the image's recipe: %w", err)
	}
	if o.CacheDir == "" {
		return Image{}, errors.New("no cache directory is given")
	}
	dir, err := filepath.Abs(o.CacheDir)
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		return Image{}, fmt.Errorf("make the image cache: %w", err)
	}
	b := &build{recipe: r, dir: dir, track: &tracker{report: o.Progress}}
	b.image = r.image
	b.image.Tar = filepath.Join(dir, r.image.Name+"-"+r.image.Recipe[:16]+".tar")
	if err := b.run(ctx, o.Rebuild); err != nil {
		if ctx.Err() != nil {
			return Image{}, fmt.Errorf("build image %s: %w", b.image.Name, context.Cause(ctx))
		}
		return Image{}, fmt.Errorf("build image %s: %w", b.image.Name, err)
	}
	b.track.begin(done)
	return b.image, nil
}

// build is one run of Build.
type build struct {
	recipe *recipe
	image  Image
	dir    string // the cache
	work   string // of this run, inside dir
	track  *tracker
}

func (b *build) run(ctx context.Context, rebuild bool) (err error) {
	if !rebuild && cached(b.image.Tar) {
		return nil
	}
	unlock, err := b.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if !rebuild && cached(b.image.Tar) {
		return nil // another build made it while we waited
	}
	// We hold the lock, so what lies here of the same image belongs to builds that were killed.
	leftovers, err := filepath.Glob(filepath.Join(b.dir, "."+b.image.Name+"-build-*"))
	if err != nil {
		return err
	}
	for _, dir := range leftovers {
		if err := removeTree(dir); err != nil {
			return err
		}
	}
	program, err := exec.LookPath("mmdebstrap")
	if err != nil {
		return errors.New("mmdebstrap is missing: install it with apt-get install mmdebstrap")
	}
	b.work, err = os.MkdirTemp(b.dir, "."+b.image.Name+"-build-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeTree(b.work)) }()
	// Without root, mmdebstrap works as other users, who must be able to look into it.
	if err := os.Chmod(b.work, 0o755); err != nil {
		return err
	}
	if err := b.checkSpace(); err != nil {
		return err
	}
	if err := b.writeInputs(); err != nil {
		return b.full(fmt.Errorf("write the recipe: %w", err))
	}
	out := filepath.Join(b.work, "rootfs.tar")
	if err := b.debootstrap(ctx, program, out); err != nil {
		return err
	}
	if err := b.verify(out); err != nil {
		return fmt.Errorf("mmdebstrap made a broken tar: %w", err)
	}
	if err := os.Rename(out, b.image.Tar); err != nil {
		return err
	}
	if err := syncDir(b.dir); err != nil {
		return err
	}
	b.prune()
	return nil
}

// cached reports whether path is a tar of an earlier build. Only whole ones ever get this name.
func cached(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// lock waits until this is the only build of the image in the cache. The kernel gives the lock back when we die.
func (b *build) lock(ctx context.Context) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(b.dir, "."+b.image.Name+".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock the image cache: %w", err)
		}
		b.track.begin(waiting)
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-time.After(lockRetry):
		}
	}
}

// checkSpace refuses to begin what would fail after a minute, on a full disk.
func (b *build) checkSpace() error {
	need := uint64(b.recipe.size) * spaceFactor
	for _, dir := range []string{b.work, b.tempDir()} {
		var s unix.Statfs_t
		if err := unix.Statfs(dir, &s); err != nil {
			return fmt.Errorf("ask for the free space of %s: %w", dir, err)
		}
		if free := uint64(s.Bavail) * uint64(s.Bsize); free < need {
			return fmt.Errorf("%w: %s has %d MB free, the build needs %d MB; make room there or choose another cache directory",
				ErrNoSpace, dir, free/1e6, need/1e6)
		}
	}
	return nil
}

// tempDir is where mmdebstrap unpacks the system. Root does it in our directory, so that we know the space and clean up
// after a kill. The other users that a build without root works as may not reach that (homes are closed); then
// it is the system's temporary directory.
func (b *build) tempDir() string {
	if os.Geteuid() == 0 {
		return b.work
	}
	return os.TempDir()
}

// writeInputs puts the recipe where mmdebstrap and its hooks find it.
func (b *build) writeInputs() error {
	r := b.recipe
	early := []file{}
	for _, f := range r.files {
		if "files/"+f.path == policyFile {
			early = append(early, f)
		}
	}
	late := append([]file{{setupFile, r.setup}}, r.files...)
	for name, files := range map[string][]file{"early.tar": early, "late.tar": late} {
		var buf bytes.Buffer
		if err := writeTar(&buf, files, r.image.Released); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(b.work, name), buf.Bytes(), 0o644); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(b.work, "debian.sources"), r.sources, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.work, "dpkg-excludes"), r.excludes, 0o644)
}

// debootstrap runs mmdebstrap and writes the tar to out.
func (b *build) debootstrap(ctx context.Context, program, out string) error {
	tarFile, err := os.Create(out)
	if err != nil {
		return b.full(err)
	}
	defer tarFile.Close()
	writer := &packer{file: tarFile, build: b}
	log := &lines{each: b.track.line}

	cmd := exec.CommandContext(ctx, program,
		"--mode=auto", "--variant=minbase", "--format=tar", "--verbose",
		"--include="+strings.Join(b.recipe.packages, ","),
		"--dpkgopt="+filepath.Join(b.work, "dpkg-excludes"),
		// Its own policy-rc.d would take ours away at the end.
		"--skip=chroot/policy-rc.d",
		"--essential-hook=tar-in early.tar /", // these paths are relative to cmd.Dir
		"--customize-hook=tar-in late.tar /",
		`--customize-hook=chroot "$1" /bin/sh /`+setupFile,
		b.recipe.suite, "-", filepath.Join(b.work, "debian.sources"))
	cmd.Dir = b.work
	cmd.Env = append(os.Environ(),
		"TMPDIR="+b.tempDir(),
		fmt.Sprintf("SOURCE_DATE_EPOCH=%d", b.image.Released.Unix()),
		"LC_ALL=C.UTF-8",
	)
	cmd.Stdout = writer
	cmd.Stderr = log
	// A group of its own: Ctrl-C in a terminal is for us, and we tell it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = stopGrace
	err = cmd.Run()
	log.flush()
	if err != nil && cmd.Process != nil {
		// What did not end with it, does now. Its group's number cannot be another's while any of it is left.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case writer.err != nil:
		return b.full(fmt.Errorf("write the image: %w", writer.err))
	case err != nil:
		return explain(err, log.tail)
	}
	if err := tarFile.Sync(); err != nil {
		return b.full(err)
	}
	return b.full(tarFile.Close())
}

// packer is mmdebstrap's standard output: the tar.
type packer struct {
	file  io.Writer
	build *build
	sent  int64
	told  int64 // of sent, in the last report
	err   error // of file
}

func (p *packer) Write(data []byte) (int, error) {
	n, err := p.file.Write(data)
	p.sent += int64(n)
	p.err = err
	if p.sent-p.told >= 8<<20 {
		p.told = p.sent
		p.build.track.packed(p.sent, p.build.recipe.size)
	}
	return n, err
}

// full marks err as ErrNoSpace if the disk is full.
func (b *build) full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w in %s: %w", ErrNoSpace, b.dir, err)
	}
	return err
}

// hints tell what to do about the failures people meet. The first that fits is given.
var hints = []struct{ sign, hint string }{
	{"No space left on device", "make room on the disk"},
	{"debian-archive-keyring", "install Debian's keys with apt-get install debian-archive-keyring"},
	{"NO_PUBKEY", "install Debian's keys with apt-get install debian-archive-keyring"},
	{"Could not resolve", "check this machine's network and name server, or set a mirror that it reaches"},
	{"Temporary failure resolving", "check this machine's network and name server, or set a mirror that it reaches"},
	{"Could not connect", "check this machine's network and proxy, or set a mirror that it reaches"},
	{"Unable to connect", "check this machine's network and proxy, or set a mirror that it reaches"},
	{"is not valid yet", "set this machine's clock"},
	{"newuidmap", "run it as root, or install uidmap with apt-get install uidmap"},
	{"unable to pick chroot mode", "run it as root, or install uidmap with apt-get install uidmap"},
}

// explain makes an error of mmdebstrap's end and its last lines.
func explain(err error, tail []string) error {
	output := strings.Join(tail, "\n")
	text := ""
	for _, h := range hints {
		if strings.Contains(output, h.sign) {
			text = "; " + h.hint
			break
		}
	}
	if strings.Contains(output, "No space left on device") {
		err = fmt.Errorf("%w (%w)", ErrNoSpace, err)
	}
	if output == "" {
		return fmt.Errorf("mmdebstrap failed without a word: %w", err)
	}
	return fmt.Errorf("mmdebstrap failed: %w%s. Its last lines:\n%s", err, text, output)
}

// verify reads the tar to its end and looks for every file of the recipe.
func (b *build) verify(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	missing := map[string]bool{}
	for _, f := range b.recipe.files {
		missing[f.path] = true
	}
	t := tar.NewReader(f)
	for {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		delete(missing, strings.TrimPrefix(h.Name, "./"))
	}
	for name := range missing {
		return fmt.Errorf("%s is not in it", name)
	}
	// A tar cut between two files looks whole but for the two empty blocks at its end.
	var end [1024]byte
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if _, err := f.ReadAt(end[:], info.Size()-int64(len(end))); err != nil {
		return err
	}
	if end != [1024]byte{} {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// prune removes the tars of the image's earlier recipes. It is only room that is lost if that fails.
func (b *build) prune() {
	old, _ := filepath.Glob(filepath.Join(b.dir, b.image.Name+"-"+strings.Repeat("[0-9a-f]", 16)+".tar"))
	for _, path := range old {
		if path != b.image.Tar {
			_ = os.Remove(path)
		}
	}
}

// removeTree removes a build's directory. mmdebstrap mounts /proc, /sys and parts of /dev into the system it builds; they
// are in a mount namespace of its own, but should one be left in ours, removing the tree would remove the
// machine's devices. So mounts go first, and if one does not go, nothing does.
func removeTree(dir string) error {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, point := range mountsBelow(string(table), dir) {
		if err := unmount(point); err != nil {
			return fmt.Errorf("%s of an earlier build is still mounted: %w; unmount it and remove %s", point, err, dir)
		}
	}
	return os.RemoveAll(dir)
}

// mountsBelow returns the mount points in a mountinfo table that are dir or lie below it, deepest first.
func mountsBelow(table, dir string) []string {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var points []string
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		point := unescape.Replace(fields[4])
		if point == dir || strings.HasPrefix(point, dir+"/") {
			// The table has a mount before those on top of it.
			points = append([]string{point}, points...)
		}
	}
	return points
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
