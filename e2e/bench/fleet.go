package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"

	"github.com/oriel-project/oriel/e2e/stage"
	"github.com/oriel-project/oriel/internal/agentapi"
)

// newFleet publishes the base image as a fleet and a stack of one name, and waits until all instances are free.
func newFleet(ctx context.Context, c *appstream.Client, name string, kind types.FleetType, instances int) error {
	_, err := c.CreateFleet(ctx, &appstream.CreateFleetInput{Name: &name, ImageName: new(stage.BaseImage), InstanceType: new("stream.standard.medium"), FleetType: kind,
		StreamView: types.StreamViewDesktop, EnableDefaultInternetAccess: new(true), ComputeCapacity: &types.ComputeCapacity{DesiredInstances: new(int32(instances))}})
	if err != nil {
		return err
	}
	if _, err := c.CreateStack(ctx, &appstream.CreateStackInput{Name: &name}); err != nil {
		return err
	}
	if _, err := c.AssociateFleet(ctx, &appstream.AssociateFleetInput{FleetName: &name, StackName: &name}); err != nil {
		return err
	}
	if _, err := c.StartFleet(ctx, &appstream.StartFleetInput{Name: &name}); err != nil {
		return err
	}
	_, err = stage.AwaitFleet(ctx, c, name, types.FleetStateRunning, instances)
	return err
}

func newLink(ctx context.Context, c *appstream.Client, fleet, user string) (string, error) {
	out, err := c.CreateStreamingURL(ctx, &appstream.CreateStreamingURLInput{FleetName: &fleet, StackName: &fleet, UserId: &user, Validity: new(int64(3600))})
	if err != nil {
		return "", err
	}
	return *out.StreamingURL, nil
}

// session measures from the navigation to a person's streaming URL to the first frame of his desktop, by the browser's clock: on
// a machine that runs, and on one that is started for him, beside the desktop of an image builder that runs all the time.
func (b *bench) session(ctx context.Context) error {
	s, end, err := b.server(ctx, "session", stage.Config{Engine: b.engine})
	if err != nil {
		return err
	}
	defer end()
	c, err := s.Client()
	if err != nil {
		return err
	}
	if err := newBuilder(ctx, c, "beside"); err != nil {
		return err
	}
	if _, err := stage.AwaitBuilder(ctx, c, "beside", types.ImageBuilderStateRunning); err != nil {
		return err
	}
	const always, demand = "always", "demand"
	for name, kind := range map[string]types.FleetType{always: types.FleetTypeAlwaysOn, demand: types.FleetTypeOnDemand} {
		if err := newFleet(ctx, c, name, kind, 1); err != nil {
			return err
		}
	}
	browser, err := stage.OpenBrowser(ctx)
	if err != nil {
		return err
	}
	defer browser.Close()
	took := map[string][]time.Duration{}
	for n := range b.turns(10) + 1 {
		for _, where := range []string{"beside", always, demand} {
			var link string
			if where == "beside" {
				url, err := c.CreateImageBuilderStreamingURL(ctx, &appstream.CreateImageBuilderStreamingURLInput{Name: new(where)})
				if err != nil {
					return err
				}
				link = *url.StreamingURL
			} else if link, err = newLink(ctx, c, where, fmt.Sprintf("user-%d", n)); err != nil {
				return err
			}
			page := browser.Page(fmt.Sprintf("%s-%d", where, n)) // with nothing in its cache
			if status, err := page.Open(ctx, link); err != nil || status != http.StatusOK {
				return fmt.Errorf("%s: the streaming URL leads to %d, %v", where, status, err)
			}
			first, err := page.FirstFrame(ctx)
			if err != nil {
				return err
			}
			if _, err := page.Close(ctx); err != nil {
				return err
			}
			if n > 0 {
				took[where] = append(took[where], first)
			}
			if where == "beside" {
				continue
			}
			// The fleet is as it was before the next one comes.
			if err := expireAll(ctx, c, where); err != nil {
				return err
			}
			if _, err := stage.AwaitFleet(ctx, c, where, types.FleetStateRunning, 1); err != nil {
				return err
			}
		}
	}
	const comparee = "desktop of an image builder that runs"
	b.add(row{what: "streaming URL of a user opened to the first frame in Chromium, ALWAYS_ON, new profile", oriel: spread(took[always]),
		beside: spread(took["beside"]), comparee: comparee, ratio: ratio(took[always], took["beside"])})
	b.add(row{what: "the same, ON_DEMAND: the machine is started for it", oriel: spread(took[demand]),
		beside: spread(took["beside"]), comparee: comparee, ratio: ratio(took[demand], took["beside"])})
	return nil
}

func expireAll(ctx context.Context, c *appstream.Client, fleet string) error {
	list, err := stage.Sessions(ctx, c, fleet, fleet)
	if err != nil {
		return err
	}
	for _, s := range list {
		if _, err := c.ExpireSession(ctx, &appstream.ExpireSessionInput{SessionId: s.Id}); err != nil {
			return err
		}
	}
	return nil
}

// replace compares the time from the end of a session to its fleet's next AVAILABLE instance with that of an equal container, made
// by hand through the engine's API, to its agent's being ready. Oriel ends the session and removes its machine in that time, too.
func (b *bench) replace(ctx context.Context) error {
	s, end, err := b.server(ctx, "replace", stage.Config{Engine: b.engine})
	if err != nil {
		return err
	}
	defer end()
	c, err := s.Client()
	if err != nil {
		return err
	}
	e, err := stage.OpenEngine(b.engine)
	if err != nil {
		return err
	}
	defer e.Close()
	const fleet = "replaced"
	if err := newFleet(ctx, c, fleet, types.FleetTypeAlwaysOn, 1); err != nil {
		return err
	}
	var oriel, hand []time.Duration
	for n := range b.turns(15) + 1 {
		link, err := newLink(ctx, c, fleet, fmt.Sprintf("user-%d", n))
		if err != nil {
			return err
		}
		v, err := s.Visit(ctx, link)
		if err != nil {
			return err
		}
		if v.Session == "" {
			return fmt.Errorf("the streaming URL leads to %d", v.Status)
		}
		var used types.Session
		err = stage.Until(ctx, func() error {
			list, err := stage.Sessions(ctx, c, fleet, fleet)
			if err != nil {
				return err
			}
			if len(list) != 1 || list[0].State != types.SessionStateActive {
				return fmt.Errorf("the sessions are %+v", list)
			}
			used = list[0]
			return nil
		})
		if err != nil {
			return err
		}
		like, err := e.Instance(ctx, s, *used.InstanceId)
		if err != nil {
			return err
		}
		begin := time.Now()
		if status, text, err := v.Ask(ctx, http.MethodPost, "end", ""); err != nil || status != http.StatusNoContent {
			return fmt.Errorf("the end is answered with %d, %s, %v", status, text, err)
		}
		for available := int32(0); available == 0; {
			f, err := stage.Fleet(ctx, c, fleet)
			if err != nil {
				return err
			}
			if available = *f.ComputeCapacityStatus.Available; available == 0 {
				time.Sleep(5 * time.Millisecond)
			}
		}
		took := time.Since(begin)
		again, err := b.agentByHand(ctx, e, s, like)
		if err != nil {
			return err
		}
		if n > 0 { // the first has all read from the disk
			oriel, hand = append(oriel, took), append(hand, again)
		}
	}
	b.add(row{what: "session ended to the next instance AVAILABLE", oriel: spread(oriel), beside: spread(hand),
		comparee: "equal container in the same network, by hand until its agent is ready", ratio: ratio(oriel, hand), goal: "≤ 1.50"})
	return nil
}

// agentByHand runs a container like another one, with a directory of its own, until its agent is ready, and removes it.
func (b *bench) agentByHand(ctx context.Context, e *stage.Engine, s *stage.Server, like container.InspectResponse) (time.Duration, error) {
	dir, err := os.MkdirTemp(b.dir, "a")
	if err != nil {
		return 0, err
	}
	config, host := *like.Config, *like.HostConfig
	config.Labels = maps.Clone(config.Labels)
	maps.DeleteFunc(config.Labels, func(label, _ string) bool { return len(label) > 6 && label[:6] == "oriel." })
	// What an instance has is in the directory of another one that is there now: the fleet's next.
	next, err := e.Machines(ctx, s)
	if err != nil {
		return 0, err
	}
	var run string
	host.Mounts = nil
	for _, m := range next[0].Mounts {
		target := filepath.Join(dir, filepath.Base(m.Source))
		if err := copyFiles(target, m.Source); err != nil {
			return 0, err
		}
		if m.Destination == agentapi.Dir {
			run = target
		}
		host.Mounts = append(host.Mounts, mount.Mount{Type: mount.TypeBind, Source: target, Target: m.Destination, ReadOnly: !m.RW})
	}
	if run == "" {
		return 0, errors.New("an instance has no directory for its agent's socket")
	}
	begin := time.Now()
	made, err := e.ContainerCreate(ctx, client.ContainerCreateOptions{Config: &config, HostConfig: &host})
	if err != nil {
		return 0, err
	}
	defer e.ContainerRemove(context.WithoutCancel(ctx), made.ID, client.ContainerRemoveOptions{Force: true})
	if _, err := e.ContainerStart(ctx, made.ID, client.ContainerStartOptions{}); err != nil {
		return 0, err
	}
	agent := agentapi.NewClient(func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(run, agentapi.SocketName))
	})
	defer agent.Close()
	for {
		status, err := agent.WaitReady(ctx, 10*time.Second)
		switch {
		case err == nil && status.Ready:
			return time.Since(begin), nil
		case time.Since(begin) > time.Minute:
			return 0, fmt.Errorf("the agent of a container by hand is not ready: %+v, %v", status, err)
		case err != nil:
			time.Sleep(time.Millisecond)
		}
	}
}

// copyFiles copies the regular files of a directory.
func copyFiles(to, from string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	list, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, f := range list {
		if !f.Type().IsRegular() {
			continue
		}
		info, err := f.Info()
		if err != nil {
			return err
		}
		text, err := os.ReadFile(filepath.Join(from, f.Name()))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, f.Name()), text, info.Mode().Perm()); err != nil {
			return err
		}
	}
	return nil
}

// claim has a thousand people open their links over a few connections, to a fleet with a thousand simulated instances.
func (b *bench) claim(ctx context.Context) error {
	const instances = 1000
	var rates, last []float64
	for n := range b.turns(3) {
		s, end, err := b.server(ctx, fmt.Sprintf("claim-%d", n), stage.Config{Flags: []string{"--sim-delay=0s"}, TOML: "[quotas]\nfleet_instances = 2000\n"})
		if err != nil {
			return err
		}
		all, late, err := claimAll(ctx, s, instances)
		end()
		if err != nil {
			return err
		}
		rates, last = append(rates, all), append(last, late)
	}
	b.add(row{what: fmt.Sprintf("sessions claimed on a fleet of %d simulated instances, %d connections that open links", instances, claimers), oriel: fmt.Sprintf("%.0f/s", median(rates))})
	b.add(row{what: "the same, the last hundred of the thousand", oriel: fmt.Sprintf("%.0f/s", median(last))})
	return nil
}

const claimers = 32 // connections

func claimAll(ctx context.Context, s *stage.Server, n int) (all, last float64, err error) {
	const fleet = "claimed"
	c, err := s.Client()
	if err != nil {
		return 0, 0, err
	}
	if err := newFleet(ctx, c, fleet, types.FleetTypeAlwaysOn, n); err != nil {
		return 0, 0, err
	}
	links := make(chan string, n)
	for user := range n {
		link, err := newLink(ctx, c, fleet, fmt.Sprintf("user-%04d", user))
		if err != nil {
			return 0, 0, err
		}
		links <- link
	}
	close(links)
	browser := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: claimers},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer browser.CloseIdleConnections()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var ends []time.Time
	errs := make([]error, claimers)
	begin := time.Now()
	for i := range claimers {
		wg.Go(func() {
			for link := range links {
				r, err := http.NewRequestWithContext(ctx, http.MethodGet, link, nil)
				if err != nil {
					errs[i] = err
					return
				}
				answer, err := browser.Do(r)
				if err != nil {
					errs[i] = err
					return
				}
				_, err = io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
				if err != nil || answer.StatusCode != http.StatusSeeOther {
					errs[i] = fmt.Errorf("a streaming URL leads to %s, %v", answer.Status, err)
					return
				}
				mu.Lock()
				ends = append(ends, time.Now())
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return 0, 0, err
	}
	list, err := stage.Sessions(ctx, c, fleet, fleet)
	if err != nil {
		return 0, 0, err
	}
	on := map[string]bool{}
	for _, one := range list {
		on[*one.InstanceId] = true
	}
	if len(list) != n || len(on) != n {
		return 0, 0, fmt.Errorf("%d links gave %d sessions on %d instances", n, len(list), len(on))
	}
	return float64(n) / ends[n-1].Sub(begin).Seconds(), 100 / ends[n-1].Sub(ends[n-101]).Seconds(), nil
}
