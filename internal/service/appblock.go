package service

import (
	"context"
	"maps"
	"strings"
	"time"
	"unicode"

	aws "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/objects"
	"github.com/oriel-project/oriel/internal/store"
)

// CreateAppBlock creates an app block. It is ACTIVE when its package is there already.
func (s *Service) CreateAppBlock(ctx context.Context, in *aws.CreateAppBlockInput) (*aws.CreateAppBlockOutput, error) {
	c := appstream.CallerFrom(ctx)
	b := appstream.AppBlock{Meta: appstream.Meta{Key: key(c, appstream.NounAppBlock, value(in.Name)), ID: newID("ab-"), Tags: maps.Clone(in.Tags)}}
	b.View = types.AppBlock{
		Description: in.Description, DisplayName: in.DisplayName, PackagingType: or(in.PackagingType, types.PackagingTypeCustom),
		SourceS3Location: in.SourceS3Location, SetupScriptDetails: in.SetupScriptDetails, PostSetupScriptDetails: in.PostSetupScriptDetails,
	}
	if err := s.checkAppBlock(ctx, &b.View); err != nil {
		return nil, err
	}
	err := s.change(ctx, "appstream:CreateAppBlock", b.Key, func(tx store.Tx, now time.Time) error {
		if err := s.room(tx, b.Key, &appstream.AppBlock{}, s.cfg.Quotas.AppBlocks, "The app block %s already exists. Choose another name, or delete it first."); err != nil {
			return err
		}
		b.Created = now
		state := appstream.AppBlockActive
		if b.View.SourceS3Location.S3Key == nil {
			state = appstream.AppBlockInactive
		}
		b.Enter(state, now, 0)
		return insert(tx, &b, now, "CreateAppBlock")
	})
	if err != nil {
		return nil, err
	}
	return &aws.CreateAppBlockOutput{AppBlock: new(b.Describe())}, nil
}

// scriptTime is the longest that a setup script may take, in seconds. A fleet waits for it once, and no person; AppStream does not say what it allows.
const scriptTime = 3600

// scriptText is the greatest length of a setup script's path, and of its parameters, in bytes.
const scriptText = 4096

// checkAppBlock checks what can be checked of an app block without the store, and that its files are there.
func (s *Service) checkAppBlock(ctx context.Context, b *types.AppBlock) error {
	type script struct {
		member string
		value  *types.ScriptDetails
	}
	setup, post := script{"SetupScriptDetails", b.SetupScriptDetails}, script{"PostSetupScriptDetails", b.PostSetupScriptDetails}
	custom := b.PackagingType == types.PackagingTypeCustom
	switch {
	case custom && setup.value == nil:
		return appstream.Errorf(appstream.OperationNotPermitted, "SetupScriptDetails is missing. An app block with PackagingType CUSTOM must have one.")
	case custom && post.value != nil:
		return appstream.Errorf(appstream.OperationNotPermitted, "PostSetupScriptDetails is for app blocks with PackagingType APPSTREAM2 only.")
	case !custom && setup.value != nil:
		return appstream.Errorf(appstream.OperationNotPermitted, "SetupScriptDetails is for app blocks with PackagingType CUSTOM only. Specify PostSetupScriptDetails.")
	case custom && b.SourceS3Location.S3Key == nil:
		return appstream.Errorf(appstream.OperationNotPermitted, "SourceS3Location.S3Key is missing. An app block with PackagingType CUSTOM must name its package.")
	}
	bucket := objects.Location{Account: appstream.CallerFrom(ctx).Account, Bucket: value(b.SourceS3Location.S3Bucket), Key: "package"}
	if err := bucket.Check(); err != nil { // where the package shall be put
		return appstream.Errorf(appstream.OperationNotPermitted, "SourceS3Location.S3Bucket: %v.", err)
	}
	if b.SourceS3Location.S3Key != nil {
		if err := s.hasObject(ctx, "SourceS3Location", b.SourceS3Location); err != nil {
			return err
		}
	}
	for _, sc := range []script{setup, post} {
		if sc.value == nil {
			continue
		}
		if n := value(sc.value.TimeoutInSeconds); n < 1 || n > scriptTime {
			return appstream.Errorf(appstream.OperationNotPermitted, "%s.TimeoutInSeconds is %d. It must be between 1 and %d.", sc.member, n, scriptTime)
		}
		for member, text := range map[string]*string{"ExecutablePath": sc.value.ExecutablePath, "ExecutableParameters": sc.value.ExecutableParameters} {
			if len(value(text)) > scriptText || strings.ContainsFunc(value(text), unicode.IsControl) {
				return appstream.Errorf(appstream.OperationNotPermitted, "%s.%s must be one line of at most %d bytes.", sc.member, member, scriptText)
			}
		}
		if err := s.hasObject(ctx, sc.member+".ScriptS3Location", sc.value.ScriptS3Location); err != nil {
			return err
		}
	}
	return nil
}

// DescribeAppBlocks describes the app blocks of the ARNs, or all of the account in the region.
func (s *Service) DescribeAppBlocks(ctx context.Context, in *aws.DescribeAppBlocksInput) (*aws.DescribeAppBlocksOutput, error) {
	c := appstream.CallerFrom(ctx)
	p, err := openPage(c, in, listSize, 500)
	if err != nil {
		return nil, err
	}
	names, err := namesOf(c, appstream.NounAppBlock, in.Arns)
	if err != nil {
		return nil, err
	}
	list, next, err := records[appstream.AppBlock](ctx, s, c, p, appstream.NounAppBlock, names)
	if err != nil {
		return nil, err
	}
	out := &aws.DescribeAppBlocksOutput{AppBlocks: make([]types.AppBlock, len(list)), NextToken: next}
	for n := range list {
		out.AppBlocks[n] = list[n].Describe()
	}
	return out, nil
}

// DeleteAppBlock deletes an app block that has no applications and that no app block builder is associated with. Its package stays where it is.
func (s *Service) DeleteAppBlock(ctx context.Context, in *aws.DeleteAppBlockInput) (*aws.DeleteAppBlockOutput, error) {
	k := key(appstream.CallerFrom(ctx), appstream.NounAppBlock, value(in.Name))
	err := s.change(ctx, "appstream:DeleteAppBlock", k, func(tx store.Tx, now time.Time) error {
		var b appstream.AppBlock
		if err := get(tx, k, &b); err != nil {
			return err
		}
		apps, err := applicationsOf(tx, k)
		if err != nil {
			return err
		}
		if len(apps) > 0 {
			return appstream.Errorf(appstream.ResourceInUse, "The app block %s has the application %s. Delete its applications first.", b.Name, apps[0].Name)
		}
		builders, err := store.List[appstream.AppBlockBuilder](tx, store.Query{Noun: appstream.NounAppBlockBuilder, Region: k.Region, Accounts: []string{k.Account}, LinksTo: k.ARN(), Limit: 1})
		if err != nil {
			return err
		}
		if len(builders) > 0 {
			return appstream.Errorf(appstream.ResourceInUse, "The app block %s is associated with the app block builder %s. Call DisassociateAppBlockBuilderAppBlock first.", b.Name, builders[0].Name)
		}
		return remove(tx, &b, now, "DeleteAppBlock")
	})
	if err != nil {
		return nil, err
	}
	return &aws.DeleteAppBlockOutput{}, nil
}

// namesOf gives the names of resources of the caller in his region that ARNs name.
func namesOf(c appstream.Caller, noun appstream.Noun, arns []string) ([]string, error) {
	var names []string
	for _, arn := range arns {
		k, err := ownARN(c, noun, arn)
		if err != nil {
			return nil, err
		}
		names = append(names, k.Name)
	}
	return names, nil
}

// ownARN reads an ARN that must name a resource of the caller in his region. What it names otherwise is not there for him.
func ownARN(c appstream.Caller, noun appstream.Noun, arn string) (appstream.Key, error) {
	k, err := appstream.ParseARN(arn)
	if err != nil || k.Noun != noun || k.Account != c.Account || k.Region != c.Region {
		return k, appstream.Errorf(appstream.ResourceNotFound, "The %s %s does not exist.", spoken(noun), arn)
	}
	return k, nil
}
