package service_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/aws/smithy-go"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/service"
)

// row is one case of the table of operations: what there is, what is asked, and what is answered in either protocol.
type row struct {
	name  string
	setup func(*service.Config)
	given func(*fixture)
	in    any // pointer to an input of the SDK
	with  func(f *fixture, in any)
	want  appstream.Kind // "" for success
	says  string         // a part of the message
	then  func(t *testing.T, f *fixture, out any)
}

// TestOperations goes through the table, with AWS's SDK and the whole of internal/api between it and the operations.
func TestOperations(t *testing.T) {
	for _, r := range table() {
		t.Run(operationOf(r.in)+"/"+r.name, func(t *testing.T) {
			both(t, func(t *testing.T, inCBOR bool) { r.run(t, inCBOR) })
		})
	}
}

func (r row) run(t *testing.T, inCBOR bool) {
	t.Parallel()
	var edits []func(*service.Config)
	if r.setup != nil {
		edits = append(edits, r.setup)
	}
	f := newFixture(t, edits...)
	if r.given != nil {
		r.given(f)
	}
	in := r.in
	if r.with != nil { // what the input says is known now
		copied := reflect.New(reflect.TypeOf(r.in).Elem())
		copied.Elem().Set(reflect.ValueOf(r.in).Elem())
		in = copied.Interface()
		r.with(f, in)
	}
	before := f.store.Generation()
	out, err := invoke(t.Context(), f.client(me, inCBOR), in)
	if r.want == "" {
		if err != nil {
			t.Fatal(err)
		}
		if r.then != nil {
			r.then(t, f, out)
		}
		return
	}
	e, ok := errors.AsType[smithy.APIError](err)
	if !ok || appstream.Kind(e.ErrorCode()) != r.want || !strings.Contains(e.ErrorMessage(), r.says) {
		t.Errorf("got  %v\nwant %s … %q", err, r.want, r.says)
	}
	if r.says == "" {
		t.Error("the row does not say what the message says")
	}
	if f.store.Generation() != before {
		t.Error("what was refused has changed something")
	}
}

// cannotOccur are errors that the model lists and that have no row, with the reason: of some operations, or of all.
var cannotOccur = []struct {
	operations string // "" for all
	kind       appstream.Kind
	why        string
}{
	{"", appstream.InvalidAccountStatus, "accounts are not validated or suspended here"},
	{"", appstream.RequestLimitExceeded, "it says that Amazon EC2 throttles AppStream; who asks too often gets ThrottlingException, for every operation"},
	{"", appstream.ConcurrentModification, "transactions come one after the other: of two changes that race, the later one finds what the earlier one has made, and is done or refused accordingly (race_test.go)"},
	{"AssociateFleet", appstream.IncompatibleImage, "no setting of a stack asks anything of the fleet's image"},
	{"AssociateFleet", appstream.LimitExceeded, "a fleet may have as many stacks as there are"},
	{"AssociateFleet", appstream.OperationNotPermitted, "fleets and stacks of every kind go together"},
	{"CopyImage", appstream.IncompatibleImage, "every region has every platform"},
	{"CreateImportedImage", appstream.IncompatibleImage, "what is in an archive is looked at in the state VALIDATING: an image that can be no machine is FAILED"},
	{"CreateFleet UpdateFleet", appstream.IncompatibleImage, "an image that the instance type does not support is an InvalidParameterCombinationException, as AWS's text has it"},
	{"StartImageBuilder", appstream.IncompatibleImage, "its image was checked when it was created"},
	{"StartFleet", appstream.InvalidRole, "roles are checked when they are set; there is no IAM here in which one could be deleted"},
	{"CreateStreamingURL", appstream.InvalidParameterCombination, "no two members exclude one another"},
	{"DeleteStack DisassociateFleet", appstream.OperationNotPermitted, "what may not be done is in use"},
	{"GetExportImageTask ListExportImageTasks DescribeEntitlements ListEntitledApplications DescribeUserStackAssociations DescribeUsers", appstream.OperationNotPermitted,
		"there is no state in which it cannot be read"},
	{"CreateStack UpdateStack", appstream.InvalidRole, "a stack has no role"},
	{"CreateStack CreateEntitlement", appstream.OperationNotPermitted, "every account may have them"},
	{"CreateStack", appstream.ResourceNotFound, "a stack names nothing that must be there"},
	{"UpdateStack UpdateEntitlement DeleteEntitlement AssociateApplicationToEntitlement DisassociateApplicationFromEntitlement", appstream.OperationNotPermitted, "it has one state"},
	{"UpdateStack", appstream.ResourceInUse, "sessions keep the settings that they began with, so a stack can be updated while it is in use"},
	{"UpdateStack", appstream.IncompatibleImage, "no setting of a stack asks anything of an image"},
	{"UpdateStack", appstream.LimitExceeded, "nothing of a stack is counted that the model does not bound"},
	{"BatchDisassociateUserStack", appstream.OperationNotPermitted, "what is refused is refused by entry"},
	{"DescribeUsers", appstream.InvalidParameterCombination, "no two members exclude one another"},
	{"DescribeUsers", appstream.ResourceNotFound, "it names nothing"},
	{"CreateDirectoryConfig UpdateDirectoryConfig", appstream.InvalidRole, "a directory config has no role"},
	{"CreateDirectoryConfig", appstream.ResourceNotFound, "it names nothing that must be there"},
	{"UpdateDirectoryConfig", appstream.IncompatibleImage, "it names no image"},
	{"DescribeAppLicenseUsage", appstream.ResourceNotFound, "a month without use has no records"},
	{"DescribeAppLicenseUsage", appstream.OperationNotPermitted, "there is no state in which it cannot be read"},
	{"CreateUsageReportSubscription", appstream.InvalidRole, "no role is needed to write reports"},
	{"CreateUsageReportSubscription", appstream.LimitExceeded, "there is one schedule, and one subscription to it"},
	{"DescribeUsageReportSubscriptions", appstream.ResourceNotFound, "it names nothing; without a subscription it lists none"},
	{"DescribeThemeForStack DeleteThemeForStack", appstream.OperationNotPermitted, "it has no state in which it cannot be read or deleted"},
	{"DescribeAppBlocks DescribeApplications DescribeApplicationFleetAssociations DisassociateApplicationFleet DeleteApplication", appstream.OperationNotPermitted, "there is no state in which it cannot be done"},
	{"DisassociateApplicationFleet", appstream.InvalidParameterCombination, "what is not associated is left alone"},
	{"CreateAppBlockBuilder", appstream.OperationNotPermitted, "every account may have them"},
	{"CreateAppBlockBuilder", appstream.ResourceNotFound, "it names nothing that must be there"},
	{"UpdateAppBlockBuilder StartAppBlockBuilder", appstream.LimitExceeded, "nothing of an app block builder is counted but how many there are"},
	{"UpdateAppBlockBuilder", appstream.ResourceInUse, "one that is in use is not STOPPED: OperationNotPermittedException"},
	{"DescribeAppBlockBuilders DescribeAppBlockBuilderAppBlockAssociations", appstream.OperationNotPermitted, "there is no state in which it cannot be read"},
	{"DisassociateAppBlockBuilderAppBlock DescribeAppBlockBuilderAppBlockAssociations", appstream.InvalidParameterCombination, "no two members exclude one another"},
	{"UpdateDirectoryConfig", appstream.ResourceInUse, "nothing joins a directory, so a directory config can be updated while it is in use"},
}

// unlisted are errors that operations answer with although the model does not list them. docs/aws-divergences.md says why.
var unlisted = map[appstream.Kind]string{
	appstream.ResourceNotFound:      "DescribeSessions ListAssociatedFleets ListAssociatedStacks DisassociateApplicationFleet DescribeApplicationFleetAssociations",
	appstream.InvalidParameterValue: "UpdateImagePermissions CreateUser DescribeUsers EnableUser DisableUser DeleteUser",
}

// TestAPIFollowsTheSDK: the operations are those of AWS's SDK, so that a newer SDK with another one does not go unnoticed.
func TestAPIFollowsTheSDK(t *testing.T) {
	known := map[string]bool{}
	for m := range reflect.TypeFor[service.API]().Methods() {
		known[m.Name] = true
	}
	for m := range reflect.TypeFor[*sdk.Client]().Methods() {
		if m.Type.NumIn() == 4 && m.Type.NumOut() == 2 && !known[m.Name] {
			t.Errorf("the SDK has %s and service.API has not", m.Name)
		}
		delete(known, m.Name)
	}
	for name := range known {
		t.Errorf("service.API has %s and the SDK has not", name)
	}
}

// TestTableIsComplete: every operation has a row of its success, and each of the errors that AWS's SDK knows of it a row
// too or a reason why it cannot occur.
func TestTableIsComplete(t *testing.T) {
	rows := map[string]map[appstream.Kind]bool{}
	for _, r := range table() {
		op := operationOf(r.in)
		if rows[op] == nil {
			rows[op] = map[appstream.Kind]bool{}
		}
		rows[op][r.want] = true
	}
	listed := listedErrors(t)
	excused := map[string]map[appstream.Kind]bool{}
	for op := range listed {
		excused[op] = map[appstream.Kind]bool{}
	}
	for _, c := range cannotOccur {
		for _, op := range strings.Fields(c.operations) {
			if !slices.Contains(listed[op], c.kind) || rows[op][c.kind] || excused[op][c.kind] {
				t.Errorf("cannotOccur has %s of %s, which the SDK does not list, or which there is a row of, or twice", c.kind, op)
			}
			excused[op][c.kind] = true
		}
		if c.operations == "" {
			for op := range listed {
				excused[op][c.kind] = true
			}
		}
	}
	for _, op := range slices.Sorted(maps.Keys(listed)) {
		if !rows[op][""] {
			t.Errorf("%s has no row of its success", op)
		}
		for _, kind := range listed[op] {
			if !rows[op][kind] && !excused[op][kind] {
				t.Errorf("%s: there is no row of %s, nor a reason in cannotOccur", op, kind)
			}
		}
		for kind := range rows[op] {
			known := slices.Contains(listed[op], kind) || slices.Contains(strings.Fields(unlisted[kind]), op)
			if kind != "" && kind != appstream.Validation && !known {
				t.Errorf("%s answers %s, which the SDK does not list for it", op, kind)
			}
		}
	}
	for kind, ops := range unlisted {
		for _, op := range strings.Fields(ops) {
			if !rows[op][kind] || slices.Contains(listed[op], kind) {
				t.Errorf("unlisted has %s of %s for nothing", kind, op)
			}
		}
	}
}

// listedErrors asks the SDK which errors each operation can answer with: those that it has a type for when it reads an answer to that operation.
func listedErrors(t *testing.T) map[string][]appstream.Kind {
	t.Helper()
	kinds := sdkErrors(t)
	var kind appstream.Kind
	c := sdk.New(sdk.Options{Region: "us-west-2", RetryMaxAttempts: 1, Credentials: credentials.NewStaticCredentialsProvider("AKIA", secret, ""),
		HTTPClient: roundTrip(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusBadRequest, Header: http.Header{}, Request: r,
				Body: io.NopCloser(strings.NewReader(fmt.Sprintf(`{"__type":%q,"Message":"m"}`, kind)))}, nil
		})})
	listed := map[string][]appstream.Kind{}
	api := reflect.TypeFor[service.API]()
	for m := range api.Methods() {
		in := reflect.New(m.Type.In(1).Elem())
		fillRequired(in.Elem())
		listed[m.Name] = []appstream.Kind{}
		for _, kind = range kinds {
			_, err := invoke(t.Context(), c, in.Interface())
			if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != string(kind) {
				t.Fatalf("%s of %s: %v", kind, m.Name, err)
			}
			if _, generic := errors.AsType[*smithy.GenericAPIError](err); !generic {
				listed[m.Name] = append(listed[m.Name], kind)
			}
		}
	}
	return listed
}

// sdkErrors reads the errors that the SDK has types for from its source: nothing else tells all of them.
func sdkErrors(t *testing.T) (kinds []appstream.Kind) {
	t.Helper()
	list := exec.Command("go", "list", "-f", "{{.Dir}}", reflect.TypeFor[types.Stack]().PkgPath())
	list.Stderr = t.Output()
	dir, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "errors.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`func \(e \*(\w+)\) ErrorCode\(\)`).FindAllSubmatch(source, -1) {
		kinds = append(kinds, appstream.Kind(m[1]))
	}
	if len(kinds) < 15 {
		t.Fatalf("the SDK has only the errors %s", kinds)
	}
	return kinds
}

type roundTrip func(*http.Request) (*http.Response, error)

func (fn roundTrip) Do(r *http.Request) (*http.Response, error) { return fn(r) }

// fillRequired gives all members some value, so that the SDK, which checks the required ones, sends the input.
func fillRequired(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillRequired(v.Elem())
	case reflect.Struct:
		for n := range v.NumField() {
			if f := v.Field(n); f.CanSet() && v.Type() != reflect.TypeFor[context.Context]() {
				fillRequired(f)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fillRequired(v.Index(0))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
	case reflect.String:
		v.SetString("x")
	}
}

// table has all rows.
func table() []row {
	return slices.Concat(builderRows(), imageRows(), exportRows(), permissionRows(), fleetRows(), elasticRows(), stackRows(), associationRows(), sessionRows(), tagRows(),
		userRows(), userStackRows(), entitlementRows(), directoryRows(), softwareRows(), themeRows(), appBlockRows(), applicationRows(), applicationFleetRows(), usageReportRows(), appBlockBuilderRows())
}
