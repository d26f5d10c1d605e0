// Package seal encrypts the few secrets that the server must be able to read again, such as the password of a directory's service account, with keys
// from a file that is not in the database: a copy of the database alone does not give them away.
//
// The file has a key of 32 bytes a line, in base64; # begins a comment. The first key seals; all of them open. To change the key, put a new line in
// front of the others (head -c 32 /dev/urandom | base64) and restart the server, which seals everything anew with it (Box.Stale says what is
// to be); the old lines can then be removed.
package seal

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// KeySize is the length of a key, in bytes.
const KeySize = 32

// Bounds of what is read.
const (
	maxFile = 16 << 10
	maxKeys = 16
	maxText = 64 << 10
)

var (
	// ErrInvalid: the text was not sealed for this purpose with a key that fits, or was altered.
	ErrInvalid = errors.New("the sealed text cannot be opened: it was altered, or sealed for something else")
	// ErrNoKey: the key that the text was sealed with is not in the file.
	ErrNoKey = errors.New("the key that the text was sealed with is not in the key file; put it back")
)

// Box seals and opens. It may be used concurrently.
type Box struct{ keys []key } // the first seals

type key struct {
	id   string // names the key in what it sealed
	aead cipher.AEAD
}

// Ensure opens the key file, or makes one with a new key, which nobody else may read.
func Ensure(file string) (*Box, error) {
	b, err := Read(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	secret := make([]byte, KeySize)
	rand.Read(secret) // does not fail
	text := "# Opens the secrets in this Oriel server's database. Without it they are lost. See docs/people.md.\n" + base64.StdEncoding.EncodeToString(secret) + "\n"
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make the key file of secrets: %w", err)
	}
	_, err = io.WriteString(f, text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(file) // half a key would keep the next start from making a whole one
		return nil, fmt.Errorf("make the key file of secrets: %w", err)
	}
	return Read(file)
}

// Read opens the key file. Errors: fs.ErrNotExist; others may read it; it has no key, or something else.
func Read(file string) (*Box, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read the key file of secrets: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read the key file of secrets: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("others may read the key file of secrets: chmod 600 %s", file)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, fmt.Errorf("read the key file of secrets: %w", err)
	}
	b, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("the key file of secrets %s: %w", file, err)
	}
	return b, nil
}

// parse reads the text of a key file. Its errors do not have what is in it.
func parse(text []byte) (*Box, error) {
	b := &Box{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		secret, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(secret) != KeySize {
			return nil, fmt.Errorf("line %d is not a key of %d bytes in base64; head -c %d /dev/urandom | base64 makes one", n, KeySize, KeySize)
		}
		if len(b.keys) == maxKeys {
			return nil, fmt.Errorf("it has more than %d keys; remove the last ones, which nothing is sealed with any more", maxKeys)
		}
		b.keys = append(b.keys, newKey(secret))
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(b.keys) == 0 {
		return nil, errors.New("it has no key; remove the file to have one made, if nothing was sealed yet")
	}
	return b, nil
}

func newKey(secret []byte) key {
	sum := sha256.Sum256(append([]byte("oriel seal key v1\x00"), secret...))
	block, err := aes.NewCipher(secret)
	if err != nil {
		panic(err) // only of a wrong length
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return key{hex.EncodeToString(sum[:6]), aead}
}

// Seal encrypts a secret for a purpose, without which it cannot be opened: the record that it belongs to.
func (b *Box) Seal(purpose, secret string) string {
	k := b.keys[0]
	return k.id + "." + base64.RawURLEncoding.EncodeToString(k.aead.Seal(nil, nil, []byte(secret), []byte(purpose)))
}

// Open gives the secret of a text that was sealed for the purpose. Errors: ErrInvalid, ErrNoKey.
func (b *Box) Open(purpose, text string) (string, error) {
	id, sealed, ok := strings.Cut(text, ".")
	if !ok || len(text) > maxText {
		return "", ErrInvalid
	}
	for _, k := range b.keys {
		if k.id != id {
			continue
		}
		raw, err := base64.RawURLEncoding.Strict().DecodeString(sealed)
		if err != nil {
			return "", ErrInvalid
		}
		secret, err := k.aead.Open(nil, nil, raw, []byte(purpose))
		if err != nil {
			return "", ErrInvalid
		}
		return string(secret), nil
	}
	return "", ErrNoKey
}

// Stale tells whether a text was sealed with another key than the first.
func (b *Box) Stale(text string) bool { return !strings.HasPrefix(text, b.keys[0].id+".") }
