package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Several packages are unpacked over one disk. Each was made on a machine of
// its own and has that machine's lists of accounts and of installed software: the
// last one to be unpacked would make the disk forget what the others have
// brought. merge puts such lists together, record by record.

// A list is a file that consists of records.
type list struct {
	path  string // below the root
	split func(text []byte) []record
}

// A record is a part of a list; its key tells it from the others.
type record struct{ key, text string }

// lists are those that nearly every installation changes.
var lists = []list{
	{"etc/passwd", lines}, {"etc/group", lines}, {"etc/shadow", lines}, {"etc/gshadow", lines}, {"etc/subuid", lines}, {"etc/subgid", lines}, {"etc/shells", lines},
	{"var/lib/dpkg/status", paragraphs}, {"var/lib/apt/extended_states", paragraphs},
}

// maxList bounds a list, in bytes.
const maxList = 64 << 20

// mergeDir is where copies of the lists are, as they were at first and before
// the package that is being unpacked. It is no part of the disk.
const mergeDir = "/run/oriel-packages"

// The moments of unpacking packages, in the order of mergeLists.
const (
	mergeFirst  = "first"  // before all of them
	mergeBefore = "before" // one is unpacked
	mergeAfter  = "after"  // it was
)

// mergeLists keeps copies of the lists below root in dir, or puts together
// what the disk had before a package was unpacked and what the package has.
func mergeLists(root, dir, moment string) error {
	at, err := os.OpenRoot(root) // a package may have put links where the lists are
	if err != nil {
		return err
	}
	defer at.Close()
	for _, l := range lists {
		now, info, err := readList(at, l.path)
		if err != nil {
			return err
		}
		name := strings.ReplaceAll(l.path, "/", "-")
		if moment != mergeAfter {
			if err := os.MkdirAll(filepath.Join(dir, moment), 0o700); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, moment, name), now, 0o600); err != nil {
				return err
			}
			continue
		}
		first, err1 := os.ReadFile(filepath.Join(dir, mergeFirst, name))
		before, err2 := os.ReadFile(filepath.Join(dir, mergeBefore, name))
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if bytes.Equal(before, now) || info == nil {
			continue
		}
		if err := writeList(at, l.path, merged(l.split, first, before, now), info); err != nil {
			return fmt.Errorf("put /%s together: %w", l.path, err)
		}
	}
	return nil
}

// readList reads a list. One that is not there is empty, and has no info; so has what is
// no file.
func readList(at *os.Root, path string) ([]byte, fs.FileInfo, error) {
	info, err := at.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	f, err := at.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxList+1))
	if err == nil && len(text) > maxList {
		err = fmt.Errorf("/%s has more than %d bytes", path, maxList)
	}
	return text, info, err
}

// writeList replaces a list by another text, with the mode and the owner that it has.
func writeList(at *os.Root, path string, text []byte, info fs.FileInfo) error {
	next := path + ".oriel"
	if err := at.RemoveAll(next); err != nil { // whatever a package has put there
		return err
	}
	f, err := at.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	return errors.Join(at.Lchown(next, int(owner.Uid), int(owner.Gid)), at.Chmod(next, info.Mode().Perm()), at.Rename(next, path))
}

// merged gives the records that a list had before a package was unpacked, with
// those that the package has changed or added. first is what the list was
// before anything was done: what the package has like that, it has not changed.
func merged(split func([]byte) []record, first, before, now []byte) []byte {
	original, brought := index(split(first)), index(split(now))
	changed := func(key string) bool {
		was, known := original[key]
		return !known || was != brought[key]
	}
	var out strings.Builder
	had := map[string]bool{}
	for _, r := range split(before) {
		had[r.key] = true
		if text, ok := brought[r.key]; ok && changed(r.key) {
			r.text = text
		}
		out.WriteString(r.text)
	}
	for _, r := range split(now) {
		if !had[r.key] && changed(r.key) {
			had[r.key] = true
			out.WriteString(brought[r.key]) // of several under one key the last one, as above
		}
	}
	return []byte(out.String())
}

func index(records []record) map[string]string {
	byKey := make(map[string]string, len(records))
	for _, r := range records {
		byKey[r.key] = r.text
	}
	return byKey
}

// lines are the records of a list of accounts: a line each, with a name up to
// the first colon.
func lines(text []byte) (list []record) {
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		name, _, _ := strings.Cut(line, ":")
		if line != "" {
			list = append(list, record{name, line + "\n"})
		}
	}
	return list
}

// paragraphs are those of Debian's lists: a package of an architecture each.
func paragraphs(text []byte) (list []record) {
	for part := range strings.SplitSeq(string(text), "\n\n") {
		part = strings.Trim(part, "\n")
		if part == "" {
			continue
		}
		var name, architecture string
		for line := range strings.SplitSeq(part, "\n") {
			if v, ok := strings.CutPrefix(line, "Package:"); ok {
				name = strings.TrimSpace(v)
			} else if v, ok := strings.CutPrefix(line, "Architecture:"); ok {
				architecture = strings.TrimSpace(v)
			}
		}
		key := name + ":" + architecture
		if name == "" {
			key = part
		}
		list = append(list, record{key, part + "\n\n"})
	}
	return list
}
