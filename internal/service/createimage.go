package service

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/picture"
	"github.com/oriel-project/oriel/internal/store"
)

// Extensions has Oriel's own operations, which are called under the target prefix "Oriel". AWS's API can make an image
// only from inside the builder, by the Image Assistant, and can do nothing else there; it sends temporary passwords by mail alone.
type Extensions interface {
	CreateImage(context.Context, *CreateImageInput) (*CreateImageOutput, error)

	StartImageBuilderJob(context.Context, *StartImageBuilderJobInput) (*StartImageBuilderJobOutput, error)
	DescribeImageBuilderJob(context.Context, *DescribeImageBuilderJobInput) (*DescribeImageBuilderJobOutput, error)
	StopImageBuilderJob(context.Context, *StopImageBuilderJobInput) (*StopImageBuilderJobOutput, error)
	PutImageBuilderFile(context.Context, *PutImageBuilderFileInput) (*PutImageBuilderFileOutput, error)

	CreateAppBlockPackage(context.Context, *CreateAppBlockPackageInput) (*CreateAppBlockPackageOutput, error)

	CreateInvitation(context.Context, *CreateInvitationInput) (*CreateInvitationOutput, error)
	CreateFederatedStreamingURL(context.Context, *CreateFederatedStreamingURLInput) (*CreateFederatedStreamingURLOutput, error)
}

var _ Extensions = (*Service)(nil)

// CreateImageInput asks for an image of a running image builder.
type CreateImageInput struct {
	ImageBuilderName *string             // required: a RUNNING image builder of the caller
	Name             *string             // required: 1 to 100 of a-z A-Z 0-9 _ - . ; not beginning with aws, amazon or appstream
	DisplayName      *string             // at most 256 characters, as in the Image Assistant
	Description      *string             // at most 256 characters
	Applications     []types.Application // the catalogue; absent: the one that the Image Assistant keeps on the builder
	Tags             map[string]string   // at most 50

	// UseLatestAgentVersion makes machines from the image follow the newest agent version; default false: they keep the
	// builder's version.
	UseLatestAgentVersion *bool
	// EnableDynamicAppCatalog says whether dynamic application providers may add to the catalogue; default false.
	EnableDynamicAppCatalog *bool
	// DryRun does all checks and answers with the image as it would be, and changes nothing; default false.
	DryRun *bool
}

// CreateImageOutput has the new image, in state PENDING.
type CreateImageOutput struct {
	Image *types.Image
}

// errDry undoes the transaction of a dry run, after everything in it was allowed.
var errDry = errors.New("dry run")

var (
	imageName     = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,99}$`)
	reservedNames = []string{"aws", "amazon", "appstream"}
)

// CreateImage makes an image of a running image builder: the streaming session ends, the builder becomes SNAPSHOTTING and
// the image PENDING; then the image is AVAILABLE and the builder STOPPED.
func (s *Service) CreateImage(ctx context.Context, in *CreateImageInput) (*CreateImageOutput, error) {
	c := appstream.CallerFrom(ctx)
	if err := checkCreateImage(in); err != nil {
		return nil, err
	}
	image := appstream.Image{Meta: appstream.Meta{Key: key(c, appstream.NounImage, *in.Name), ID: newID("img-"), Tags: maps.Clone(in.Tags)}}
	builder := key(c, appstream.NounImageBuilder, *in.ImageBuilderName)

	catalogue := in.Applications
	var asked appstream.ImageBuilder
	if catalogue == nil {
		err := s.cfg.Store.View(ctx, func(tx store.Tx) error { return get(tx, builder, &asked) })
		if err == nil && asked.State != appstream.BuilderRunning {
			err = inState(appstream.OperationNotPermitted, builder, asked.State, "a RUNNING")
		}
		var found appstream.Catalogue
		if err == nil && s.cfg.Agents != nil {
			found, err = s.readCatalogue(ctx, asked.ID, asked.Name, asked.View.Platform, !value(in.DryRun))
		}
		if err != nil {
			return nil, err
		}
		catalogue, image.Icons = found.Applications, found.Icons
	}
	err := s.change(ctx, "oriel:CreateImage", image.Key, func(tx store.Tx, now time.Time) error {
		var b appstream.ImageBuilder
		if err := get(tx, builder, &b); err != nil {
			return err
		}
		if b.State != appstream.BuilderRunning {
			return inState(appstream.OperationNotPermitted, b.Key, b.State, "a RUNNING")
		}
		if asked.ID != "" && asked.ID != b.ID {
			return appstream.Errorf(appstream.ConcurrentModification, "The image builder %s was deleted while its catalogue was read, and there is another of its name now. Try again.", b.Name)
		}
		if err := s.roomForImage(tx, image.Key); err != nil {
			return err
		}
		var base appstream.Image // the builder's image may be deleted by now
		if k, err := appstream.ParseARN(value(b.View.ImageArn)); err == nil {
			if err := tx.Get(k, &base); err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
		image.Created, image.BuilderID = now, b.ID
		image.Ref = "oriel/image:" + image.ID
		image.Software = b.Installed()
		image.VolumeGB = int(value(b.View.RootVolumeConfig.VolumeSizeInGb))
		image.View = types.Image{
			Applications:                catalogue,
			AppstreamAgentVersion:       b.View.AppstreamAgentVersion,
			BaseImageArn:                b.View.ImageArn,
			Description:                 in.Description,
			DisplayName:                 in.DisplayName,
			DynamicAppProvidersEnabled:  types.DynamicAppProvidersEnabledDisabled,
			ImageBuilderName:            &b.Name,
			ImageBuilderSupported:       new(true),
			ImageType:                   types.ImageTypeNative,
			ManagedSoftwareIncluded:     new(len(image.Software) > 0),
			Platform:                    b.View.Platform,
			PublicBaseImageReleasedDate: base.View.PublicBaseImageReleasedDate,
			SupportedInstanceFamilies:   base.View.SupportedInstanceFamilies,
		}
		if value(in.UseLatestAgentVersion) {
			image.View.AppstreamAgentVersion = new("LATEST")
		}
		if value(in.EnableDynamicAppCatalog) {
			image.View.DynamicAppProvidersEnabled = types.DynamicAppProvidersEnabledEnabled
		}
		image.Enter(appstream.ImagePending, now)
		if err := move(tx, &image.Meta, "", now, "CreateImage"); err != nil {
			return err
		}
		if err := tx.Insert(&image); err != nil {
			return err
		}
		from := b.State
		b.Capturing, b.CapturingID = image.Name, image.ID
		b.Enter(appstream.BuilderSnapshotting, now)
		if err := move(tx, &b.Meta, from, now, "CreateImage "+image.Name); err != nil {
			return err
		}
		if err := tx.Put(&b); err != nil {
			return err
		}
		if value(in.DryRun) {
			return errDry
		}
		return nil
	})
	if err == errDry {
		err = s.auditDry(ctx, "oriel:CreateImage", image.Key, image.Created)
	}
	if err != nil {
		return nil, err
	}
	return &CreateImageOutput{Image: new(s.describe(c, &image))}, nil
}

// auditDry writes the line of the audit log for a dry run, whose transaction is undone.
func (s *Service) auditDry(ctx context.Context, op string, resource appstream.Key, now time.Time) error {
	return s.cfg.Store.Update(ctx, func(tx store.Tx) error { return tx.AddAudit(AuditLine(ctx, now, op, resource.ARN(), "DryRun")) })
}

func checkCreateImage(in *CreateImageInput) error {
	switch {
	case value(in.ImageBuilderName) == "":
		return appstream.Errorf(appstream.Validation, "ImageBuilderName is missing. Name the image builder to make the image of.")
	}
	if err := checkImageName(value(in.Name)); err != nil {
		return err
	}
	switch {
	case len([]rune(value(in.DisplayName))) > 256:
		return appstream.Errorf(appstream.Validation, "DisplayName is longer than 256 characters.")
	case len([]rune(value(in.Description))) > 256:
		return appstream.Errorf(appstream.Validation, "Description is longer than 256 characters.")
	case len(in.Applications) > agentapi.MaxApplications:
		return appstream.Errorf(appstream.LimitExceeded, "Applications has %d applications. Limit: %d", len(in.Applications), agentapi.MaxApplications)
	}
	if err := checkApplications(in.Applications); err != nil {
		return appstream.Errorf(appstream.Validation, "%w", err)
	}
	return nil
}

// checkApplications checks the entries of a catalogue.
func checkApplications(list []types.Application) error {
	seen := map[string]bool{}
	for n, app := range list {
		if err := checkApplication(app); err != nil {
			return fmt.Errorf("Applications[%d]: %w", n, err)
		}
		if seen[*app.Name] {
			return fmt.Errorf("Applications[%d]: there is another application named %s.", n, *app.Name)
		}
		seen[*app.Name] = true
	}
	return nil
}

// checkImageName checks the name of a new image, by the rules of the Image Assistant.
func checkImageName(name string) error {
	if !imageName.MatchString(name) {
		return appstream.Errorf(appstream.Validation, "The image name %.120q is not valid: 1 to 100 letters, digits, _, - and ., beginning with a letter or digit.", name)
	}
	for _, prefix := range reservedNames {
		if strings.HasPrefix(strings.ToLower(name), prefix) {
			return appstream.Errorf(appstream.Validation, "The image name %s begins with %s, which is reserved. Choose another name.", name, prefix)
		}
	}
	return nil
}

// roomForImage refuses a new image when its name is taken or the account has as many as it may.
func (s *Service) roomForImage(tx store.Tx, k appstream.Key) error {
	if err := s.room(tx, k, &appstream.Image{}, s.cfg.Quotas.Images, "An image with the given name already exists: %s."); err != nil {
		return err
	}
	// Who asks for an image by name gets his own rather than the public one: a private image must not hide it.
	public := k
	public.Account = ""
	if err := tx.Get(public, &appstream.Image{}); err == nil {
		return appstream.Errorf(appstream.ResourceAlreadyExists, "An image with the given name already exists: %s is a public image. Choose another name.", k.Name)
	} else if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return nil
}

// checkApplication checks one entry of the catalogue against the limits of the Image Assistant and of imported catalogues.
func checkApplication(app types.Application) error {
	if value(app.Name) == "" || value(app.LaunchPath) == "" {
		return errors.New("Name and LaunchPath are required")
	}
	for _, m := range []struct {
		member string
		value  *string
		limit  int
	}{
		{"Name", app.Name, 256}, {"DisplayName", app.DisplayName, 256}, {"Description", app.Description, 256},
		{"LaunchPath", app.LaunchPath, 4096}, {"LaunchParameters", app.LaunchParameters, 1024}, {"WorkingDirectory", app.WorkingDirectory, 4096},
	} {
		if len([]rune(value(m.value))) > m.limit {
			return fmt.Errorf("%s is longer than %d characters", m.member, m.limit)
		}
		if !isLine(value(m.value)) {
			return fmt.Errorf("%s has control characters", m.member)
		}
	}
	if app.IconURL != nil || app.Arn != nil || app.AppBlockArn != nil || app.IconS3Location != nil {
		return errors.New("IconURL, Arn, AppBlockArn and IconS3Location must be absent: an application of an image has none of its own")
	}
	if len(app.Metadata) > 50 || len(app.Platforms) > 4 || len(app.InstanceFamilies) > 10 {
		return errors.New("more than 50 entries of Metadata, 4 of Platforms or 10 of InstanceFamilies")
	}
	for k, v := range app.Metadata {
		if len(k) > 128 || len(v) > 256 {
			return errors.New("a key of Metadata is longer than 128 bytes, or a value longer than 256")
		}
	}
	return nil
}

// ReadCatalogue asks the agent of a running machine for its catalogue, and keeps the icons. The engine needs it for images that are imported.
func (s *Service) ReadCatalogue(ctx context.Context, machine string, platform types.PlatformType) (appstream.Catalogue, error) {
	return s.readCatalogue(ctx, machine, machine, platform, true)
}

// iconOfImage is what the Image Assistant makes of an icon: a PNG of so many pixels, which may be of those that cannot be compressed.
var iconOfImage = picture.Limit{Bytes: 1 << 20, Width: agentapi.MaxIconSize, Height: agentapi.MaxIconSize}

// readCatalogue asks the agent of the machine of an image builder for its catalogue, and keeps the icons if it shall. Whoever is root there can have written
// anything into it: a catalogue that cannot be one is refused, and an icon that is none is left out.
func (s *Service) readCatalogue(ctx context.Context, machine, name string, platform types.PlatformType, keep bool) (c appstream.Catalogue, err error) {
	agent := s.cfg.Agents(machine)
	defer agent.Close()
	apps, err := agent.Applications(ctx)
	if err != nil {
		return c, &appstream.Error{Kind: appstream.Unavailable, Cause: err,
			Message: fmt.Sprintf("The agent of the image builder %s does not answer. Try again, or restart the image builder.", name)}
	}
	if len(apps) > agentapi.MaxApplications {
		return c, brokenCatalogue(name, fmt.Errorf("it has %d applications, at most %d are possible", len(apps), agentapi.MaxApplications))
	}
	c.Icons = map[string]string{}
	for _, app := range apps {
		c.Applications = append(c.Applications, types.Application{
			Name:             &app.Name,
			DisplayName:      appstream.Optional(app.DisplayName),
			LaunchPath:       &app.AbsoluteAppPath,
			LaunchParameters: appstream.Optional(app.LaunchParameters),
			WorkingDirectory: appstream.Optional(app.WorkingDirectory),
			Enabled:          new(true),
			Platforms:        []types.PlatformType{platform},
			Metadata:         map[string]string{},
		})
	}
	if err := checkApplications(c.Applications); err != nil {
		return appstream.Catalogue{}, brokenCatalogue(name, err)
	}
	for _, app := range apps {
		if format, err := picture.Check(app.IconPNG, iconOfImage); !keep || err != nil || format != picture.PNG {
			continue
		}
		if c.Icons[app.Name], err = s.cfg.Blobs.Put(app.IconPNG, ".png"); err != nil {
			return appstream.Catalogue{}, err
		}
	}
	return c, nil
}

func brokenCatalogue(name string, err error) error {
	return appstream.Errorf(appstream.OperationNotPermitted, "The catalogue of the image builder %s is not one that the Image Assistant wrote: %w. Remove its applications, and add them again.", name, err)
}
