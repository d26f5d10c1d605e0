package service

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	aws "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

// CreateFleet creates a fleet in state STOPPED. StartFleet gives it machines.
func (s *Service) CreateFleet(ctx context.Context, in *aws.CreateFleetInput) (*aws.CreateFleetOutput, error) {
	c := appstream.CallerFrom(ctx)
	f := appstream.Fleet{Meta: appstream.Meta{Key: key(c, appstream.NounFleet, value(in.Name)), ID: newID("fleet-"), Tags: maps.Clone(in.Tags)}}
	elastic := in.FleetType == types.FleetTypeElastic
	switch {
	case elastic:
		if err := checkElastic(map[string]bool{"ImageName": in.ImageName != nil, "ImageArn": in.ImageArn != nil, "ComputeCapacity": in.ComputeCapacity != nil}); err != nil {
			return nil, err
		}
	case (in.ImageName == nil) == (in.ImageArn == nil):
		return nil, appstream.Errorf(appstream.InvalidParameterCombination, "Specify exactly one of ImageName and ImageArn.")
	case in.ComputeCapacity == nil:
		return nil, appstream.Errorf(appstream.InvalidParameterCombination, "ComputeCapacity is missing. It is required for fleets of the types ALWAYS_ON and ON_DEMAND.")
	}
	f.View = types.Fleet{
		Description: in.Description, DisplayName: in.DisplayName, DomainJoinInfo: in.DomainJoinInfo, IamRoleArn: in.IamRoleArn,
		InstanceType: in.InstanceType, MaxSessionsPerInstance: in.MaxSessionsPerInstance, MaxConcurrentSessions: in.MaxConcurrentSessions,
		SessionScriptS3Location: in.SessionScriptS3Location, UsbDeviceFilterStrings: in.UsbDeviceFilterStrings, VpcConfig: in.VpcConfig,
		DisableIMDSV1: new(value(in.DisableIMDSV1)), EnableDefaultInternetAccess: new(value(in.EnableDefaultInternetAccess)),
		FleetType: or(in.FleetType, types.FleetTypeOnDemand), StreamView: or(in.StreamView, types.StreamViewApp),
		DisconnectTimeoutInSeconds:     new(valueOr(in.DisconnectTimeoutInSeconds, appstream.DefaultDisconnectTimeout)),
		IdleDisconnectTimeoutInSeconds: new(value(in.IdleDisconnectTimeoutInSeconds)),
		MaxUserDurationInSeconds:       new(valueOr(in.MaxUserDurationInSeconds, appstream.DefaultMaxUserDuration)),
	}
	if f.View.VpcConfig == nil {
		f.View.VpcConfig = &types.VpcConfig{}
	}
	if err := s.checkFleet(c, &f); err != nil {
		return nil, err
	}
	if elastic {
		if err := s.hasScripts(ctx, in.SessionScriptS3Location); err != nil {
			return nil, err
		}
	} else if err := s.setCapacity(&f, in.ComputeCapacity); err != nil {
		return nil, err
	}
	err := s.change(ctx, "appstream:CreateFleet", f.Key, func(tx store.Tx, now time.Time) error {
		if err := s.setFirstImage(tx, c, &f, in); err != nil {
			return err
		}
		if err := setVolume(&f, in.RootVolumeConfig); err != nil {
			return err
		}
		if err := s.room(tx, f.Key, &appstream.Fleet{}, s.cfg.Quotas.Fleets, "The fleet %s already exists. Choose another name, or delete it first."); err != nil {
			return err
		}
		f.Created = now
		f.Enter(appstream.FleetStopped, now, 0)
		if err := move(tx, &f.Meta, "", now, "CreateFleet"); err != nil {
			return err
		}
		return tx.Insert(&f)
	})
	if err != nil {
		return nil, err
	}
	return &aws.CreateFleetOutput{Fleet: new(f.Describe(appstream.Capacity{}))}, nil
}

// setFirstImage gives a new fleet the image that is wanted; an Elastic fleet, whose image is still to be made, its platform.
func (s *Service) setFirstImage(tx store.Tx, c appstream.Caller, f *appstream.Fleet, in *aws.CreateFleetInput) error {
	if f.Elastic() {
		return s.setPlatform(tx, f, in.Platform)
	}
	image, err := s.image(tx, c, in.ImageName, in.ImageArn)
	if err != nil {
		return err
	}
	if err := s.setImage(c, f, &image); err != nil {
		return err
	}
	return checkPlatform(f, in.Platform)
}

// checkFleet checks what can be checked of a fleet, new or updated, without the store.
func (s *Service) checkFleet(c appstream.Caller, f *appstream.Fleet) error {
	v := &f.View
	_, known := s.cfg.Sizes[value(v.InstanceType)]
	switch {
	case !known:
		return unknownType(value(v.InstanceType))
	case f.Elastic():
		if err := s.checkElasticFleet(f); err != nil {
			return err
		}
	case v.MaxConcurrentSessions != nil:
		return appstream.Errorf(appstream.InvalidParameterCombination, "MaxConcurrentSessions is for Elastic fleets only. Specify ComputeCapacity instead.")
	case v.SessionScriptS3Location != nil:
		return appstream.Errorf(appstream.InvalidParameterCombination, "SessionScriptS3Location is for Elastic fleets only. The session scripts of other fleets are in their image.")
	}
	if v.IamRoleArn != nil && !roleOf(c.Account, *v.IamRoleArn) {
		return invalidRole(c, *v.IamRoleArn)
	}
	for _, r := range []struct {
		member    string
		value     *int32
		low, high int32
		zero      bool // stands for "never"
	}{
		{"MaxUserDurationInSeconds", v.MaxUserDurationInSeconds, 600, 432000, false},
		{"DisconnectTimeoutInSeconds", v.DisconnectTimeoutInSeconds, 60, 36000, false},
		{"IdleDisconnectTimeoutInSeconds", v.IdleDisconnectTimeoutInSeconds, 60, 36000, true},
		{"MaxSessionsPerInstance", v.MaxSessionsPerInstance, 2, 50, false},
	} {
		if r.value == nil || r.zero && *r.value == 0 || *r.value >= r.low && *r.value <= r.high {
			continue
		}
		or0 := ""
		if r.zero {
			or0 = "0, or "
		}
		return appstream.Errorf(appstream.InvalidParameterCombination, "%s is %d. It must be %sbetween %d and %d.", r.member, *r.value, or0, r.low, r.high)
	}
	return nil
}

// setCapacity gives the fleet the capacity that is wanted, which is counted in sessions when people share its instances.
func (s *Service) setCapacity(f *appstream.Fleet, wanted *types.ComputeCapacity) error {
	instances, sessions := wanted.DesiredInstances, wanted.DesiredSessions
	switch {
	case f.Multi() && (sessions == nil || instances != nil):
		return appstream.Errorf(appstream.InvalidParameterCombination, "ComputeCapacity of a multi-session fleet must have DesiredSessions, and no DesiredInstances.")
	case !f.Multi() && (instances == nil || sessions != nil):
		return appstream.Errorf(appstream.InvalidParameterCombination, "ComputeCapacity of a fleet without MaxSessionsPerInstance must have DesiredInstances, and no DesiredSessions.")
	case min(value(instances), value(sessions)) < 0:
		return appstream.Errorf(appstream.InvalidParameterCombination, "ComputeCapacity is negative. Specify 0 or more.")
	}
	f.Desired, f.DesiredSessions = int(value(instances)), int(value(sessions))
	if n := f.PerInstance(); n > 0 {
		f.Desired = (f.DesiredSessions + n - 1) / n
	}
	return s.checkCapacity(f)
}

// checkCapacity refuses more instances than a fleet may have, in AWS's own words, odd quotation mark included.
func (s *Service) checkCapacity(f *appstream.Fleet) error {
	if limit := s.cfg.Quotas.FleetInstances; f.Desired > limit {
		return appstream.Errorf(appstream.LimitExceeded, "The Instance type '%s' capacity limit for fleet %s' was exceeded. Requested: %d, Limit: %d",
			value(f.View.InstanceType), f.Name, f.Desired, limit)
	}
	return nil
}

// setImage lets the fleet's machines be made from an image.
func (s *Service) setImage(c appstream.Caller, f *appstream.Fleet, image *appstream.Image) error {
	if err := s.fleetMayUse(c, image, f); err != nil {
		return err
	}
	f.ImageID, f.ImageRef, f.Agent, f.Software = image.ID, image.Ref, "", image.Software
	if pinned := value(image.View.AppstreamAgentVersion); slices.Contains(s.cfg.AgentVersions(), pinned) { // else the image follows the newest, or has outlived its agent
		f.Agent = pinned
	}
	f.View.ImageName, f.View.ImageArn, f.View.Platform = new(image.Name), new(image.ARN()), image.View.Platform
	f.VolumeGB = max(f.VolumeGB, image.VolumeGB, leastVolume)
	f.View.RootVolumeConfig = &types.VolumeConfig{VolumeSizeInGb: new(int32(f.VolumeGB))}
	return nil
}

// fleetMayUse tells whether the machines of a fleet may be made from an image.
func (s *Service) fleetMayUse(c appstream.Caller, image *appstream.Image, f *appstream.Fleet) error {
	switch {
	case image.State != appstream.ImageAvailable:
		return inState(appstream.ResourceNotAvailable, image.Key, image.State, "an AVAILABLE")
	case image.Account != "" && image.Account != c.Account && !value(image.Permissions[c.Account].AllowFleet):
		return appstream.Errorf(appstream.OperationNotPermitted, "The image %s is not shared with account %s for fleets. Ask its owner for the allowFleet permission.", image.Name, c.Account)
	}
	return fits(image, s.cfg.Sizes[value(f.View.InstanceType)])
}

// imageOf reads the image of a fleet, whatever its owner allows by now. A public image may be another record since: the server makes
// those anew when they come and go. Others cannot be deleted while a fleet uses them.
func imageOf(tx store.Tx, f *appstream.Fleet) (appstream.Image, error) {
	var image appstream.Image
	k, err := appstream.ParseARN(value(f.View.ImageArn))
	if err != nil {
		return image, err
	}
	err = tx.Get(k, &image)
	if errors.Is(err, store.ErrNotFound) {
		return image, appstream.Errorf(appstream.ResourceNotFound, "The image %s for account %s does not exist.", k.Name, f.Account)
	}
	return image, err
}

// setVolume gives the fleet's machines a root volume of the wanted size, which is not below VolumeGB; nil changes nothing.
func setVolume(f *appstream.Fleet, wanted *types.VolumeConfig) error {
	if wanted == nil {
		return nil
	}
	config, err := volume(wanted, f.VolumeGB)
	if err != nil {
		return err
	}
	f.View.RootVolumeConfig, f.VolumeGB = config, int(*config.VolumeSizeInGb)
	return nil
}

// checkPlatform refuses a platform that the image does not have: only Elastic fleets have a choice.
func checkPlatform(f *appstream.Fleet, wanted types.PlatformType) error {
	if wanted == "" || wanted == f.View.Platform {
		return nil
	}
	return appstream.Errorf(appstream.InvalidParameterCombination, "Platform is %s, but the image %s is of the platform %s. Leave Platform out: only Elastic fleets choose it.",
		wanted, value(f.View.ImageName), f.View.Platform)
}

// DescribeFleets describes the named fleets, or all of the account in the region.
func (s *Service) DescribeFleets(ctx context.Context, in *aws.DescribeFleetsInput) (*aws.DescribeFleetsOutput, error) {
	c := appstream.CallerFrom(ctx)
	p, err := openPage(c, in, listSize, listSize)
	if err != nil {
		return nil, err
	}
	var list []appstream.Fleet
	out := &aws.DescribeFleetsOutput{}
	err = s.cfg.Store.View(ctx, func(tx store.Tx) error {
		if list, err = named[appstream.Fleet](tx, c, p, appstream.NounFleet, in.Names); err != nil {
			return err
		}
		list, out.NextToken = cut(p, list, place)
		out.Fleets = make([]types.Fleet, len(list))
		for n := range list {
			capacity, err := capacityOf(tx, &list[n])
			if err != nil {
				return err
			}
			out.Fleets[n] = list[n].Describe(capacity)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// capacityOf counts the instances of a fleet.
func capacityOf(tx store.Tx, f *appstream.Fleet) (count appstream.Capacity, err error) {
	err = tx.Scan(store.Query{Noun: appstream.NounInstance, Region: f.Region, Accounts: []string{f.Account}, Prefix: appstream.InstancePrefix(f.Name)},
		func(_ appstream.Meta, decode func(appstream.Record) error) error {
			var i appstream.Instance
			err := decode(&i)
			if i.FleetID == f.ID {
				count.Count(&i)
			}
			return err
		})
	return count, err
}

// updatable are the members of a fleet that UpdateFleet may change while it is RUNNING. The image and the capacity may be changed too.
var updatable = []string{"DisplayName", "IdleDisconnectTimeoutInSeconds", "DisconnectTimeoutInSeconds"}

// elasticUpdatable are those of an Elastic fleet besides.
var elasticUpdatable = []string{"MaxConcurrentSessions", "SessionScriptS3Location", "UsbDeviceFilterStrings"}

// UpdateFleet changes a fleet: everything while it is STOPPED, while it is RUNNING what can be changed for machines that are still to
// be made. What is sent as it is already is no change.
func (s *Service) UpdateFleet(ctx context.Context, in *aws.UpdateFleetInput) (*aws.UpdateFleetOutput, error) {
	c := appstream.CallerFrom(ctx)
	k := key(c, appstream.NounFleet, value(in.Name))
	switch {
	case in.Name == nil:
		return nil, appstream.Errorf(appstream.InvalidParameterCombination, "Name is missing. It names the fleet that is to be updated.")
	case in.ImageName != nil && in.ImageArn != nil:
		return nil, appstream.Errorf(appstream.InvalidParameterCombination, "Specify ImageName or ImageArn, not both.")
	}
	if err := checkFleetDeletes(in); err != nil {
		return nil, err
	}
	scripts := s.hasScripts(ctx, in.SessionScriptS3Location)
	var f appstream.Fleet
	var capacity appstream.Capacity
	err := s.change(ctx, "appstream:UpdateFleet", k, func(tx store.Tx, now time.Time) error {
		if err := get(tx, k, &f); err != nil {
			return err
		}
		old := f
		if err := s.update(tx, c, &f, in); err != nil {
			return err
		}
		if scripts != nil {
			return scripts
		}
		if err := mayUpdate(&old, &f, in); err != nil {
			return err
		}
		if f.State != appstream.FleetStopped {
			f.Failures, f.Retry, f.Due = 0, time.Time{}, now // perhaps it helps: the engine tries at once
		}
		if err := tx.Put(&f); err != nil {
			return err
		}
		var err error
		capacity, err = capacityOf(tx, &f)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &aws.UpdateFleetOutput{Fleet: new(f.Describe(capacity))}, nil
}

// update makes the changes that in asks for. Pointers of the old view are replaced, not written through.
func (s *Service) update(tx store.Tx, c appstream.Caller, f *appstream.Fleet, in *aws.UpdateFleetInput) error {
	v, multi, before := &f.View, f.Multi(), f.PerInstance()
	set(&v.Description, in.Description)
	set(&v.DisplayName, in.DisplayName)
	set(&v.DomainJoinInfo, in.DomainJoinInfo)
	set(&v.IamRoleArn, in.IamRoleArn)
	set(&v.InstanceType, in.InstanceType)
	set(&v.MaxSessionsPerInstance, in.MaxSessionsPerInstance)
	set(&v.MaxConcurrentSessions, in.MaxConcurrentSessions)
	set(&v.SessionScriptS3Location, in.SessionScriptS3Location)
	set(&v.VpcConfig, in.VpcConfig)
	set(&v.DisableIMDSV1, in.DisableIMDSV1)
	set(&v.EnableDefaultInternetAccess, in.EnableDefaultInternetAccess)
	set(&v.DisconnectTimeoutInSeconds, in.DisconnectTimeoutInSeconds)
	set(&v.IdleDisconnectTimeoutInSeconds, in.IdleDisconnectTimeoutInSeconds)
	set(&v.MaxUserDurationInSeconds, in.MaxUserDurationInSeconds)
	v.StreamView = or(in.StreamView, v.StreamView)
	setList(&v.UsbDeviceFilterStrings, in.UsbDeviceFilterStrings)
	for _, attribute := range fleetDeletes(in) {
		switch attribute {
		case types.FleetAttributeVpcConfiguration:
			v.VpcConfig = &types.VpcConfig{}
		case types.FleetAttributeVpcConfigurationSecurityGroupIds:
			v.VpcConfig = &types.VpcConfig{SubnetIds: v.VpcConfig.SubnetIds}
		case types.FleetAttributeDomainJoinInfo:
			v.DomainJoinInfo = nil
		case types.FleetAttributeIamRoleArn:
			v.IamRoleArn = nil
		case types.FleetAttributeUsbDeviceFilterStrings:
			v.UsbDeviceFilterStrings = nil
		case types.FleetAttributeMaxSessionsPerInstance:
			v.MaxSessionsPerInstance = nil
		case types.FleetAttributeSessionScriptS3Location:
			v.SessionScriptS3Location = nil
		}
	}
	if err := s.checkFleet(c, f); err != nil {
		return err
	}
	if f.Elastic() {
		return s.updateElastic(tx, f, in)
	}
	if err := s.updateImage(tx, c, f, in); err != nil {
		return err
	}
	switch wanted := in.ComputeCapacity; {
	case wanted != nil:
		return s.setCapacity(f, wanted)
	case f.Multi() && multi && f.PerInstance() != before: // as many sessions as before
		return s.setCapacity(f, &types.ComputeCapacity{DesiredSessions: new(int32(f.DesiredSessions))})
	case f.Multi() && !multi: // as many instances as before
		return s.setCapacity(f, &types.ComputeCapacity{DesiredSessions: new(int32(f.Desired * f.PerInstance()))})
	case !f.Multi():
		f.DesiredSessions = 0
	}
	return nil
}

// updateImage changes what depends on the image: the image itself, the instance type that must fit it, and the volume.
func (s *Service) updateImage(tx store.Tx, c appstream.Caller, f *appstream.Fleet, in *aws.UpdateFleetInput) error {
	deletes := slices.Contains(in.AttributesToDelete, types.FleetAttributeVolumeConfiguration)
	if in.ImageName == nil && in.ImageArn == nil && in.InstanceType == nil && in.Platform == "" && in.RootVolumeConfig == nil && !deletes {
		return nil
	}
	image, err := s.nextImage(tx, c, f, in)
	switch {
	case err != nil:
		return err
	case image.ID != f.ImageID:
		err = s.setImage(c, f, &image)
	default:
		err = fits(&image, s.cfg.Sizes[value(f.View.InstanceType)])
	}
	if err != nil {
		return err
	}
	if err := checkPlatform(f, in.Platform); err != nil {
		return err
	}
	wanted := in.RootVolumeConfig
	if deletes {
		wanted = &types.VolumeConfig{}
	}
	if wanted != nil {
		f.VolumeGB = image.VolumeGB
	}
	return setVolume(f, wanted)
}

// nextImage reads the image that the fleet shall have: its own one, unless another is named.
func (s *Service) nextImage(tx store.Tx, c appstream.Caller, f *appstream.Fleet, in *aws.UpdateFleetInput) (appstream.Image, error) {
	if in.ImageName == nil && (in.ImageArn == nil || *in.ImageArn == value(f.View.ImageArn)) {
		return imageOf(tx, f)
	}
	return s.image(tx, c, in.ImageName, in.ImageArn)
}

// fleetDeletes gives the attributes that an update deletes.
func fleetDeletes(in *aws.UpdateFleetInput) []types.FleetAttribute {
	//lint:ignore SA1019 clients may still send it
	if value(in.DeleteVpcConfig) {
		return append(slices.Clone(in.AttributesToDelete), types.FleetAttributeVpcConfiguration)
	}
	return in.AttributesToDelete
}

// checkFleetDeletes refuses an attribute that is to be deleted and set at the same time.
func checkFleetDeletes(in *aws.UpdateFleetInput) error {
	return checkDeletes(fleetDeletes(in), map[types.FleetAttribute]any{
		types.FleetAttributeVpcConfiguration:                 in.VpcConfig,
		types.FleetAttributeVpcConfigurationSecurityGroupIds: in.VpcConfig,
		types.FleetAttributeDomainJoinInfo:                   in.DomainJoinInfo,
		types.FleetAttributeIamRoleArn:                       in.IamRoleArn,
		types.FleetAttributeUsbDeviceFilterStrings:           in.UsbDeviceFilterStrings,
		types.FleetAttributeSessionScriptS3Location:          in.SessionScriptS3Location,
		types.FleetAttributeMaxSessionsPerInstance:           in.MaxSessionsPerInstance,
		types.FleetAttributeVolumeConfiguration:              in.RootVolumeConfig,
	})
}

// checkDeletes refuses an attribute that is among deleted and among the members that are set: those that are not nil.
func checkDeletes[A ~string](deleted []A, members map[A]any) error {
	for _, attribute := range deleted {
		if member, ok := members[attribute]; ok && !reflect.ValueOf(member).IsNil() {
			return appstream.Errorf(appstream.InvalidParameterCombination, "The attribute %s is to be deleted, and is set by the same request. Do one of the two.", attribute)
		}
	}
	return nil
}

// mayUpdate refuses changes of members that cannot be changed in the state of the fleet.
func mayUpdate(old, next *appstream.Fleet, in *aws.UpdateFleetInput) error {
	if old.State == appstream.FleetStopped {
		return nil
	}
	var refused []string
	running := old.State == appstream.FleetRunning
	var derived []string
	if !old.Elastic() {
		derived = []string{"ImageName", "ImageArn", "Platform"} // what follows from the image is changed with it
	}
	if in.RootVolumeConfig == nil && next.VolumeGB > old.VolumeGB {
		derived = append(derived, "RootVolumeConfig")
	}
	was, is := reflect.ValueOf(old.View), reflect.ValueOf(next.View)
	for n := range was.NumField() {
		member := was.Type().Field(n)
		if !member.IsExported() || reflect.DeepEqual(was.Field(n).Interface(), is.Field(n).Interface()) {
			continue
		}
		may := slices.Contains(updatable, member.Name) || slices.Contains(derived, member.Name) || old.Elastic() && slices.Contains(elasticUpdatable, member.Name)
		if !running || !may {
			refused = append(refused, member.Name)
		}
	}
	if !running && (old.Desired != next.Desired || old.DesiredSessions != next.DesiredSessions) {
		refused = append(refused, "ComputeCapacity")
	}
	switch {
	case len(refused) == 0:
		return nil
	case running: // AWS calls the state ACTIVE here
		return appstream.Errorf(appstream.ResourceInUse, "Cannot update the attribute for fleet %s when it is ACTIVE. The fleet must be stopped to complete this action. (%s)",
			old.Name, strings.Join(refused, ", "))
	}
	return appstream.Errorf(appstream.ResourceInUse, "Cannot update the attribute for fleet %s when it is %s. Wait until that is over. (%s)", old.Name, old.State, strings.Join(refused, ", "))
}

// StartFleet starts a stopped fleet: it gets its machines, and is RUNNING as soon as the first is ready.
func (s *Service) StartFleet(ctx context.Context, in *aws.StartFleetInput) (*aws.StartFleetOutput, error) {
	c := appstream.CallerFrom(ctx)
	k := key(c, appstream.NounFleet, value(in.Name))
	err := s.change(ctx, "appstream:StartFleet", k, func(tx store.Tx, now time.Time) error {
		var f appstream.Fleet
		if err := get(tx, k, &f); err != nil {
			return err
		}
		if f.State != appstream.FleetStopped {
			return inState(appstream.OperationNotPermitted, k, f.State, "a STOPPED")
		}
		if _, known := s.cfg.Sizes[value(f.View.InstanceType)]; !known { // it was when the fleet was created
			return appstream.Errorf(appstream.ResourceNotAvailable, "The instance type %s of the fleet %s is not there any more. Configure it again, or give the fleet another with UpdateFleet.",
				value(f.View.InstanceType), f.Name)
		}
		if err := s.refreshImage(tx, c, &f); err != nil {
			return err
		}
		f.Failures, f.Retry, f.View.FleetErrors = 0, time.Time{}, nil
		f.Enter(appstream.FleetStarting, now, 0)
		if err := move(tx, &f.Meta, appstream.FleetStopped, now, "StartFleet"); err != nil {
			return err
		}
		return tx.Put(&f)
	})
	if err != nil {
		return nil, err
	}
	return &aws.StartFleetOutput{}, nil
}

// refreshImage checks whether a fleet that is to start may still have its image, and what that is by now. The engine makes that of an Elastic fleet.
func (s *Service) refreshImage(tx store.Tx, c appstream.Caller, f *appstream.Fleet) error {
	if f.Elastic() {
		f.ImageRef, f.Trouble = "", ""
		return s.setPlatform(tx, f, f.View.Platform)
	}
	image, err := imageOf(tx, f)
	if err != nil {
		return err
	}
	if err := s.fleetMayUse(c, &image, f); err != nil {
		return err
	}
	f.ImageID, f.ImageRef, f.Software = image.ID, image.Ref, image.Software
	return s.checkCapacity(f)
}

// StopFleet stops a fleet: its sessions end and its machines go. One that is stopped, or stopping, is left as it is.
func (s *Service) StopFleet(ctx context.Context, in *aws.StopFleetInput) (*aws.StopFleetOutput, error) {
	k := key(appstream.CallerFrom(ctx), appstream.NounFleet, value(in.Name))
	err := s.change(ctx, "appstream:StopFleet", k, func(tx store.Tx, now time.Time) error {
		var f appstream.Fleet
		if err := get(tx, k, &f); err != nil {
			return err
		}
		from := f.State
		if from == appstream.FleetStopped || from == appstream.FleetStopping {
			return nil
		}
		f.Enter(appstream.FleetStopping, now, 0)
		if err := errors.Join(wakeCompositions(tx, &f, now), move(tx, &f.Meta, from, now, "StopFleet")); err != nil {
			return err
		}
		return tx.Put(&f)
	})
	if err != nil {
		return nil, err
	}
	return &aws.StopFleetOutput{}, nil
}

// DeleteFleet deletes a fleet that is stopped and associated with no stack.
func (s *Service) DeleteFleet(ctx context.Context, in *aws.DeleteFleetInput) (*aws.DeleteFleetOutput, error) {
	k := key(appstream.CallerFrom(ctx), appstream.NounFleet, value(in.Name))
	err := s.change(ctx, "appstream:DeleteFleet", k, func(tx store.Tx, now time.Time) error {
		var f appstream.Fleet
		if err := get(tx, k, &f); err != nil {
			return err
		}
		switch {
		case len(f.Stacks) > 0:
			return appstream.Errorf(appstream.ResourceInUse, "The fleet %s is associated with a stack. To delete the fleet, you must dissociate it from the stack.", f.Name)
		case f.State != appstream.FleetStopped:
			return inState(appstream.ResourceInUse, k, f.State, "a STOPPED")
		}
		return errors.Join(wakeCompositions(tx, &f, now), remove(tx, &f, now, "DeleteFleet"))
	})
	if err != nil {
		return nil, err
	}
	return &aws.DeleteFleetOutput{}, nil
}
