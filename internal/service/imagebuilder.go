package service

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	aws "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
	"github.com/oriel-project/oriel/internal/ticket"
)

// CreateImageBuilder creates an image builder in state PENDING; the engine makes its machine.
func (s *Service) CreateImageBuilder(ctx context.Context, in *aws.CreateImageBuilderInput) (*aws.CreateImageBuilderOutput, error) {
	c := appstream.CallerFrom(ctx)
	b := appstream.ImageBuilder{Meta: appstream.Meta{Key: key(c, appstream.NounImageBuilder, value(in.Name)), ID: newID("ib-"), Tags: maps.Clone(in.Tags)}}
	size, err := s.checkNewBuilder(c, in)
	if err != nil {
		return nil, err
	}
	err = s.change(ctx, "appstream:CreateImageBuilder", b.Key, func(tx store.Tx, now time.Time) error {
		image, err := s.image(tx, c, in.ImageName, in.ImageArn)
		if err != nil {
			return err
		}
		if err := usable(c, image, size); err != nil {
			return err
		}
		agent, err := s.agentVersion(in.AppstreamAgentVersion, image.View.AppstreamAgentVersion)
		if err != nil {
			return err
		}
		volume, err := volume(in.RootVolumeConfig, image.VolumeGB)
		if err != nil {
			return err
		}
		if err := s.room(tx, b.Key, &appstream.ImageBuilder{}, s.cfg.Quotas.ImageBuilders, "The image builder %s already exists. Choose another name, or delete it first."); err != nil {
			return err
		}
		b.Created, b.ImageRef = now, image.Ref
		b.View = types.ImageBuilder{
			AccessEndpoints:             in.AccessEndpoints,
			AppstreamAgentVersion:       &agent,
			Description:                 in.Description,
			DisableIMDSV1:               new(value(in.DisableIMDSV1)),
			DisplayName:                 in.DisplayName,
			DomainJoinInfo:              in.DomainJoinInfo,
			EnableDefaultInternetAccess: new(value(in.EnableDefaultInternetAccess)),
			IamRoleArn:                  in.IamRoleArn,
			ImageArn:                    new(image.ARN()),
			InstanceType:                in.InstanceType,
			Platform:                    image.View.Platform,
			RootVolumeConfig:            volume,
			VpcConfig:                   in.VpcConfig,
		}
		if b.View.VpcConfig == nil {
			b.View.VpcConfig = &types.VpcConfig{}
		}
		if err := s.firstSoftware(&b, &image, in.SoftwaresToInstall, in.SoftwaresToUninstall); err != nil {
			return err
		}
		b.Enter(appstream.BuilderPending, now)
		if err := move(tx, &b.Meta, "", now, "CreateImageBuilder"); err != nil {
			return err
		}
		return tx.Insert(&b)
	})
	if err != nil {
		return nil, err
	}
	return &aws.CreateImageBuilderOutput{ImageBuilder: new(b.Describe(s.latestAgent()))}, nil
}

// checkNewBuilder checks what can be checked without the store.
func (s *Service) checkNewBuilder(c appstream.Caller, in *aws.CreateImageBuilderInput) (appstream.InstanceType, error) {
	size, known := s.cfg.Sizes[value(in.InstanceType)]
	switch vpc := in.VpcConfig; {
	case !known:
		return size, unknownType(value(in.InstanceType))
	case (in.ImageName == nil) == (in.ImageArn == nil):
		return size, appstream.Errorf(appstream.InvalidParameterCombination, "Specify exactly one of ImageName and ImageArn.")
	case vpc != nil && len(vpc.SubnetIds) > 1:
		return size, appstream.Errorf(appstream.InvalidParameterCombination, "VpcConfig has %d subnets. Specify only one subnet for an image builder.", len(vpc.SubnetIds))
	case in.IamRoleArn != nil && !roleOf(c.Account, *in.IamRoleArn):
		return size, invalidRole(c, *in.IamRoleArn)
	}
	return size, checkEndpoints(in.AccessEndpoints)
}

func checkEndpoints(list []types.AccessEndpoint) error {
	for n, e := range list {
		if value(e.VpceId) == "" {
			return appstream.Errorf(appstream.InvalidParameterCombination, "AccessEndpoints[%d] has no VpceId.", n)
		}
	}
	return nil
}

func unknownType(name string) error {
	return appstream.Errorf(appstream.InvalidParameterCombination, "The instance type %s is not known. Instance types begin with stream., for example stream.standard.medium.", name)
}

func invalidRole(c appstream.Caller, arn string) error {
	return appstream.Errorf(appstream.InvalidRole, "AppStream 2.0 encountered an error because your IAM role '%s' is invalid: it must be a role of the account %s.", arn, c.Account)
}

func roleOf(account, arn string) bool {
	part := strings.SplitN(arn, ":", 6)
	return len(part) == 6 && part[2] == "iam" && part[4] == account && strings.HasPrefix(part[5], "role/")
}

// usable tells whether a caller may make a machine of a size from an image.
func usable(c appstream.Caller, image appstream.Image, size appstream.InstanceType) error {
	switch {
	case image.State != appstream.ImageAvailable:
		return inState(appstream.ResourceNotAvailable, image.Key, image.State, "an AVAILABLE")
	case image.Account != "" && image.Account != c.Account && !value(image.Permissions[c.Account].AllowImageBuilder):
		return appstream.Errorf(appstream.OperationNotPermitted, "The image %s is not shared with account %s for image builders. Ask its owner for the allowImageBuilder permission.", image.Name, c.Account)
	case !value(image.View.ImageBuilderSupported):
		return appstream.Errorf(appstream.OperationNotPermitted, "The image %s does not support image builders. Choose another image.", image.Name)
	}
	return fits(&image, size)
}

// fits tells whether a machine of a size can be made from an image.
func fits(image *appstream.Image, size appstream.InstanceType) error {
	if families := image.View.SupportedInstanceFamilies; len(families) > 0 && !slices.Contains(families, size.Family) {
		return appstream.Errorf(appstream.InvalidParameterCombination, "The combination of instance type %s and image instance family %s is not supported. "+
			"Select an image that belongs to image instance family supported by this instance type.", size.Name, strings.Join(families, ", "))
	}
	return nil
}

// agentVersion chooses the agent of a machine: the wanted one, else the one that the image has pinned, else the latest.
func (s *Service) agentVersion(wanted, pinned *string) (string, error) {
	version := value(wanted)
	if version == "" {
		version = value(pinned)
	}
	installed := s.cfg.AgentVersions()
	switch {
	case version == "" || version == "LATEST":
		return s.latestAgent(), nil
	case slices.Contains(installed, version):
		return version, nil
	case wanted == nil: // the image has outlived its agent
		return s.latestAgent(), nil
	}
	return "", appstream.Errorf(appstream.ResourceNotAvailable, "The agent version %s is not installed. Installed: %s. LATEST stands for the newest.", version, strings.Join(installed, ", "))
}

// AppStream allows root volumes of these sizes, in GB.
const leastVolume, mostVolume = 200, 500

// volume chooses the size of the root volume: never less than the image has.
func volume(wanted *types.VolumeConfig, least int) (*types.VolumeConfig, error) {
	least = max(least, leastVolume)
	gb := least
	if wanted != nil && wanted.VolumeSizeInGb != nil {
		gb = int(*wanted.VolumeSizeInGb)
		if gb < least || gb > mostVolume {
			return nil, appstream.Errorf(appstream.InvalidParameterCombination, "RootVolumeConfig.VolumeSizeInGb is %d. It must be between %d and %d.", gb, least, mostVolume)
		}
	}
	return &types.VolumeConfig{VolumeSizeInGb: new(int32(gb))}, nil
}

// room refuses a resource whose name is taken, and one more than the account may have of its noun. Clients read the limit from the end
// of the text.
func (s *Service) room(tx store.Tx, k appstream.Key, rec appstream.Record, limit int, taken string) error {
	if err := tx.Get(k, rec); err == nil {
		return appstream.Errorf(appstream.ResourceAlreadyExists, taken, k.Name)
	} else if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	n, err := tx.Count(k.Account, k.Region, k.Noun)
	if err != nil {
		return err
	}
	if n >= limit && k.Noun == appstream.NounImageBuilder {
		managed, err := managedBuilders(tx, k)
		if err != nil {
			return err
		}
		n -= managed
	}
	if n >= limit {
		return appstream.Errorf(appstream.LimitExceeded, "The %s limit for account %s in %s was exceeded. Delete one that is not needed. Limit: %d", spoken(k.Noun), k.Account, k.Region, limit)
	}
	return nil
}

// DescribeImageBuilders describes the named image builders, or all of the account in the region.
func (s *Service) DescribeImageBuilders(ctx context.Context, in *aws.DescribeImageBuildersInput) (*aws.DescribeImageBuildersOutput, error) {
	c := appstream.CallerFrom(ctx)
	p, err := openPage(c, in, 500, 500)
	if err != nil {
		return nil, err
	}
	list, next, err := records[appstream.ImageBuilder](ctx, s, c, p, appstream.NounImageBuilder, in.Names)
	if err != nil {
		return nil, err
	}
	out := &aws.DescribeImageBuildersOutput{ImageBuilders: make([]types.ImageBuilder, len(list)), NextToken: next}
	latest := s.latestAgent()
	for n := range list {
		out.ImageBuilders[n] = list[n].Describe(latest)
	}
	return out, nil
}

// namesAfter sorts names, drops repetitions, and those up to the last page's end.
func namesAfter(names []string, after string) []string {
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	return slices.DeleteFunc(names, func(name string) bool { return name <= after })
}

// StartImageBuilder starts a stopped image builder. A failed one is repaired: its machine is started again, or made anew from its
// image if it has vanished (AWS can only delete a failed image builder).
func (s *Service) StartImageBuilder(ctx context.Context, in *aws.StartImageBuilderInput) (*aws.StartImageBuilderOutput, error) {
	b, err := s.moveBuilder(ctx, "StartImageBuilder", value(in.Name), func(tx store.Tx, b *appstream.ImageBuilder, now time.Time) error {
		if b.Making != nil {
			return appstream.Errorf(appstream.ResourceNotAvailable, "The image builder %s was made for an image, and cannot be started. Call DeleteImageBuilder again.", b.Name)
		}
		if b.State != appstream.BuilderStopped && b.State != appstream.BuilderFailed {
			return inState(appstream.ResourceNotAvailable, b.Key, b.State, "a STOPPED")
		}
		if err := s.mayMakeAnew(tx, b); err != nil {
			return err
		}
		if in.AppstreamAgentVersion != nil {
			agent, err := s.agentVersion(in.AppstreamAgentVersion, nil)
			if err != nil {
				return err
			}
			b.View.AppstreamAgentVersion = &agent
		}
		b.Boots, b.View.ImageBuilderErrors = nil, nil
		b.Enter(appstream.BuilderPending, now)
		return nil
	})
	return &aws.StartImageBuilderOutput{ImageBuilder: b}, err
}

// mayMakeAnew refuses to start an image builder whose machine has vanished when a new one must not be made: its image is gone or not shared any more, or there is
// no such instance type. The data of public images may outlive their records: the engine finds out about those.
func (s *Service) mayMakeAnew(tx store.Tx, b *appstream.ImageBuilder) error {
	if b.Provisioned {
		return nil
	}
	if _, known := s.cfg.Sizes[value(b.View.InstanceType)]; !known {
		return appstream.Errorf(appstream.ResourceNotAvailable, "The instance type %s of the image builder %s is not there any more. Configure it again, or delete the image builder.",
			value(b.View.InstanceType), b.Name)
	}
	k, err := appstream.ParseARN(value(b.View.ImageArn))
	if err != nil || k.Account == "" {
		return err
	}
	var image appstream.Image
	err = get(tx, k, &image)
	switch {
	case appstream.KindOf(err) == appstream.ResourceNotFound, err == nil && k.Account != b.Account && !value(image.Permissions[b.Account].AllowImageBuilder):
		return appstream.Errorf(appstream.ResourceNotAvailable, "The image builder %s has no machine any more, and the image %s, of which one would be made, is gone or not shared for image builders any more. "+
			"Delete the image builder.", b.Name, k.ARN())
	case err == nil && image.State != appstream.ImageAvailable:
		return inState(appstream.ResourceNotAvailable, k, image.State, "an AVAILABLE")
	}
	return err
}

// StopImageBuilder stops a running image builder. Its disk stays.
func (s *Service) StopImageBuilder(ctx context.Context, in *aws.StopImageBuilderInput) (*aws.StopImageBuilderOutput, error) {
	b, err := s.moveBuilder(ctx, "StopImageBuilder", value(in.Name), func(_ store.Tx, b *appstream.ImageBuilder, now time.Time) error {
		if b.State != appstream.BuilderRunning {
			return inState(appstream.OperationNotPermitted, b.Key, b.State, "a RUNNING")
		}
		b.Enter(appstream.BuilderStopping, now)
		return nil
	})
	return &aws.StopImageBuilderOutput{ImageBuilder: b}, err
}

// DeleteImageBuilder deletes an image builder, whatever it is doing. An image that is being made of it becomes FAILED.
func (s *Service) DeleteImageBuilder(ctx context.Context, in *aws.DeleteImageBuilderInput) (*aws.DeleteImageBuilderOutput, error) {
	b, err := s.moveBuilder(ctx, "DeleteImageBuilder", value(in.Name), func(_ store.Tx, b *appstream.ImageBuilder, now time.Time) error {
		if b.State == appstream.BuilderDeleting {
			return appstream.Errorf(appstream.OperationNotPermitted, "The image builder %s is being deleted already.", b.Name)
		}
		b.Enter(appstream.BuilderDeleting, now)
		return nil
	})
	return &aws.DeleteImageBuilderOutput{ImageBuilder: b}, err
}

// moveBuilder reads an image builder of the caller, lets fn move it to another state, and writes it.
func (s *Service) moveBuilder(ctx context.Context, op, name string, fn func(store.Tx, *appstream.ImageBuilder, time.Time) error) (*types.ImageBuilder, error) {
	k := key(appstream.CallerFrom(ctx), appstream.NounImageBuilder, name)
	var b appstream.ImageBuilder
	err := s.change(ctx, "appstream:"+op, k, func(tx store.Tx, now time.Time) error {
		if err := get(tx, k, &b); err != nil {
			return err
		}
		from := b.State
		if err := fn(tx, &b, now); err != nil {
			return err
		}
		if err := move(tx, &b.Meta, from, now, op); err != nil {
			return err
		}
		return tx.Put(&b)
	})
	if err != nil {
		return nil, err
	}
	return new(b.Describe(s.latestAgent())), nil
}

// CreateImageBuilderStreamingURL makes an address that opens the builder's desktop in a browser until it expires.
func (s *Service) CreateImageBuilderStreamingURL(ctx context.Context, in *aws.CreateImageBuilderStreamingURLInput) (*aws.CreateImageBuilderStreamingURLOutput, error) {
	k := key(appstream.CallerFrom(ctx), appstream.NounImageBuilder, value(in.Name))
	url, expires, err := s.desktopURL(ctx, "appstream:CreateImageBuilderStreamingURL", k, &appstream.ImageBuilder{}, appstream.BuilderRunning, in.Validity)
	if err != nil {
		return nil, err
	}
	return &aws.CreateImageBuilderStreamingURLOutput{StreamingURL: &url, Expires: &expires}, nil
}

// desktopURL signs the address of the desktop of a builder of either kind, which is read into b and must be running.
func (s *Service) desktopURL(ctx context.Context, op string, k appstream.Key, b appstream.Record, running string, sent *int64) (url string, expires time.Time, err error) {
	validity, err := validity(sent, time.Hour)
	if err != nil {
		return "", time.Time{}, err
	}
	err = s.change(ctx, op, k, func(tx store.Tx, now time.Time) error {
		if err := get(tx, k, b); err != nil {
			return err
		}
		if state := b.Head().State; state != running {
			return inState(appstream.OperationNotPermitted, k, state, "a RUNNING")
		}
		expires = expiry(now, validity)
		return nil
	})
	if err != nil {
		return "", time.Time{}, err
	}
	url, err = s.cfg.Tickets.URL(appstream.CallerFrom(ctx).BaseURL, ticket.Claims{
		Type: ticket.TypeAdmin, Account: k.Account, Region: k.Region, Builder: k.Name, RecordID: b.Head().ID, UserID: ticket.UserAdmin, Expires: expires})
	if err != nil {
		return "", time.Time{}, fmt.Errorf("sign the streaming URL: %w", err)
	}
	return url, expires, nil
}

// validity gives how long a streaming URL shall be good for.
func validity(sent *int64, otherwise time.Duration) (time.Duration, error) {
	if sent == nil {
		return otherwise, nil
	}
	if *sent < 1 || *sent > 604800 {
		return 0, appstream.Errorf(appstream.Validation, "Validity is %d. It must be between 1 and 604800 seconds.", *sent)
	}
	return time.Duration(*sent) * time.Second, nil
}

// expiry gives the end of a streaming URL's validity. Tickets know seconds: it is rounded up.
func expiry(now time.Time, validity time.Duration) time.Time {
	return now.Add(validity + time.Second - 1).Truncate(time.Second)
}
