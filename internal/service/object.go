package service

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/objects"
)

// object reads the object that a member names, of at most max bytes; ResourceNotFound when there is none, objects.ErrTooLarge when it
// has more.
func (s *Service) object(ctx context.Context, member string, from *types.S3Location, max int64) ([]byte, objects.Location, error) {
	at, err := location(ctx, member, from)
	if err != nil {
		return nil, at, err
	}
	data, err := objects.Read(ctx, s.cfg.Objects, at, max)
	if errors.Is(err, objects.ErrNotFound) {
		err = missingObject(appstream.ResourceNotFound, at, member)
	}
	return data, at, err
}

// hasObject refuses an object that a member names and that is not there, with OperationNotPermitted: the model gives CreateAppBlock no
// ResourceNotFound.
func (s *Service) hasObject(ctx context.Context, member string, named *types.S3Location) error {
	at, err := location(ctx, member, named)
	if err == nil {
		_, err = s.cfg.Objects.Stat(ctx, at)
	}
	if errors.Is(err, objects.ErrNotFound) {
		return missingObject(appstream.OperationNotPermitted, at, member)
	}
	return err
}

// location is the object of the caller that a member names.
func location(ctx context.Context, member string, named *types.S3Location) (objects.Location, error) {
	at := objects.Location{Account: appstream.CallerFrom(ctx).Account, Bucket: value(named.S3Bucket), Key: value(named.S3Key)}
	if at.Key == "" {
		return at, appstream.Errorf(appstream.Validation, "%s.S3Key is missing. Name the object.", member)
	}
	return at, nil
}

func missingObject(kind appstream.Kind, at objects.Location, member string) error {
	return appstream.Errorf(kind, "The object %.300s of %s for account %s does not exist. Put it there with oriel objects put.", at, member, at.Account)
}
