package api

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	sdk "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/smithy-go"
	"pgregory.net/rapid"

	"github.com/oriel-project/oriel/internal/appstream"
)

// limited makes a handler with rates.
func limited(t testing.TB, r Rates) (http.Handler, *fixture) {
	t.Helper()
	f := &fixture{builders: &builders{}, keys: map[string]Key{rootKey.ID: rootKey, "AKIAOTHER": {ID: "AKIAOTHER", Secret: "o", Account: "210987654321"}}}
	cfg := f.config()
	cfg.Log, cfg.Rates = nil, r
	h, err := New(cfg, Service{Prefix: testTarget, IAM: "appstream", Handler: f.builders}, Service{Prefix: "Oriel", IAM: "oriel", Handler: extension{}})
	if err != nil {
		t.Fatal(err)
	}
	return h, f
}

// TestRates: who asks too often is refused before his request is read, is told when to come again, and is let in then. Others are not held up.
func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, f := limited(t, Rates{Read: 0.5, Write: 2, Burst: 4 * time.Second, Operations: map[string]float64{"DescribeImages": 0, "CreateUser": 10}})
		call := func(key, op string, cbor bool, body string) *httptest.ResponseRecorder {
			t.Helper()
			w := httptest.NewRecorder()
			r := signed(t, "http://localhost", f.keys[key], op, cbor, []byte(body), nil)
			r.RemoteAddr = "127.0.0.1:1"
			h.ServeHTTP(w, r)
			return w
		}
		spend := func(key, op string) (n int) {
			t.Helper()
			for ; call(key, op, false, "{}").Code == 200; n++ {
				if n > 100 {
					t.Fatalf("there is no limit to %s", op)
				}
			}
			return n
		}
		const read, other = testTarget + ".DescribeImageBuilders", testTarget + ".CreateUpdatedImage"
		if n := spend(rootKey.ID, read); n != 2 {
			t.Errorf("%d calls at once of what looks, want 0.5/s · 4s", n)
		}
		for _, cbor := range []bool{false, true} {
			w := call(rootKey.ID, read, cbor, "this is neither JSON nor CBOR")
			if w.Code != 400 || !strings.Contains(w.Body.String(), "ThrottlingException") || !strings.Contains(w.Body.String(), "Rate exceeded") ||
				w.Header().Get("Retry-After") != "2" || w.Header().Get("X-Amz-Retry-After") != "2000" {
				t.Errorf("%d %q %v", w.Code, w.Body, w.Header())
			}
		}
		time.Sleep(500 * time.Millisecond)
		if w := call(rootKey.ID, read, false, "{}"); w.Header().Get("Retry-After") != "2" || w.Header().Get("X-Amz-Retry-After") != "1500" {
			t.Errorf("half a second later: %v", w.Header())
		}
		// Another operation, account and region has its own bucket; one that is called CreateUser its own rate, DescribeImages none.
		body := `{"existingImageName":"a","newImageName":"b"}`
		for n := 0; call(rootKey.ID, other, false, body).Code == 200; n++ {
			if n == 8 {
				t.Error("more than 2/s · 4s calls of what changes something")
			}
		}
		if n := spend("AKIAOTHER", read); n != 2 {
			t.Errorf("%d calls of another account", n)
		}
		if w := call(rootKey.ID, "Oriel.CreateImage", false, `{"ImageBuilderName":"b"}`); w.Code != 200 || w.Header().Get("Retry-After") != "" {
			t.Errorf("another operation: %d %s", w.Code, w.Body)
		}
		for range 100 {
			if w := call(rootKey.ID, testTarget+".DescribeImages", false, "{}"); strings.Contains(w.Body.String(), "Throttling") {
				t.Fatal("an operation without a limit is throttled")
			}
		}
		users := 0
		for call(rootKey.ID, testTarget+".CreateUser", false, `{"AuthenticationType":"USERPOOL","UserName":"ann"}`).Code == 200 {
			users++
		}
		if users != 40 {
			t.Errorf("%d calls of an operation with a rate of its own, want 10/s · 4s", users)
		}
		time.Sleep(1500 * time.Millisecond)
		if n := spend(rootKey.ID, read); n != 1 {
			t.Errorf("%d calls after the time that was told", n)
		}
		time.Sleep(time.Hour)
		if n := spend(rootKey.ID, read); n != 2 {
			t.Errorf("%d calls after a long rest", n)
		}
		// A request that nobody signed takes nothing from anybody.
		time.Sleep(time.Hour)
		for range 10 {
			w := httptest.NewRecorder()
			r := signed(t, "http://localhost", Key{ID: rootKey.ID, Secret: "wrong"}, read, false, []byte("{}"), nil)
			h.ServeHTTP(w, r)
			if !strings.Contains(w.Body.String(), "InvalidSignature") {
				t.Fatalf("%s", w.Body)
			}
		}
		if n := spend(rootKey.ID, read); n != 2 {
			t.Errorf("%d calls after forged ones", n)
		}
		if last := f.audit[len(f.audit)-1]; last.Result != appstream.Throttling || last.Operation != "DescribeImageBuilders" || last.Account != testAccount {
			t.Errorf("the last audit entry is %+v", last)
		}
	})
}

// TestRatesAreKept: in no stretch of time are there more calls than the bucket holds and what comes in meanwhile.
func TestRatesAreKept(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Rates{Write: rapid.Float64Range(0.1, 1000).Draw(t, "rate"), Burst: time.Duration(rapid.IntRange(0, 10_000).Draw(t, "burst")) * time.Millisecond}
		op := &operation{name: "CreateFleet"}
		r.limitRate(op)
		var th throttle
		start := time.Unix(1_790_000_000, 0)
		now := start
		var taken []time.Time
		for range rapid.IntRange(1, 200).Draw(t, "calls") {
			now = now.Add(time.Duration(rapid.IntRange(0, 100_000).Draw(t, "pause")) * time.Microsecond)
			wait := th.take(op, "a", "r", now)
			if wait == 0 {
				taken = append(taken, now)
				continue
			}
			if later := now.Add(wait + time.Millisecond); th.take(op, "a", "r", later) != 0 {
				t.Errorf("there is nothing after %s", wait)
			} else {
				now = later
				taken = append(taken, now)
			}
		}
		for i, from := range taken {
			for j, to := range taken[i:] {
				if most := float64(op.burst) + to.Sub(from).Seconds()*float64(op.rate) + 1e-6; float64(j+1) > most {
					t.Fatalf("%d calls within %s, at most %.2f", j+1, to.Sub(from), most)
				}
			}
		}
	})
}

// TestBucketsAreBounded: what has been full for long is forgotten, and there are never too many.
func TestBucketsAreBounded(t *testing.T) {
	r := Rates{Write: 1}
	op := &operation{name: "CreateFleet"}
	r.limitRate(op)
	var th throttle
	now := time.Unix(1_790_000_000, 0)
	for n := range maxBuckets + 10 {
		th.take(op, fmt.Sprint(n), "r", now)
	}
	if len(th.buckets) != maxBuckets {
		t.Errorf("%d buckets", len(th.buckets))
	}
	th.take(op, "late", "r", now.Add(time.Minute))
	if len(th.buckets) != 1 {
		t.Errorf("%d buckets after a minute in which all were filled", len(th.buckets))
	}
}

func TestRatesOfUnknownOperations(t *testing.T) {
	cfg := (&fixture{}).config()
	cfg.Rates.Operations = map[string]float64{"CreateFleats": 1}
	if _, err := New(cfg, Service{Prefix: "P", IAM: "p", Handler: &builders{}}); err == nil || !strings.Contains(err.Error(), "CreateFleats") {
		t.Errorf("err = %v", err)
	}
}

// TestSDKRetries: AWS's SDK takes the refusal for what it is and tries again, so that those who use it see nothing but that it takes a while.
func TestSDKRetries(t *testing.T) {
	synctest.Test(t, sdkRetries) // on a slow machine nobody asks too often
}

func sdkRetries(t *testing.T) {
	h, f := limited(t, Rates{Read: 50, Write: 50})
	f.Server = httptest.NewTestServer(t, h)
	inMemory := func(o *sdk.Options) { o.HTTPClient = f.Client() }
	f.Client() // sets the URL
	patient := sdk.New(f.client(rootKey.ID).Options(), inMemory, func(o *sdk.Options) {
		o.RetryMaxAttempts = 0
		o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts, o.RateLimiter = 20, ratelimit.None
			o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 5 * time.Millisecond, nil })
		})
	})
	ctx := t.Context()
	for n := range 5 {
		if _, err := patient.DescribeImageBuilders(ctx, &sdk.DescribeImageBuildersInput{}); err != nil {
			t.Fatal(err)
		}
		// This is one of those whose model has RequestLimitExceededException, which the SDK does not try again.
		if _, err := patient.CreateImageBuilder(ctx, &sdk.CreateImageBuilderInput{Name: aws.String(fmt.Sprint("b", n)), InstanceType: aws.String("i")}); err != nil {
			t.Fatal(err)
		}
	}
	f.mu.Lock()
	throttled := strings.Count(strings.Join(f.observed, "\n"), "/ThrottlingException")
	f.mu.Unlock()
	if throttled == 0 {
		t.Error("nothing was throttled")
	}
	var err error
	for err == nil {
		_, err = f.client(rootKey.ID).DescribeImageBuilders(ctx, &sdk.DescribeImageBuildersInput{}, inMemory) // does not try again
	}
	if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != "ThrottlingException" || e.ErrorMessage() != "Rate exceeded" {
		t.Errorf("err = %v", err)
	}
}
