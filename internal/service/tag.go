package service

import (
	"context"
	"maps"
	"time"

	aws "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

// maxTags is how many tags a resource may have.
const maxTags = 50

// TagResource adds tags to a resource of the caller, or gives existing ones new values.
func (s *Service) TagResource(ctx context.Context, in *aws.TagResourceInput) (*aws.TagResourceOutput, error) {
	err := s.changeTags(ctx, "TagResource", value(in.ResourceArn), func(head *appstream.Meta) error {
		tags := maps.Clone(head.Tags)
		if tags == nil {
			tags = map[string]string{}
		}
		maps.Copy(tags, in.Tags)
		if len(tags) > maxTags {
			return appstream.Errorf(appstream.LimitExceeded, "%s would have %d tags. Limit: %d", head.ARN(), len(tags), maxTags)
		}
		head.Tags = tags
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &aws.TagResourceOutput{}, nil
}

// UntagResource removes tags from a resource of the caller. Keys that it does not have are no error.
func (s *Service) UntagResource(ctx context.Context, in *aws.UntagResourceInput) (*aws.UntagResourceOutput, error) {
	err := s.changeTags(ctx, "UntagResource", value(in.ResourceArn), func(head *appstream.Meta) error {
		head.Tags = maps.Clone(head.Tags)
		for _, k := range in.TagKeys {
			delete(head.Tags, k)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &aws.UntagResourceOutput{}, nil
}

// ListTagsForResource gives the tags of a resource of the caller.
func (s *Service) ListTagsForResource(ctx context.Context, in *aws.ListTagsForResourceInput) (*aws.ListTagsForResourceOutput, error) {
	k, rec, err := taggable(ctx, value(in.ResourceArn))
	if err != nil {
		return nil, err
	}
	if err := s.cfg.Store.View(ctx, func(tx store.Tx) error { return get(tx, k, rec) }); err != nil {
		return nil, err
	}
	tags := rec.Head().Tags
	if tags == nil {
		tags = map[string]string{}
	}
	return &aws.ListTagsForResourceOutput{Tags: tags}, nil
}

func (s *Service) changeTags(ctx context.Context, op, arn string, fn func(*appstream.Meta) error) error {
	k, rec, err := taggable(ctx, arn)
	if err != nil {
		return err
	}
	return s.change(ctx, "appstream:"+op, k, func(tx store.Tx, _ time.Time) error {
		if err := get(tx, k, rec); err != nil {
			return err
		}
		if err := fn(rec.Head()); err != nil {
			return err
		}
		return tx.Put(rec)
	})
}

// taggable finds the resource that an ARN names, among the caller's own in his region.
func taggable(ctx context.Context, arn string) (appstream.Key, appstream.Record, error) {
	c := appstream.CallerFrom(ctx)
	missing := appstream.Errorf(appstream.ResourceNotFound, "The resource %s does not exist.", arn)
	k, err := appstream.ParseARN(arn)
	if err != nil || k.Account != c.Account || k.Region != c.Region {
		return k, nil, missing
	}
	switch k.Noun {
	case appstream.NounImageBuilder:
		return k, &appstream.ImageBuilder{}, nil
	case appstream.NounImage:
		return k, &appstream.Image{}, nil
	case appstream.NounFleet:
		return k, &appstream.Fleet{}, nil
	case appstream.NounStack:
		return k, &appstream.Stack{}, nil
	case appstream.NounAppBlock:
		return k, &appstream.AppBlock{}, nil
	case appstream.NounAppBlockBuilder:
		return k, &appstream.AppBlockBuilder{}, nil
	case appstream.NounApplication:
		return k, &appstream.Application{}, nil
	}
	return k, nil, missing
}
