package appstream

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
)

// An Image is the disk of an image builder, from which machines are made.
//
//	CreateImage ──▶ PENDING ──▶ AVAILABLE
//	                   │            │ DeleteImage
//	                   ▼            ▼
//	                FAILED ─────▶ DELETING ──▶ (gone)
//
//	CopyImage ──▶ COPYING ──▶ AVAILABLE or FAILED
//	CreateUpdatedImage ──▶ CREATING ──▶ AVAILABLE or FAILED
//	CreateImportedImage ──▶ VALIDATING ──▶ IMPORTING ──▶ AVAILABLE or FAILED
//
// An image is PENDING while its builder is SNAPSHOTTING: the builder's plan stops the machine, the image's plan
// captures its disk. While it is CREATING, a builder that is made for it
// works and tests, see Making; so may one while it is IMPORTING, when its archive is there. DeleteImage is accepted in every state but DELETING; it gives up what is under way. Public images come
// from the provider and are AVAILABLE from the start, or have the state that the configuration gives them (DEPRECATED, for example).
type Image struct {
	Meta
	View types.Image // what clients see, but for the members that DescribeTo fills from the rest

	Ref         string                            // what the provider boots: an OCI image reference under docker
	BuilderID   string                            // the record ID of the builder that it is made of
	ManagedBy   string                            // the name of that builder, if it is made for the image alone
	Made        bool                              // by such a builder: the provider has the image, which is to be tested now
	CopyOf      string                            // of a copy: the Ref of the image that it is made of
	UpdateOf    string                            // of an update: the same
	Archive     string                            // of an import: the name of the archive that it is made of
	Facts       *ArchiveFacts                     `json:",omitzero"` // what was found in that
	LoadedRef   string                            // what the archive's image is called when a builder is to work on it first, see Ref
	Loaded      bool                              // that image, or Ref if there is no such, is there
	Permissions map[string]types.ImagePermissions // the accounts it is shared with
	Icons       map[string]string                 // application name → name of its icon in the blob store
	Software    []string                          `json:",omitempty"` // of the server's catalogue, that is installed on it
	VolumeGB    int                               // of the builder that it is made of; a machine from it has no less
}

// The states of an image, as in the SDK. The last four belong to copies, managed updates and imports.
const (
	ImagePending    = string(types.ImageStatePending)
	ImageAvailable  = string(types.ImageStateAvailable)
	ImageFailed     = string(types.ImageStateFailed)
	ImageDeleting   = string(types.ImageStateDeleting)
	ImageCopying    = string(types.ImageStateCopying)
	ImageCreating   = string(types.ImageStateCreating)
	ImageImporting  = string(types.ImageStateImporting)
	ImageValidating = string(types.ImageStateValidating)

	// ImageDeprecated is not in the API's enumeration, but AWS uses it in its messages about old base images.
	ImageDeprecated = "DEPRECATED"
)

// imagePendingTime is how long a capture may take.
const imagePendingTime = 2 * time.Hour

// How long an image may stay in each passing state.
var imageDeadlines = map[string]time.Duration{
	ImagePending:    imagePendingTime,
	ImageDeleting:   15 * time.Minute,
	ImageCopying:    4 * time.Hour,
	ImageCreating:   8 * time.Hour,
	ImageImporting:  12 * time.Hour, // with what its builder may take
	ImageValidating: 4 * time.Hour,
}

var imageTransitions = imageTable([]Transition{
	{"", ImagePending, "CreateImage"},
	{"", ImageAvailable, "a public image of the provider"},
	{"", ImageDeprecated, "a public image that the configuration calls deprecated"},
	{"", ImageFailed, "a public image that the configuration calls failed"},
	{ImageDeprecated, ImageAvailable, "the configuration changed"},
	{ImageDeprecated, ImageFailed, "the configuration changed"},
	{ImageAvailable, ImageDeprecated, "the configuration changed"},
	{ImageAvailable, ImageFailed, "the configuration changed"},
	{ImageFailed, ImageAvailable, "the configuration changed"},
	{ImageFailed, ImageDeprecated, "the configuration changed"},
	{ImageDeprecated, "", "the public image is no longer there"},
	{ImageAvailable, "", "the public image is no longer there"},
	{ImageFailed, "", "the public image is no longer there"},
	{ImagePending, ImageAvailable, "the disk is captured"},
	{"", ImageCopying, "CopyImage"},
	{ImageCopying, ImageAvailable, "the image is copied"},
	{"", ImageCreating, "CreateUpdatedImage"},
	{ImageCreating, ImageAvailable, "a machine of the new image boots, and its applications start"},
	{"", ImageValidating, "CreateImportedImage"},
	{ImageValidating, ImageImporting, "the archive is whole, and what is in it can be a machine"},
	{ImageImporting, ImageAvailable, "the archive is loaded, and what was to be tested works"},
	{ImageDeleting, "", "the image's data are gone"},
})

func imageTable(table []Transition) []Transition {
	for _, state := range types.ImageState("").Values() {
		from := string(state)
		if from != ImageDeleting {
			table = append(table, Transition{from, ImageDeleting, "DeleteImage"})
		}
		if imageDeadlines[from] > 0 {
			table = append(table, Transition{from, ImageFailed, givingUp(from, ImageDeleting, imageDeadlines[from])})
		}
	}
	return table
}

// Enter moves the image to a state, with the deadline that the state has.
func (i *Image) Enter(state string, now time.Time) {
	i.Meta.Enter(state, now, imageDeadlines[state])
	if state != ImageFailed {
		i.View.StateChangeReason = nil
	}
}

// Visible tells whether account may see the image, and as what.
func (i *Image) Visible(account string) (types.VisibilityType, bool) {
	switch _, shared := i.Permissions[account]; {
	case i.Account == "":
		return types.VisibilityTypePublic, true
	case i.Account == account:
		return types.VisibilityTypePrivate, true
	case shared:
		return types.VisibilityTypeShared, true
	}
	return "", false
}

// DescribeTo gives what the API shows of the image to an account that may see it. icon turns the name of an icon in
// the blob store into an address for the caller.
func (i *Image) DescribeTo(account, latestAgent string, icon func(blob string) string) types.Image {
	v := i.View
	v.Name, v.Arn, v.CreatedTime = new(i.Name), new(i.ARN()), new(i.Created)
	v.State = types.ImageState(i.State)
	v.Visibility, _ = i.Visible(account)
	v.ImageSharedWithOthers = types.ImageSharedWithOthersFalse
	switch v.Visibility {
	case types.VisibilityTypePrivate:
		if len(i.Permissions) > 0 {
			v.ImageSharedWithOthers = types.ImageSharedWithOthersTrue
		}
	case types.VisibilityTypeShared:
		v.ImageBuilderName = nil
		v.ImageSharedWithOthers = ""
		v.ImagePermissions = new(i.Permissions[account])
	}
	v.LatestAppstreamAgentVersion = types.LatestAppstreamAgentVersionFalse
	if agent := deref(v.AppstreamAgentVersion); agent == "LATEST" || agent == latestAgent {
		v.LatestAppstreamAgentVersion = types.LatestAppstreamAgentVersionTrue
	}
	if len(v.Applications) > 0 {
		apps := make([]types.Application, len(v.Applications))
		for n, app := range v.Applications {
			if blob := i.Icons[deref(app.Name)]; blob != "" {
				app.IconURL = new(icon(blob))
			}
			apps[n] = app
		}
		v.Applications = apps
	}
	if i.Problem != nil && i.State != ImageFailed {
		v.StateChangeReason = &types.ImageStateChangeReason{Code: types.ImageStateChangeReasonCodeInternalError, Message: new(i.Problem.Message)}
	}
	return v
}

// ImageSnapshot is the world as PlanImage sees it.
type ImageSnapshot struct {
	Image   Image
	Builder *ImageBuilder // the builder that it is made of; nil when there is none (any more)
	Machine Machine       // of that builder
	Exists  bool          // the provider has the whole image Awaited; only looked at while the image is being made
}

// PlanImage decides the next step of an image. It is pure.
func PlanImage(s ImageSnapshot, now time.Time) Decision[Image] {
	i := s.Image
	switch i.State {
	case ImagePending:
		return planCapture(s, now)
	case ImageCopying:
		return planCopy(s, now)
	case ImageCreating:
		return planManaged(s, now)
	case ImageValidating:
		return planValidating(s, now)
	case ImageImporting:
		return planImporting(s, now)
	case ImageDeleting:
		if p := i.Problem; p != nil && i.Overdue(now) { // the problem of the last try: there was one
			return failImage(i, now, types.ImageStateChangeReasonCodeInternalError,
				fmt.Sprintf("The image could not be deleted within %s.%s Call DeleteImage again.", imageDeadlines[i.State], lastWords(p, Agent{})))
		}
		return Decision[Image]{Next: i, Do: i.removal(), Remove: true, Wake: i.BuilderKeys(), Why: "the image's data are gone"}
	case ImageFailed:
		if i.Account != "" { // what making it may have left; a public one is the provider's
			return Decision[Image]{Next: i, Do: i.removal()}
		}
	}
	return Decision[Image]{Next: i, Again: i.Deadline}
}

func planCapture(s ImageSnapshot, now time.Time) Decision[Image] {
	i := s.Image
	capturing := s.Builder != nil && s.Builder.ID == i.BuilderID && s.Builder.State == BuilderSnapshotting && s.Builder.CapturingID == i.ID
	switch p := i.Problem; {
	case s.Exists:
		i.Enter(ImageAvailable, now)
		return Decision[Image]{Next: i, Wake: i.BuilderKeys(), Why: "the disk is captured"}
	case p != nil && p.Lasting:
		return failImage(i, now, types.ImageStateChangeReasonCodeInternalError, p.Message)
	case i.Overdue(now) && !s.Machine.NextChange.After(now):
		return failImage(i, now, types.ImageStateChangeReasonCodeInternalError,
			fmt.Sprintf("The image was not captured within %s.%s", imageDeadlines[i.State], lastWords(p, Agent{})))
	case !capturing:
		return failImage(i, now, types.ImageStateChangeReasonCodeImageBuilderNotAvailable,
			"The image builder "+deref(i.View.ImageBuilderName)+" was deleted, stopped or failed before its disk was captured.")
	case s.Machine.Phase == MachineStopped && !i.says(captureWords):
		i.progress(captureWords)
		return Decision[Image]{Next: i, Again: now}
	case s.Machine.Phase == MachineStopped:
		return Decision[Image]{Next: i, Do: []Action{EnsureCaptured{i.BuilderID, i.Ref}}, Again: soon(s.Machine, now)}
	case s.Machine.NextChange.After(now):
		return Decision[Image]{Next: i, Again: s.Machine.NextChange}
	}
	return Decision[Image]{Next: i, Again: now.Add(5 * time.Second)} // the builder's plan wakes it when it has stopped the machine
}

func planCopy(s ImageSnapshot, now time.Time) Decision[Image] {
	i := s.Image
	const reason = types.ImageStateChangeReasonCodeImageCopyFailure
	switch p := i.Problem; {
	case s.Exists:
		i.Enter(ImageAvailable, now)
		return Decision[Image]{Next: i, Why: "the image is copied"}
	case p != nil && p.Lasting:
		return failImage(i, now, reason, p.Message)
	case i.Overdue(now):
		return failImage(i, now, reason, fmt.Sprintf("The image was not copied within %s.%s", imageDeadlines[i.State], lastWords(p, Agent{})))
	}
	return Decision[Image]{Next: i, Do: []Action{EnsureImageCopied{i.CopyOf, i.Ref}}, Again: now.Add(pollAfter(now.Sub(i.Since)))}
}

// removal removes the data of an image.
func (i *Image) removal() []Action {
	do := []Action{EnsureImageGone{i.Ref}}
	if i.LoadedRef != "" {
		do = append(do, EnsureImageGone{i.LoadedRef})
	}
	return do
}

// failImage gives up. What a capture or a copy may have left is removed from FAILED, as often as that takes.
func failImage(i Image, now time.Time, reason types.ImageStateChangeReasonCode, message string) Decision[Image] {
	i.Enter(ImageFailed, now)
	i.View.StateChangeReason = &types.ImageStateChangeReason{Code: reason, Message: new(message)}
	i.View.ImageErrors = addError(i.View.ImageErrors, string(types.FleetErrorCodeInternalServiceError), message, now)
	return Decision[Image]{Next: i, Again: now, Wake: i.BuilderKeys(), Why: message}
}

// BuilderKeys names the builder that the image is made of, if it is made of one.
func (i *Image) BuilderKeys() []Key {
	name := deref(i.View.ImageBuilderName)
	if i.ManagedBy != "" {
		name = i.ManagedBy
	}
	if i.BuilderID == "" || name == "" {
		return nil
	}
	return []Key{{i.Account, i.Region, NounImageBuilder, name}}
}

// Grants names the accounts that the image is shared with; the store finds it for them.
func (i *Image) Grants() []string { return slices.Sorted(maps.Keys(i.Permissions)) }

// Links names the image that this one is a copy or an update of, by its Ref.
func (i *Image) Links() (links []string) {
	for _, ref := range []string{i.CopyOf, i.UpdateOf} {
		if ref != "" {
			links = append(links, ref)
		}
	}
	return links
}
