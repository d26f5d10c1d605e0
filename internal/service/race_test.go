package service_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	api "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/aws/smithy-go"

	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/service"
	"github.com/oriel-project/oriel/internal/store"
)

// race calls the operations of inputs all at once, by turns in either protocol, and counts the answers: "" for success. An answer that is not of one of the
// kinds that are expected fails the test, those that say that something is wrong with the server above all.
func (f *fixture) race(expected []appstream.Kind, inputs ...any) map[appstream.Kind][]int {
	f.t.Helper()
	clients := []*api.Client{f.client(me, false), f.client(me, true)}
	answers := make([]appstream.Kind, len(inputs))
	begin := make(chan struct{})
	var wg sync.WaitGroup
	for n, in := range inputs {
		wg.Go(func() {
			<-begin
			if _, err := invoke(f.t.Context(), clients[n%2], in); err != nil {
				e, _ := errors.AsType[smithy.APIError](err)
				if e == nil {
					f.t.Errorf("%s: %v", operationOf(in), err)
					return
				}
				answers[n] = appstream.Kind(e.ErrorCode())
			}
		})
	}
	close(begin)
	wg.Wait()
	counts := map[appstream.Kind][]int{}
	for n, kind := range answers {
		counts[kind] = append(counts[kind], n)
		if kind != "" && !slices.Contains(expected, kind) {
			f.t.Errorf("%s answers %s", operationOf(inputs[n]), kind)
		}
	}
	return counts
}

const contenders = 24

// inputs makes an input for each contender.
func inputs(n int, of func(n int) any) (list []any) {
	for i := range n {
		list = append(list, of(i))
	}
	return list
}

// TestRacesForOne: of many who want what only one can have, one gets it.
func TestRacesForOne(t *testing.T) {
	runs := func(f *fixture) { f.running("b") }
	for name, test := range map[string]struct {
		given func(*fixture)
		of    func(n int) any
		lost  appstream.Kind
	}{
		"a builder's name": {nil, func(int) any { return input("b") }, appstream.ResourceAlreadyExists},
		"a fleet's name":   {nil, func(int) any { return fleetInput("f") }, appstream.ResourceAlreadyExists},
		"a stack's name":   {nil, func(int) any { return &api.CreateStackInput{Name: new("s")} }, appstream.ResourceAlreadyExists},
		"a user's name": {nil, func(int) any {
			return &api.CreateUserInput{UserName: new("ann@example.com"), AuthenticationType: pool}
		}, appstream.ResourceAlreadyExists},
		"a copy's name":    {images, func(int) any { return copyInput("mine", "copy", "us-west-2") }, appstream.ResourceAlreadyExists},
		"an update's name": {images, func(int) any { return updateInput("mine", "newer") }, appstream.ResourceAlreadyExists},
		"an archive":       {images, func(int) any { return export("mine", "one") }, appstream.OperationNotPermitted},
		"stop":             {runs, func(int) any { return &api.StopImageBuilderInput{Name: new("b")} }, appstream.OperationNotPermitted},
		"delete":           {runs, func(int) any { return &api.DeleteImageBuilderInput{Name: new("b")} }, appstream.OperationNotPermitted},
		"start": {func(f *fixture) { runs(f); f.setState("b", "STOPPING", "STOPPED") },
			func(int) any { return &api.StartImageBuilderInput{Name: new("b")} }, appstream.ResourceNotAvailable},
		"start a fleet":   {func(f *fixture) { f.fleet("f", "STOPPED") }, func(int) any { return &api.StartFleetInput{Name: new("f")} }, appstream.OperationNotPermitted},
		"delete a fleet":  {func(f *fixture) { f.fleet("f", "STOPPED") }, func(int) any { return &api.DeleteFleetInput{Name: new("f")} }, appstream.ResourceNotFound},
		"delete a stack":  {func(f *fixture) { f.stack("s") }, func(int) any { return &api.DeleteStackInput{Name: new("s")} }, appstream.ResourceNotFound},
		"delete an image": {images, func(int) any { return &api.DeleteImageInput{Name: new("mine")} }, appstream.OperationNotPermitted},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			if test.given != nil {
				test.given(f)
			}
			before := len(f.audits())
			if won := f.race([]appstream.Kind{test.lost}, inputs(contenders, test.of)...)[""]; len(won) != 1 {
				t.Errorf("%d won", len(won))
			}
			if n := len(f.audits()) - before; n != 1 {
				t.Errorf("the audit log says that %d were done", n)
			}
		})
	}
}

// TestRacesForSome: of many who want what there is some of, as many get it as there is.
func TestRacesForSome(t *testing.T) {
	for name, test := range map[string]struct {
		given func(*fixture)
		of    func(n int) any
		there int
	}{
		"builders": {nil, func(n int) any { return input(fmt.Sprint("b", n)) }, 10},
		"fleets":   {nil, func(n int) any { return fleetInput(fmt.Sprint("f", n)) }, 10},
		"stacks":   {nil, func(n int) any { return &api.CreateStackInput{Name: new(fmt.Sprint("s", n))} }, 10},
		"copies":   {images, func(n int) any { return copyInput("mine", fmt.Sprint("copy", n), "us-west-2") }, 2},
		"updates":  {images, func(n int) any { return updateInput("mine", fmt.Sprint("newer", n)) }, 5},
		"archives": {images, func(n int) any { return export("mine", fmt.Sprint("export-", n)) }, 10},
		"shares": {func(f *fixture) { f.addImage(me, "mine", appstream.ImageAvailable, sharedBy(95)) },
			func(n int) any { return shareWith("mine", fmt.Sprintf("5%011d", n), true) }, 5},
		"users": {func(f *fixture) {
			for n := range 45 {
				f.user(fmt.Sprintf("u%d@example.com", n))
			}
		}, func(n int) any {
			return &api.CreateUserInput{UserName: new(fmt.Sprintf("new%d@example.com", n)), AuthenticationType: pool}
		}, 5},
		"tags": {func(f *fixture) {
			f.stack("s")
			_, err := f.TagResource(as(me), &api.TagResourceInput{ResourceArn: new(arnPrefix + "stack/s"), Tags: manyTags(40)})
			f.must(err)
		}, func(n int) any {
			return &api.TagResourceInput{ResourceArn: new(arnPrefix + "stack/s"), Tags: map[string]string{fmt.Sprint("n", n): ""}}
		}, 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			if test.given != nil {
				test.given(f)
			}
			if got := f.race([]appstream.Kind{appstream.LimitExceeded}, inputs(contenders, test.of)...)[""]; len(got) != test.there {
				t.Errorf("%d got one, of %d", len(got), test.there)
			}
		})
	}
}

// TestNothingIsLost: changes of different parts of one resource, made at once, are all there afterwards.
func TestNothingIsLost(t *testing.T) {
	f := newFixture(t)
	f.fleet("f", "STOPPED")
	f.stack("s")
	f.addImage(me, "mine", appstream.ImageAvailable)
	for n := range 8 {
		f.stack(fmt.Sprint("s", n))
		f.user(fmt.Sprintf("u%d@example.com", n))
	}
	f.must(func() error {
		_, err := f.TagResource(as(me), &api.TagResourceInput{ResourceArn: new(arnPrefix + "stack/s"), Tags: map[string]string{"old0": "", "old1": "", "old2": ""}})
		return err
	}())
	var list []any
	for n := range 8 {
		list = append(list,
			&api.AssociateFleetInput{FleetName: new("f"), StackName: new(fmt.Sprint("s", n))},
			&api.TagResourceInput{ResourceArn: new(arnPrefix + "fleet/f"), Tags: map[string]string{fmt.Sprint("k", n): fmt.Sprint(n)}},
			&api.TagResourceInput{ResourceArn: new(arnPrefix + "stack/s"), Tags: map[string]string{fmt.Sprint("k", n): fmt.Sprint(n)}},
			shareWith("mine", fmt.Sprintf("5%011d", n), true),
			&api.BatchAssociateUserStackInput{UserStackAssociations: []types.UserStackAssociation{
				{AuthenticationType: pool, UserName: new(fmt.Sprintf("u%d@example.com", n)), StackName: new("s")}, {AuthenticationType: pool, UserName: new("u0@example.com"), StackName: new(fmt.Sprint("s", n))}}})
	}
	list = append(list,
		&api.UpdateFleetInput{Name: new("f"), DisplayName: new("Fleet")}, &api.UpdateFleetInput{Name: new("f"), Description: new("d")},
		&api.UpdateFleetInput{Name: new("f"), IdleDisconnectTimeoutInSeconds: new(int32(600))}, &api.UpdateFleetInput{Name: new("f"), ComputeCapacity: &types.ComputeCapacity{DesiredInstances: new(int32(7))}},
		&api.UpdateStackInput{Name: new("s"), DisplayName: new("Stack")}, &api.UpdateStackInput{Name: new("s"), RedirectURL: new("https://example.com")},
		&api.UntagResourceInput{ResourceArn: new(arnPrefix + "stack/s"), TagKeys: []string{"old0", "old1"}}, &api.UntagResourceInput{ResourceArn: new(arnPrefix + "stack/s"), TagKeys: []string{"old2"}})
	f.race(nil, list...)

	fleet := f.describeFleet("f")
	if got := fmt.Sprintln(*fleet.DisplayName, *fleet.Description, *fleet.IdleDisconnectTimeoutInSeconds, *fleet.ComputeCapacityStatus.Desired); got != "Fleet d 600 7\n" {
		t.Errorf("the fleet is %q", got)
	}
	if stack := f.describeStack("s"); *stack.DisplayName != "Stack" || *stack.RedirectURL != "https://example.com" {
		t.Errorf("the stack is %s, %s", *stack.DisplayName, *stack.RedirectURL)
	}
	stacks, err := f.ListAssociatedStacks(as(me), &api.ListAssociatedStacksInput{FleetName: new("f")})
	if f.must(err); len(stacks.Names) != 8 {
		t.Errorf("the fleet has %v", stacks.Names)
	}
	for _, arn := range []string{"fleet/f", "stack/s"} {
		tags, err := f.ListTagsForResource(as(me), &api.ListTagsForResourceInput{ResourceArn: new(arnPrefix + arn)})
		if f.must(err); len(tags.Tags) != 8 || tags.Tags["k7"] != "7" {
			t.Errorf("%s has %v", arn, slices.Sorted(maps.Keys(tags.Tags)))
		}
	}
	shares, err := f.DescribeImagePermissions(as(me), &api.DescribeImagePermissionsInput{Name: new("mine")})
	if f.must(err); len(shares.SharedImagePermissionsList) != 8 {
		t.Errorf("%d shares", len(shares.SharedImagePermissionsList))
	}
	if got := f.assigned(&api.DescribeUserStackAssociationsInput{StackName: new("s")}); len(got) != 8 {
		t.Errorf("the stack has %v", got)
	}
	if got := f.assigned(&api.DescribeUserStackAssociationsInput{UserName: new("u0@example.com"), AuthenticationType: pool}); len(got) != 9 {
		t.Errorf("u0 has %v", got)
	}
}

// TestUseAndDelete: who deletes something and who begins to use it are not both told that it is done.
func TestUseAndDelete(t *testing.T) {
	mine := func(in *api.CreateFleetInput) { in.ImageName = new("mine") }
	for name, test := range map[string]struct {
		given       func(*fixture)
		use, delete any
	}{
		"an image and a fleet":    {images, fleetInput("f", mine), &api.DeleteImageInput{Name: new("mine")}},
		"an image and a builder":  {images, input("b", func(in *api.CreateImageBuilderInput) { in.ImageName = new("mine") }), &api.DeleteImageInput{Name: new("mine")}},
		"an image and a copy":     {images, copyInput("mine", "copy", "eu-west-1"), &api.DeleteImageInput{Name: new("mine")}},
		"an image and a share":    {images, shareWith("mine", other, true), &api.DeleteImageInput{Name: new("mine")}},
		"a stack and a fleet":     {func(f *fixture) { f.fleet("f", "STOPPED"); f.stack("s") }, &api.AssociateFleetInput{FleetName: new("f"), StackName: new("s")}, &api.DeleteStackInput{Name: new("s")}},
		"a fleet and a stack":     {func(f *fixture) { f.fleet("f", "STOPPED"); f.stack("s") }, &api.AssociateFleetInput{FleetName: new("f"), StackName: new("s")}, &api.DeleteFleetInput{Name: new("f")}},
		"a fleet that is started": {func(f *fixture) { f.fleet("f", "STOPPED") }, &api.StartFleetInput{Name: new("f")}, &api.DeleteFleetInput{Name: new("f")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range 5 {
				f := newFixture(t)
				test.given(f)
				done := f.race([]appstream.Kind{appstream.ResourceInUse, appstream.ResourceNotFound, appstream.ResourceNotAvailable, appstream.OperationNotPermitted}, test.use, test.delete)[""]
				if len(done) != 1 {
					t.Errorf("%d of the two were done", len(done))
				}
			}
		})
	}
}

// TestImageOfAReplacedBuilder: an image has the catalogue of the builder that it is made of, not of one that had its name before.
func TestImageOfAReplacedBuilder(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), agentapi.SocketName))
	if err != nil {
		t.Fatal(err)
	}
	var f *fixture
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/applications", func(w http.ResponseWriter, _ *http.Request) { // the builder is replaced while its agent answers
		f.setState("b", "DELETING")
		b := f.builder(me, "b")
		f.must(f.store.Update(context.Background(), func(tx store.Tx) error { return tx.Delete(&b) }))
		f.running("b")
		fmt.Fprintf(w, `{"applications":[%s]}`, twoApplications)
	})
	server := &http.Server{Handler: mux}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	f = newFixture(t, func(c *service.Config) {
		c.Agents = func(string) *agentapi.Client { return agentapi.NewClient(agentapi.DialSocket(l.Addr().String())) }
	})
	f.running("b")
	_, err = f.CreateImage(as(me), &service.CreateImageInput{ImageBuilderName: new("b"), Name: new("i")})
	refused(t, err, appstream.ConcurrentModification, "there is another of its name now")
	if b := f.builder(me, "b"); b.State != appstream.BuilderRunning {
		t.Errorf("the new builder is %s", b.State)
	}
}

// TestImageOfABuilderThatStarts: a builder that begins to run while it is asked for an image is not captured without its catalogue.
func TestImageOfABuilderThatStarts(t *testing.T) {
	var asked []string
	var f *fixture
	late := &lateStore{}
	f = newFixture(t, withAgent(t, twoApplications, &asked), func(c *service.Config) { late.Store, c.Store = c.Store, late })
	_, err := f.CreateImageBuilder(as(me), input("b"))
	f.must(err)
	late.after = func() { f.setState("b", "RUNNING") }
	_, err = f.CreateImage(as(me), &service.CreateImageInput{ImageBuilderName: new("b"), Name: new("i")})
	refused(t, err, appstream.OperationNotPermitted, "The image builder b is PENDING.")
	out, err := f.CreateImage(as(me), &service.CreateImageInput{ImageBuilderName: new("b"), Name: new("i")})
	if f.must(err); len(out.Image.Applications) != 2 || !strings.HasPrefix(*out.Image.Applications[0].Name, "calc") {
		t.Errorf("the image has %d applications", len(out.Image.Applications))
	}
}

// lateStore does something once after the first reading.
type lateStore struct {
	store.Store
	after func()
}

func (s *lateStore) View(ctx context.Context, fn func(store.Tx) error) error {
	err := s.Store.View(ctx, fn)
	if after := s.after; after != nil {
		s.after = nil
		after()
	}
	return err
}
