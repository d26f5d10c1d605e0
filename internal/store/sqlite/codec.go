package sqlite

import (
	"encoding/json"
	"encoding/json/jsontext"
	jsonv2 "encoding/json/v2"
	"fmt"
	"maps"
	"reflect"
	"sync"
	"time"

	"github.com/oriel-project/oriel/internal/appstream"
)

// How a record is written: what is zero is left out (a nil slice comes back nil, an empty one empty), the same record is
// always the same text, and text that is not UTF-8, which a machine's error message may contain, is mended instead of
// refused, for a commit must not fail over it.
var encoding = jsonv2.JoinOptions(
	jsonv2.OmitZeroStructFields(true),
	jsonv2.FormatNilSliceAsNull(true), // inside maps and slices, where nothing can be left out
	jsonv2.FormatNilMapAsNull(true),
	jsonv2.Deterministic(true),
	json.FormatDurationAsNano(true),
	jsontext.AllowInvalidUTF8(true),
)

func encode(rec appstream.Record) (string, error) {
	doc, err := jsonv2.Marshal(rec, encoding)
	if err != nil {
		return "", fmt.Errorf("sqlite: write %T as JSON: %w", rec, err)
	}
	return string(doc), nil
}

// decoder reads documents, and keeps what it has read: a record is read far more often than it changes. What it keeps is
// found by the text of the document itself, so that it cannot be out of date: the same text always means the same record,
// whatever transaction it came from. Callers get a copy that shares nothing with it.
//
// BenchmarkDecode: a copy costs a quarter of reading the JSON.
type decoder struct {
	mu       sync.Mutex
	new, old map[document]reflect.Value // two generations; what is used lives in new
	size     int                        // bytes of text in new
}

type document struct {
	typ  reflect.Type // of the struct
	text string
}

// decoderSize is how many bytes of text one of the two generations holds. The decoded records need about twice as much.
// It is enough for ten thousand records that are read one after the other, again and again: were it less, none would be there when its turn comes.
const decoderSize = 12 << 20

// decode makes rec, which is a pointer to a struct, what the document says; nothing that was in it remains.
func (d *decoder) decode(text string, rec appstream.Record) error {
	ptr := reflect.ValueOf(rec)
	if ptr.Kind() != reflect.Pointer || ptr.IsNil() || ptr.Elem().Kind() != reflect.Struct {
		return fmt.Errorf("sqlite: read into %T: it must be a pointer to a struct", rec)
	}
	dst, key := ptr.Elem(), document{ptr.Type().Elem(), text}
	plan := planFor(key.typ)
	if plan.ok {
		if kept, ok := d.find(key); ok {
			plan.copy(dst, kept)
			return nil
		}
	}
	dst.SetZero()
	if err := jsonv2.Unmarshal([]byte(text), rec, encoding); err != nil {
		return fmt.Errorf("sqlite: the document of a %T is damaged: %w", rec, err)
	}
	if plan.ok {
		kept := reflect.New(key.typ).Elem()
		plan.copy(kept, dst)
		d.keep(key, kept)
	}
	return nil
}

func (d *decoder) find(key document) (reflect.Value, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if v, ok := d.new[key]; ok {
		return v, true
	}
	v, ok := d.old[key]
	if ok {
		d.put(key, v)
	}
	return v, ok
}

func (d *decoder) keep(key document, v reflect.Value) {
	if len(key.text) > decoderSize/16 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.put(key, v)
}

func (d *decoder) put(key document, v reflect.Value) {
	if d.new == nil || d.size > decoderSize {
		d.old, d.new, d.size = d.new, make(map[document]reflect.Value), 0
	}
	if _, ok := d.new[key]; !ok {
		d.size += len(key.text)
		d.new[key] = v
	}
}

// plan is how values of a type are copied so that the copy shares nothing with the original.
type plan struct {
	ok   bool // false for types that cannot be copied so: they hold interfaces, functions, channels or hidden pointers
	deep func(dst, src reflect.Value)
}

// copy sets dst to a copy of src.
func (p plan) copy(dst, src reflect.Value) {
	dst.Set(src)
	if p.deep != nil {
		p.deep(dst, src)
	}
}

var plans sync.Map // reflect.Type → plan

func planFor(t reflect.Type) plan {
	if p, ok := plans.Load(t); ok {
		return p.(plan)
	}
	p := makePlan(t, nil)
	plans.Store(t, p)
	return p
}

// makePlan makes the plan of a type. deep gets a dst that equals src and gives it its own of everything that
// is reached through pointers; it is nil when assignment is enough. within are the types that t is a part of.
func makePlan(t reflect.Type, within []reflect.Type) plan {
	for _, outer := range within {
		if outer == t {
			return plan{} // a recursive type
		}
	}
	within = append(within[:len(within):len(within)], t)
	switch t.Kind() {
	case reflect.Pointer:
		elem := makePlan(t.Elem(), within)
		return plan{elem.ok, func(dst, src reflect.Value) {
			if src.IsNil() {
				return
			}
			p := reflect.New(t.Elem())
			elem.copy(p.Elem(), src.Elem())
			dst.Set(p)
		}}
	case reflect.Slice:
		elem := makePlan(t.Elem(), within)
		return plan{elem.ok, func(dst, src reflect.Value) {
			if src.IsNil() {
				return
			}
			n := src.Len()
			s := reflect.MakeSlice(t, n, n)
			reflect.Copy(s, src)
			if elem.deep != nil {
				for i := range n {
					elem.deep(s.Index(i), src.Index(i))
				}
			}
			dst.Set(s)
		}}
	case reflect.Map:
		if t == reflect.TypeFor[map[string]string]() { // tags: reflection would allocate for every entry
			return plan{true, func(dst, src reflect.Value) {
				dst.Set(reflect.ValueOf(maps.Clone(src.Interface().(map[string]string))))
			}}
		}
		key, elem := makePlan(t.Key(), within), makePlan(t.Elem(), within)
		return plan{key.ok && key.deep == nil && elem.ok, func(dst, src reflect.Value) {
			if src.IsNil() {
				return
			}
			m := reflect.MakeMapWithSize(t, src.Len())
			for it := src.MapRange(); it.Next(); {
				v := it.Value()
				if elem.deep != nil {
					v = reflect.New(t.Elem()).Elem()
					elem.copy(v, it.Value())
				}
				m.SetMapIndex(it.Key(), v)
			}
			dst.Set(m)
		}}
	case reflect.Struct:
		if t == reflect.TypeFor[time.Time]() {
			return plan{ok: true} // its pointer is to a time zone, which never changes
		}
		type field struct {
			index int
			deep  func(dst, src reflect.Value)
		}
		var fields []field
		for i := range t.NumField() {
			f := makePlan(t.Field(i).Type, within)
			if !f.ok || f.deep != nil && !t.Field(i).IsExported() {
				return plan{}
			}
			if f.deep != nil {
				fields = append(fields, field{i, f.deep})
			}
		}
		if fields == nil {
			return plan{ok: true}
		}
		return plan{true, func(dst, src reflect.Value) {
			for _, f := range fields {
				f.deep(dst.Field(f.index), src.Field(f.index))
			}
		}}
	case reflect.Array:
		return plan{ok: makePlan(t.Elem(), within).ok && makePlan(t.Elem(), within).deep == nil}
	case reflect.Interface, reflect.Func, reflect.Chan, reflect.UnsafePointer:
		return plan{}
	}
	return plan{ok: true}
}
