// Package password hashes passwords with Argon2id and checks them. A check costs 19 MiB of memory and some ten milliseconds of a processor on purpose;
// a Hasher lets only a few go on at a time, so that nobody can use the memory up by signing in.
package password

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"
)

// Cost is what a hash costs who makes it, and who guesses.
type Cost struct {
	Memory uint32 // in KiB, at least 8
	Passes uint32 // over the memory, at least 1
}

// Advised is the least that OWASP advises. Anything less is for tests.
var Advised = Cost{Memory: 19 << 10, Passes: 2}

// The sizes of a hash's parts.
const (
	threads = 1
	keySize = 32
	salt    = 16
)

// Bounds of hashes that are read. What is kept was made here, with these costs or with those of another version.
const (
	maxMemory = 256 << 10
	maxPasses = 16
	maxHash   = 512
)

var (
	// ErrBusy: too many passwords are being checked. Another try may succeed.
	ErrBusy = errors.New("too many passwords are being checked at the same time")
	// ErrInvalid: the text is not a hash that Hash made.
	ErrInvalid = errors.New("this is not the hash of a password")
)

// Hasher hashes and checks. It may be used concurrently. Make it with New.
type Hasher struct {
	slots   chan struct{} // one for each that works
	queue   chan struct{} // one for each that works or waits
	patient time.Duration // how long one waits
	cost    Cost
	decoy   string
}

// New makes a Hasher of hashes of a cost that lets a number of checks go on at a time, and eight times as many wait, for ten seconds.
func New(cost Cost, atOnce int) *Hasher {
	h := &Hasher{slots: make(chan struct{}, atOnce), queue: make(chan struct{}, 9*atOnce), patient: 10 * time.Second, cost: cost}
	h.decoy = encode(hashed{cost, threads, make([]byte, salt), make([]byte, keySize)}) // no password has it
	return h
}

// Hash hashes a password. Errors: ErrBusy, or the context's.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	leave, err := h.enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	random := make([]byte, salt)
	rand.Read(random) // does not fail
	return encode(hashed{h.cost, threads, random, argon2.IDKey(plain(password), random, h.cost.Passes, h.cost.Memory, threads, keySize)}), nil
}

// Check tells whether a password has a hash. With an empty hash, for somebody who does not exist or has no password, it takes as long and
// says no. Errors: ErrBusy, ErrInvalid, or the context's.
func (h *Hasher) Check(ctx context.Context, hash, password string) (bool, error) {
	exists := hash != ""
	if !exists {
		hash = h.decoy
	}
	c, err := decode(hash)
	if err != nil {
		return false, err
	}
	leave, err := h.enter(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	key := argon2.IDKey(plain(password), c.salt, c.Passes, c.Memory, c.threads, uint32(len(c.key)))
	return subtle.ConstantTimeCompare(key, c.key) == 1 && exists, nil
}

// plain gives what of a password is hashed. Keyboards write letters with accents in two ways, which look the same.
func plain(password string) []byte { return norm.NFC.Bytes([]byte(password)) }

// enter waits for a turn.
func (h *Hasher) enter(ctx context.Context) (leave func(), err error) {
	select {
	case h.queue <- struct{}{}:
	default:
		return nil, ErrBusy
	}
	timer := time.NewTimer(h.patient)
	defer timer.Stop()
	select {
	case h.slots <- struct{}{}:
		return func() { <-h.slots; <-h.queue }, nil
	case <-timer.C:
		err = ErrBusy
	case <-ctx.Done():
		err = ctx.Err()
	}
	<-h.queue
	return nil, err
}

// hashed is what a hash says of itself.
type hashed struct {
	Cost
	threads   uint8
	salt, key []byte
}

// encode writes a hash in the form that the reference implementation of Argon2 has.
func encode(c hashed) string {
	text := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.Memory, c.Passes, c.threads, text(c.salt), text(c.key))
}

func decode(hash string) (c hashed, err error) {
	part := strings.Split(hash, "$")
	if len(hash) > maxHash || len(part) != 6 || part[0] != "" || part[1] != "argon2id" || part[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return c, ErrInvalid
	}
	if _, err := fmt.Sscanf(part[3], "m=%d,t=%d,p=%d", &c.Memory, &c.Passes, &c.threads); err != nil || part[3] != fmt.Sprintf("m=%d,t=%d,p=%d", c.Memory, c.Passes, c.threads) {
		return c, ErrInvalid
	}
	c.salt, err = base64.RawStdEncoding.Strict().DecodeString(part[4])
	if err == nil {
		c.key, err = base64.RawStdEncoding.Strict().DecodeString(part[5])
	}
	if err != nil || len(c.salt) < 8 || len(c.key) < 16 || c.Memory < 8 || c.Memory > maxMemory || c.Passes < 1 || c.Passes > maxPasses || c.threads != 1 {
		return c, ErrInvalid
	}
	return c, nil
}

// letters are those of temporary passwords: none looks like another, and each is on every keyboard in the same place or is a digit.
const letters = "abcdefghijkmnpqrstuvwx23456789"

// Temporary makes a password that a person can type: sixteen letters and digits, in groups of four.
func Temporary() string {
	var b strings.Builder
	random := make([]byte, 1)
	for n := 0; n < 16; {
		rand.Read(random)
		if int(random[0]) >= 256/len(letters)*len(letters) {
			continue // or some letters would come more often than others
		}
		if n > 0 && n%4 == 0 {
			b.WriteByte('-')
		}
		b.WriteByte(letters[int(random[0])%len(letters)])
		n++
	}
	return b.String()
}
