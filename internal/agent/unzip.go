package agent

import (
	"archive/zip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Bounds of a zip file with session scripts.
const (
	maxZipFiles = 1000
	maxZipBytes = 1 << 30 // unpacked
)

// unzip unpacks a zip file into a directory that is made if needed. What is in it belongs to root, and everybody may run it: a zip file
// that was packed elsewhere does not say so.
func unzip(file, dir string) error {
	z, err := zip.OpenReader(file)
	if err != nil {
		return fmt.Errorf("this is not a zip file: %w", err)
	}
	defer z.Close()
	if len(z.File) > maxZipFiles {
		return fmt.Errorf("the zip file has more than %d files", maxZipFiles)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	left := int64(maxZipBytes)
	for _, f := range z.File {
		n, err := unzipFile(root, f, left)
		if err != nil {
			return fmt.Errorf("unpack %.200q: %w", f.Name, err)
		}
		left -= n
	}
	return nil
}

// unzipFile unpacks one file of at most limit bytes, and tells how many it has.
func unzipFile(root *os.Root, f *zip.File, limit int64) (int64, error) {
	name := filepath.Clean(strings.ReplaceAll(f.Name, `\`, "/")) // as some programs on Windows write it
	if !filepath.IsLocal(name) {
		return 0, fmt.Errorf("it would be outside of the directory")
	}
	if f.FileInfo().IsDir() || strings.HasSuffix(f.Name, `\`) {
		return 0, root.MkdirAll(name, 0o755)
	}
	if !f.Mode().IsRegular() {
		return 0, fmt.Errorf("it is neither a file nor a directory")
	}
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return 0, err
	}
	in, err := f.Open()
	if err != nil {
		return 0, err
	}
	defer in.Close()
	out, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(out, io.LimitReader(in, limit+1))
	if closed := out.Close(); err == nil {
		err = closed
	}
	if err == nil && n > limit {
		err = fmt.Errorf("the zip file has more than %d bytes unpacked", int64(maxZipBytes))
	}
	return n, err
}
