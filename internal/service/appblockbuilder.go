package service

import (
	"context"
	"maps"
	"strings"
	"time"

	aws "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

// CreateAppBlockBuilder creates an app block builder in state STOPPED. It has a machine from its start to its stop.
func (s *Service) CreateAppBlockBuilder(ctx context.Context, in *aws.CreateAppBlockBuilderInput) (*aws.CreateAppBlockBuilderOutput, error) {
	c := appstream.CallerFrom(ctx)
	b := appstream.AppBlockBuilder{Meta: appstream.Meta{Key: key(c, appstream.NounAppBlockBuilder, value(in.Name)), ID: newID("abb-"), Tags: maps.Clone(in.Tags)}}
	b.View = types.AppBlockBuilder{
		AccessEndpoints: in.AccessEndpoints, Description: in.Description, DisableIMDSV1: new(value(in.DisableIMDSV1)), DisplayName: in.DisplayName,
		EnableDefaultInternetAccess: new(value(in.EnableDefaultInternetAccess)), IamRoleArn: in.IamRoleArn, InstanceType: in.InstanceType,
		Platform: in.Platform, VpcConfig: in.VpcConfig,
	}
	err := s.change(ctx, "appstream:CreateAppBlockBuilder", b.Key, func(tx store.Tx, now time.Time) error {
		if err := s.checkAppBlockBuilder(tx, c, &b.View); err != nil {
			return err
		}
		if err := s.room(tx, b.Key, &appstream.AppBlockBuilder{}, s.cfg.Quotas.AppBlockBuilders, "The app block builder %s already exists. Choose another name, or delete it first."); err != nil {
			return err
		}
		b.Created = now
		b.Enter(appstream.AppBlockBuilderStopped, now)
		return insert(tx, &b, now, "CreateAppBlockBuilder")
	})
	if err != nil {
		return nil, err
	}
	return &aws.CreateAppBlockBuilderOutput{AppBlockBuilder: new(b.Describe())}, nil
}

// checkAppBlockBuilder checks what an app block builder shall be like.
func (s *Service) checkAppBlockBuilder(tx store.Tx, c appstream.Caller, b *types.AppBlockBuilder) error {
	size, known := s.cfg.Sizes[value(b.InstanceType)]
	switch {
	case !known:
		return unknownType(value(b.InstanceType))
	case b.IamRoleArn != nil && !roleOf(c.Account, *b.IamRoleArn):
		return invalidRole(c, *b.IamRoleArn)
	}
	if err := checkEndpoints(b.AccessEndpoints); err != nil {
		return err
	}
	image, err := platformImage(tx, c.Region, types.PlatformType(b.Platform))
	if err != nil {
		return err
	}
	return fits(image, size)
}

// DescribeAppBlockBuilders describes the named app block builders, or all of the account in the region.
func (s *Service) DescribeAppBlockBuilders(ctx context.Context, in *aws.DescribeAppBlockBuildersInput) (*aws.DescribeAppBlockBuildersOutput, error) {
	c := appstream.CallerFrom(ctx)
	p, err := openPage(c, in, 25, 25)
	if err != nil {
		return nil, err
	}
	list, next, err := records[appstream.AppBlockBuilder](ctx, s, c, p, appstream.NounAppBlockBuilder, in.Names)
	if err != nil {
		return nil, err
	}
	out := &aws.DescribeAppBlockBuildersOutput{AppBlockBuilders: make([]types.AppBlockBuilder, len(list)), NextToken: next}
	for n := range list {
		out.AppBlockBuilders[n] = list[n].Describe()
	}
	return out, nil
}

// UpdateAppBlockBuilder changes an app block builder. Of one that runs, only what people read of it can be changed.
func (s *Service) UpdateAppBlockBuilder(ctx context.Context, in *aws.UpdateAppBlockBuilderInput) (*aws.UpdateAppBlockBuilderOutput, error) {
	c := appstream.CallerFrom(ctx)
	b, err := s.changeAppBlockBuilder(ctx, "appstream:UpdateAppBlockBuilder", value(in.Name), func(tx store.Tx, b *appstream.AppBlockBuilder, _ time.Time) error {
		more := in.Platform != "" || in.InstanceType != nil || in.VpcConfig != nil || in.EnableDefaultInternetAccess != nil || in.IamRoleArn != nil ||
			in.AccessEndpoints != nil || in.DisableIMDSV1 != nil || len(in.AttributesToDelete) > 0
		if b.State != appstream.AppBlockBuilderStopped && (more || b.State != appstream.AppBlockBuilderRunning) {
			return appstream.Errorf(appstream.OperationNotPermitted, "The app block builder %s is %s. Stop it first. Of one that is RUNNING, DisplayName and Description can be updated.", b.Name, b.State)
		}
		v := &b.View
		for _, attribute := range in.AttributesToDelete {
			both := false
			switch attribute {
			case types.AppBlockBuilderAttributeIamRoleArn:
				both, v.IamRoleArn = in.IamRoleArn != nil, nil
			case types.AppBlockBuilderAttributeAccessEndpoints:
				both, v.AccessEndpoints = in.AccessEndpoints != nil, nil
			case types.AppBlockBuilderAttributeVpcConfigurationSecurityGroupIds:
				if both = in.VpcConfig != nil && len(in.VpcConfig.SecurityGroupIds) > 0; v.VpcConfig != nil {
					v.VpcConfig = &types.VpcConfig{SubnetIds: v.VpcConfig.SubnetIds}
				}
			}
			if both {
				return appstream.Errorf(appstream.InvalidParameterCombination, "AttributesToDelete has %s, which is to be set too. Do one or the other.", attribute)
			}
		}
		set(&v.DisplayName, in.DisplayName)
		set(&v.Description, in.Description)
		set(&v.InstanceType, in.InstanceType)
		set(&v.VpcConfig, in.VpcConfig)
		set(&v.EnableDefaultInternetAccess, in.EnableDefaultInternetAccess)
		set(&v.IamRoleArn, in.IamRoleArn)
		set(&v.DisableIMDSV1, in.DisableIMDSV1)
		if in.AccessEndpoints != nil {
			v.AccessEndpoints = in.AccessEndpoints
		}
		v.Platform = or(types.AppBlockBuilderPlatformType(in.Platform), v.Platform)
		if !more {
			return nil
		}
		return s.checkAppBlockBuilder(tx, c, v)
	})
	return &aws.UpdateAppBlockBuilderOutput{AppBlockBuilder: b}, err
}

// StartAppBlockBuilder starts an app block builder with a new machine of its platform's public image.
func (s *Service) StartAppBlockBuilder(ctx context.Context, in *aws.StartAppBlockBuilderInput) (*aws.StartAppBlockBuilderOutput, error) {
	c := appstream.CallerFrom(ctx)
	b, err := s.changeAppBlockBuilder(ctx, "appstream:StartAppBlockBuilder", value(in.Name), func(tx store.Tx, b *appstream.AppBlockBuilder, now time.Time) error {
		switch {
		case b.State != appstream.AppBlockBuilderStopped:
			return inState(appstream.OperationNotPermitted, b.Key, b.State, "a STOPPED")
		case b.AppBlock == "":
			return appstream.Errorf(appstream.OperationNotPermitted, "The app block builder %s is not associated with an app block. Call AssociateAppBlockBuilderAppBlock first.", b.Name)
		}
		image, err := platformImage(tx, c.Region, types.PlatformType(b.View.Platform))
		if err != nil {
			return err
		}
		agent, err := s.agentVersion(nil, image.View.AppstreamAgentVersion)
		if err == nil {
			b.Start(image, agent, now)
		}
		return err
	})
	return &aws.StartAppBlockBuilderOutput{AppBlockBuilder: b}, err
}

// StopAppBlockBuilder stops an app block builder, or one that is starting or makes a package, which is given up. Its machine goes, with all that was
// installed on it.
func (s *Service) StopAppBlockBuilder(ctx context.Context, in *aws.StopAppBlockBuilderInput) (*aws.StopAppBlockBuilderOutput, error) {
	b, err := s.changeAppBlockBuilder(ctx, "appstream:StopAppBlockBuilder", value(in.Name), func(_ store.Tx, b *appstream.AppBlockBuilder, now time.Time) error {
		if b.State != appstream.AppBlockBuilderRunning && b.State != appstream.AppBlockBuilderStarting && b.Packaging == nil {
			return inState(appstream.OperationNotPermitted, b.Key, b.State, "a RUNNING")
		}
		b.Stop(now)
		b.Due = now
		return nil
	})
	return &aws.StopAppBlockBuilderOutput{AppBlockBuilder: b}, err
}

// DeleteAppBlockBuilder deletes an app block builder that is stopped and not associated with an app block.
func (s *Service) DeleteAppBlockBuilder(ctx context.Context, in *aws.DeleteAppBlockBuilderInput) (*aws.DeleteAppBlockBuilderOutput, error) {
	k := key(appstream.CallerFrom(ctx), appstream.NounAppBlockBuilder, value(in.Name))
	err := s.change(ctx, "appstream:DeleteAppBlockBuilder", k, func(tx store.Tx, now time.Time) error {
		var b appstream.AppBlockBuilder
		if err := get(tx, k, &b); err != nil {
			return err
		}
		switch {
		case b.State != appstream.AppBlockBuilderStopped:
			return inState(appstream.OperationNotPermitted, b.Key, b.State, "a STOPPED")
		case b.AppBlock != "":
			return appstream.Errorf(appstream.ResourceInUse, "The app block builder %s is associated with the app block %s. Call DisassociateAppBlockBuilderAppBlock first.", b.Name, b.AppBlock)
		}
		return remove(tx, &b, now, "DeleteAppBlockBuilder")
	})
	if err != nil {
		return nil, err
	}
	return &aws.DeleteAppBlockBuilderOutput{}, nil
}

// changeAppBlockBuilder reads an app block builder of the caller, lets fn change it, and writes it. A change of state wakes the engine.
func (s *Service) changeAppBlockBuilder(ctx context.Context, op, name string, fn func(store.Tx, *appstream.AppBlockBuilder, time.Time) error) (*types.AppBlockBuilder, error) {
	k := key(appstream.CallerFrom(ctx), appstream.NounAppBlockBuilder, name)
	var b appstream.AppBlockBuilder
	err := s.change(ctx, op, k, func(tx store.Tx, now time.Time) error {
		if err := get(tx, k, &b); err != nil {
			return err
		}
		before := b
		if err := fn(tx, &b, now); err != nil {
			return err
		}
		if b.State != before.State {
			if err := move(tx, &b.Meta, before.State, now, op[strings.IndexByte(op, ':')+1:]); err != nil {
				return err
			}
		}
		if err := addSteps(tx, b.Steps(before), now); err != nil {
			return err
		}
		return tx.Put(&b)
	})
	if err != nil {
		return nil, err
	}
	return new(b.Describe()), nil
}

// CreateAppBlockBuilderStreamingURL makes an address that opens the builder's desktop in a browser until it expires.
func (s *Service) CreateAppBlockBuilderStreamingURL(ctx context.Context, in *aws.CreateAppBlockBuilderStreamingURLInput) (*aws.CreateAppBlockBuilderStreamingURLOutput, error) {
	k := key(appstream.CallerFrom(ctx), appstream.NounAppBlockBuilder, value(in.AppBlockBuilderName))
	url, expires, err := s.desktopURL(ctx, "appstream:CreateAppBlockBuilderStreamingURL", k, &appstream.AppBlockBuilder{}, appstream.AppBlockBuilderRunning, in.Validity)
	if err != nil {
		return nil, err
	}
	return &aws.CreateAppBlockBuilderStreamingURLOutput{StreamingURL: &url, Expires: &expires}, nil
}

// AssociateAppBlockBuilderAppBlock says which app block the packages of an app block builder are for. There is one at a time.
func (s *Service) AssociateAppBlockBuilderAppBlock(ctx context.Context, in *aws.AssociateAppBlockBuilderAppBlockInput) (*aws.AssociateAppBlockBuilderAppBlockOutput, error) {
	c := appstream.CallerFrom(ctx)
	k, err := ownARN(c, appstream.NounAppBlock, value(in.AppBlockArn))
	if err != nil {
		return nil, err
	}
	_, err = s.changeAppBlockBuilder(ctx, "appstream:AssociateAppBlockBuilderAppBlock", value(in.AppBlockBuilderName), func(tx store.Tx, b *appstream.AppBlockBuilder, _ time.Time) error {
		var block appstream.AppBlock
		if err := get(tx, k, &block); err != nil {
			return err
		}
		switch {
		case b.AppBlock == block.Name:
			return nil
		case b.State != appstream.AppBlockBuilderStopped:
			return inState(appstream.OperationNotPermitted, b.Key, b.State, "a STOPPED")
		case b.AppBlock != "":
			return appstream.Errorf(appstream.LimitExceeded, "The app block builder %s is associated with the app block %s. Call DisassociateAppBlockBuilderAppBlock first. Limit: 1", b.Name, b.AppBlock)
		case block.View.PackagingType != types.PackagingTypeAppstream2:
			return appstream.Errorf(appstream.InvalidParameterCombination, "The app block %s has PackagingType %s. App block builders make packages for app blocks with PackagingType APPSTREAM2.",
				block.Name, block.View.PackagingType)
		}
		b.AppBlock = block.Name
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &aws.AssociateAppBlockBuilderAppBlockOutput{AppBlockBuilderAppBlockAssociation: &types.AppBlockBuilderAppBlockAssociation{
		AppBlockArn: in.AppBlockArn, AppBlockBuilderName: in.AppBlockBuilderName}}, nil
}

// DisassociateAppBlockBuilderAppBlock takes an app block away from an app block builder that is stopped. Disassociating what is not associated
// is no error.
func (s *Service) DisassociateAppBlockBuilderAppBlock(ctx context.Context, in *aws.DisassociateAppBlockBuilderAppBlockInput) (*aws.DisassociateAppBlockBuilderAppBlockOutput, error) {
	c := appstream.CallerFrom(ctx)
	k, err := ownARN(c, appstream.NounAppBlock, value(in.AppBlockArn))
	if err != nil {
		return nil, err
	}
	_, err = s.changeAppBlockBuilder(ctx, "appstream:DisassociateAppBlockBuilderAppBlock", value(in.AppBlockBuilderName), func(tx store.Tx, b *appstream.AppBlockBuilder, _ time.Time) error {
		switch {
		case b.AppBlock != k.Name:
			return get(tx, k, &appstream.AppBlock{})
		case b.State != appstream.AppBlockBuilderStopped:
			return inState(appstream.OperationNotPermitted, b.Key, b.State, "a STOPPED")
		}
		b.AppBlock = ""
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &aws.DisassociateAppBlockBuilderAppBlockOutput{}, nil
}

// DescribeAppBlockBuilderAppBlockAssociations tells which app block builders are associated with which app blocks: all, those of a builder, those
// of an app block, or whether two are.
func (s *Service) DescribeAppBlockBuilderAppBlockAssociations(ctx context.Context, in *aws.DescribeAppBlockBuilderAppBlockAssociationsInput) (*aws.DescribeAppBlockBuilderAppBlockAssociationsOutput, error) {
	c := appstream.CallerFrom(ctx)
	p, err := openPage(c, in, listSize, 500)
	if err != nil {
		return nil, err
	}
	var list []appstream.AppBlockBuilder
	err = s.cfg.Store.View(ctx, func(tx store.Tx) error {
		query := store.Query{Noun: appstream.NounAppBlockBuilder, Region: c.Region, Accounts: []string{c.Account}, LinksTo: value(in.AppBlockArn), After: p.after}
		all, err := store.List[appstream.AppBlockBuilder](tx, query)
		for _, b := range all {
			if b.AppBlock != "" && (in.AppBlockBuilderName == nil || *in.AppBlockBuilderName == b.Name) {
				list = append(list, b)
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	list, next := cut(p, list, place)
	out := &aws.DescribeAppBlockBuilderAppBlockAssociationsOutput{AppBlockBuilderAppBlockAssociations: make([]types.AppBlockBuilderAppBlockAssociation, len(list)), NextToken: next}
	for n, b := range list {
		out.AppBlockBuilderAppBlockAssociations[n] = types.AppBlockBuilderAppBlockAssociation{AppBlockArn: new(b.AppBlockKey().ARN()), AppBlockBuilderName: new(b.Name)}
	}
	return out, nil
}

// CreateAppBlockPackageInput names the app block builder whose installation becomes a package.
type CreateAppBlockPackageInput struct {
	AppBlockBuilderName *string // required: a RUNNING app block builder of the caller
}

// CreateAppBlockPackageOutput says where the package will be. The app block has it, and is ACTIVE, as soon as it is whole.
type CreateAppBlockPackageOutput struct {
	AppBlockArn      *string
	SourceS3Location *types.S3Location
}

// CreateAppBlockPackage has an app block builder make the package of its app block: the streaming session ends, the builder becomes STOPPING,
// and what its disk has beyond its image is written into the app block's bucket. Then the app block is ACTIVE and the builder STOPPED.
func (s *Service) CreateAppBlockPackage(ctx context.Context, in *CreateAppBlockPackageInput) (*CreateAppBlockPackageOutput, error) {
	out := &CreateAppBlockPackageOutput{}
	_, err := s.changeAppBlockBuilder(ctx, "oriel:CreateAppBlockPackage", value(in.AppBlockBuilderName), func(tx store.Tx, b *appstream.AppBlockBuilder, now time.Time) error {
		if b.State != appstream.AppBlockBuilderRunning {
			return inState(appstream.OperationNotPermitted, b.Key, b.State, "a RUNNING")
		}
		var block appstream.AppBlock
		if err := get(tx, b.AppBlockKey(), &block); err != nil {
			return err
		}
		b.Package(&block, now)
		out.AppBlockArn, out.SourceS3Location = new(block.ARN()), &types.S3Location{S3Bucket: &b.Packaging.Bucket, S3Key: &b.Packaging.Key}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
