package service

import (
	"context"
	"time"

	aws "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

// CreateDirectoryConfig keeps how machines would join a directory.
func (s *Service) CreateDirectoryConfig(ctx context.Context, in *aws.CreateDirectoryConfigInput) (*aws.CreateDirectoryConfigOutput, error) {
	k := key(appstream.CallerFrom(ctx), appstream.NounDirectory, value(in.DirectoryName))
	d := appstream.DirectoryConfig{Meta: appstream.Meta{Key: k, ID: newID("directory-")}}
	if err := s.setDirectory(&d, in.OrganizationalUnitDistinguishedNames, in.ServiceAccountCredentials, in.CertificateBasedAuthProperties); err != nil {
		return nil, err
	}
	err := s.change(ctx, "appstream:CreateDirectoryConfig", k, func(tx store.Tx, now time.Time) error {
		if err := s.room(tx, k, &appstream.DirectoryConfig{}, s.cfg.Quotas.DirectoryConfigs, "The directory config %s already exists. Update it, or delete it first."); err != nil {
			return err
		}
		d.Created = now
		d.Enter(appstream.DirectoryAvailable, now, 0)
		return insert(tx, &d, now, "CreateDirectoryConfig")
	})
	if err != nil {
		return nil, err
	}
	return &aws.CreateDirectoryConfigOutput{DirectoryConfig: new(d.Describe())}, nil
}

// setDirectory gives a directory config what was sent of its members, and seals the password.
func (s *Service) setDirectory(d *appstream.DirectoryConfig, units []string, account *types.ServiceAccountCredentials, certificate *types.CertificateBasedAuthProperties) error {
	setList(&d.Units, units)
	if account != nil {
		d.AccountName, d.Password = value(account.AccountName), s.cfg.Secrets.Seal(d.SealedFor(), value(account.AccountPassword))
	}
	if certificate != nil {
		next := types.CertificateBasedAuthProperties{}
		if d.Certificate != nil {
			next = *d.Certificate
		}
		set(&next.CertificateAuthorityArn, certificate.CertificateAuthorityArn)
		next.Status = or(certificate.Status, or(next.Status, types.CertificateBasedAuthStatusDisabled))
		d.Certificate = &next
	}
	return appstream.CheckDirectory(d)
}

// UpdateDirectoryConfig changes a directory config: what is sent replaces what was, what is not sent stays.
func (s *Service) UpdateDirectoryConfig(ctx context.Context, in *aws.UpdateDirectoryConfigInput) (*aws.UpdateDirectoryConfigOutput, error) {
	k := key(appstream.CallerFrom(ctx), appstream.NounDirectory, value(in.DirectoryName))
	var d appstream.DirectoryConfig
	err := s.change(ctx, "appstream:UpdateDirectoryConfig", k, func(tx store.Tx, _ time.Time) error {
		if err := get(tx, k, &d); err != nil {
			return err
		}
		if err := s.setDirectory(&d, in.OrganizationalUnitDistinguishedNames, in.ServiceAccountCredentials, in.CertificateBasedAuthProperties); err != nil {
			return err
		}
		return tx.Put(&d)
	})
	if err != nil {
		return nil, err
	}
	return &aws.UpdateDirectoryConfigOutput{DirectoryConfig: new(d.Describe())}, nil
}

// DeleteDirectoryConfig removes a directory config that no fleet and no image builder names.
func (s *Service) DeleteDirectoryConfig(ctx context.Context, in *aws.DeleteDirectoryConfigInput) (*aws.DeleteDirectoryConfigOutput, error) {
	k := key(appstream.CallerFrom(ctx), appstream.NounDirectory, value(in.DirectoryName))
	err := s.change(ctx, "appstream:DeleteDirectoryConfig", k, func(tx store.Tx, now time.Time) error {
		var d appstream.DirectoryConfig
		if err := get(tx, k, &d); err != nil {
			return err
		}
		user, err := joins(tx, k)
		if err != nil {
			return err
		}
		if user != nil {
			return appstream.Errorf(appstream.ResourceInUse, "The directory config %s is in use by the %s %s. Change or delete that first.", k.Name, spoken(user.Noun), user.Name)
		}
		return remove(tx, &d, now, "DeleteDirectoryConfig")
	})
	if err != nil {
		return nil, err
	}
	return &aws.DeleteDirectoryConfigOutput{}, nil
}

// joins finds a fleet or an image builder whose machines would join a directory; nil when there is none.
func joins(tx store.Tx, directory appstream.Key) (user *appstream.Key, err error) {
	for _, noun := range []appstream.Noun{appstream.NounFleet, appstream.NounImageBuilder} {
		if user == nil && err == nil {
			user, err = anyLinked(tx, store.Query{Noun: noun, Region: directory.Region, Accounts: []string{directory.Account}, LinksTo: directory.ARN()})
		}
	}
	return user, err
}

// DescribeDirectoryConfigs describes the named directory configs, or all of the account in the region.
func (s *Service) DescribeDirectoryConfigs(ctx context.Context, in *aws.DescribeDirectoryConfigsInput) (*aws.DescribeDirectoryConfigsOutput, error) {
	c := appstream.CallerFrom(ctx)
	p, err := openPage(c, in, listSize, 500)
	if err != nil {
		return nil, err
	}
	list, next, err := records[appstream.DirectoryConfig](ctx, s, c, p, appstream.NounDirectory, in.DirectoryNames)
	if err != nil {
		return nil, err
	}
	out := &aws.DescribeDirectoryConfigsOutput{DirectoryConfigs: make([]types.DirectoryConfig, len(list)), NextToken: next}
	for n := range list {
		out.DirectoryConfigs[n] = list[n].Describe()
	}
	return out, nil
}

// SealAnew seals with the newest key what was sealed with an older one, so that the older key can be taken out of the key file. What cannot be opened any more stays as it is, for
// the key may come back; the log says what to do.
func (s *Service) SealAnew(ctx context.Context) error {
	return s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		list, err := store.List[appstream.DirectoryConfig](tx, store.Query{Noun: appstream.NounDirectory})
		if err != nil {
			return err
		}
		for n := range list {
			d := &list[n]
			if d.Password == "" || !s.cfg.Secrets.Stale(d.Password) {
				continue
			}
			password, err := s.cfg.Secrets.Open(d.SealedFor(), d.Password)
			if err != nil {
				s.cfg.Log.ErrorContext(ctx, "the password of a directory config cannot be read any more: put its key back into secrets.key, or send ServiceAccountCredentials again with update-directory-config",
					"directory", d.ARN(), "err", err)
				continue
			}
			d.Password = s.cfg.Secrets.Seal(d.SealedFor(), password)
			if err := tx.Put(d); err != nil {
				return err
			}
		}
		return nil
	})
}
