package api

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
)

// listing is an operation that costs nothing itself.
type listing struct {
	out *sdk.DescribeImageBuildersOutput
}

func (l *listing) DescribeImageBuilders(context.Context, *sdk.DescribeImageBuildersInput) (*sdk.DescribeImageBuildersOutput, error) {
	return l.out, nil
}

func newListing(n int) *listing {
	out := &sdk.DescribeImageBuildersOutput{}
	for i := range n {
		name := "builder-" + strconv.Itoa(i)
		out.ImageBuilders = append(out.ImageBuilders, types.ImageBuilder{
			Name: aws.String(name), Arn: aws.String("arn:aws:appstream:us-west-2:123456789012:image-builder/" + name),
			ImageArn: aws.String("arn:aws:appstream:us-west-2::image/Oriel-Debian12-11-21-2026"), InstanceType: aws.String("stream.standard.medium"),
			Platform: "DEBIAN_12", State: types.ImageBuilderStateRunning, CreatedTime: aws.Time(time.UnixMilli(1_790_000_000_250)),
			AppstreamAgentVersion: aws.String("11-21-2026"), EnableDefaultInternetAccess: aws.Bool(true),
			Description: aws.String("a builder for measurements"), DisplayName: aws.String("Builder " + strconv.Itoa(i)),
			VpcConfig: &types.VpcConfig{SubnetIds: []string{"subnet-0123456789abcdef0"}}, ImageBuilderErrors: []types.ResourceError{},
			NetworkAccessConfiguration: &types.NetworkAccessConfiguration{EniId: aws.String("eni-0123456789abcdef0"),
				EniPrivateIpAddress: aws.String("10.0.0.7"), EniIpv6Addresses: []string{"fd00::7"}},
			RootVolumeConfig: &types.VolumeConfig{VolumeSizeInGb: aws.Int32(200)},
		})
	}
	return &listing{out}
}

// BenchmarkDescribeSigned measures a signed DescribeImageBuilders of 1 and 50 builders beside a bare handler that
// writes the same bytes, both over HTTP on the loopback device with requests signed beforehand.
func BenchmarkDescribeSigned(b *testing.B) {
	for _, n := range []int{1, 50} {
		l := newListing(n)
		h, err := New(Config{
			Keys:    func(context.Context, string) (Key, bool, error) { return rootKey, true, nil },
			Regions: []string{testRegion},
		}, Service{Prefix: testTarget, IAM: "appstream", Handler: l})
		if err != nil {
			b.Fatal(err)
		}
		for _, cbor := range []bool{false, true} {
			protocol, body := "json", []byte("{}")
			if cbor {
				protocol, body = "cbor", []byte("\xa0")
			}
			answer := encode(testShapes(b).must(b, reflect.TypeOf(*l.out)), reflect.ValueOf(*l.out), cbor)
			bare := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(answer) })
			for _, c := range []struct {
				name string
				h    http.Handler
			}{{"bare", bare}, {"oriel", h}} {
				b.Run(fmt.Sprintf("%d/%s/%s", n, protocol, c.name), func(b *testing.B) { benchmarkHTTP(b, c.h, cbor, body) })
			}
		}
	}
}

func benchmarkHTTP(b *testing.B, h http.Handler, cbor bool, body []byte) {
	s := httptest.NewServer(h)
	defer s.Close()
	transport := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	defer transport.CloseIdleConnections()
	template := signed(b, s.URL, rootKey, testTarget+".DescribeImageBuilders", cbor, body, nil)
	buf := make(chan []byte, 64)
	for range 64 {
		buf <- make([]byte, 64<<10)
	}
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		p := <-buf
		defer func() { buf <- p }()
		for pb.Next() {
			r := template.Clone(context.Background())
			r.Body, _ = template.GetBody()
			resp, err := transport.RoundTrip(r)
			if err != nil {
				b.Error(err)
				return
			}
			for err == nil {
				_, err = resp.Body.Read(p)
			}
			resp.Body.Close()
			if resp.StatusCode != 200 {
				b.Errorf("status %d", resp.StatusCode)
				return
			}
		}
	})
}

// BenchmarkHandler measures the handler alone.
func BenchmarkHandler(b *testing.B) {
	for _, n := range []int{1, 50} {
		h, err := New(Config{
			Keys:    func(context.Context, string) (Key, bool, error) { return rootKey, true, nil },
			Regions: []string{testRegion},
		}, Service{Prefix: testTarget, IAM: "appstream", Handler: newListing(n)})
		if err != nil {
			b.Fatal(err)
		}
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			r := signed(b, "http://localhost", rootKey, testTarget+".DescribeImageBuilders", false, []byte("{}"), nil)
			r.RemoteAddr = "127.0.0.1:1"
			b.ReportAllocs()
			for b.Loop() {
				r.Body, _ = r.GetBody()
				w := nothing{http.Header{}}
				h.ServeHTTP(w, r)
			}
		})
	}
}

type nothing struct{ header http.Header }

func (n nothing) Header() http.Header         { return n.header }
func (n nothing) Write(p []byte) (int, error) { return len(p), nil }
func (n nothing) WriteHeader(status int) {
	if status != 200 {
		panic(status)
	}
}

// BenchmarkDecode measures a usual request in both notations.
func BenchmarkDecode(b *testing.B) {
	s := testShapes(b).must(b, reflect.TypeFor[sdk.CreateImageBuilderInput]())
	in := sdk.CreateImageBuilderInput{Name: aws.String("n"), InstanceType: aws.String("stream.standard.medium"), Description: aws.String(strings.Repeat("d", 100)),
		VpcConfig: &types.VpcConfig{SubnetIds: []string{"subnet-1"}}, Tags: map[string]string{"a": "b", "c": "d"}}
	asJSON, asCBOR := encode(s, reflect.ValueOf(in), false), encode(s, reflect.ValueOf(in), true)
	for name, open := range map[string]func() source{"json": func() source { return newJSONSource(asJSON) }, "cbor": func() source { return newCBORSource(asCBOR) }} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var out sdk.CreateImageBuilderInput
				if err := decode(open(), s, reflect.ValueOf(&out).Elem()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkAuthorize measures the handler alone, with a rate that is not reached, with a key that has a policy, and with one that may do everything.
// Beside it, BenchmarkHandler has neither rates nor policies.
func BenchmarkAuthorize(b *testing.B) {
	for name, policy := range map[string]string{
		"root":  "",
		"plain": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["appstream:Describe*","appstream:List*"],"Resource":"*"},{"Effect":"Deny","Action":"appstream:Delete*","Resource":"*"}]}`,
		"conditions": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"appstream:*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"127.0.0.0/8"}}},
			{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"StringNotEquals":{"aws:RequestedRegion":"us-west-2"}}}]}`,
	} {
		key := rootKey
		if policy != "" {
			key.Policy = mustParse(b, policy)
		}
		h, err := New(Config{
			Keys:    func(context.Context, string) (Key, bool, error) { return key, true, nil },
			Regions: []string{testRegion}, Rates: Rates{Read: 1e9, Burst: time.Second},
		}, Service{Prefix: testTarget, IAM: "appstream", Handler: newListing(1)})
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			r := signed(b, "http://localhost", rootKey, testTarget+".DescribeImageBuilders", false, []byte("{}"), nil)
			r.RemoteAddr = "127.0.0.1:1"
			b.ReportAllocs()
			for b.Loop() {
				r.Body, _ = r.GetBody()
				h.ServeHTTP(nothing{http.Header{}}, r)
			}
		})
	}
}
