package api

import (
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata/sdk.txt anew, after what is new in the SDK has been taken care of")

// TestSDKIsKnown compares the operations, members and enums of the SDK with those that Oriel was last looked through for. The wire reads and writes
// whatever a newer SDK has, so that a member that nothing is done with would not be noticed otherwise.
func TestSDKIsKnown(t *testing.T) {
	const file = "testdata/sdk.txt"
	lines := map[string]bool{}
	known := testShapes(t)
	for name, op := range sdkOperations(t) {
		lines["operation "+name] = true
		known.must(t, op[0])
		known.must(t, op[1])
	}
	for typ, s := range known.made {
		switch s.kind {
		case kindStruct:
			line := "structure " + typ.Name()
			for _, f := range s.fields {
				line += " " + f.name + ":" + typeName(f.shape)
			}
			lines[line] = true
		case kindString:
			if m, ok := typ.MethodByName("Values"); ok {
				line := "enum " + typ.Name()
				values := reflect.Zero(typ).Method(m.Index).Call(nil)[0]
				for i := range values.Len() {
					line += " " + values.Index(i).String()
				}
				lines[line] = true
			}
		}
	}
	got := strings.Join(slices.Sorted(maps.Keys(lines)), "\n") + "\n"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("the SDK is another one than Oriel was made for (-known +SDK):\n%s\nSee to what is new (docs/adding-an-operation.md), and then: go test ./internal/api -run TestSDKIsKnown -update", diff)
	}
}

func typeName(s *shape) string {
	switch {
	case s.kind == kindList:
		return "[]" + typeName(s.elem)
	case s.kind == kindMap:
		return "map"
	}
	return s.typ.Name()
}

// TestRequiredFollowsTheSDK: what the SDK does not send without, the table requires, and nothing else.
func TestRequiredFollowsTheSDK(t *testing.T) {
	optional := []string{"CreateImportedImageInput.SourceAmiId", "CreateImportedImageInput.IamRoleArn"} // in models that are younger than the SDK
	known := testShapes(t)
	c := sdk.New(sdk.Options{Region: testRegion, Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""), HTTPClient: nil})
	required := 0
	for name, op := range sdkOperations(t) {
		s := known.must(t, op[0])
		in := reflect.New(op[0])
		hollow(s, in.Elem())
		theirs := map[string]bool{}
		result := reflect.ValueOf(c).MethodByName(name).Call([]reflect.Value{reflect.ValueOf(t.Context()), in})
		err, _ := reflect.TypeAssert[error](result[1])
		if list, ok := errors.AsType[smithy.InvalidParamsError](err); ok {
			for _, e := range list.Errs() {
				if e, ok := errors.AsType[smithy.InvalidParamError](e); ok {
					theirs[e.Field()] = true
				}
			}
		}
		ours := map[string]bool{}
		missing(s, in.Elem(), op[0].Name(), ours)
		for _, path := range optional {
			delete(theirs, path)
		}
		if diff := cmp.Diff(theirs, ours); diff != "" {
			t.Errorf("%s (-the SDK +the table):\n%s", name, diff)
		}
		required += len(ours)
	}
	if required < 150 {
		t.Errorf("only %d members are required", required)
	}
}

// hollow makes every structure in v, and one element of each list of structures, and nothing in them.
func hollow(s *shape, v reflect.Value) {
	for i := range s.fields {
		f := &s.fields[i]
		switch {
		case f.shape.kind == kindStruct:
			hollow(f.shape, f.settable(v))
		case f.shape.kind == kindList && f.shape.elem.kind == kindStruct:
			list := f.settable(v)
			list.Set(reflect.MakeSlice(list.Type(), 1, 1))
			hollow(f.shape.elem, list.Index(0))
		}
	}
}

// missing collects the required members that are not there, in the SDK's notation.
func missing(s *shape, v reflect.Value, path string, found map[string]bool) {
	for i := range s.fields {
		f := &s.fields[i]
		at := path + "." + s.typ.Field(f.index).Name
		m, ok := f.get(v)
		switch {
		case !ok && f.required:
			found[at] = true
		case !ok:
		case f.shape.kind == kindStruct:
			missing(f.shape, m, at, found)
		case f.shape.kind == kindList && f.shape.elem.kind == kindStruct:
			for j := range m.Len() {
				missing(f.shape.elem, m.Index(j), fmt.Sprintf("%s[%d]", at, j), found)
			}
		}
	}
}

// TestLimitsAreThoseOfTheModel: nobody has changed the table by hand.
func TestLimitsAreThoseOfTheModel(t *testing.T) {
	header, table, _ := strings.Cut(modelLimits, "\n")
	if digest := fmt.Sprintf("SHA-256 %x", sha256.Sum256([]byte(table))); !strings.HasSuffix(header, digest) {
		t.Errorf("limits.txt is not what limitsgen has written: run go generate with the model (limitsgen says how); what Oriel knows beside the model goes into service.Limits")
	}
}
