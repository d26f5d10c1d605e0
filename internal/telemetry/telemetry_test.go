package telemetry

import (
	"bytes"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/oriel-project/oriel/internal/appstream"
)

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	text, err := io.ReadAll(w.Body)
	if err != nil || w.Code != 200 {
		t.Fatal(w.Code, err)
	}
	return string(text)
}

func TestMetrics(t *testing.T) {
	var broken error
	m := NewMetrics("1.2.3", func() ([]Population, error) {
		return []Population{{appstream.NounImageBuilder, appstream.BuilderRunning, 3}}, broken
	})
	m.Request("DescribeImages", "cbor", "", 3*time.Millisecond)
	m.Request("DescribeImages", "cbor", "AccessDeniedException", time.Millisecond)
	m.Pass(appstream.NounImage, "conflict", time.Second)
	m.StreamOpened()
	m.StreamOpened()
	m.StreamClosed("stopped", time.Minute, 1000, 10)
	m.Refused("expired")
	m.AuditFailed()
	text := scrape(t, m)
	for _, want := range []string{
		`oriel_build_info{version="1.2.3"} 1`,
		`oriel_requests_total{code="",operation="DescribeImages",protocol="cbor"} 1`,
		`oriel_requests_total{code="AccessDeniedException",operation="DescribeImages",protocol="cbor"} 1`,
		`oriel_request_seconds_bucket{operation="DescribeImages",protocol="cbor",le="0.005"} 2`,
		`oriel_passes_total{noun="image",outcome="conflict"} 1`,
		`oriel_pass_seconds_count{noun="image"} 1`,
		`oriel_records{noun="image-builder",state="RUNNING"} 3`,
		`oriel_streams_open 1`,
		`oriel_streams_total{reason="stopped"} 1`,
		`oriel_stream_bytes_total{direction="down"} 1000`,
		`oriel_stream_refusals_total{reason="expired"} 1`,
		`oriel_audit_failures_total 1`,
		`go_goroutines`, `process_open_fds`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	// A store that does not answer costs one figure, not all of them.
	broken = errors.New("closed")
	if text := scrape(t, m); strings.Contains(text, "oriel_records{") || !strings.Contains(text, "oriel_streams_open 1") {
		t.Errorf("after a fault of the store:\n%s", text)
	}
}

func TestLog(t *testing.T) {
	for _, test := range []struct{ level, format, want, not string }{
		{"info", "text", `level=INFO msg=two n=1`, "one"},
		{"debug", "json", `"msg":"one"`, "level="},
		{"error", "auto", "", "two"},
	} {
		var b bytes.Buffer
		log := NewLog(&b, test.level, test.format)
		log.Debug("one")
		log.Info("two", "n", 1)
		if !strings.Contains(b.String(), test.want) || strings.Contains(b.String(), test.not) {
			t.Errorf("%s, %s: %s", test.level, test.format, b.String())
		}
	}
}

func TestIsTerminal(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	file, err := os.Create(t.TempDir() + "/x")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for name, w := range map[string]io.Writer{"buffer": &bytes.Buffer{}, "null": null, "file": file} {
		if IsTerminal(w) {
			t.Errorf("a %s is no terminal", name)
		}
	}
}
