package proxy

import (
	"crypto/tls"
	"net/http/httptest"
	"net/netip"
	"testing"
)

var trusted = Trusted{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("::1/128")}

func TestSource(t *testing.T) {
	for _, test := range []struct{ peer, forwarded, want string }{
		{"192.0.2.1:99", "", "192.0.2.1"},
		{"192.0.2.1:99", "198.51.100.7", "192.0.2.1"}, // who is not a proxy of ours can write what he likes
		{"10.0.0.1:99", "", "10.0.0.1"},
		{"10.0.0.1:99", "198.51.100.7", "198.51.100.7"},
		{"10.0.0.1:99", "203.0.113.9, 198.51.100.7, 10.0.0.2", "198.51.100.7"},
		{"10.0.0.1:99", "2.2.2.2, 1.1.1.1, fd00::1,,", "1.1.1.1"},
		{"10.0.0.1:99", "10.9.9.9, 10.0.0.2", "10.9.9.9"},
		{"10.0.0.1:99", " 1.1.1.1 ", "1.1.1.1"},
		{"10.0.0.1:99", "[2001:db8::1]", "2001:db8::1"},
		{"[::1]:99", "[2001:db8::1]:443", "2001:db8::1"},
		{"[::ffff:10.0.0.1]:99", "198.51.100.7:1234", "198.51.100.7"},
		{"[fe80::1%eth0]:80", "", "fe80::1"},
		{"10.0.0.1:99", "unknown", "invalid IP"},
		{"10.0.0.1:99", "1.1.1.1, unknown", "invalid IP"},
		{"@", "1.1.1.1", "invalid IP"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = test.peer
		if test.forwarded != "" {
			r.Header.Set("X-Forwarded-For", test.forwarded)
		}
		if got := trusted.Source(r).String(); got != test.want {
			t.Errorf("%s, %q: %s, want %s", test.peer, test.forwarded, got, test.want)
		}
	}
}

func TestBaseURL(t *testing.T) {
	for _, test := range []struct {
		peer, proto string
		tls         bool
		want        string
	}{
		{"192.0.2.1:99", "", false, "http://oriel.test"},
		{"192.0.2.1:99", "", true, "https://oriel.test"},
		{"192.0.2.1:99", "https", false, "http://oriel.test"}, // not a proxy of ours
		{"10.0.0.1:99", "https", false, "https://oriel.test"},
		{"10.0.0.1:99", "http", false, "http://oriel.test"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host, r.RemoteAddr = "oriel.test", test.peer
		r.Header.Set("X-Forwarded-Proto", test.proto)
		if test.tls {
			r.TLS = &tls.ConnectionState{}
		}
		if got := trusted.BaseURL(r); got != test.want {
			t.Errorf("%+v: %s", test, got)
		}
	}
}

// Whatever a stranger writes, he stays himself.
func FuzzSource(f *testing.F) {
	f.Add("1.1.1.1, [::1]:5, ,x")
	f.Fuzz(func(t *testing.T, forwarded string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header["X-Forwarded-For"] = []string{forwarded}
		r.RemoteAddr = "192.0.2.1:99"
		if got := trusted.Source(r).String(); got != "192.0.2.1" {
			t.Errorf("%q made him %s", forwarded, got)
		}
		r.RemoteAddr = "10.0.0.1:99"
		trusted.Source(r)
	})
}
