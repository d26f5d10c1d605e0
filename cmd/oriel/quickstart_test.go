package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/oriel-project/oriel/internal/keys"
)

// What stops, or is deleted, between the look at it and the wish that it stops is no error.
func TestStopWhatStopsByItself(t *testing.T) {
	for refusal, then := range map[string]string{"OperationNotPermittedException": `{"Name":"b","State":"STOPPED"}`, "ResourceNotFoundException": ""} {
		wished := map[string]int{}
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
			list, wish := strings.CutPrefix(operation, "Describe")
			if !wish {
				wished[operation]++
				w.WriteHeader(http.StatusBadRequest)
				fmt.Fprintf(w, `{"__type":%q,"message":"It is elsewhere by now."}`, refusal)
				return
			}
			one := `{"Name":"b","State":"RUNNING"}`
			if wished["StopImageBuilder"] > 0 && list == "ImageBuilders" || wished["StopFleet"] > 0 && list == "Fleets" {
				one = then
			}
			fmt.Fprintf(w, `{%q:[%s]}`, list, one)
		}))
		defer s.Close()
		var said bytes.Buffer
		c := (&client{endpoint: s.URL, region: "us-east-1"}).with(keys.Key{ID: "a", Secret: "b"})
		if err := stopAll(t.Context(), c, newStatus(&said)); err != nil || wished["StopImageBuilder"] != 1 || wished["StopFleet"] != 1 {
			t.Errorf("%s: %v, after %v:\n%s", refusal, err, wished, &said)
		}
	}
}
