package service

import (
	"context"
	"errors"
	"io/fs"

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
	return data, at, refusedObject(err, appstream.ResourceNotFound, at, member)
}

// hasObject refuses an object that a member names and that is not there, with OperationNotPermitted: the model gives CreateAppBlock no
// ResourceNotFound.
func (s *Service) hasObject(ctx context.Context, member string, named *types.S3Location) error {
	at, err := location(ctx, member, named)
	if err == nil {
		_, err = s.cfg.Objects.Stat(ctx, at)
	}
	return refusedObject(err, appstream.OperationNotPermitted, at, member)
}

// location is the object of the caller that a member names.
func location(ctx context.Context, member string, named *types.S3Location) (objects.Location, error) {
	at := objects.Location{Account: appstream.CallerFrom(ctx).Account, Bucket: value(named.S3Bucket), Key: value(named.S3Key)}
	if at.Key == "" {
		return at, appstream.Errorf(appstream.Validation, "%s.S3Key is missing. Name the object.", member)
	}
	return at, nil
}

// refusedObject says what the caller can do about an object that cannot be read; missing is the kind of error for one that is not there.
func refusedObject(err error, missing appstream.Kind, at objects.Location, member string) error {
	switch {
	case errors.Is(err, objects.ErrNotFound):
		return appstream.Errorf(missing, "The object %.300s of %s for account %s does not exist. Put it there with oriel objects put.", at, member, at.Account)
	case errors.Is(err, fs.ErrPermission):
		return appstream.Errorf(appstream.OperationNotPermitted, "The server may not read the object %.300s of %s for account %s. Let its user read it, or put it there with oriel objects put.", at, member, at.Account)
	}
	return err
}
