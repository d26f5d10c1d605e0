package service

import (
	"context"
	"maps"
	"path"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	aws "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/store"
)

// maxPath is the longest path that Linux takes, in bytes. The model allows those of Windows, which are longer.
const maxPath = 4095

// CreateImportedImage makes an image of an archive of the caller. With a catalogue, a builder of its own adds the applications before the image is
// captured, and tests them; with a runtime validation alone it only tests. A dry run does all checks but that of the archive's content.
func (s *Service) CreateImportedImage(ctx context.Context, in *aws.CreateImportedImageInput) (*aws.CreateImportedImageOutput, error) {
	const op = "appstream:CreateImportedImage"
	c := appstream.CallerFrom(ctx)
	image := appstream.Image{Meta: appstream.Meta{Key: key(c, appstream.NounImage, value(in.Name)), ID: newID("img-"), Tags: maps.Clone(in.Tags)}}
	image.Ref = "oriel/image:" + image.ID
	image.Archive = appstream.ArchiveName(c.Account, value(in.SourceAmiId))
	image.View = types.Image{
		Applications:               catalogueOf(in.AppCatalogConfig),
		AppstreamAgentVersion:      new(s.latestAgent()),
		Description:                in.Description,
		DisplayName:                in.DisplayName,
		DynamicAppProvidersEnabled: types.DynamicAppProvidersEnabledDisabled,
		ImageBuilderSupported:      new(true),
		ImageType:                  types.ImageTypeNative,
		ManagedSoftwareIncluded:    new(false),
		SupportedInstanceFamilies:  appstream.CommonFamilies(),
	}
	if in.AgentSoftwareVersion == types.AgentSoftwareVersionAlwaysLatest {
		image.View.AppstreamAgentVersion = new("LATEST")
	}
	if len(in.AppCatalogConfig) > 0 {
		image.View.ImageType = types.ImageTypeCustom
	}
	size, err := s.checkImport(ctx, c, in, &image)
	if err != nil {
		return nil, err
	}
	err = s.change(ctx, op, image.Key, func(tx store.Tx, now time.Time) error {
		if err := s.roomForImage(tx, image.Key); err != nil {
			return err
		}
		image.Created = now
		image.Enter(appstream.ImageValidating, now)
		if in.RuntimeValidationConfig != nil || len(in.AppCatalogConfig) > 0 {
			from := image
			if len(in.AppCatalogConfig) > 0 {
				image.LoadedRef = image.Ref + "-archive"
				from.Ref = image.LoadedRef
			}
			making := appstream.Making{Work: appstream.CatalogueSteps(in.AppCatalogConfig), Reads: true}
			if err := s.addManaged(tx, &image, from, size, making, appstream.BuilderPendingImageImport, now); err != nil {
				return err
			}
		}
		if err := move(tx, &image.Meta, "", now, "CreateImportedImage of "+value(in.SourceAmiId)); err != nil {
			return err
		}
		if err := tx.Insert(&image); err != nil {
			return err
		}
		if value(in.DryRun) {
			return errDry
		}
		return nil
	})
	if err == errDry {
		err = s.auditDry(ctx, op, image.Key, image.Created)
		if err == nil {
			err = appstream.Errorf(appstream.DryRunOperation, "The image %s could be imported: the request would have succeeded, but DryRun is set.", image.Name)
		}
	}
	if err != nil {
		return nil, err
	}
	return &aws.CreateImportedImageOutput{Image: new(s.describe(c, &image))}, nil
}

// checkImport checks what can be checked without the store, and gives the size of the machine that is to do and to test what is wanted.
func (s *Service) checkImport(ctx context.Context, c appstream.Caller, in *aws.CreateImportedImageInput, image *appstream.Image) (size appstream.InstanceType, err error) {
	size, _ = appstream.SmallestType(s.cfg.Sizes, image.View.SupportedInstanceFamilies)
	if err := checkImageName(image.Name); err != nil {
		return size, err
	}
	if wanted := in.RuntimeValidationConfig; wanted != nil && wanted.IntendedInstanceType != nil {
		known := false
		if size, known = s.cfg.Sizes[*wanted.IntendedInstanceType]; !known {
			return size, unknownType(*wanted.IntendedInstanceType)
		}
		if err := fits(image, size); err != nil {
			return size, err
		}
	}
	switch {
	case (in.SourceAmiId == nil) == (in.WorkspaceImageId == nil):
		return size, appstream.Errorf(appstream.InvalidParameterCombination, "Specify SourceAmiId: the AmiId of an export, or the name of an archive that was put into the account's directory.")
	case in.WorkspaceImageId != nil:
		return size, appstream.Errorf(appstream.OperationNotPermitted, "The WorkSpaces image %s cannot be imported: there are no WorkSpaces here. Specify SourceAmiId instead.", *in.WorkspaceImageId)
	case in.IamRoleArn != nil && !roleOf(c.Account, *in.IamRoleArn):
		return size, invalidRole(c, *in.IamRoleArn)
	case s.cfg.Archives == nil:
		return size, appstream.Errorf(appstream.OperationNotPermitted, "This server has no place for archives, so no image can be imported.")
	}
	if err := checkCatalogue(in.AppCatalogConfig); err != nil {
		return size, err
	}
	switch there, err := s.cfg.Archives.Has(ctx, image.Archive); {
	case err != nil:
		return size, err
	case !there:
		return size, appstream.Errorf(appstream.ResourceNotFound, "The AMI %s for account %s does not exist: there is no archive %s. CreateExportImageTask makes one; an administrator can put one there.",
			*in.SourceAmiId, c.Account, image.Archive)
	}
	return size, nil
}

// checkCatalogue checks what the limits of the model leave open. The members are sensitive: they are named, and not told.
func checkCatalogue(list []types.ApplicationConfig) error {
	seen := map[string]bool{}
	for n, app := range list {
		if seen[value(app.Name)] {
			return appstream.Errorf(appstream.InvalidParameterCombination, "AppCatalogConfig[%d].Name is that of another application of the catalogue.", n)
		}
		seen[value(app.Name)] = true
		for _, m := range []struct {
			member string
			value  *string
		}{{"AbsoluteAppPath", app.AbsoluteAppPath}, {"AbsoluteIconPath", app.AbsoluteIconPath}, {"AbsoluteManifestPath", app.AbsoluteManifestPath}, {"WorkingDirectory", app.WorkingDirectory}} {
			if p := value(m.value); p != "" && (!path.IsAbs(p) || len(p) > maxPath || !isLine(p)) {
				return appstream.Errorf(appstream.InvalidParameterCombination,
					"AppCatalogConfig[%d].%s is not a path of Linux: it begins with /, has at most %d bytes and no control characters.", n, m.member, maxPath)
			}
		}
		if value(app.AbsoluteAppPath) == "" {
			return appstream.Errorf(appstream.InvalidParameterCombination, "AppCatalogConfig[%d].AbsoluteAppPath is empty.", n)
		}
		if !isLine(value(app.LaunchParameters)) {
			return appstream.Errorf(appstream.InvalidParameterCombination, "AppCatalogConfig[%d].LaunchParameters has control characters.", n)
		}
	}
	for n, step := range appstream.CatalogueSteps(list) {
		if len(step.Command) > agentapi.MaxJobCommand {
			return appstream.Errorf(appstream.InvalidParameterCombination, "AppCatalogConfig[%d] is too long to be handed to the Image Assistant. Shorten its paths.", n)
		}
	}
	return nil
}

func isLine(s string) bool { return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl) }

// catalogueOf gives the catalogue that an import is to have. The Image Assistant completes it.
func catalogueOf(list []types.ApplicationConfig) []types.Application {
	var catalogue []types.Application
	for _, app := range list {
		catalogue = append(catalogue, types.Application{
			Name:             app.Name,
			DisplayName:      appstream.Optional(value(app.DisplayName)),
			LaunchPath:       app.AbsoluteAppPath,
			LaunchParameters: appstream.Optional(value(app.LaunchParameters)),
			WorkingDirectory: appstream.Optional(value(app.WorkingDirectory)),
			Enabled:          new(true),
			Metadata:         map[string]string{},
		})
	}
	return catalogue
}
