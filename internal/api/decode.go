package api

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Bounds of a request's content; the model's largest input needs a fraction of them.
const (
	maxDepth  = 32      // lists and maps inside one another
	maxValues = 1 << 15 // members of all lists and maps together
)

// token is what comes next in a source. Its text is what AWS calls it in messages.
type token string

const (
	tokenNull    token = "NULL_VALUE"
	tokenBool    token = "BOOLEAN_VALUE"
	tokenNumber  token = "NUMBER_VALUE"
	tokenString  token = "STRING_VALUE"
	tokenBytes   token = "BLOB_VALUE"
	tokenList    token = "START_ARRAY"
	tokenMap     token = "START_OBJECT"
	tokenTime    token = "TIMESTAMP_VALUE"
	tokenInvalid token = "" // not well formed: any read tells why
)

// source is a notation that values are read from. Each read takes the value that peek announced; to read another
// than that is a fault of the caller.
type source interface {
	peek() token
	null() error
	bool() (bool, error)
	int() (int64, error)
	string() (string, error)
	bytes() ([]byte, error)
	time() (time.Time, error)
	open() error          // enters a list or map
	more() (bool, error)  // whether another member follows; leaves the list or map if not
	key() ([]byte, error) // of a map's member; valid until the next call
	skip() error          // passes over any value
	end() error           // whether nothing follows
}

// decoder reads one value; it counts what it has read.
type decoder struct {
	source
	values int
}

// typeError is a value of the wrong type or out of range; it is found inside and named outside.
type typeError struct {
	path []string // innermost first
	msg  string
}

func (e *typeError) Error() string {
	if len(e.path) == 0 {
		return e.msg
	}
	var b strings.Builder
	b.WriteString(e.msg)
	b.WriteString(" at '")
	for i := len(e.path) - 1; i >= 0; i-- {
		b.WriteString(e.path[i])
		if i > 0 {
			b.WriteByte('.')
		}
	}
	b.WriteByte('\'')
	return b.String()
}

// within adds the name of a member to a typeError that came out of it.
func within(err error, name func() string) error {
	if e, ok := errors.AsType[*typeError](err); ok {
		e.path = append(e.path, name())
	}
	return err
}

// decode reads the whole of src into v. Members that v does not have are passed over and null is absent. A member
// that comes twice is refused, because whoever reads the same request before us (a proxy, a filter) could see the
// other value.
func decode(src source, s *shape, v reflect.Value) error {
	d := decoder{source: src}
	if t := d.peek(); t != tokenMap && t != tokenInvalid {
		return &typeError{msg: fmt.Sprintf("%s can not be converted to a structure", t)}
	}
	if err := d.value(s, v); err != nil {
		return err
	}
	return d.end()
}

// accepts lists the tokens that each kind is read from.
var accepts = [...]struct {
	token token
	name  string
}{
	kindStruct: {tokenMap, "a structure"},
	kindList:   {tokenList, "a list"},
	kindMap:    {tokenMap, "a map"},
	kindString: {tokenString, "a String"},
	kindBool:   {tokenBool, "a Boolean"},
	kindInt:    {tokenNumber, "an Integer"},
	kindTime:   {tokenTime, "a Timestamp"},
	kindBytes:  {tokenBytes, "a Blob"},
}

// value reads the next value into v, which is not null.
func (d *decoder) value(s *shape, v reflect.Value) error {
	if err := d.expect(s.kind); err != nil {
		return err
	}
	switch s.kind {
	case kindStruct:
		return d.structure(s, v)
	case kindList:
		return d.list(s, v)
	case kindMap:
		return d.stringMap(v)
	case kindString:
		x, err := d.string()
		if err != nil {
			return err
		}
		v.SetString(x)
	case kindBool:
		x, err := d.bool()
		if err != nil {
			return err
		}
		v.SetBool(x)
	case kindInt:
		x, err := d.int()
		if err != nil {
			return err
		}
		if v.OverflowInt(x) {
			return &typeError{msg: strconv.FormatInt(x, 10) + " is out of range for an Integer"}
		}
		v.SetInt(x)
	case kindTime:
		x, err := d.time()
		if err != nil {
			return err
		}
		v.Set(reflect.ValueOf(x))
	case kindBytes:
		x, err := d.bytes()
		if err != nil {
			return err
		}
		v.SetBytes(x)
	}
	return nil
}

// expect refuses a token that the kind is not read from. JSON has no timestamps and blobs of its own.
func (d *decoder) expect(k kind) error {
	got, want := d.peek(), accepts[k]
	_, json := d.source.(*jsonSource)
	switch {
	case got == want.token, got == tokenInvalid,
		json && k == kindTime && got == tokenNumber,
		json && k == kindBytes && got == tokenString:
		return nil
	}
	return &typeError{msg: fmt.Sprintf("%s can not be converted to %s", got, want.name)}
}

func (d *decoder) structure(s *shape, v reflect.Value) error {
	if err := d.open(); err != nil {
		return err
	}
	var seen [maxFields / 64]uint64 // a bit for each member
	for {
		more, err := d.next()
		if !more {
			return err
		}
		key, err := d.key()
		if err != nil {
			return err
		}
		i, known := s.byName[string(key)]
		if !known {
			if err := d.skip(); err != nil {
				return err
			}
			continue
		}
		f := &s.fields[i]
		if seen[i/64]&(1<<(i%64)) != 0 {
			return within(&typeError{msg: "Duplicate member"}, func() string { return f.path })
		}
		seen[i/64] |= 1 << (i % 64)
		if d.peek() == tokenNull {
			err = d.null()
		} else {
			err = d.value(f.shape, f.settable(v))
		}
		if err != nil {
			return within(err, func() string { return f.path })
		}
	}
}

func (d *decoder) list(s *shape, v reflect.Value) error {
	if err := d.open(); err != nil {
		return err
	}
	// An empty list is not an absent one.
	v.Set(reflect.MakeSlice(s.typ, 0, 0))
	for i := 0; ; i++ {
		more, err := d.next()
		if !more {
			return err
		}
		if i == v.Cap() {
			v.Grow(1)
		}
		v.SetLen(i + 1)
		if err := d.value(s.elem, v.Index(i)); err != nil {
			return within(err, func() string { return strconv.Itoa(i+1) + ".member" })
		}
	}
}

func (d *decoder) stringMap(v reflect.Value) error {
	if err := d.open(); err != nil {
		return err
	}
	m := map[string]string{}
	v.Set(reflect.ValueOf(m))
	for {
		more, err := d.next()
		if !more {
			return err
		}
		raw, err := d.key()
		if err != nil {
			return err
		}
		key := string(raw)
		name := func() string { return key }
		if _, ok := m[key]; ok {
			return within(&typeError{msg: "Duplicate member"}, name)
		}
		if d.peek() == tokenNull {
			if err := d.null(); err != nil {
				return err
			}
			continue
		}
		if err := d.expect(kindString); err != nil {
			return within(err, name)
		}
		if m[key], err = d.string(); err != nil {
			return within(err, name)
		}
	}
}

// next is more with a count.
func (d *decoder) next() (bool, error) {
	more, err := d.more()
	if !more || err != nil {
		return false, err
	}
	if d.values++; d.values > maxValues {
		return false, fmt.Errorf("the request has more than %d members and list elements", maxValues)
	}
	return true, nil
}

// epoch gives the time of a number of seconds since 1970, to the millisecond.
func epoch(seconds float64) (time.Time, error) {
	const year10000 = 253402300800
	if !(math.Abs(seconds) < year10000) { // also refuses what is not a number
		return time.Time{}, &typeError{msg: "NUMBER_VALUE is out of range for a Timestamp"}
	}
	return time.UnixMilli(int64(math.Round(seconds * 1000))).UTC(), nil
}

// errDepth refuses what is nested too deeply.
var errDepth = fmt.Errorf("the request has lists and maps nested more than %d deep", maxDepth)
