package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func get(t *testing.T, url string) (int, http.Header, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

func TestPages(t *testing.T) {
	cfg := simConfig(t, t.TempDir())
	s, _ := start(t, cfg)
	for path, says := range map[string]string{
		"/healthz":          "ok",
		"/readyz":           "store: ok\nprovider sim: ok\n",
		"/metrics":          `oriel_records{noun="image",state="AVAILABLE"} 1`,
		"/":                 s.URL(),
		"/assets/viewer.js": "",
	} {
		if status, _, text := get(t, s.URL()+path); status != 200 || !strings.Contains(text, says) {
			t.Errorf("%s: %d\n%.500s", path, status, text)
		}
	}
	if status, _, text := get(t, s.URL()+"/nothing"); status != http.StatusNotFound || !strings.Contains(text, "no such page") || !strings.Contains(text, "/portal") {
		t.Errorf("an unknown page answers %d and does not lead on:\n%.500s", status, text)
	}
	_, header, text := get(t, s.URL()+"/")
	for _, secret := range []string{s.root.ID, s.root.Secret, cfg.Data} {
		if strings.Contains(text, secret) {
			t.Error("the first page tells a secret")
		}
	}
	if !strings.Contains(header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Error("the first page has no content security policy")
	}
}

func TestMetricsElsewhere(t *testing.T) {
	cfg := simConfig(t, t.TempDir())
	cfg.Metrics = "127.0.0.1:0"
	s, _ := start(t, cfg)
	if status, _, _ := get(t, s.URL()+"/metrics"); status != http.StatusNotFound {
		t.Errorf("beside the API they answer %d", status)
	}
	if _, _, text := get(t, "http://"+s.metricsListener.Addr().String()+"/metrics"); !strings.Contains(text, "oriel_build_info") {
		t.Error("there are no metrics at their own address")
	}
}

// TestReady: a check that fails is named, one that hangs is not waited for, and no crowd of askers makes a crowd of checks.
func TestReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		var fault error
		r := readiness{checks: []check{
			{"store", func(context.Context) error { asked++; return nil }},
			{"provider", func(ctx context.Context) error {
				if fault != nil && fault.Error() == "hang" {
					<-ctx.Done()
					return ctx.Err()
				}
				return fault
			}},
		}}
		ask := func() (int, string, time.Duration) {
			begin, w := time.Now(), httptest.NewRecorder()
			r.serve(w, httptest.NewRequest("GET", "/readyz", nil))
			return w.Code, w.Body.String(), time.Since(begin)
		}
		if code, text, _ := ask(); code != 200 || text != "store: ok\nprovider: ok\n" {
			t.Errorf("%d %s", code, text)
		}
		fault = errors.New("gone")
		if code, _, _ := ask(); code != 200 || asked != 1 {
			t.Errorf("within a second: %d after %d checks", code, asked)
		}
		time.Sleep(readyFor + time.Millisecond)
		if code, text, _ := ask(); code != 503 || text != "store: ok\nprovider: gone\n" {
			t.Errorf("%d %s", code, text)
		}
		fault = errors.New("hang")
		time.Sleep(readyFor + time.Millisecond)
		if code, _, took := ask(); code != 503 || took != readyWait {
			t.Errorf("%d after %s", code, took)
		}
	})
}

// TestLogged: the log has the path and the status of a page and never the query, which may be a ticket.
func TestLogged(t *testing.T) {
	var log strings.Builder
	s := &Server{log: slog.New(slog.NewTextHandler(&log, nil))}
	s.logged(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusSeeOther) })).
		ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/authenticate?parameters=SECRET&signature=SECRET", nil))
	if text := log.String(); !strings.Contains(text, "path=/authenticate status=303") || strings.Contains(text, "SECRET") {
		t.Error(text)
	}
}

// writeCertificate writes a certificate for 127.0.0.1 and its key.
func writeCertificate(t *testing.T, dir, name string, serial int64) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "oriel"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// TestTLS: a new certificate serves without a restart, a broken one does not, and old versions of TLS are refused.
func TestTLS(t *testing.T) {
	cfg := simConfig(t, t.TempDir())
	dir := t.TempDir()
	cfg.TLSCert, cfg.TLSKey = writeCertificate(t, dir, "tls", 1)
	s, _ := start(t, cfg)
	if !strings.HasPrefix(s.URL(), "https://") {
		t.Errorf("the address is %s", s.URL())
	}
	serial := func(most uint16) (int64, error) {
		conn, err := tls.Dial("tcp", s.Addr().String(), &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: most})
		if err != nil {
			return 0, err
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64(), nil
	}
	if n, err := serial(tls.VersionTLS13); n != 1 || err != nil {
		t.Errorf("at first: %d, %v", n, err)
	}
	if _, err := serial(tls.VersionTLS11); err == nil {
		t.Error("TLS 1.1 is accepted")
	}
	writeCertificate(t, dir, "tls", 2)
	s.Reload()
	if n, err := serial(tls.VersionTLS12); n != 2 || err != nil {
		t.Errorf("after the change: %d, %v", n, err)
	}
	if err := os.WriteFile(cfg.TLSKey, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Reload()
	if n, err := serial(tls.VersionTLS13); n != 2 || err != nil {
		t.Errorf("with a broken key: %d, %v", n, err)
	}
}
