package sqlite

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/oriel-project/oriel/internal/appstream"
)

// odd is a record with all that a plan can copy.
type odd struct {
	appstream.Meta
	Strings  []string
	Pointers []*string
	Nested   map[string][]map[int]*inner
	Tags     map[string]string
	Array    [2]int
	Wait     time.Duration
	Times    []*time.Time
	Bytes    []byte
	Twice    **int
	hidden   int
}

type inner struct {
	Name  string
	Inner *deeper
}

type deeper struct{ Values map[string][]byte }

type recursive struct {
	appstream.Meta
	Next *recursive
}

type open1 struct {
	appstream.Meta
	Any any
}

type secretive struct {
	appstream.Meta
	Name string
	_    *string
}

func TestPlans(t *testing.T) {
	for typ, want := range map[reflect.Type]bool{
		reflect.TypeFor[odd]():                    true,
		reflect.TypeFor[appstream.ImageBuilder](): true, // else every read of one would be read from JSON
		reflect.TypeFor[appstream.Image]():        true,
		reflect.TypeFor[recursive]():              false,
		reflect.TypeFor[open1]():                  false,
		reflect.TypeFor[secretive]():              false,
		reflect.TypeFor[[2]*int]():                false,
		reflect.TypeFor[map[*int]int]():           false,
		reflect.TypeFor[func()]():                 false,
	} {
		if got := planFor(typ).ok; got != want {
			t.Errorf("%v can be copied: %v, want %v", typ, got, want)
		}
	}
}

// TestDecode checks that a record is the same whether it is read or copied, for any record.
func TestDecode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SampledFrom([]string{"", "a", "<&>\u2028", "\x00", "☃"})
		in := rapid.Custom(func(t *rapid.T) odd {
			pointer := rapid.Ptr(text, true)
			leaf := rapid.Custom(func(t *rapid.T) *inner {
				i := &inner{Name: text.Draw(t, "name")}
				if rapid.Bool().Draw(t, "deeper") {
					i.Inner = &deeper{rapid.MapOfN(text, rapid.SliceOfN(rapid.Byte(), 0, 2), 0, 2).Draw(t, "values")}
				}
				return i
			})
			number := rapid.Ptr(rapid.Int(), false).Draw(t, "number")
			return odd{
				Meta:     appstream.Meta{Created: time.Unix(rapid.Int64Range(0, 1<<32).Draw(t, "created"), 1000).UTC()},
				Strings:  rapid.SliceOfN(text, 0, 3).Draw(t, "strings"),
				Pointers: rapid.SliceOfN(pointer, 0, 3).Draw(t, "pointers"),
				Nested:   rapid.MapOfN(text, rapid.SliceOfN(rapid.MapOfN(rapid.Int(), leaf, 0, 2), 0, 2), 0, 2).Draw(t, "nested"),
				Tags:     rapid.MapOfN(text, text, 0, 2).Draw(t, "tags"),
				Array:    [2]int{rapid.Int().Draw(t, "array")},
				Wait:     time.Duration(rapid.Int64().Draw(t, "wait")),
				Bytes:    rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(t, "bytes"),
				Twice:    &number,
			}
		}).Draw(t, "record")
		doc, err := encode(&in)
		if err != nil {
			t.Fatal(err)
		}
		var d decoder
		for what := range 3 {
			out := odd{hidden: 1, Strings: []string{"stale"}}
			if err := d.decode(doc, &out); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(in, out, cmp.AllowUnexported(odd{})); diff != "" {
				t.Fatalf("reading %d (-want +got):\n%s", what, diff)
			}
			again, err := encode(&out)
			if err != nil || again != doc {
				t.Fatalf("the same record is %q and %q, %v", doc, again, err)
			}
			for i := range out.Strings {
				out.Strings[i] = "spoiled"
			}
			for _, list := range out.Nested {
				for _, m := range list {
					for k, v := range m {
						v.Name = "spoiled"
						delete(m, k)
					}
				}
			}
			clear(out.Tags)
			clear(out.Nested)
			**out.Twice++
		}
	})
}

func TestDecodeRefuses(t *testing.T) {
	var d decoder
	if err := d.decode("{", new(odd)); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("half a document: %v", err)
	}
	if err := d.decode("{}", (*odd)(nil)); err == nil {
		t.Error("a nil record is no error")
	}
	for range 2 { // what cannot be kept is read each time
		var r recursive
		if err := d.decode(`{"Next":{"Next":{}}}`, &r); err != nil || r.Next == nil || r.Next.Next == nil || r.Next.Next.Next != nil {
			t.Errorf("a recursive record: %+v, %v", r, err)
		}
	}
}

// TestDecoderIsBounded reads more than the decoder may keep.
func TestDecoderIsBounded(t *testing.T) {
	var d decoder
	const size = 64 << 10
	for n := range 5 * decoderSize / size {
		doc := fmt.Sprintf(`{"Strings":["%d"],"Tags":{"a":%q}}`, n, strings.Repeat("x", size))
		for range 2 {
			var r odd
			if err := d.decode(doc, &r); err != nil || r.Strings[0] != fmt.Sprint(n) {
				t.Fatalf("%v, %v", r.Strings, err)
			}
		}
		if kept := (len(d.new) + len(d.old)) * size; kept > 2*decoderSize+2*size {
			t.Fatalf("%d bytes are kept", kept)
		}
	}
	if len(d.new)+len(d.old) < decoderSize/size {
		t.Errorf("only %d documents are kept", len(d.new)+len(d.old))
	}
}
