package api

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/aws/smithy-go/encoding/cbor"
	fxcbor "github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// sdkOperations gives the methods of the SDK's client that are operations, with their types.
func sdkOperations(t testing.TB) map[string][2]reflect.Type {
	t.Helper()
	ops := map[string][2]reflect.Type{}
	c := reflect.TypeFor[*sdk.Client]()
	for i := range c.NumMethod() {
		m := c.Method(i)
		if m.Type.NumIn() == 4 && m.Type.NumOut() == 2 {
			ops[m.Name] = [2]reflect.Type{m.Type.In(2).Elem(), m.Type.Out(0).Elem()}
		}
	}
	if len(ops) < 89 {
		t.Fatalf("the SDK's client has %d operations, want at least 89", len(ops))
	}
	return ops
}

func testShapes(t testing.TB, extra ...string) *shapes {
	t.Helper()
	table, err := parseLimits(append([]string{modelLimits}, extra...)...)
	if err != nil {
		t.Fatal(err)
	}
	return &shapes{made: map[reflect.Type]*shape{}, limits: table}
}

func (s *shapes) must(t testing.TB, typ reflect.Type) *shape {
	t.Helper()
	sh, err := s.of(typ)
	if err != nil {
		t.Fatal(err)
	}
	return sh
}

// fill puts drawn values into v, members of pointers, lists and maps sometimes absent.
func fill(t *rapid.T, s *shape, v reflect.Value) {
	str := rapid.String()
	switch s.kind {
	case kindStruct:
		for i := range s.fields {
			f := &s.fields[i]
			if f.name == "ResultMetadata" || !rapid.Bool().Draw(t, f.name) {
				continue
			}
			fill(t, f.shape, f.settable(v))
		}
	case kindList:
		n := rapid.IntRange(0, 3).Draw(t, "len")
		v.Set(reflect.MakeSlice(s.typ, n, n))
		for i := range n {
			fill(t, s.elem, v.Index(i))
		}
	case kindMap:
		v.Set(reflect.ValueOf(rapid.MapOfN(str, str, 0, 3).Draw(t, "map")))
	case kindString:
		v.SetString(str.Draw(t, "string"))
	case kindBool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case kindInt:
		if v.Kind() == reflect.Int32 {
			v.SetInt(int64(rapid.Int32().Draw(t, "int32")))
		} else {
			v.SetInt(rapid.Int64().Draw(t, "int64"))
		}
	case kindTime:
		// The SDK counts nanoseconds in 64 bits, which is enough from 1678 to 2262.
		ms := rapid.Int64Range(-9e9, 9e9).Draw(t, "seconds") * 1000
		if rapid.Bool().Draw(t, "milliseconds") {
			ms = rapid.Int64Range(0, 4e12).Draw(t, "ms")
		}
		v.Set(reflect.ValueOf(time.UnixMilli(ms).UTC()))
	case kindBytes:
		v.SetBytes(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
	}
}

func encode(s *shape, v reflect.Value, cbor bool) []byte {
	w := writer{cbor: cbor}
	w.value(s, v)
	return w.buf
}

// filled gives a generator of pointers to values of a type.
func filled(s *shape) *rapid.Generator[reflect.Value] {
	return rapid.Custom(func(t *rapid.T) reflect.Value {
		v := reflect.New(s.typ)
		rapid.Bool().Draw(t, "some") // a generator must draw something, and some outputs have no members
		fill(t, s, v.Elem())
		return v
	})
}

// TestRoundTrip: every input and output of the SDK comes back as it was, in both protocols, and other readers of the
// notation accept what was written.
func TestRoundTrip(t *testing.T) {
	known := testShapes(t)
	var all []*shape
	for _, op := range sdkOperations(t) {
		all = append(all, known.must(t, op[0]), known.must(t, op[1]))
	}
	slices.SortFunc(all, func(a, b *shape) int { return strings.Compare(a.typ.Name(), b.typ.Name()) })
	for _, s := range all {
		t.Run(s.typ.Name(), func(t *testing.T) {
			for seed := range 5 {
				roundTrip(t, s, filled(s).Example(seed))
			}
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		s := all[rapid.IntRange(0, len(all)-1).Draw(t, "type")]
		roundTrip(t, s, filled(s).Draw(t, s.typ.Name()))
	})
}

func roundTrip(t rapid.TB, s *shape, in reflect.Value) {
	t.Helper()
	asJSON, asCBOR := encode(s, in.Elem(), false), encode(s, in.Elem(), true)
	for src, b := range map[source][]byte{newJSONSource(asJSON): asJSON, newCBORSource(asCBOR): asCBOR} {
		out := reflect.New(s.typ)
		if err := decode(src, s, out.Elem()); err != nil {
			t.Fatalf("%v in %q", err, b)
		}
		if diff := cmp.Diff(in.Interface(), out.Interface(), ignoreSerde); diff != "" {
			t.Fatalf("%q: %s", b, diff)
		}
	}
	if !json.Valid(asJSON) {
		t.Fatalf("encoding/json does not read %q", asJSON)
	}
	if err := fxcbor.Wellformed(asCBOR); err != nil {
		t.Fatalf("fxamacker/cbor does not read %x: %v", asCBOR, err)
	}
	if _, err := cbor.Decode(asCBOR); err != nil {
		t.Fatalf("smithy-go does not read %x: %v", asCBOR, err)
	}
}

// wire is an http.RoundTripper that keeps what the SDK sends and answers with a given body.
type wire struct{ sent, answer []byte }

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	var err error
	if w.sent, err = io.ReadAll(r.Body); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": contentJSON}, Request: r,
		Body: io.NopCloser(bytes.NewReader(w.answer))}, nil
}

// TestAgainstSDK: what we read and write is what the SDK's own serializers and deserializers write and read, for
// every operation.
func TestAgainstSDK(t *testing.T) {
	known := testShapes(t)
	for name, op := range sdkOperations(t) {
		in, out := known.must(t, op[0]), known.must(t, op[1])
		t.Run(name, func(t *testing.T) {
			for seed := range 5 {
				input, output := filled(in).Example(seed), filled(out).Example(seed+100)
				require(in, input.Elem())
				w := &wire{answer: encode(out, output.Elem(), false)}
				c := sdk.New(sdk.Options{Region: testRegion, HTTPClient: &http.Client{Transport: w},
					Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")})
				result := reflect.ValueOf(c).MethodByName(name).Call([]reflect.Value{reflect.ValueOf(t.Context()), input})
				if !result[1].IsNil() {
					t.Fatalf("%v, answer %s", result[1], w.answer)
				}
				if diff := cmp.Diff(output.Interface(), result[0].Interface(), ignoreSerde); diff != "" {
					t.Errorf("the SDK reads another output: %s", diff)
				}
				var ours, theirs any
				if err := json.Unmarshal(encode(in, input.Elem(), false), &ours); err != nil {
					t.Fatal(err)
				}
				if err := json.Unmarshal(w.sent, &theirs); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(theirs, ours); diff != "" {
					t.Errorf("the SDK writes another input: %s", diff)
				}
				read := reflect.New(op[0])
				if err := decode(newJSONSource(w.sent), in, read.Elem()); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(input.Interface(), read.Interface(), ignoreSerde); diff != "" {
					t.Errorf("we read another input: %s", diff)
				}
			}
		})
	}
}

// require sets the required members that are absent, without which the SDK sends nothing. An enum that is empty
// is sent by nobody.
func require(s *shape, v reflect.Value) {
	for i := range s.fields {
		f := &s.fields[i]
		m, ok := f.get(v)
		if !ok {
			if !f.required {
				continue
			}
			m = f.settable(v)
			switch f.shape.kind {
			case kindList:
				m.Set(reflect.MakeSlice(f.shape.typ, 0, 0))
			case kindMap:
				m.Set(reflect.ValueOf(map[string]string{}))
			case kindString:
				if !f.ptr {
					m.SetString("X")
				}
			}
		}
		switch f.shape.kind {
		case kindStruct:
			require(f.shape, m)
		case kindList:
			if f.shape.elem.kind == kindStruct {
				for j := range m.Len() {
					require(f.shape.elem, m.Index(j))
				}
			}
		}
	}
}

// everything has a member of each kind, and itself.
type everything struct {
	Text, Other *string
	Enum        types.Action
	Flag        *bool
	Small       *int32
	Large       *int64
	Plain       int32
	Sure        bool
	At          *time.Time
	Blob        []byte
	List        []string
	Map         map[string]string
	Sub         *everything
	Subs        []everything
}

func TestEncode(t *testing.T) {
	s := testShapes(t).must(t, reflect.TypeFor[everything]())
	at := func(ms int64) *time.Time { return new(time.UnixMilli(ms)) }
	for _, tt := range []struct {
		name string
		in   everything
		json string
	}{
		{"zero", everything{}, `{"Plain":0,"Sure":false}`},
		{"empty is there", everything{Text: aws.String(""), List: []string{}, Map: map[string]string{}, Blob: []byte{}, Sub: &everything{}},
			`{"Blob":"","List":[],"Map":{},"Plain":0,"Sub":{"Plain":0,"Sure":false},"Sure":false,"Text":""}`},
		{"text", everything{Text: aws.String("a\"\\\n\u2028<>&é\x00\xff")}, `{"Plain":0,"Sure":false,"Text":"a\"\\\n` + "\u2028" + `<>&é\u0000` + "\uFFFD" + `"}`},
		{"numbers", everything{Small: aws.Int32(math.MinInt32), Large: aws.Int64(math.MaxInt64), Plain: -1}, `{"Large":9223372036854775807,"Plain":-1,"Small":-2147483648,"Sure":false}`},
		{"whole seconds", everything{At: at(1_790_000_000_000)}, `{"At":1790000000,"Plain":0,"Sure":false}`},
		{"milliseconds", everything{At: at(1_790_000_000_120)}, `{"At":1790000000.12,"Plain":0,"Sure":false}`},
		{"before 1970", everything{At: at(-1_500)}, `{"At":-1.5,"Plain":0,"Sure":false}`},
		{"blob and map", everything{Blob: []byte("hi"), Map: map[string]string{"b": "2", "a": "1"}}, `{"Blob":"aGk=","Map":{"a":"1","b":"2"},"Plain":0,"Sure":false}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := reflect.ValueOf(tt.in)
			if got := string(encode(s, v, false)); got != tt.json {
				t.Errorf("got  %s\nwant %s", got, tt.json)
			}
			var back everything
			if err := decode(newCBORSource(encode(s, v, true)), s, reflect.ValueOf(&back).Elem()); err != nil {
				t.Fatal(err)
			}
			if got := string(encode(s, reflect.ValueOf(back), false)); got != tt.json {
				t.Errorf("by CBOR %s\nwant    %s", got, tt.json)
			}
		})
	}
}

func TestDecodeJSON(t *testing.T) {
	s := testShapes(t).must(t, reflect.TypeFor[everything]())
	deep := func(n int, open, close string) string {
		return strings.Repeat(open, n) + "{}" + strings.Repeat(close, n)
	}
	for _, tt := range []struct{ name, in, want, err string }{
		{"null is absent", `{"Text":null,"List":null,"Sub":null,"Map":{"a":null},"Enum":null}`, `{"Map":{},"Plain":0,"Sure":false}`, ""},
		{"unknown members", `{"What":{"a":[1,{"b":null}]},"Text":"x","text":3}`, `{"Plain":0,"Sure":false,"Text":"x"}`, ""},
		{"time", `{"At":1790000000.123}`, `{"At":1790000000.123,"Plain":0,"Sure":false}`, ""},
		{"exponent in a time", `{"At":1.79e9}`, `{"At":1790000000,"Plain":0,"Sure":false}`, ""},
		{"wrong type", `{"Sub":{"Subs":[{},{"Small":"1"}]}}`, "", "STRING_VALUE can not be converted to an Integer at 'sub.subs.2.member.small'"},
		{"null in a list", `{"List":["a",null]}`, "", "NULL_VALUE can not be converted to a String at 'list.2.member'"},
		{"map value", `{"Map":{"k":1}}`, "", "NUMBER_VALUE can not be converted to a String at 'map.k'"},
		{"not an object", `[]`, "", "START_ARRAY can not be converted to a structure"},
		{"range", `{"Small":2147483648}`, "", "2147483648 is out of range for an Integer at 'small'"},
		{"larger range", `{"Large":9223372036854775808}`, "", "out of range for an Integer at 'large'"},
		{"fraction", `{"Small":1.5}`, "", "fraction"},
		{"time as text", `{"At":"2026-01-01"}`, "", "STRING_VALUE can not be converted to a Timestamp at 'at'"},
		{"time too large", `{"At":1e300}`, "", "out of range for a Timestamp"},
		{"time out of all range", `{"At":1e999}`, "", "out of range for a Timestamp"},
		{"blob", `{"Blob":"%"}`, "", "base64"},
		{"twice", `{"Text":"a","Text":"b"}`, "", "duplicate"},
		{"twice by escape", `{"Text":"a","\u0054ext":"b"}`, "", "duplicate"},
		{"not UTF-8", "{\"Text\":\"\xff\"}", "", "UTF-8"},
		{"cut off", `{"Text":"a"`, "", "EOF"},
		{"more", `{} {}`, "", "more follows"},
		{"as deep as allowed", deep(maxDepth-1, `{"Sub":`, `}`), deep(0, "", ""), ""},
		{"too deep", deep(maxDepth, `{"Sub":`, `}`), "", "nested"},
		{"too deep in an unknown member", `{"X":` + deep(maxDepth, `[`, `]`) + `}`, "", "nested"},
		{"too many", `{"List":[` + strings.Repeat(`"",`, maxValues) + `""]}`, "", "more than 32768"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var v everything
			err := decode(newJSONSource([]byte(tt.in)), s, reflect.ValueOf(&v).Elem())
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("err = %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := string(encode(s, reflect.ValueOf(v), false)); tt.want != "{}" && got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestDecodeCBOR(t *testing.T) {
	s := testShapes(t).must(t, reflect.TypeFor[everything]())
	rep := strings.Repeat
	for _, tt := range []struct{ name, in, want, err string }{
		{"empty", "\xa0", `{"Plain":0,"Sure":false}`, ""},
		{"indefinite everything", "\xbf\x7f\x62Li\x62st\xff\x9f\x7f\x61a\x61b\xff\x60\xff\x63Map\xbf\x61k\x61v\xff\x64Blob\x5f\x41h\x41i\xff\xff",
			`{"Blob":"aGk=","List":["ab",""],"Map":{"k":"v"},"Plain":0,"Sure":false}`, ""},
		{"null and undefined", "\xa3\x64Text\xf6\x64List\xf7\x63Sub\xf6", `{"Plain":0,"Sure":false}`, ""},
		{"long forms", "\xb9\x00\x01\x65Plain\x1b\x00\x00\x00\x00\x00\x00\x00\x05", `{"Plain":5,"Sure":false}`, ""},
		{"negative", "\xa1\x65Plain\x3a\x7f\xff\xff\xff", `{"Plain":-2147483648,"Sure":false}`, ""},
		{"times", "\xa1\x62At\xc1\x1a\x6a\xb1\x3b\x80", `{"At":1790000000,"Plain":0,"Sure":false}`, ""},
		{"time in double", "\xa1\x62At\xc1\xfb\x41\xda\xac\x4e\xe0\x08\x00\x00", `{"At":1790000000.125,"Plain":0,"Sure":false}`, ""},
		{"time in single", "\xa1\x62At\xc1\xfa\xbf\xc0\x00\x00", `{"At":-1.5,"Plain":0,"Sure":false}`, ""},
		{"time in half", "\xa1\x62At\xc1\xf9\x3e\x00", `{"At":1.5,"Plain":0,"Sure":false}`, ""},
		{"negative time", "\xa1\x62At\xc1\x20", `{"At":-1,"Plain":0,"Sure":false}`, ""},
		{"unknown members", "\xa5\x61a\xc2\x41\x01\x61b\x9f\xbf\xff\xff\x61c\xfb12345678\x61d\x5f\xff\x64Sure\xf5", `{"Plain":0,"Sure":true}`, ""},
		{"time without tag", "\xa1\x62At\x01", "", "NUMBER_VALUE can not be converted to a Timestamp at 'at'"},
		{"time of text", "\xa1\x62At\xc1\x61a", "", "STRING_VALUE can not be converted to a Timestamp at 'at'"},
		{"time that is no number", "\xa1\x62At\xc1\xf9\x7e\x00", "", "out of range for a Timestamp"},
		{"other tag", "\xa1\x64Text\xc0\x61a", "", "TAGGED_VALUE can not be converted to a String at 'text'"},
		{"range", "\xa1\x65Plain\x1a\x80\x00\x00\x00", "", "out of range for an Integer at 'plain'"},
		{"larger range", "\xa1\x65Plain\x3b\xff\xff\xff\xff\xff\xff\xff\xff", "", "out of range for an Integer at 'plain'"},
		{"float", "\xa1\x65Plain\xf9\x3c\x00", "", "fraction"},
		{"text for bytes", "\xa1\x64Blob\x61a", "", "STRING_VALUE can not be converted to a Blob at 'blob'"},
		{"key of bytes", "\xa1\x41a\x01", "", "major type 2"},
		{"chunk of another type", "\xa1\x64Text\x7f\x41a\xff", "", "major type 2"},
		{"chunk in chunk", "\xa1\x64Text\x7f\x7f\xff\xff", "", "inside another"},
		{"twice", "\xa2\x64Sure\xf5\x64Sure\xf4", "", "Duplicate member at 'sure'"},
		{"twice in a map", "\xa1\x63Map\xa2\x61a\x60\x61a\x60", "", "Duplicate member at 'map.a'"},
		{"not UTF-8", "\xa1\x64Text\x61\xff", "", "UTF-8"},
		{"no such simple value", "\xa1\x64Sure\xe0", "", "cannot start a value"},
		{"reserved length", "\xa1\x64Text\x7c", "", "cannot start a value"},
		{"break as a value", "\xbf\x64Text\xff", "", "cannot start a value"},
		{"cut off", "\xa1\x64Text\x62a", "", "EOF"},
		{"a list that claims 2^63 members", "\xa1\x64List\x9b\x80\x00\x00\x00\x00\x00\x00\x00", "", "EOF"},
		{"a string that claims 2^64-1 bytes", "\xa1\x64Text\x7b\xff\xff\xff\xff\xff\xff\xff\xff", "", "EOF"},
		{"more", "\xa0\xa0", "", "more follows"},
		{"not a map", "\x80", "", "START_ARRAY can not be converted to a structure"},
		{"too deep", rep("\xa1\x63Sub", maxDepth) + "\xa0", "", "nested"},
		{"too deep in an unknown member", "\xa1\x61x" + rep("\x81", maxDepth) + "\xa0", "", "nested"},
		{"too many", "\xa1\x64Subs\x9f" + rep("\xa0", maxValues+1) + "\xff", "", "more than 32768"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var v everything
			err := decode(newCBORSource([]byte(tt.in)), s, reflect.ValueOf(&v).Elem())
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("err = %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := string(encode(s, reflect.ValueOf(v), false)); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// fuzzDecode: whatever is accepted can be written and read again, and is the same.
func fuzzDecode(f *testing.F, cbor bool, open func([]byte) source) {
	known := testShapes(f)
	s := known.must(f, reflect.TypeFor[everything]())
	f.Fuzz(func(t *testing.T, in []byte) {
		first := reflect.New(s.typ).Elem()
		if decode(open(bytes.Clone(in)), s, first) != nil {
			return
		}
		again := reflect.New(s.typ).Elem()
		out := encode(s, first, cbor)
		if err := decode(open(bytes.Clone(out)), s, again); err != nil {
			t.Fatalf("%v in %q", err, out)
		}
		if diff := cmp.Diff(first.Interface(), again.Interface()); diff != "" {
			t.Error(diff)
		}
	})
}

func FuzzDecodeJSON(f *testing.F) {
	for _, s := range []string{`{}`, `{"Text":"a\u00e9","List":["a"],"Map":{"k":"v"},"At":1.5,"Blob":"aGk="}`, `{"Subs":[{"Plain":1}],"X":[[{}]]}`, `{"Large":-9e3}`} {
		f.Add([]byte(s))
	}
	fuzzDecode(f, false, func(b []byte) source { return newJSONSource(b) })
}

func FuzzDecodeCBOR(f *testing.F) {
	for _, s := range []string{"\xa0", "\xbf\x7f\x62Li\x62st\xff\x9f\x7f\x61a\x61b\xff\x60\xff\x63Map\xbf\x61k\x61v\xff\x64Blob\x5f\x41h\x41i\xff\xff",
		"\xa1\x62At\xc1\xfb\x41\xda\xac\x4e\xe0\x08\x00\x00", "\xa1\x61a\xc2\x81\xbf\xff", "\xa1\x64Subs\x81\xa1\x65Plain\x39\x01\x00"} {
		f.Add([]byte(s))
	}
	fuzzDecode(f, true, func(b []byte) source { return newCBORSource(b) })
}

func TestFloat16(t *testing.T) {
	for h, want := range map[uint16]float64{0: 0, 1: 0x1p-24, 0x03ff: 0x3ffp-24, 0x0400: 0x1p-14, 0x3c00: 1, 0xc000: -2, 0x7bff: 65504, 0x8001: -0x1p-24} {
		if got := float16(h); got != want {
			t.Errorf("float16(%#x) = %v, want %v", h, got, want)
		}
	}
	if got := float16(0x7c00); !math.IsNaN(got) {
		t.Errorf("infinity = %v", got)
	}
}
