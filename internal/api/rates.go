package api

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/oriel-project/oriel/internal/appstream"
)

// Rates limits how often one account may call one operation in one region. As on AWS, each has a bucket of tokens, which fills at the rate; a call takes
// one, and without one it is refused.
type Rates struct {
	Read       float64            // calls each second of an operation that only looks (Describe…, List…, Get…); 0: no limit
	Write      float64            // of any other
	Operations map[string]float64 // of particular ones, by name, in place of these
	Burst      time.Duration      // the bucket holds what comes in so long: that many calls may come at once after a rest
}

// maxBuckets is how many buckets are kept. One that is full is as good as none, and is not kept when there are more.
const maxBuckets = 16 << 10

// throttle has the buckets.
type throttle struct {
	mu      sync.Mutex
	buckets map[bucketKey]*rate.Limiter
}

type bucketKey struct {
	op              *operation
	account, region string
}

// limitRate notes on an operation how often it may be called.
func (r *Rates) limitRate(op *operation) {
	perSecond, particular := r.Operations[op.name]
	switch {
	case particular:
	case strings.HasPrefix(op.name, "Describe"), strings.HasPrefix(op.name, "List"), strings.HasPrefix(op.name, "Get"):
		perSecond = r.Read
	default:
		perSecond = r.Write
	}
	op.rate, op.burst = rate.Limit(perSecond), max(1, int(math.Ceil(perSecond*r.Burst.Seconds())))
}

// check says which name in Operations is none of an operation.
func (r *Rates) check(operations map[string]*operation) error {
	names := map[string]bool{}
	for _, op := range operations {
		names[op.name] = true
	}
	for name := range r.Operations {
		if !names[name] {
			return fmt.Errorf("rates.operations: there is no operation %s", name)
		}
	}
	return nil
}

// take takes a token for a call. When there is none, it gives how long to wait for one.
func (t *throttle) take(op *operation, account, region string, now time.Time) time.Duration {
	if op.rate <= 0 {
		return 0
	}
	k := bucketKey{op, account, region}
	t.mu.Lock()
	b := t.buckets[k]
	if b == nil {
		if t.buckets == nil {
			t.buckets = map[bucketKey]*rate.Limiter{}
		}
		t.makeRoom(now)
		b = rate.NewLimiter(op.rate, op.burst)
		t.buckets[k] = b
	}
	t.mu.Unlock()
	if b.AllowN(now, 1) {
		return 0
	}
	// What is asked for and given back takes nothing, and tells when there will be something.
	r := b.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	r.CancelAt(now)
	return max(wait, time.Millisecond)
}

// makeRoom forgets buckets that are full, or, when none is, one.
func (t *throttle) makeRoom(now time.Time) {
	if len(t.buckets) < maxBuckets {
		return
	}
	for k, b := range t.buckets {
		if b.TokensAt(now) >= float64(b.Burst()) {
			delete(t.buckets, k)
		}
	}
	for k := range t.buckets {
		if len(t.buckets) < maxBuckets {
			return
		}
		delete(t.buckets, k)
	}
}

var errThrottled = appstream.Errorf(appstream.Throttling, "Rate exceeded")

// retryAfter gives the headers that say how long to wait: seconds for everybody, milliseconds for AWS's newer SDKs.
func retryAfter(wait time.Duration) (seconds, milliseconds string) {
	return strconv.FormatInt(int64(math.Ceil(wait.Seconds())), 10), strconv.FormatInt(int64(math.Ceil(float64(wait)/float64(time.Millisecond))), 10)
}
