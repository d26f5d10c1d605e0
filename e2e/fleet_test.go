package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/e2e/stage"
	"github.com/oriel-project/oriel/internal/keys"
)

// publish makes a fleet with room for so many people and a stack of the same name, and starts the fleet.
func (w *world) publish(t testing.TB, name, image string, room int, change ...func(*appstream.CreateFleetInput, *appstream.CreateStackInput)) {
	t.Helper()
	fleet := &appstream.CreateFleetInput{Name: &name, ImageName: &image, InstanceType: new("stream.standard.medium"), FleetType: types.FleetTypeAlwaysOn,
		EnableDefaultInternetAccess: new(true), ComputeCapacity: &types.ComputeCapacity{DesiredInstances: new(int32(room))}}
	stack := &appstream.CreateStackInput{Name: &name}
	for _, c := range change {
		c(fleet, stack)
	}
	must(w.aws.CreateFleet(limit(t), fleet))(t)
	must(w.aws.CreateStack(limit(t), stack))(t)
	must(w.aws.AssociateFleet(limit(t), &appstream.AssociateFleetInput{FleetName: &name, StackName: &name}))(t)
	must(w.aws.StartFleet(limit(t), &appstream.StartFleetInput{Name: &name}))(t)
	w.awaitFree(t, name, room)
}

// awaitFree waits until so many more people can come to a RUNNING fleet.
func (w *world) awaitFree(t testing.TB, fleet string, room int) {
	t.Helper()
	must(stage.AwaitFleet(limit(t), w.aws, fleet, types.FleetStateRunning, room))(t)
}

// withdraw removes what publish has made.
func (w *world) withdraw(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		must(w.aws.StopFleet(limit(t), &appstream.StopFleetInput{Name: &name}))(t)
	}
	for _, name := range names {
		must(stage.AwaitFleet(limit(t), w.aws, name, types.FleetStateStopped, 0))(t)
		must(w.aws.DisassociateFleet(limit(t), &appstream.DisassociateFleetInput{FleetName: &name, StackName: &name}))(t)
		must(w.aws.DeleteFleet(limit(t), &appstream.DeleteFleetInput{Name: &name}))(t)
		must(w.aws.DeleteStack(limit(t), &appstream.DeleteStackInput{Name: &name}))(t)
	}
}

// link gives a user's streaming URL to what publish has made.
func (w *world) link(t testing.TB, fleet, user string, change ...func(*appstream.CreateStreamingURLInput)) string {
	t.Helper()
	in := &appstream.CreateStreamingURLInput{FleetName: &fleet, StackName: &fleet, UserId: &user, Validity: new(int64(600))}
	for _, c := range change {
		c(in)
	}
	return *must(w.aws.CreateStreamingURL(limit(t), in))(t).StreamingURL
}

// come opens a user's streaming URL without a browser, and finds a session.
func (w *world) come(t testing.TB, fleet, user string) *stage.Visitor {
	t.Helper()
	v := must(w.Visit(limit(t), w.link(t, fleet, user)))(t)
	if v.Status != http.StatusOK || v.Session == "" {
		t.Fatalf("the streaming URL of %s leads to %d\n%s", user, v.Status, v.Page)
	}
	return v
}

// session describes a session; nil when it is not there.
func (w *world) session(t testing.TB, fleet, id string) *types.Session {
	t.Helper()
	for _, s := range must(stage.Sessions(limit(t), w.aws, fleet, fleet))(t) {
		if *s.Id == id {
			return &s
		}
	}
	return nil
}

// awaitSession waits until a session has a state.
func (w *world) awaitSession(t testing.TB, fleet, id string, want types.SessionState) (s *types.Session) {
	t.Helper()
	until(t, "the session is "+string(want), func() error {
		if s = w.session(t, fleet, id); s == nil || s.State != want {
			return fmt.Errorf("it is %+v", s)
		}
		return nil
	})
	return s
}

// over waits until a session has ended. It is not described any more when nothing of it is left.
func (w *world) over(t testing.TB, fleet, id string) {
	t.Helper()
	until(t, "the session is over", func() error {
		if s := w.session(t, fleet, id); s != nil {
			return fmt.Errorf("it is %s", s.State)
		}
		return nil
	})
}

// metric gives the value of one of AppStream's figures of a fleet.
func (w *world) metric(t testing.TB, name, fleet string) string {
	t.Helper()
	r := must(http.Get(w.URL + "/metrics"))(t)
	defer r.Body.Close()
	for line := range strings.Lines(string(must(io.ReadAll(r.Body))(t))) {
		if rest, ok := strings.CutPrefix(line, "appstream_"+name+"{"); ok && strings.Contains(rest, `"`+fleet+`"`) {
			return strings.TrimSpace(rest[strings.LastIndex(rest, " "):])
		}
	}
	return "missing"
}

// TestTwoHundred opens two hundred people's links at once, to a fleet for twenty.
func TestTwoHundred(t *testing.T) {
	w := simulated(t, "--sim-delay=20ms")
	const fleet, room, people = "twenty", 20, 200
	w.publish(t, fleet, stage.BaseImage, room)
	links := make([]string, people)
	for n := range links {
		links[n] = w.link(t, fleet, fmt.Sprintf("user-%03d", n))
	}

	visitors := make([]*stage.Visitor, people)
	errs := make([]error, people)
	var gate, all sync.WaitGroup
	gate.Add(1)
	for n, address := range links {
		all.Go(func() {
			gate.Wait()
			visitors[n], errs[n] = w.Visit(limit(t), address)
		})
	}
	gate.Done()
	all.Wait()
	check(t, errors.Join(errs...))
	var in, out []*stage.Visitor
	for n, v := range visitors {
		switch {
		case v.Status == http.StatusOK && strings.Contains(v.Page, `data-code="simulated"`):
			in = append(in, v)
		case v.Status == http.StatusServiceUnavailable && strings.Contains(v.Page, `data-code="capacity"`) && v.Session == "":
			out = append(out, v)
		default:
			t.Errorf("user %d: %d\n%s", n, v.Status, v.Page)
		}
	}
	if len(in) != room || len(out) != people-room {
		t.Errorf("%d people came in and %d did not", len(in), len(out))
	}

	var sessions []types.Session
	until(t, "the sessions are ACTIVE", func() error {
		sessions = must(stage.Sessions(limit(t), w.aws, fleet, fleet))(t)
		for _, s := range sessions {
			if s.State != types.SessionStateActive {
				return fmt.Errorf("%s is %s", *s.Id, s.State)
			}
		}
		return nil
	})
	users, instances := map[string]bool{}, map[string]bool{}
	for _, s := range sessions {
		users[*s.UserId], instances[*s.InstanceId] = true, true
		if !slices.ContainsFunc(in, func(v *stage.Visitor) bool { return v.Session == *s.Id }) {
			t.Errorf("nobody was let in to the session %s", *s.Id)
		}
	}
	if len(sessions) != room || len(users) != room || len(instances) != room {
		t.Errorf("%d sessions of %d users on %d instances", len(sessions), len(users), len(instances))
	}
	for name, want := range map[string]string{"InsufficientCapacityError": "180", "InUseCapacity": "20", "AvailableCapacity": "0", "ActualCapacity": "20",
		"CapacityUtilization": "100"} {
		if got := w.metric(t, name, fleet); got != want {
			t.Errorf("%s is %s, not %s", name, got, want)
		}
	}

	// Who is there keeps his place, however often he comes.
	again := must(w.Visit(limit(t), links[slices.Index(visitors, in[0])]))(t)
	if again.Session != in[0].Session {
		t.Errorf("a second visit gives the session %q, not %q", again.Session, in[0].Session)
	}
	// Who leaves makes room for one more.
	if status, text, err := in[0].Ask(limit(t), "POST", "end", ""); err != nil || status != http.StatusNoContent {
		t.Errorf("end the session: %d, %v\n%s", status, err, text)
	}
	w.awaitFree(t, fleet, 1)
	late := links[slices.Index(visitors, out[0])]
	if v := must(w.Visit(limit(t), late))(t); v.Status != http.StatusOK || v.Session == "" {
		t.Errorf("with a place free: %d\n%s", v.Status, v.Page)
	}
	if v := must(w.Visit(limit(t), links[slices.Index(visitors, out[1])]))(t); v.Status != http.StatusServiceUnavailable {
		t.Errorf("with no place free: %d", v.Status)
	}
	w.withdraw(t, fleet)
}

// TestSessionPages describes more sessions than fit a page.
func TestSessionPages(t *testing.T) {
	w := simulated(t, "--sim-delay=0s")
	const fleet, people = "many", 55
	w.publish(t, fleet, stage.BaseImage, people)
	for n := range people {
		w.come(t, fleet, fmt.Sprintf("user-%02d", n))
	}
	for _, test := range []struct {
		limit *int32
		pages []int
	}{{nil, []int{20, 20, 15}}, {new(int32(50)), []int{50, 5}}, {new(int32(0)), []int{20, 20, 15}}} {
		var pages []int
		seen := map[string]bool{}
		in := &appstream.DescribeSessionsInput{FleetName: new(fleet), StackName: new(fleet), Limit: test.limit}
		for more := true; more; more = in.NextToken != nil {
			out := must(w.aws.DescribeSessions(limit(t), in))(t)
			pages = append(pages, len(out.Sessions))
			for _, s := range out.Sessions {
				seen[*s.UserId] = true
			}
			in.NextToken = out.NextToken
		}
		if !slices.Equal(pages, test.pages) || len(seen) != people {
			t.Errorf("pages of %v with %d users, not %v", pages, len(seen), test.pages)
		}
	}
	_, err := w.aws.DescribeSessions(limit(t), &appstream.DescribeSessionsInput{FleetName: new(fleet), StackName: new(fleet), Limit: new(int32(51))})
	if err == nil || !strings.Contains(err.Error(), "50") {
		t.Errorf("51 on a page: %v", err)
	}

	one := must(w.aws.DescribeSessions(limit(t), &appstream.DescribeSessionsInput{FleetName: new(fleet), StackName: new(fleet), UserId: new("user-07")}))(t).Sessions
	if len(one) != 1 || *one[0].UserId != "user-07" || one[0].AuthenticationType != types.AuthenticationTypeApi || one[0].ConnectionState != types.SessionConnectionStateNotConnected {
		t.Fatalf("the sessions of one user: %+v", one)
	}
	on := must(w.aws.DescribeSessions(limit(t), &appstream.DescribeSessionsInput{FleetName: new(fleet), StackName: new(fleet), InstanceId: one[0].InstanceId}))(t).Sessions
	if len(on) != 1 || *on[0].Id != *one[0].Id {
		t.Errorf("the sessions on one instance: %+v", on)
	}
	saml := must(w.aws.DescribeSessions(limit(t), &appstream.DescribeSessionsInput{FleetName: new(fleet), StackName: new(fleet), AuthenticationType: types.AuthenticationTypeSaml}))(t).Sessions
	if len(saml) > 0 {
		t.Errorf("sessions by SAML: %+v", saml)
	}
	must(w.aws.ExpireSession(limit(t), &appstream.ExpireSessionInput{SessionId: one[0].Id}))(t)
	w.over(t, fleet, *one[0].Id)
	w.withdraw(t, fleet)
}

// TestFleetRules asks for what fleets in their states refuse.
func TestFleetRules(t *testing.T) {
	w := simulated(t, "--sim-delay=20ms")
	w.create(t, "maker", stage.BaseImage)
	w.makeImage(t, "maker", "mine")
	w.await(t, "maker", types.ImageBuilderStateStopped)
	w.publish(t, "ruled", "mine", 1)
	update := func(change func(*appstream.UpdateFleetInput)) error {
		in := &appstream.UpdateFleetInput{Name: new("ruled")}
		change(in)
		_, err := w.aws.UpdateFleet(limit(t), in)
		return err
	}
	inUse := func(what string, err error, says string) {
		t.Helper()
		if _, ok := errors.AsType[*types.ResourceInUseException](err); !ok || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", what, err)
		}
	}

	_, err := w.aws.DeleteImage(limit(t), &appstream.DeleteImageInput{Name: new("mine")})
	inUse("delete the image of a fleet", err, "ruled")
	_, err = w.aws.DeleteFleet(limit(t), &appstream.DeleteFleetInput{Name: new("ruled")})
	inUse("delete a fleet with a stack", err, "The fleet ruled is associated with a stack. To delete the fleet, you must dissociate it from the stack.")
	_, err = w.aws.DeleteStack(limit(t), &appstream.DeleteStackInput{Name: new("ruled")})
	inUse("delete a stack with fleets", err, "Only stacks with no fleets associated with it can be deleted.")

	running := map[string]func(*appstream.UpdateFleetInput){
		"StreamView":               func(in *appstream.UpdateFleetInput) { in.StreamView = types.StreamViewDesktop },
		"MaxUserDurationInSeconds": func(in *appstream.UpdateFleetInput) { in.MaxUserDurationInSeconds = new(int32(600)) },
		"InstanceType":             func(in *appstream.UpdateFleetInput) { in.InstanceType = new("stream.standard.large") },
		"Description":              func(in *appstream.UpdateFleetInput) { in.Description = new("other") },
	}
	for member, change := range running {
		inUse("update "+member+" of a running fleet", update(change), "when it is ACTIVE")
	}
	check(t, update(func(in *appstream.UpdateFleetInput) {
		in.DisplayName, in.IdleDisconnectTimeoutInSeconds, in.DisconnectTimeoutInSeconds = new("Ruled"), new(int32(70)), new(int32(120))
		in.ComputeCapacity = &types.ComputeCapacity{DesiredInstances: new(int32(3))}
	}))
	w.awaitFree(t, "ruled", 3)
	check(t, update(func(in *appstream.UpdateFleetInput) {
		in.ComputeCapacity = &types.ComputeCapacity{DesiredInstances: new(int32(1))}
	}))
	w.awaitFree(t, "ruled", 1)

	must(w.aws.StopFleet(limit(t), &appstream.StopFleetInput{Name: new("ruled")}))(t)
	must(stage.AwaitFleet(limit(t), w.aws, "ruled", types.FleetStateStopped, 0))(t)
	for member, change := range running {
		if err := update(change); err != nil {
			t.Errorf("update %s of a stopped fleet: %v", member, err)
		}
	}
	f := must(stage.Fleet(limit(t), w.aws, "ruled"))(t)
	if f.StreamView != types.StreamViewDesktop || *f.MaxUserDurationInSeconds != 600 || *f.InstanceType != "stream.standard.large" || *f.DisplayName != "Ruled" ||
		*f.IdleDisconnectTimeoutInSeconds != 70 || *f.DisconnectTimeoutInSeconds != 120 {
		t.Errorf("the fleet is %+v", f)
	}
	w.withdraw(t, "ruled")
	w.removeImage(t, "mine")
}

// person is one who opens links, leaves, and is sent away, in an order of chance. He remembers the session that he was given.
type person struct {
	*world
	fleet, user string
	random      *rand.Rand
	session     *stage.Visitor // the one that he has, by what was answered; nil for none
	unsure      bool           // an end of it was not answered
	opened      int
}

// live goes on until ctx ends, and tells what should not have happened. What has been begun is not cut off, so that nothing comes of it later.
func (p *person) live(ctx context.Context) error {
	for ctx.Err() == nil {
		err := p.step(context.WithoutCancel(ctx))
		if err == nil {
			continue
		}
		if wrong, is := errors.AsType[wrong](err); is {
			return wrong
		}
		wait, cancel := context.WithTimeout(ctx, patience)
		_ = p.Ready(wait) // or it is the end
		cancel()
	}
	return nil
}

// wrong is what no server may do, killed or not.
type wrong struct{ error }

func (p *person) step(ctx context.Context) error {
	if p.session != nil && p.random.IntN(2) == 0 { // end it
		var err error
		if p.random.IntN(2) == 0 {
			var status int
			if status, _, err = p.session.Ask(ctx, "POST", "end", ""); err == nil && status/100 != 2 {
				return wrong{fmt.Errorf("the end of a session is answered with %d", status)}
			}
		} else {
			_, err = p.aws.ExpireSession(ctx, &appstream.ExpireSessionInput{SessionId: &p.session.Session})
		}
		if err != nil {
			p.unsure = true
			return err
		}
		p.session, p.unsure = nil, false
		return nil
	}
	url, err := p.aws.CreateStreamingURL(ctx, &appstream.CreateStreamingURLInput{FleetName: &p.fleet, StackName: &p.fleet, UserId: &p.user})
	if err != nil {
		return err
	}
	v, err := p.Visit(ctx, *url.StreamingURL)
	switch {
	case err != nil:
		return err
	case v.Status == http.StatusServiceUnavailable && v.Session == "":
		if p.session != nil && !p.unsure {
			return wrong{fmt.Errorf("%s has the session %s and is told that no place is free", p.user, p.session.Session)}
		}
		p.session = nil
		return nil
	case v.Status != http.StatusOK:
		return wrong{fmt.Errorf("a streaming URL leads to %d: %s", v.Status, v.Page)}
	case p.session != nil && !p.unsure && v.Session != p.session.Session:
		return wrong{fmt.Errorf("%s has the session %s and is given %s", p.user, p.session.Session, v.Session)}
	}
	p.session, p.unsure = v, false
	p.opened++
	return nil
}

// TestSessionKill kills the server with SIGKILL again and again while more people than there are places come and go.
func TestSessionKill(t *testing.T) {
	w := simulated(t, "--sim-delay=5ms")
	const fleet, room, people, kills = "killed", 4, 8, 8
	w.publish(t, fleet, stage.BaseImage, room)
	random := rand.New(rand.NewPCG(3, 5))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var living sync.WaitGroup
	list, errs := make([]*person, people), make([]error, people)
	for n := range people {
		list[n] = &person{world: w, fleet: fleet, user: fmt.Sprintf("user-%d", n), random: rand.New(rand.NewPCG(3, uint64(n)))}
		living.Go(func() { errs[n] = list[n].live(ctx) })
	}
	for range kills {
		time.Sleep(time.Duration(100+random.IntN(300)) * time.Millisecond) // at any moment
		w.Kill()
		check(t, w.Again(limit(t)))
		w.checkUnshared(t, fleet)
	}
	stop()
	living.Wait()
	check(t, errors.Join(errs...))
	opened := 0
	for _, p := range list {
		opened += p.opened
	}
	t.Logf("%d visits and %d kills", opened, kills)

	// Nobody has lost the session that he was told of.
	sessions := w.checkUnshared(t, fleet)
	for _, p := range list {
		if p.session != nil && !p.unsure && sessions[p.session.Session] == "" {
			t.Errorf("%s was given the session %s, which is not there", p.user, p.session.Session)
		}
	}
	// A visit whose answer was lost with a server may have begun a session, which nobody comes back to.
	until(t, "nobody is on the fleet", func() error {
		left := w.checkUnshared(t, fleet)
		for id := range left {
			must(w.aws.ExpireSession(limit(t), &appstream.ExpireSessionInput{SessionId: &id}))(t)
		}
		capacity := must(w.aws.DescribeFleets(limit(t), &appstream.DescribeFleetsInput{Names: []string{fleet}}))(t).Fleets[0].ComputeCapacityStatus
		if len(left) > 0 || *capacity.Available != room {
			return fmt.Errorf("%d sessions are left, and %d of %d instances are free", len(left), *capacity.Available, room)
		}
		return nil
	})
	for id := range sessions {
		w.over(t, fleet, id)
	}
	w.withdraw(t, fleet)
}

// checkUnshared sees that no two sessions that go on are on one instance or are one user's, and gives their users.
func (w *world) checkUnshared(t testing.TB, fleet string) map[string]string {
	t.Helper()
	users, on, of := map[string]string{}, map[string]string{}, map[string]string{}
	for _, s := range must(stage.Sessions(limit(t), w.aws, fleet, fleet))(t) {
		if s.State == types.SessionStateExpired {
			continue
		}
		if other := on[*s.InstanceId]; other != "" {
			t.Errorf("the sessions %s and %s are on one instance", other, *s.Id)
		}
		if other := of[*s.UserId]; other != "" {
			t.Errorf("the sessions %s and %s are both of %s", other, *s.Id, *s.UserId)
		}
		on[*s.InstanceId], of[*s.UserId], users[*s.Id] = *s.Id, *s.Id, *s.UserId
	}
	return users
}

// TestJavaScriptFleet runs js/fleet.mjs: a fleet's life by the SDK for JavaScript, in JSON and CBOR.
func TestJavaScriptFleet(t *testing.T) {
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("skipped: %s is not installed", program)
		}
	}
	w := simulated(t, "--sim-delay=20ms")
	key := must(keys.Read(w.Credentials()))(t)
	node := must(stage.Node(limit(t), "fleet.mjs", w.URL))(t)
	node.Env = append(node.Env, "AWS_ACCESS_KEY_ID="+key.ID, "AWS_SECRET_ACCESS_KEY="+key.Secret)
	out, err := node.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Log(strings.TrimSpace(string(out)))
}
