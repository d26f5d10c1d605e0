package server

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
)

// TestChangesUnderTheEngine: what clients change of resources while the engine carries them from state to state is there afterwards, and the
// resources arrive all the same.
func TestChangesUnderTheEngine(t *testing.T) {
	s, _ := start(t, simConfig(t, t.TempDir()))
	c, ctx := connect(t, s.cfg.Data, s.URL()), t.Context()
	must(c.CreateImageBuilder(ctx, newBuilder("b")))(t)
	must(c.CreateFleet(ctx, &sdk.CreateFleetInput{Name: new("f"), ImageName: new(image), InstanceType: new("stream.standard.small"), FleetType: types.FleetTypeAlwaysOn,
		ComputeCapacity: &types.ComputeCapacity{DesiredInstances: new(int32(3))}}))(t)
	must(c.StartFleet(ctx, &sdk.StartFleetInput{Name: new("f")}))(t)
	const arn = "arn:aws:appstream:us-east-1:123456789012:"
	const writers, each = 4, 10
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := range each {
				key := fmt.Sprint("w", w, "n", n)
				for _, resource := range []string{"image-builder/b", "fleet/f"} {
					if _, err := c.TagResource(ctx, &sdk.TagResourceInput{ResourceArn: new(arn + resource), Tags: map[string]string{key: ""}}); err != nil {
						t.Error(err)
					}
				}
				_, err := c.UpdateFleet(ctx, &sdk.UpdateFleetInput{Name: new("f"), DisplayName: &key})
				if _, busy := errors.AsType[*types.ResourceInUseException](err); err != nil && !busy { // until it runs
					t.Error(err)
				}
			}
		})
	}
	await(t, c, "b", types.ImageBuilderStateRunning)
	must(c.StopImageBuilder(ctx, &sdk.StopImageBuilderInput{Name: new("b")}))(t)
	await(t, c, "b", types.ImageBuilderStateStopped)
	must(c.StartImageBuilder(ctx, &sdk.StartImageBuilderInput{Name: new("b")}))(t)
	wg.Wait()
	await(t, c, "b", types.ImageBuilderStateRunning)
	eventually(t, "the fleet has its instances", func() bool {
		f := must(c.DescribeFleets(ctx, &sdk.DescribeFleetsInput{Names: []string{"f"}}))(t).Fleets[0]
		return f.State == types.FleetStateRunning && *f.ComputeCapacityStatus.Available == 3
	})
	for _, resource := range []string{"image-builder/b", "fleet/f"} {
		if tags := must(c.ListTagsForResource(ctx, &sdk.ListTagsForResourceInput{ResourceArn: new(arn + resource)}))(t).Tags; len(tags) != writers*each {
			t.Errorf("%s has %d tags, not %d", resource, len(tags), writers*each)
		}
	}
}
