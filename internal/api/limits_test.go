package api

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/internal/appstream"
)

const (
	namePattern = "^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,100}$"
	keyRules    = "[Member must have length less than or equal to 128, Member must have length greater than or equal to 1, " +
		"Member must satisfy regular expression pattern: " + patternTagKey + "]"
)

func TestLimits(t *testing.T) {
	name, kind := aws.String("n"), aws.String("stream.standard.small")
	long := func(n int, s string) *string { return new(strings.Repeat(s, n)) }
	many := map[string]string{}
	for i := range 51 {
		many["k"+strings.Repeat("x", i)] = ""
	}
	type create = sdk.CreateImageBuilderInput
	for _, tt := range []struct {
		name string
		in   any
		want string
	}{
		{"good", &create{Name: name, InstanceType: kind}, ""},
		{"required", &create{}, "2 validation errors detected: Value null at 'instanceType' failed to satisfy constraint: Member must not be null; " +
			"Value null at 'name' failed to satisfy constraint: Member must not be null"},
		{"pattern", &create{Name: aws.String("a b"), InstanceType: kind},
			"1 validation error detected: Value 'a b' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: " + namePattern},
		{"pattern at the end of a line", &create{Name: aws.String("a\n"), InstanceType: kind},
			"1 validation error detected: Value 'a\n' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: " + namePattern},
		{"length in code points", &create{Name: name, InstanceType: kind, Description: long(256, "é")}, ""},
		{"too long, shown cut", &create{Name: name, InstanceType: kind, Description: long(257, "é")},
			"1 validation error detected: Value '" + strings.Repeat("é", 256) + "…' at 'description' failed to satisfy constraint: Member must have length less than or equal to 256"},
		{"too short", &create{Name: name, InstanceType: kind, ImageName: aws.String("")},
			"1 validation error detected: Value '' at 'imageName' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{"member of a structure", &create{Name: name, InstanceType: kind, AccessEndpoints: []types.AccessEndpoint{{EndpointType: "STREAMING"}, {}}},
			"1 validation error detected: Value null at 'accessEndpoints.2.member.endpointType' failed to satisfy constraint: Member must not be null"},
		{"enum", &create{Name: name, InstanceType: kind, AccessEndpoints: []types.AccessEndpoint{{EndpointType: "WALKING"}}},
			"1 validation error detected: Value 'WALKING' at 'accessEndpoints.1.member.endpointType' failed to satisfy constraint: Member must satisfy enum value set: [STREAMING]"},
		{"size of a list", &create{Name: name, InstanceType: kind, AccessEndpoints: []types.AccessEndpoint{}},
			"1 validation error detected: Value '[]' at 'accessEndpoints' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{"members of a list", &create{Name: name, InstanceType: kind, VpcConfig: &types.VpcConfig{SubnetIds: []string{"subnet 1", ""}}},
			"1 validation error detected: Value '[subnet 1, ]' at 'vpcConfig.subnetIds' failed to satisfy constraint: Member must satisfy constraint: [Member must have length greater than or equal to 1]"},
		{"key of a map", &create{Name: name, InstanceType: kind, Tags: map[string]string{"aws:x": "1", "b": "2"}},
			"1 validation error detected: Value '{aws:x=1, b=2}' at 'tags' failed to satisfy constraint: Map keys must satisfy constraint: " + keyRules},
		{"value of a map", &create{Name: name, InstanceType: kind, Tags: map[string]string{"a": "?"}},
			"1 validation error detected: Value '{a=?}' at 'tags' failed to satisfy constraint: Map value must satisfy constraint: " +
				"[Member must have length less than or equal to 256, Member must have length greater than or equal to 0, Member must satisfy regular expression pattern: ^([\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]*)$]"},
		{"value", &sdk.DescribeImagesInput{MaxResults: aws.Int32(26)},
			"1 validation error detected: Value '26' at 'maxResults' failed to satisfy constraint: Member must have value less than or equal to 25"},
		{"smaller value", &sdk.DescribeImagesInput{MaxResults: aws.Int32(-1)},
			"1 validation error detected: Value '-1' at 'maxResults' failed to satisfy constraint: Member must have value greater than or equal to 0"},
		{"sensitive", &sdk.CreateUserInput{AuthenticationType: "API", UserName: aws.String("a b"), FirstName: aws.String("x?y")},
			"2 validation errors detected: Value at 'firstName' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[A-Za-z0-9_\\-\\s]+$" +
				"; Value at 'userName' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[\\p{L}\\p{M}\\p{S}\\p{N}\\p{P}]+$"},
		{"a value that only the model has", &sdk.CreateStackInput{Name: name, AgentAccessConfig: &types.AgentAccessConfig{ScreenImageFormat: "PNG", ScreenResolution: "W_1280xH_720",
			Settings: []types.AgentAccessSetting{{AgentAction: "FORWARD_MCP_TOOLS", Permission: "ENABLED"}}}}, ""},
		{"member with a small first letter", &sdk.CreateUpdatedImageInput{ExistingImageName: name},
			"1 validation error detected: Value null at 'newImageName' failed to satisfy constraint: Member must not be null"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := checkInput(t, tt.in)
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if appstream.KindOf(err) != appstream.Validation || err.Error() != "ValidationException: "+tt.want {
				t.Errorf("got  %v\nwant ValidationException: %s", err, tt.want)
			}
		})
	}
	if err := checkInput(t, &create{Name: name, InstanceType: kind, Tags: many}); err == nil || !strings.Contains(err.Error(), "length less than or equal to 50") {
		t.Errorf("51 tags: %v", err)
	}
	// Many failures make a message of a bounded length.
	worst := &sdk.CreateImportedImageInput{}
	for range 5000 {
		worst.AppCatalogConfig = append(worst.AppCatalogConfig, types.ApplicationConfig{})
	}
	if err := checkInput(t, worst); err == nil || len(err.Error()) > 8000 {
		t.Errorf("5000 failures: %v", err)
	}
}

// TestServiceLimits: a service's own table adds to the model's and replaces lines of it.
func TestServiceLimits(t *testing.T) {
	s := testShapes(t, "enum PlatformType DEBIAN_12").must(t, reflect.TypeFor[sdk.CreateFleetInput]())
	for platform, want := range map[types.PlatformType]bool{"DEBIAN_12": true, "BEOS": false} {
		in := sdk.CreateFleetInput{Name: aws.String("n"), InstanceType: aws.String("i"), Platform: platform}
		if err := check(s, reflect.ValueOf(in)); (err == nil) != want {
			t.Errorf("%s: %v", platform, err)
		}
	}
}

func checkInput(t *testing.T, in any) error {
	t.Helper()
	v := reflect.ValueOf(in).Elem()
	return check(testShapes(t).must(t, v.Type()), v)
}

// TestPatterns: the patterns that are checked by hand, and the longest of them at its bounds.
func TestPatterns(t *testing.T) {
	arn := "arn:aws:appstream:us-west-2:123456789012:"
	for _, tt := range []struct {
		pattern, s string
		want       bool
	}{
		{patternArn, arn + "image/x", true},
		{patternArn, "arn:aws:appstream:us-west-2::image/x", true},
		{patternArn, "arn:aws-us-gov:iam::123456789012:role/a:b", true},
		{patternArn, arn + "i" + strings.Repeat("x", 1023), true},
		{patternArn, arn + "i" + strings.Repeat("x", 1024), false},
		{patternArn, arn, false},
		{patternArn, "arn:aws-moon:appstream:us-west-2::image/x", false},
		{patternArn, "arn:aws:appstream:" + strings.Repeat("u", 64) + "::image/x", false},
		{patternArn, "arn:aws:appstream", false},
		{patternArn, arn + "image/x\n", false},
		{patternS3Bucket, "my-bucket.1", true},
		{patternS3Bucket, "my-bucket.", false},
		{patternS3Bucket, "My-bucket", false},
		{patternTagKey, "Team: α/β", true},
		{patternTagKey, "?rest", true}, // the first character may be any
		{patternTagKey, "a?", false},
		{patternTagKey, "aws:x", false},
		{patternTagKey, "AWS:x", true},
		{patternTagKey, "", false},
	} {
		m, err := matcher(tt.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := m(tt.s); got != tt.want {
			t.Errorf("%q matches %s: %v, want %v", tt.s, tt.pattern, got, tt.want)
		}
	}
}

// TestLimitsFollowTheSDK: the table and the SDK know the same operations and members, but for what is younger than the SDK.
func TestLimitsFollowTheSDK(t *testing.T) {
	younger := []string{"AgentAccessConfig.UserControlMode", "AgentAccessConfigForUpdate.UserControlMode"}
	known := testShapes(t)
	ops := sdkOperations(t)
	for name, op := range ops {
		if known.limits.lines[name+"Input"] == nil {
			t.Errorf("%s: the table has no %sInput; run go generate", name, name)
		}
		known.must(t, op[0])
	}
	byName := map[string]*shape{}
	for typ, s := range known.made {
		if s.kind == kindStruct {
			byName[typ.Name()] = s
		}
	}
	for _, name := range slices.Sorted(maps.Keys(known.limits.lines)) {
		f := known.limits.lines[name]
		if f[0] != "structure" {
			if _, err := known.limits.rule(name); err != nil {
				t.Error(err)
			}
			continue
		}
		s := byName[name]
		if s == nil {
			t.Errorf("the table has %s and the SDK has not", name)
			continue
		}
		for member, m := range known.limits.members(name) {
			if _, ok := s.byName[member]; !ok && !slices.Contains(younger, name+"."+member) {
				t.Errorf("the table has %s.%s and the SDK has not", name, member)
			}
			if m.target != "" && known.limits.lines[m.target] == nil {
				t.Errorf("%s.%s is a %s, which the table does not have", name, member, m.target)
			}
		}
	}
	// Every enum of the SDK's inputs has the values that the SDK knows.
	for _, s := range byName {
		for _, f := range s.fields {
			values := f.shape.typ
			m, ok := reflect.PointerTo(values).Elem().MethodByName("Values")
			if !ok || f.shape.kind != kindString {
				continue
			}
			if f.rule == nil {
				t.Errorf("%s.%s is an enum without a rule", s.typ, f.name)
				continue
			}
			list := reflect.New(values).Elem().Method(m.Index).Call(nil)[0]
			for i := range list.Len() {
				if v := list.Index(i).String(); !slices.Contains(f.rule.enum, v) {
					t.Errorf("%s.%s: the SDK knows %s and the table does not", s.typ, f.name, v)
				}
			}
		}
	}
}

func TestParseLimitsRefuses(t *testing.T) {
	for _, table := range []string{"what X", "structure", "list L S 0", "integer I 0", "string S - -"} {
		if _, err := parseLimits(table); err == nil {
			t.Errorf("%q was accepted", table)
		}
	}
	for _, table := range []string{"integer I x -", "string S - - plain [", "list L S - -\nstring S - - plain (", "map M K V - -\nstring K - - plain (\nstring V 0 0 plain"} {
		l, err := parseLimits(table)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.rule(strings.Fields(table)[1]); err == nil {
			t.Errorf("a rule was made of %q", table)
		}
	}
}

// TestEveryLimit: of each operation, each member that the model bounds is refused beyond its bounds, in the words of AWS with the member's name.
func TestEveryLimit(t *testing.T) {
	known := testShapes(t)
	limits := 0
	for name, op := range sdkOperations(t) {
		s := known.must(t, op[0])
		for i := range s.fields {
			f := &s.fields[i]
			try := func(what string, set func(v reflect.Value)) {
				limits++
				in := reflect.New(s.typ).Elem()
				if set != nil {
					set(f.settable(in))
				}
				err := check(s, in)
				if appstream.KindOf(err) != appstream.Validation || !strings.Contains(err.Error(), "at '"+f.path+"' failed to satisfy constraint") {
					t.Errorf("%s.%s, %s: %v", name, f.name, what, err)
				}
			}
			if f.required {
				try("not sent", nil)
			}
			r := f.rule
			if r == nil {
				continue
			}
			sized := func(n int64) func(reflect.Value) {
				return func(v reflect.Value) {
					switch f.shape.kind {
					case kindString:
						v.SetString(strings.Repeat("a", int(n)))
					case kindInt:
						v.SetInt(n)
					case kindList:
						v.Set(reflect.MakeSlice(v.Type(), int(n), int(n)))
					case kindMap:
						m := map[string]string{}
						for k := range n {
							m[strings.Repeat("k", int(k)+1)] = ""
						}
						v.Set(reflect.ValueOf(m))
					}
				}
			}
			if r.max != nil {
				try("too large", sized(*r.max+1))
			}
			if r.min != nil && *r.min > 0 {
				try("too small", sized(*r.min-1))
			}
			if f.shape.kind == kindString && r.enum != nil {
				try("not in the enum", func(v reflect.Value) { v.SetString("NO SUCH VALUE") })
			}
			if f.shape.kind == kindString && r.match != nil && !r.match("\x00") {
				try("against the pattern", func(v reflect.Value) { v.SetString("\x00") })
			}
			if e := r.elem; f.shape.kind == kindList && e != nil && e.max != nil && f.shape.elem.kind == kindString {
				try("an element too long", func(v reflect.Value) {
					v.Set(reflect.MakeSlice(v.Type(), 1, 1))
					v.Index(0).SetString(strings.Repeat("a", int(*e.max)+1))
				})
			}
		}
	}
	if limits < 400 {
		t.Errorf("only %d limits were tried", limits)
	}
}
