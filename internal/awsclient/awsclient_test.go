package awsclient

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/appstream"

	"github.com/oriel-project/oriel/internal/keys"
)

// TestLargeAnswers: each answer arrives whole, however fast it comes. (AWS's own client fails within some dozen calls.)
func TestLargeAnswers(t *testing.T) {
	answer := []byte(`{"ImageBuilders":[{}`)
	for n := range 500 {
		answer = fmt.Appendf(answer, `,{"Name":"builder-%d","Description":"%0200d"}`, n, n)
	}
	answer = append(answer, "]}"...)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err != nil || string(body) != "{}" {
			t.Errorf("the body is %q, %v", body, err)
		}
		w.Write(answer)
	}))
	defer server.Close()
	c := New(server.URL, "us-east-1", keys.Key{ID: "a", Secret: "b"})
	for n := range 300 {
		out, err := c.DescribeImageBuilders(t.Context(), &appstream.DescribeImageBuildersInput{})
		if err != nil || len(out.ImageBuilders) != 501 {
			t.Fatalf("call %d: %v", n, err)
		}
	}
}
