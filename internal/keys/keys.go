// Package keys makes access keys, and keeps the server's own in a file of the form that every AWS client reads: the shared credentials
// file. The file is that key's only home: whoever removes it gets another key at the server's next start.
package keys

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Key is an access key.
type Key struct {
	ID     string // 20 letters and digits
	Secret string // 40 characters; never to be logged
}

// maxFile is the size of the largest file that is read, in bytes.
const maxFile = 64 << 10

// Ensure gives the key of the profile "default" in file, and makes a file with a new key if there is none. made tells which. Errors: the
// file cannot be read or written, or has no key.
func Ensure(file string) (k Key, made bool, err error) {
	k, err = Read(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, false, err
	}
	k = New()
	comment := "The access key of this Oriel server; it may do everything. Remove this file to get another at the next start."
	if err := Write(file, k, comment); err != nil {
		return Key{}, false, err
	}
	return k, true, nil
}

// New makes a key. The ID has the form of AWS's and a beginning that none of AWS's has.
func New() Key {
	secret := make([]byte, 30)
	rand.Read(secret) // does not fail
	return Key{ID: "ORIEL" + rand.Text()[:15], Secret: base64.StdEncoding.EncodeToString(secret)}
}

// Credentials gives the key in the form of a credentials file, with a comment of one line in front.
func (k Key) Credentials(comment string) string {
	return "# " + comment + "\n[default]\naws_access_key_id = " + k.ID + "\naws_secret_access_key = " + k.Secret + "\n"
}

// Write makes a credentials file of the key, or replaces one, whole or not at all, with mode 0600.
func Write(file string, k Key, comment string) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), ".credentials-*") // with mode 0600
	if err != nil {
		return fmt.Errorf("keep the access key: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = io.WriteString(tmp, k.Credentials(comment))
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("keep the access key: %w", err)
	}
	return nil
}

// Read gives the key of the profile "default" in file. Errors: fs.ErrNotExist, the file cannot be read, or it has no key.
func Read(file string) (Key, error) {
	f, err := os.Open(file)
	if err != nil {
		return Key{}, fmt.Errorf("read the access key: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return Key{}, fmt.Errorf("read the access key: %w", err)
	}
	k := parse(text)
	if k.ID == "" || k.Secret == "" {
		return Key{}, fmt.Errorf("%s has no aws_access_key_id and aws_secret_access_key under [default]; put them there, "+
			"or remove the file to get a new key", file)
	}
	return k, nil
}

// parse reads what it can of the profile "default".
func parse(text []byte) (k Key) {
	section := ""
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "[") {
			section = strings.TrimSpace(strings.Trim(line, "[]"))
			continue
		}
		name, value, _ := strings.Cut(line, "=")
		if section != "default" || strings.HasPrefix(line, "#") {
			continue
		}
		switch value = strings.TrimSpace(value); strings.TrimSpace(name) {
		case "aws_access_key_id":
			k.ID = value
		case "aws_secret_access_key":
			k.Secret = value
		}
	}
	return k
}
