package agent

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"os"
)

// cookieName is the X protocol's plainest way to keep others out.
const cookieName = "MIT-MAGIC-COOKIE-1"

// writeXauthority puts a fresh random cookie into file, readable by uid only.
// Server and clients read the same file; without it no program of another user
// of the instance can look at the desktop or type into it. It returns the
// cookie.
func writeXauthority(file string, uid, gid int) ([]byte, error) {
	var cookie [16]byte
	rand.Read(cookie[:])
	if err := os.Remove(file); err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("replace the X authority: %w", err)
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write the X authority: %w", err)
	}
	defer f.Close()
	if _, err := f.Write(xauthority("", cookie[:])); err != nil {
		return nil, fmt.Errorf("write the X authority: %w", err)
	}
	if err := f.Chown(uid, gid); err != nil {
		return nil, fmt.Errorf("write the X authority: %w", err)
	}
	return cookie[:], f.Close()
}

// xauthority encodes one entry of Xauthority: family, then address, display
// number, name and data, each with a 16-bit length. Family 0xffff matches any
// address: the host name of an instance changes when it becomes an image.
func xauthority(display string, cookie []byte) []byte {
	var b bytes.Buffer
	binary.Write(&b, binary.BigEndian, uint16(0xffff))
	for _, field := range [][]byte{nil, []byte(display), []byte(cookieName), cookie} {
		binary.Write(&b, binary.BigEndian, uint16(len(field)))
		b.Write(field)
	}
	return b.Bytes()
}
