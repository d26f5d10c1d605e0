package api

import (
	"encoding/json/jsontext"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/aws/smithy-go/middleware"
)

// kind says how a Go value is written.
type kind uint8

const (
	kindStruct kind = iota
	kindList
	kindMap // map[string]string
	kindString
	kindBool
	kindInt
	kindTime
	kindBytes
)

// shape is what the codec and the limits know of a Go type. Shapes are made once, when the handler is, and
// never change afterwards.
type shape struct {
	typ    reflect.Type
	kind   kind
	elem   *shape // of a list
	fields []field
	byName map[string]int // wire name → index in fields
}

// field is one member of a structure.
type field struct {
	name      string // on the wire
	path      string // in messages: AWS writes members with a small first letter
	index     int    // in the Go struct
	ptr       bool
	shape     *shape
	required  bool
	sensitive bool
	rule      *rule  // nil: nothing to check
	json      string // the name as it is written: "Name":
	cbor      string
}

// maxFields is the number of members that a structure can have.
const maxFields = 256

// lowerCamel are the structures whose members are written with a small first letter; every other member is
// written as its Go field is named.
var lowerCamel = map[reflect.Type]bool{
	reflect.TypeFor[sdk.CreateUpdatedImageInput]():          true,
	reflect.TypeFor[sdk.CreateUpdatedImageOutput]():         true,
	reflect.TypeFor[sdk.BatchAssociateUserStackOutput]():    true,
	reflect.TypeFor[sdk.BatchDisassociateUserStackOutput](): true,
	reflect.TypeFor[types.ImagePermissions]():               true,
	reflect.TypeFor[types.SharedImagePermissions]():         true,
}

var (
	timeType     = reflect.TypeFor[time.Time]()
	metadataType = reflect.TypeFor[middleware.Metadata]()
	stringMap    = reflect.TypeFor[map[string]string]()
)

// shapes makes shapes and keeps those it has made.
type shapes struct {
	made   map[reflect.Type]*shape
	limits limits
}

// whole has the shapes of each service, complete, by what they depend on: they are the same in every handler of a process.
var whole sync.Map // shapesOf → *shapes

type shapesOf struct {
	handler reflect.Type
	limits  string // beside the model's
}

// shapes gives the shapes of a service, or none yet.
func (of shapesOf) shapes() (*shapes, error) {
	if s, ok := whole.Load(of); ok {
		return s.(*shapes), nil
	}
	table, err := parseLimits(modelLimits, of.limits)
	return &shapes{made: map[reflect.Type]*shape{}, limits: table}, err
}

// of gives the shape of a Go type; an error names a type that has no form on the wire.
func (s *shapes) of(t reflect.Type) (*shape, error) {
	if sh, ok := s.made[t]; ok {
		return sh, nil
	}
	sh := &shape{typ: t}
	s.made[t] = sh // before its members, which may lead back here
	if err := s.fill(sh); err != nil {
		return nil, fmt.Errorf("%s: %w", t, err)
	}
	return sh, nil
}

func (s *shapes) fill(sh *shape) (err error) {
	switch t := sh.typ; {
	case t == timeType:
		sh.kind = kindTime
	case t == stringMap:
		sh.kind = kindMap
	case t.Kind() == reflect.String:
		sh.kind = kindString
	case t.Kind() == reflect.Bool:
		sh.kind = kindBool
	case t.Kind() == reflect.Int32, t.Kind() == reflect.Int64:
		sh.kind = kindInt
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		sh.kind = kindBytes
	case t.Kind() == reflect.Slice:
		sh.kind = kindList
		sh.elem, err = s.of(t.Elem())
	case t.Kind() == reflect.Struct:
		sh.kind = kindStruct
		err = s.fillStruct(sh)
	default:
		err = fmt.Errorf("a %s cannot be sent", t.Kind())
	}
	return err
}

func (s *shapes) fillStruct(sh *shape) error {
	members := s.limits.members(sh.typ.Name())
	for i := range sh.typ.NumField() {
		gf := sh.typ.Field(i)
		if !gf.IsExported() || gf.Type == metadataType {
			continue
		}
		f := field{name: gf.Name, index: i}
		if lowerCamel[sh.typ] {
			f.name = lowerFirst(f.name)
		}
		f.path = lowerFirst(f.name)
		t := gf.Type
		if t.Kind() == reflect.Pointer {
			f.ptr, t = true, t.Elem()
		}
		var err error
		if f.shape, err = s.of(t); err != nil {
			return fmt.Errorf("%s: %w", gf.Name, err)
		}
		quoted, err := jsontext.AppendQuote(nil, f.name)
		if err != nil {
			return err
		}
		f.json = string(quoted) + ":"
		f.cbor = string(appendCBORString(nil, f.name))
		if m, ok := members[f.name]; ok {
			f.required = m.required
			if f.rule, err = s.limits.rule(m.target); err != nil {
				return err
			}
			f.sensitive = m.sensitive || f.rule.isSensitive()
		}
		sh.fields = append(sh.fields, f)
	}
	if len(sh.fields) > maxFields {
		return fmt.Errorf("it has %d members, at most %d can be sent", len(sh.fields), maxFields)
	}
	// In order of the name, as AWS's own serializers write them.
	slices.SortFunc(sh.fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
	sh.byName = make(map[string]int, len(sh.fields))
	for i, f := range sh.fields {
		sh.byName[f.name] = i
	}
	return nil
}

// get gives the member's value and whether it is there: a nil pointer, list or map and an empty enum are absent.
// An empty list and a pointer to an empty string are there.
func (f *field) get(v reflect.Value) (reflect.Value, bool) {
	v = v.Field(f.index)
	if f.ptr {
		return v.Elem(), !v.IsNil()
	}
	switch f.shape.kind {
	case kindList, kindMap, kindBytes:
		return v, !v.IsNil()
	case kindString:
		return v, v.Len() > 0
	}
	return v, true
}

// settable gives the member's value, made when it is behind a nil pointer.
func (f *field) settable(v reflect.Value) reflect.Value {
	v = v.Field(f.index)
	if !f.ptr {
		return v
	}
	if v.IsNil() {
		v.Set(reflect.New(f.shape.typ))
	}
	return v.Elem()
}

func lowerFirst(s string) string {
	return strings.ToLower(s[:1]) + s[1:]
}
