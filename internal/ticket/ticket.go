// Package ticket makes and checks the two signed texts by which a browser shows that it may see a stream: the ticket in a
// streaming URL, and the session that the gateway puts into a cookie in exchange for it.
//
// Both are the same claims under the same server key, signed for different purposes, so that neither can be used as the other.
// Nothing is kept on the server: a ticket and a session hold as long as the key does, restarts included. The package does no I/O
// and reads no clock.
package ticket

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

var (
	// ErrInvalid: the text was not made by this server's key for this purpose, or was altered.
	ErrInvalid = errors.New("the ticket is not valid")
	// ErrExpired: the text is genuine, but its time is over. The claims are returned with it.
	ErrExpired = errors.New("the ticket has expired")
)

// The types of tickets, AppStream's own.
const (
	TypeAdmin   = "ADMIN"    // for an image builder
	TypeEndUser = "END_USER" // for a session on a fleet
)

// UserAdmin is the user of a ticket for an image builder.
const UserAdmin = "admin"

// KeySize is the least length of a Signer's key, in bytes.
const KeySize = 32

// Bounds of what is looked at, in bytes. An honest ticket has about 400, and a SessionContext of at most 1000 characters.
const (
	maxParameters = 8 << 10
	signatureSize = 2 * sha256.Size // in hexadecimal
)

// The purposes that a signature is made for.
const (
	purposeTicket  = "oriel streaming url v1"
	purposeSession = "oriel streaming session v1"
)

// Claims is what a ticket says.
type Claims struct {
	Type     string    // TypeAdmin or TypeEndUser
	Account  string    // twelve digits
	Region   string    // for example us-west-2
	RecordID string    // of this incarnation of the image builder or fleet: a new one of the same name needs a new ticket. In a cookie of a person's session: of the session
	UserID   string    // UserAdmin, or the person's
	Expires  time.Time // to the second
	Nonce    string    // makes equal claims differ; Signer fills it when it is empty

	Builder string // TypeAdmin: the image builder's name

	// TypeEndUser only.
	Fleet, Stack string // names
	Application  string // to start at once; "" for none
	Context      string // SessionContext
	UserPool     bool   // he signed in at the portal; else who gave the ticket out knows him
	// Federated: who gave the ticket out knows his attributes too, by which entitlements are chosen.
	Federated  bool
	Attributes map[string]string
}

// Authentication is how the person of a ticket was signed in, in AppStream's words: USERPOOL, SAML or API.
func (c *Claims) Authentication() string {
	switch {
	case c.UserPool:
		return "USERPOOL"
	case c.Federated:
		return "SAML"
	}
	return "API"
}

const (
	fleetPrefix = "fleet/"
	stackPrefix = "stack/"
)

// wire is the JSON of Claims. Where a member has a name of AppStream's, it has that.
type wire struct {
	Type     string `json:"type"`
	Expires  string `json:"expires"` // seconds since 1970
	Account  string `json:"awsAccountId"`
	UserID   string `json:"userId"`
	Region   string `json:"region"`
	Builder  string `json:"imageBuilder,omitzero"`
	RecordID string `json:"recordId"`
	Nonce    string `json:"nonce"`

	Fleet       string            `json:"fleetRef,omitzero"`      // fleet/NAME
	Stack       string            `json:"catalogSource,omitzero"` // stack/NAME
	Application string            `json:"applicationId,omitzero"`
	Context     string            `json:"userContext,omitzero"`
	UserPool    bool              `json:"userPool,omitzero"`
	Federated   bool              `json:"federated,omitzero"`
	Attributes  map[string]string `json:"attributes,omitempty"`
}

// Signer makes and checks tickets and sessions. It may be used concurrently.
type Signer struct{ key []byte }

// NewSigner gives the Signer of a secret key, which must have at least KeySize bytes and must stay the same for as long as what it
// signed is to hold.
func NewSigner(key []byte) (*Signer, error) {
	if len(key) < KeySize {
		return nil, fmt.Errorf("the key that signs streaming URLs has %d bytes; at least %d are needed", len(key), KeySize)
	}
	return &Signer{key: append([]byte(nil), key...)}, nil
}

// URL gives the streaming URL for claims. base is scheme and host (and, behind a proxy, the path) under which the
// gateway is reached: https://oriel.example:8443. The result is a secret until it expires.
func (s *Signer) URL(base string, c Claims) (string, error) {
	parameters, err := encode(c)
	if err != nil {
		return "", err
	}
	return strings.TrimRight(base, "/") + "/authenticate?parameters=" + url.QueryEscape(parameters) +
		"&signature=" + s.sign(purposeTicket, parameters), nil
}

// Parse checks the two query values of a streaming URL. Errors: ErrInvalid, ErrExpired.
func (s *Signer) Parse(parameters, signature string, now time.Time) (Claims, error) {
	return s.parse(purposeTicket, parameters, signature, now)
}

// Session gives the value of a session cookie for claims.
func (s *Signer) Session(c Claims) (string, error) {
	parameters, err := encode(c)
	if err != nil {
		return "", err
	}
	return parameters + "." + s.sign(purposeSession, parameters), nil
}

// ParseSession checks the value of a session cookie. Errors: ErrInvalid, ErrExpired.
func (s *Signer) ParseSession(value string, now time.Time) (Claims, error) {
	parameters, signature, _ := strings.Cut(value, ".")
	return s.parse(purposeSession, parameters, signature, now)
}

// Cookie gives the cookie in which a browser keeps the session of a record, without its value: the gateway sets it, and the portal takes it away. Over https its name has
// the prefix with which browsers promise that no other host has set it.
func Cookie(record string, https bool) *http.Cookie {
	c := &http.Cookie{Name: "oriel-" + record, Path: "/stream/" + record, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if https {
		c.Name, c.Path, c.Secure = "__Host-"+c.Name, "/", true // as the prefix demands
	}
	return c
}

func (s *Signer) parse(purpose, parameters, signature string, now time.Time) (Claims, error) {
	if len(parameters) > maxParameters || len(signature) != signatureSize {
		return Claims{}, ErrInvalid
	}
	// The texts are compared, not what they decode to, so that there is one way only to write a ticket.
	if !hmac.Equal([]byte(signature), []byte(s.sign(purpose, parameters))) {
		return Claims{}, ErrInvalid
	}
	c, err := decode(parameters)
	if err != nil {
		return Claims{}, ErrInvalid
	}
	if !now.Before(c.Expires) {
		return c, ErrExpired
	}
	return c, nil
}

// sign gives the signature of a text for a purpose, in lower-case hexadecimal. The NUL ends the purpose unmistakably.
func (s *Signer) sign(purpose, text string) string {
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(purpose + "\x00" + text))
	return hex.EncodeToString(mac.Sum(nil))
}

func encode(c Claims) (string, error) {
	if c.Nonce == "" {
		c.Nonce = rand.Text()
	}
	w := wire{
		Type: c.Type, Expires: strconv.FormatInt(c.Expires.Unix(), 10), Account: c.Account, UserID: c.UserID,
		Region: c.Region, Builder: c.Builder, RecordID: c.RecordID, Nonce: c.Nonce, Application: c.Application, Context: c.Context, UserPool: c.UserPool,
		Federated: c.Federated, Attributes: c.Attributes,
	}
	if c.Type == TypeEndUser {
		w.Fleet, w.Stack = fleetPrefix+c.Fleet, stackPrefix+c.Stack
	}
	text, err := json.Marshal(w)
	if err != nil {
		return "", fmt.Errorf("encode a ticket: %w", err)
	}
	parameters := base64.RawURLEncoding.EncodeToString(text)
	if len(parameters) > maxParameters {
		return "", fmt.Errorf("encode a ticket: it would have %d bytes, the limit is %d", len(parameters), maxParameters)
	}
	return parameters, nil
}

func decode(parameters string) (Claims, error) {
	text, err := base64.RawURLEncoding.Strict().DecodeString(parameters)
	if err != nil {
		return Claims{}, err
	}
	var w wire
	if err := json.Unmarshal(text, &w, json.RejectUnknownMembers(true)); err != nil {
		return Claims{}, err
	}
	expires, err := strconv.ParseInt(w.Expires, 10, 64)
	if err != nil {
		return Claims{}, err
	}
	c := Claims{
		Type: w.Type, Account: w.Account, Region: w.Region, Builder: w.Builder, RecordID: w.RecordID,
		UserID: w.UserID, Expires: time.Unix(expires, 0).UTC(), Nonce: w.Nonce, Application: w.Application, Context: w.Context, UserPool: w.UserPool,
		Federated: w.Federated, Attributes: w.Attributes,
	}
	fleet, isFleet := strings.CutPrefix(w.Fleet, fleetPrefix)
	stack, isStack := strings.CutPrefix(w.Stack, stackPrefix)
	switch {
	case c.RecordID == "":
		return Claims{}, errors.New("the ticket names nothing")
	case c.Type == TypeEndUser && isFleet && isStack:
		c.Fleet, c.Stack = fleet, stack
	case c.Type == TypeAdmin && w.Fleet == "" && w.Stack == "":
	default:
		return Claims{}, errors.New("not a ticket for an image builder or a fleet")
	}
	return c, nil
}
