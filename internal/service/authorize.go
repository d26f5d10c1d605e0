package service

import (
	"reflect"
	"strings"

	"github.com/oriel-project/oriel/internal/appstream"
)

// Resources names the resources, as ARNs, that an operation's input is about: what a policy must allow the operation on.
// Empty means that the operation is about no resource in particular ("*").
func Resources(operation string, c appstream.Caller, in any) []string {
	member := func(name string) []string { return stringsOf(reflect.Indirect(reflect.ValueOf(in)).FieldByName(name)) }
	arns := func(noun appstream.Noun, names ...string) []string {
		for n, name := range names {
			names[n] = key(c, noun, name).ARN()
		}
		return names
	}
	switch operation {
	case "CreateImageBuilder":
		list := append(arns(appstream.NounImageBuilder, member("Name")...), member("ImageArn")...)
		return append(list, arns(appstream.NounImage, member("ImageName")...)...)
	case "DescribeImageBuilders":
		if names := member("Names"); len(names) > 0 {
			return arns(appstream.NounImageBuilder, names...)
		}
		return arns(appstream.NounImageBuilder, "*")
	case "StartImageBuilder", "StopImageBuilder", "DeleteImageBuilder", "CreateImageBuilderStreamingURL":
		return arns(appstream.NounImageBuilder, member("Name")...)
	case "DescribeImages":
		if list := append(arns(appstream.NounImage, member("Names")...), member("Arns")...); len(list) > 0 {
			return list
		}
		return arns(appstream.NounImage, "*")
	case "DeleteImage", "DescribeImagePermissions", "UpdateImagePermissions", "DeleteImagePermissions":
		return arns(appstream.NounImage, member("Name")...)
	case "TagResource", "UntagResource", "ListTagsForResource":
		return member("ResourceArn")
	case "CreateImage":
		return append(arns(appstream.NounImageBuilder, member("ImageBuilderName")...), arns(appstream.NounImage, member("Name")...)...)
	}
	return nil
}

// ReadOnly tells whether an operation only looks.
func ReadOnly(operation string) bool {
	return strings.HasPrefix(operation, "Describe") || strings.HasPrefix(operation, "List") || strings.HasPrefix(operation, "Get")
}

// stringsOf gives the strings of a *string or []string member, none for a missing one.
func stringsOf(v reflect.Value) []string {
	if !v.IsValid() {
		return nil
	}
	switch m := v.Interface().(type) {
	case *string:
		if m != nil {
			return []string{*m}
		}
	case []string:
		return append([]string(nil), m...)
	}
	return nil
}
