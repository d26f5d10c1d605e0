package service

import (
	"context"
	"errors"
	"time"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/password"
	"github.com/oriel-project/oriel/internal/store"
)

// write has a letter sent to a user, if mails are sent at all. One of the kind that is still to be sent is enough, and is tried at once.
func (s *Service) write(tx store.Tx, u *appstream.User, kind appstream.LetterKind, stack, language string, now time.Time) error {
	if !s.cfg.Mail {
		return nil
	}
	k := letterKey(u, kind, stack)
	l := appstream.Letter{Meta: appstream.Meta{Key: k, ID: newID("letter-"), Created: now}, Kind: kind, UserID: u.ID, Stack: stack, Language: language}
	l.EnterQueued(now)
	switch err := tx.Get(k, &appstream.Letter{}); {
	case err == nil:
		return tx.Wake(k, now)
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	if err := move(tx, &l.Meta, "", now, string(kind)); err != nil {
		return err
	}
	return tx.Insert(&l)
}

// letterKey names the letter of a kind to a user.
func letterKey(u *appstream.User, kind appstream.LetterKind, stack string) appstream.Key {
	return appstream.Key{Account: u.Account, Region: u.Region, Noun: appstream.NounLetter, Name: u.ID + "/" + string(kind) + "/" + stack}
}

// unsend takes a letter back that was not sent yet.
func unsend(tx store.Tx, u *appstream.User, kind appstream.LetterKind, now time.Time, why string) error {
	var l appstream.Letter
	if err := tx.Get(letterKey(u, kind, ""), &l); err != nil {
		return ignoreMissing(err)
	}
	return remove(tx, &l, now, why)
}

// unsendAll takes back all letters to a user.
func unsendAll(tx store.Tx, u *appstream.User, now time.Time, why string) error {
	letters, err := store.List[appstream.Letter](tx, store.Query{Noun: appstream.NounLetter, Region: u.Region, Accounts: []string{u.Account}, Prefix: u.ID + "/"})
	for n := range letters {
		err = errors.Join(err, remove(tx, &letters[n], now, why))
	}
	return err
}

// What follows is what the post asks for when it sends a letter. A user who is gone, or may not sign in, gets none: the error is of kind ResourceNotFound.

// Invite gives a user who has not chosen a password yet a temporary one.
func (s *Service) Invite(ctx context.Context, userID string) (u appstream.User, temporary string, err error) {
	temporary = password.Temporary()
	hash, err := s.cfg.Passwords.Hash(ctx, temporary)
	if err != nil {
		return u, "", err
	}
	err = s.changeUser(ctx, userID, func(now time.Time) error {
		if u.State != appstream.UserUnconfirmed {
			return notFound(u.Key)
		}
		u.Invite(hash, now)
		return nil
	}, &u)
	if err == nil {
		s.triesOf.Clear(u.ARN()) // what was guessed was another password
	}
	return u, temporary, err
}

// MakeReset gives a user a secret by which another password can be chosen.
func (s *Service) MakeReset(ctx context.Context, userID string) (u appstream.User, secret string, err error) {
	secret = newSecret()
	err = s.changeUser(ctx, userID, func(now time.Time) error {
		u.AddReset(hashSecret(secret), now)
		return nil
	}, &u)
	return u, u.ID + "." + secret, err
}

// Reader gives a user who is to be told of a stack, and the stack's title.
func (s *Service) Reader(ctx context.Context, userID, stack string) (u appstream.User, title string, err error) {
	err = s.cfg.Store.View(ctx, func(tx store.Tx) error {
		if err := findUser(tx, userID, &u); err != nil {
			return err
		}
		var st appstream.Stack
		if !u.Has(stack) {
			return notFound(u.Key)
		}
		if err := get(tx, appstream.Key{Account: u.Account, Region: u.Region, Noun: appstream.NounStack, Name: stack}, &st); err != nil {
			return err
		}
		title = titleOf(&st)
		return nil
	})
	return u, title, err
}

// titleOf is what people are shown of a stack.
func titleOf(st *appstream.Stack) string {
	if title := value(st.View.DisplayName); title != "" {
		return title
	}
	return st.Name
}

// findUser reads a user who may sign in.
func findUser(tx store.Tx, id string, u *appstream.User) error {
	err := tx.Find(id, u)
	if errors.Is(err, store.ErrNotFound) || err == nil && (u.Noun != appstream.NounUser || u.Disabled) {
		return appstream.Errorf(appstream.ResourceNotFound, "The user does not exist, or is disabled.")
	}
	return err
}

// changeUser reads a user who may sign in, lets fn change him, and writes him.
func (s *Service) changeUser(ctx context.Context, id string, fn func(now time.Time) error, u *appstream.User) error {
	now := time.Now().UTC()
	return s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		if err := findUser(tx, id, u); err != nil {
			return err
		}
		if err := fn(now); err != nil {
			return err
		}
		return tx.Put(u)
	})
}
