package appstream

import (
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
)

// An ExportImageTask writes an image as an archive that lives outside of Oriel.
//
//	CreateExportImageTask ──▶ EXPORTING ──▶ COMPLETED
//	                              │
//	                              ├──▶ FAILED      a lasting fault, or the image is deleted
//	                              └──▶ TIMED_OUT   too long
//
// A task is only read after that, until newer ones push it out. Its archive stays.
type ExportImageTask struct {
	Meta                        // Name is the TaskId: a UUID that grows with time
	View  types.ExportImageTask // what clients see, but for the members that Describe fills from the rest
	AmiID string                // names the archive
	Ref   string                // of the image, see Image.Ref
}

// The states of an export, as in the SDK. TIMED_OUT is in the model and not yet in the SDK's enumeration.
const (
	ExportExporting = string(types.ExportImageTaskStateExporting)
	ExportCompleted = string(types.ExportImageTaskStateCompleted)
	ExportFailed    = string(types.ExportImageTaskStateFailed)
	ExportTimedOut  = "TIMED_OUT"
)

// exportTime is how long an export may take.
const exportTime = 4 * time.Hour

var exportTransitions = []Transition{
	{"", ExportExporting, "CreateExportImageTask"},
	{ExportExporting, ExportCompleted, "the archive is complete"},
	{ExportExporting, ExportFailed, "a lasting fault, or DeleteImage"},
	{ExportExporting, ExportTimedOut, fmt.Sprintf("longer than %s", exportTime)},
	{ExportCompleted, "", "CreateExportImageTask, when there are too many"},
	{ExportFailed, "", "CreateExportImageTask, when there are too many"},
	{ExportTimedOut, "", "CreateExportImageTask, when there are too many"},
}

// Enter moves the task to a state, with the deadline that EXPORTING has.
func (t *ExportImageTask) Enter(state string, now time.Time) {
	allow := time.Duration(0)
	if state == ExportExporting {
		allow = exportTime
	}
	t.Meta.Enter(state, now, allow)
}

// Fail ends the task with an error that is shown.
func (t *ExportImageTask) Fail(state, message string, now time.Time) {
	t.Enter(state, now)
	t.View.ErrorDetails = []types.ErrorDetails{{ErrorCode: new(string(types.FleetErrorCodeInternalServiceError)), ErrorMessage: &message}}
}

// Archive names the task's archive.
func (t *ExportImageTask) Archive() string { return ArchiveName(t.Account, t.AmiID) }

// ArchiveName names the archive of an AMI: ACCOUNT/AMI.tar.
func ArchiveName(account, ami string) string { return account + "/" + ami + ".tar" }

// Describe gives what the API shows of the task.
func (t *ExportImageTask) Describe() types.ExportImageTask {
	v := t.View
	v.TaskId, v.CreatedDate, v.State = new(t.Name), new(t.Created), types.ExportImageTaskState(t.State)
	if t.State == ExportCompleted {
		v.AmiId = new(t.AmiID)
	}
	if p := t.Problem; p != nil && t.State == ExportExporting {
		v.ErrorDetails = []types.ErrorDetails{{ErrorCode: new(string(types.FleetErrorCodeInternalServiceError)), ErrorMessage: &p.Message}}
	}
	return v
}

// PlanExportImageTask decides the next step of an export. It is pure.
func PlanExportImageTask(t ExportImageTask, now time.Time) Decision[ExportImageTask] {
	switch t.State {
	case ExportExporting:
		switch p := t.Problem; {
		case p != nil && p.Lasting:
			t.Fail(ExportFailed, p.Message, now)
			return Decision[ExportImageTask]{Next: t, Again: now, Why: p.Message}
		case t.Overdue(now):
			message := fmt.Sprintf("The image was not exported within %s.%s", exportTime, lastWords(p, Agent{}))
			t.Fail(ExportTimedOut, message, now)
			return Decision[ExportImageTask]{Next: t, Again: now, Why: message}
		}
		notes := map[string]string{"org.opencontainers.image.title": deref(t.View.AmiName)}
		if d := deref(t.View.AmiDescription); d != "" {
			notes["org.opencontainers.image.description"] = d
		}
		do := []Action{EnsureExported{t.Ref, t.Archive(), ExportNotes{"oriel/export:" + t.AmiID, notes}}}
		t.Enter(ExportCompleted, now)
		return Decision[ExportImageTask]{Next: t, Do: do, Why: "the archive is complete"}
	case ExportFailed, ExportTimedOut: // what was written just before it was given up
		return Decision[ExportImageTask]{Next: t, Do: []Action{EnsureArchiveGone{t.Archive()}}}
	}
	return Decision[ExportImageTask]{Next: t}
}
