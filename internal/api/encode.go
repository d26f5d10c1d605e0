package api

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json/jsontext"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// writer appends values to buf, as JSON or as CBOR. It cannot fail: what cannot be sent was refused when the shape
// was made.
type writer struct {
	buf    []byte
	cbor   bool
	redact bool // write "***" for a sensitive member
}

// redacted stands for a sensitive value in the audit log.
const redacted = "***"

func (w *writer) value(s *shape, v reflect.Value) {
	switch s.kind {
	case kindStruct:
		w.structure(s, v)
	case kindList:
		w.open('[', majorArray, v.Len())
		for i := range v.Len() {
			w.comma(i)
			w.value(s.elem, v.Index(i))
		}
		w.close(']')
	case kindMap:
		m, _ := reflect.TypeAssert[map[string]string](v)
		w.open('{', majorMap, len(m))
		for i, k := range slices.Sorted(maps.Keys(m)) {
			w.comma(i)
			w.string(k)
			if !w.cbor {
				w.buf = append(w.buf, ':')
			}
			w.string(m[k])
		}
		w.close('}')
	case kindString:
		w.string(v.String())
	case kindBool:
		w.bool(v.Bool())
	case kindInt:
		w.int(v.Int())
	case kindTime:
		t, _ := reflect.TypeAssert[time.Time](v)
		w.time(t)
	case kindBytes:
		w.bytes(v.Bytes())
	}
}

func (w *writer) structure(s *shape, v reflect.Value) {
	n := 0
	if w.cbor { // a map says how many members follow
		for i := range s.fields {
			if _, ok := s.fields[i].get(v); ok {
				n++
			}
		}
	}
	w.open('{', majorMap, n)
	n = 0
	for i := range s.fields {
		f := &s.fields[i]
		m, ok := f.get(v)
		if !ok {
			continue
		}
		w.comma(n)
		n++
		if w.cbor {
			w.buf = append(w.buf, f.cbor...)
		} else {
			w.buf = append(w.buf, f.json...)
		}
		if w.redact && f.sensitive {
			w.string(redacted)
			continue
		}
		w.value(f.shape, m)
	}
	w.close('}')
}

func (w *writer) open(json, major byte, n int) {
	if w.cbor {
		w.buf = appendCBORHead(w.buf, major, uint64(n))
		return
	}
	w.buf = append(w.buf, json)
}

func (w *writer) close(json byte) {
	if !w.cbor {
		w.buf = append(w.buf, json)
	}
}

func (w *writer) comma(i int) {
	if i > 0 && !w.cbor {
		w.buf = append(w.buf, ',')
	}
}

func (w *writer) string(s string) {
	if w.cbor {
		w.buf = appendCBORString(w.buf, s)
		return
	}
	// The error says that bytes that are not UTF-8 were replaced, which is what we want.
	w.buf, _ = jsontext.AppendQuote(w.buf, s)
}

func (w *writer) bool(b bool) {
	switch {
	case !w.cbor:
		w.buf = strconv.AppendBool(w.buf, b)
	case b:
		w.buf = append(w.buf, 0xf5)
	default:
		w.buf = append(w.buf, 0xf4)
	}
}

func (w *writer) int(n int64) {
	switch {
	case !w.cbor:
		w.buf = strconv.AppendInt(w.buf, n, 10)
	case n < 0:
		w.buf = appendCBORHead(w.buf, majorNegative, uint64(-1-n))
	default:
		w.buf = appendCBORHead(w.buf, majorUint, uint64(n))
	}
}

// time writes seconds since 1970, with milliseconds when there are any: clients keep no more.
func (w *writer) time(t time.Time) {
	ms := t.UnixMilli()
	if w.cbor {
		w.buf = append(w.buf, 0xc1) // tag 1
	}
	if ms%1000 == 0 {
		w.int(ms / 1000)
		return
	}
	seconds := float64(ms) / 1000
	if w.cbor {
		w.buf = binary.BigEndian.AppendUint64(append(w.buf, 0xfb), math.Float64bits(seconds))
		return
	}
	w.buf = strconv.AppendFloat(w.buf, seconds, 'f', -1, 64)
}

func (w *writer) bytes(b []byte) {
	if w.cbor {
		w.buf = append(appendCBORHead(w.buf, majorBytes, uint64(len(b))), b...)
		return
	}
	w.buf = append(w.buf, '"')
	w.buf = base64.StdEncoding.AppendEncode(w.buf, b)
	w.buf = append(w.buf, '"')
}

// appendCBORHead appends the first bytes of a data item: its major type and its argument in the shortest form.
func appendCBORHead(b []byte, major byte, arg uint64) []byte {
	major <<= 5
	switch {
	case arg < 24:
		return append(b, major|byte(arg))
	case arg <= math.MaxUint8:
		return append(b, major|24, byte(arg))
	case arg <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(arg))
	case arg <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(arg))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), arg)
}

func appendCBORString(b []byte, s string) []byte {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	return append(appendCBORHead(b, majorText, uint64(len(s))), s...)
}
