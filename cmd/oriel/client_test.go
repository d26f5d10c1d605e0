package main

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/oriel-project/oriel/internal/keys"
)

// TestWrongAddress: who has the address of a server half right is told the other half.
func TestWrongAddress(t *testing.T) {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of broken handshakes
	s.StartTLS()
	defer s.Close()
	for endpoint, want := range map[string]string{
		s.URL: "name its file in SSL_CERT_FILE", "http" + strings.TrimPrefix(s.URL, "https"): "is it an Oriel server, perhaps at https://?",
	} {
		c := (&client{endpoint: endpoint, region: "us-east-1"}).with(keys.Key{ID: "a", Secret: "b"})
		if err := c.call(t.Context(), "Oriel.DescribeEvents", map[string]any{}, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q in it", err, want)
		}
	}
	// Trust does not help where the certificate is of another name, or over.
	for _, err := range []error{x509.HostnameError{Certificate: s.Certificate(), Host: "oriel.example"}, x509.CertificateInvalidError{Cert: s.Certificate(), Reason: x509.Expired}} {
		if got := explain(&tls.CertificateVerificationError{Err: err}); strings.Contains(got.Error(), "SSL_CERT_FILE") {
			t.Errorf("%v", got)
		}
	}
}
