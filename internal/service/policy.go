package service

import (
	"context"
	"errors"
	"reflect"

	aws "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

// DependentActions gives what a policy must allow beside an operation itself, as AWS's service authorization reference has it: to tag what is
// created with tags, and to give a role to machines.
func (s *Service) DependentActions(operation string, c appstream.Caller, in any) (list []appstream.DependentAction) {
	members := reflect.Indirect(reflect.ValueOf(in))
	tagged := func(member string, noun appstream.Noun, name string) {
		if members.FieldByName(member).Len() > 0 {
			for _, n := range stringsOf(members.FieldByName(name)) {
				list = append(list, appstream.DependentAction{Action: "appstream:TagResource", Resource: key(c, noun, n).ARN()})
			}
		}
	}
	// What AWS asks about the source alone, or about no resource, a policy can deny for the image that comes of it.
	unlessDenied := func(image appstream.Key) {
		list = append(list, appstream.DependentAction{Action: "appstream:" + operation, Resource: image.ARN(), DenyOnly: true})
	}
	switch in := in.(type) {
	case *aws.CopyImageInput:
		to := key(c, appstream.NounImage, value(in.DestinationImageName))
		to.Region = value(in.DestinationRegion)
		unlessDenied(to)
	case *aws.CreateUpdatedImageInput:
		unlessDenied(key(c, appstream.NounImage, value(in.NewImageName)))
	case *aws.CreateImportedImageInput:
		unlessDenied(key(c, appstream.NounImage, value(in.Name)))
	}
	switch operation {
	case "CreateFleet":
		tagged("Tags", appstream.NounFleet, "Name")
	case "CreateImageBuilder":
		tagged("Tags", appstream.NounImageBuilder, "Name")
	case "CreateStack":
		tagged("Tags", appstream.NounStack, "Name")
	case "CreateImage":
		tagged("Tags", appstream.NounImage, "Name")
	case "CreateImportedImage":
		tagged("Tags", appstream.NounImage, "Name")
	case "CreateUpdatedImage":
		tagged("NewImageTags", appstream.NounImage, "NewImageName")
	}
	for _, role := range stringsOf(members.FieldByName("IamRoleArn")) {
		if role != "" {
			list = append(list, appstream.DependentAction{Action: "iam:PassRole", Resource: role})
		}
	}
	return list
}

// heading is any record, of which only what all share is read.
type heading struct{ appstream.Meta }

// ResourceTags gives the tags of a resource of the caller or of everybody, for policies that ask for them. What does not exist, or is another account's,
// has none.
func (s *Service) ResourceTags(ctx context.Context, c appstream.Caller, arn string) (map[string]string, error) {
	k, err := appstream.ParseARN(arn)
	if err != nil || k.Account != c.Account && k.Account != "" {
		return nil, nil
	}
	var rec heading
	err = s.cfg.Store.View(ctx, func(tx store.Tx) error { return tx.Get(k, &rec) })
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return rec.Tags, err
}
