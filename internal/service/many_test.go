package service_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	api "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/service"
	"github.com/oriel-project/oriel/internal/store"
)

// crowd is a store in which there are n of everything: builders, images, fleets with an instance each, stacks, and sessions on the first fleet.
func crowd(b testing.TB, n int) *fixture {
	f := newFixture(b, func(c *service.Config) {
		c.Quotas = service.Quotas{ImageBuilders: 1e6, Images: 1e6, Fleets: 1e6, Stacks: 1e6, FleetInstances: 1e6}
	})
	f.running("model")
	f.addImage(me, "model", appstream.ImageAvailable)
	f.pool(1, 0)
	f.open("model")
	var builder appstream.ImageBuilder
	var image appstream.Image
	var fleet appstream.Fleet
	var stack appstream.Stack
	var instances []appstream.Instance
	var sessions []appstream.Session
	k := func(noun appstream.Noun, name string) appstream.Key {
		return appstream.Key{Account: me, Region: "us-west-2", Noun: noun, Name: name}
	}
	now := time.Now()
	f.must(f.store.Update(context.Background(), func(tx store.Tx) (err error) {
		for key, rec := range map[appstream.Key]appstream.Record{k("image-builder", "model"): &builder, k("image", "model"): &image, k("fleet", "pool"): &fleet, k("stack", "desk"): &stack} {
			if err := tx.Get(key, rec); err != nil {
				return err
			}
		}
		if instances, err = store.List[appstream.Instance](tx, store.Query{Noun: appstream.NounInstance}); err != nil {
			return err
		}
		sessions, err = store.List[appstream.Session](tx, store.Query{Noun: appstream.NounSession})
		return err
	}))
	insert := func(tx store.Tx, rec appstream.Record, name string, states ...string) {
		head := rec.Head()
		head.Name, head.ID = name, "bench-"+string(head.Noun)+name
		for n, state := range states {
			head.Enter(state, now, 0)
			if n == 0 {
				f.must(tx.Insert(rec))
			} else {
				f.must(tx.Put(rec))
			}
		}
	}
	for from := 0; from < n; from += 500 {
		f.must(f.store.Update(context.Background(), func(tx store.Tx) error {
			for i := from; i < min(n, from+500); i++ {
				name := fmt.Sprintf("n%05d", i)
				insert(tx, &builder, name, appstream.BuilderPending, appstream.BuilderRunning)
				image.Ref = "oriel/image:" + name
				insert(tx, &image, name, appstream.ImagePending, appstream.ImageAvailable)
				pool := fleet
				pool.Stacks = []string{name}
				insert(tx, &pool, name, appstream.FleetStopped, appstream.FleetStarting, appstream.FleetRunning)
				insert(tx, &stack, name, appstream.StackAvailable)
				instance := instances[0]
				instance.Fleet, instance.FleetID = pool.Name, pool.ID
				insert(tx, &instance, appstream.InstanceName(pool.Name, name), appstream.InstancePending, appstream.InstanceAvailable)
				session := sessions[0]
				insert(tx, &session, appstream.SessionName("pool", name, name), appstream.SessionPending, appstream.SessionActive)
			}
			return nil
		}))
	}
	return f
}

// BenchmarkMany measures operations among 100 and among 10,000 of everything. What a call costs must depend on what it answers, not on what there is.
func BenchmarkMany(b *testing.B) {
	var names []string
	for n := range 100 {
		names = append(names, fmt.Sprintf("n%05d", n))
	}
	for _, n := range []int{100, 10_000} {
		f := crowd(b, n)
		ctx, next := as(me), 0
		for _, op := range []struct {
			name string
			call func() error
		}{
			{"DescribeImageBuilders", func() error {
				_, err := f.DescribeImageBuilders(ctx, &api.DescribeImageBuildersInput{MaxResults: new(int32(50))})
				return err
			}},
			{"DescribeImageBuilders-100-names", func() error {
				_, err := f.DescribeImageBuilders(ctx, &api.DescribeImageBuildersInput{Names: names})
				return err
			}},
			{"DescribeImages", func() error { _, err := f.DescribeImages(ctx, &api.DescribeImagesInput{}); return err }},
			{"DescribeImages-SHARED", func() error {
				_, err := f.DescribeImages(ctx, &api.DescribeImagesInput{Type: types.VisibilityTypeShared})
				return err
			}},
			{"DescribeFleets", func() error { _, err := f.DescribeFleets(ctx, &api.DescribeFleetsInput{}); return err }},
			{"DescribeFleets-1-name", func() error {
				_, err := f.DescribeFleets(ctx, &api.DescribeFleetsInput{Names: names[:1]})
				return err
			}},
			{"DescribeStacks", func() error { _, err := f.DescribeStacks(ctx, &api.DescribeStacksInput{}); return err }},
			{"DescribeSessions", func() error {
				_, err := f.DescribeSessions(ctx, &api.DescribeSessionsInput{FleetName: new("pool"), StackName: new("desk")})
				return err
			}},
			{"DescribeSessions-1-user", func() error {
				_, err := f.DescribeSessions(ctx, &api.DescribeSessionsInput{FleetName: new("pool"), StackName: new("desk"), UserId: new("model")})
				return err
			}},
			{"ListAssociatedFleets", func() error {
				_, err := f.ListAssociatedFleets(ctx, &api.ListAssociatedFleetsInput{StackName: new("n00050")})
				return err
			}},
			{"CreateStack+DeleteStack", func() error {
				next++
				name := fmt.Sprint("new", next)
				if _, err := f.CreateStack(ctx, &api.CreateStackInput{Name: &name}); err != nil {
					return err
				}
				_, err := f.DeleteStack(ctx, &api.DeleteStackInput{Name: &name})
				return err
			}},
			{"CreateImageBuilder", func() error {
				next++
				_, err := f.CreateImageBuilder(ctx, input(fmt.Sprint("new", next)))
				return err
			}},
			{"CopyImage", func() error {
				next++
				_, err := f.CopyImage(ctx, copyInput("model", fmt.Sprint("new", next), "us-west-2"))
				if appstream.KindOf(err) == appstream.LimitExceeded {
					err = nil // of copies at a time; everything was looked at
				}
				return err
			}},
			{"DeleteImage", func() error {
				_, err := f.DeleteImage(ctx, &api.DeleteImageInput{Name: new("n00099")})
				if appstream.KindOf(err) == appstream.OperationNotPermitted {
					err = nil
				}
				return err
			}},
			{"CreateStreamingURL", func() error {
				_, err := f.CreateStreamingURL(ctx, streamInput(func(*api.CreateStreamingURLInput) {}))
				return err
			}},
			{"TagResource", func() error {
				_, err := f.TagResource(ctx, &api.TagResourceInput{ResourceArn: new(arnPrefix + "stack/desk"), Tags: map[string]string{"k": "v"}})
				return err
			}},
		} {
			b.Run(fmt.Sprintf("%s/%d", op.name, n), func(b *testing.B) {
				for b.Loop() {
					if err := op.call(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
