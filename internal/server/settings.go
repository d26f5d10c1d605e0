package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/oriel-project/oriel/internal/api"
	"github.com/oriel-project/oriel/internal/api/iam"
	"github.com/oriel-project/oriel/internal/config"
	"github.com/oriel-project/oriel/internal/keyring"
	"github.com/oriel-project/oriel/internal/keys"
	"github.com/oriel-project/oriel/internal/mail"
	"github.com/oriel-project/oriel/internal/store"
	"github.com/oriel-project/oriel/internal/ticket"
)

// The settings that the store keeps for us.
const (
	settingInstallation = "installation" // the name by which a container engine knows what is ours
	settingTicketKey    = "ticket-key"   // signs streaming URLs and sessions
)

// CredentialsFile gives the path of the server's own access key.
func CredentialsFile(data string) string { return filepath.Join(data, "credentials") }

// settings reads what the server keeps for itself, and makes at its first start what is missing.
func (s *Server) settings(ctx context.Context) (installation string, signer *ticket.Signer, err error) {
	var secret []byte
	err = s.store.Update(ctx, func(tx store.Tx) error {
		name, err := setting(tx, settingInstallation, func() []byte { return []byte("oriel-" + strings.ToLower(rand.Text()[:10])) })
		if err != nil {
			return err
		}
		installation = string(name)
		secret, err = setting(tx, settingTicketKey, func() []byte {
			key := make([]byte, ticket.KeySize)
			rand.Read(key) // does not fail
			return key
		})
		return err
	})
	if err != nil {
		return "", nil, fmt.Errorf("read the server's settings: %w", err)
	}
	if signer, err = ticket.NewSigner(secret); err != nil {
		return "", nil, err
	}
	key, made, err := keys.Ensure(CredentialsFile(s.cfg.Data))
	if err != nil {
		return "", nil, err
	}
	if made {
		s.log.Info("made an access key", "file", CredentialsFile(s.cfg.Data), "id", key.ID)
	}
	s.root = api.Key{ID: key.ID, Secret: key.Secret, Account: s.cfg.Account, Principal: "arn:aws:iam::" + s.cfg.Account + ":root"}
	return installation, signer, nil
}

func setting(tx store.Tx, name string, first func() []byte) ([]byte, error) {
	value, err := tx.Setting(name)
	if errors.Is(err, store.ErrNotFound) {
		value = first()
		err = tx.SetSetting(name, value)
	}
	return value, err
}

// keyring opens the access keys: the server's own, those of the configuration, and those that it made.
func (s *Server) keyring(ctx context.Context) (*keyring.Ring, error) {
	fixed := []keyring.Key{{ID: s.root.ID, Secret: s.root.Secret, Account: s.root.Account, Principal: s.root.Principal, Origin: keyring.OwnKey}}
	for _, k := range s.cfg.Keys {
		policy, err := iam.Parse([]byte(k.Policy))
		if err != nil {
			return nil, fmt.Errorf("the access key %s: %w", k.ID, err)
		}
		fixed = append(fixed, keyring.Key{ID: k.ID, Secret: k.Secret, Account: k.Account, Principal: k.Principal, Policy: policy, Document: k.Policy,
			Origin: keyring.Configuration})
	}
	return keyring.Open(ctx, keyring.Config{Store: s.store, Fixed: fixed, Log: s.log})
}

// newPost makes what sends mails; nil when no mail server is configured.
func newPost(cfg config.Config, log *slog.Logger) (*mail.Post, error) {
	c := cfg.SMTP
	if c.Host == "" {
		return nil, nil
	}
	var secret string
	if c.PasswordFile != "" {
		f, err := os.Open(c.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("read the mail server's password: %w", err)
		}
		defer f.Close()
		text, err := io.ReadAll(io.LimitReader(f, 4<<10))
		if err != nil {
			return nil, fmt.Errorf("read the mail server's password: %w", err)
		}
		secret, _, _ = strings.Cut(string(text), "\n")
		secret = strings.TrimSuffix(secret, "\r")
	}
	return mail.New(mail.Config{Host: c.Host, Port: c.Port, Security: c.Security, CAFile: c.CAFile, Username: c.Username, Password: secret, From: c.From,
		Language: c.Language, PublicURL: cfg.PublicURL, Log: log})
}

// endpoints gives the networks behind each streaming VPC endpoint.
func (s *Server) endpoints() map[string][]netip.Prefix {
	m := make(map[string][]netip.Prefix, len(s.cfg.Endpoints))
	for _, e := range s.cfg.Endpoints {
		m[e.ID] = e.CIDRs
	}
	return m
}
