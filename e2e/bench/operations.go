package main

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/e2e/stage"
)

// How many resources the two servers have that operations compares.
const few, many = 100, 10_000

// The server keeps answers until something changes. So that nearly all are made anew, so many requests of an operation are sent by turns, which differ in
// a member that the operation does not know, and something is changed so often.
const (
	variants   = 1000
	changeEach = 20 * time.Millisecond
)

const accountARN = "arn:aws:appstream:" + stage.Region + ":123456789012:"

// used are ten operations that automations call most, with what they are called with here.
var used = []struct {
	name string
	in   map[string]any
}{
	{"DescribeImageBuilders", map[string]any{"Names": []string{"builder-0042"}}},
	{"DescribeImages", map[string]any{}},
	{"DescribeFleets", map[string]any{"Names": []string{"pool"}}},
	{"DescribeStacks", map[string]any{"Names": []string{"desk"}}},
	{"DescribeSessions", map[string]any{"FleetName": "pool", "StackName": "desk"}},
	{"ListAssociatedFleets", map[string]any{"StackName": "desk"}},
	{"ListTagsForResource", map[string]any{"ResourceArn": accountARN + "stack/desk"}},
	{"TagResource", map[string]any{"ResourceArn": accountARN + "stack/desk", "Tags": map[string]string{"team": "blue"}}},
	{"UpdateStack", map[string]any{"Name": "desk", "DisplayName": "Desk"}},
	{"CreateStreamingURL", map[string]any{"FleetName": "pool", "StackName": "desk", "UserId": "ann"}},
}

// fewAndMany starts a server with few resources and one with many.
func (b *bench) fewAndMany(ctx context.Context, name string) (servers []*stage.Server, end func(), err error) {
	var ends []func()
	end = func() {
		for _, end := range ends {
			end()
		}
	}
	for _, n := range []int{few, many} {
		s, stop, err := b.server(ctx, fmt.Sprint(name, "-", n), stage.Config{Flags: []string{"--sim-delay=0s"},
			TOML: "[quotas]\nimage_builders = 100000\n[rates]\nread = 0\nwrite = 0\n[rates.operations]\nCreateStreamingURL = 0\n"})
		if err != nil {
			end()
			return nil, nil, err
		}
		ends = append(ends, stop)
		if err = fillWith(ctx, s, n, 16); err == nil {
			err = serveDesk(ctx, s)
		}
		if err != nil {
			end()
			return nil, nil, err
		}
		servers = append(servers, s)
	}
	return servers, end, nil
}

// operations compares a server with 10,000 resources with one with 100: calls per second of ten operations in both protocols.
func (b *bench) operations(ctx context.Context) error {
	servers, end, err := b.fewAndMany(ctx, "operations")
	if err != nil {
		return err
	}
	defer end()
	for _, protocol := range []string{"JSON", "CBOR"} {
		for _, op := range used {
			if err := b.calls(ctx, servers, protocol, op.name, op.in); err != nil {
				return fmt.Errorf("%s in %s: %w", op.name, protocol, err)
			}
		}
	}
	return nil
}

// serveDesk makes a fleet that runs and a stack for it.
func serveDesk(ctx context.Context, s *stage.Server) error {
	c, err := s.Client()
	if err != nil {
		return err
	}
	_, err = c.CreateFleet(ctx, &appstream.CreateFleetInput{Name: new("pool"), ImageName: new(stage.BaseImage), InstanceType: new("stream.standard.small"),
		FleetType: types.FleetTypeAlwaysOn, ComputeCapacity: &types.ComputeCapacity{DesiredInstances: new(int32(1))}})
	if err == nil {
		_, err = c.CreateStack(ctx, &appstream.CreateStackInput{Name: new("desk"), Tags: map[string]string{"team": "blue"}})
	}
	if err == nil {
		_, err = c.AssociateFleet(ctx, &appstream.AssociateFleetInput{FleetName: new("pool"), StackName: new("desk")})
	}
	if err == nil {
		_, err = c.StartFleet(ctx, &appstream.StartFleetInput{Name: new("pool")})
	}
	if err != nil {
		return err
	}
	return stage.Until(ctx, func() error {
		out, err := c.DescribeFleets(ctx, &appstream.DescribeFleetsInput{Names: []string{"pool"}})
		if err == nil && out.Fleets[0].State != types.FleetStateRunning {
			err = errors.New("the fleet does not run")
		}
		return err
	})
}

// calls measures how often an operation can be called.
func (b *bench) calls(ctx context.Context, servers []*stage.Server, protocol, name string, in map[string]any) error {
	const target = "PhotonAdminProxyService."
	round := time.Second
	if b.quick {
		round /= 4
	}
	requests := make([][][]byte, len(servers))
	sizes := make([]int, len(servers))
	rates := make([][]float64, len(servers))
	for range b.turns(5) {
		for side, s := range servers {
			if requests[side] == nil { // signed now: signatures do not last for ever
				sign := s.Request
				if protocol == "CBOR" {
					sign = s.RequestCBOR
				}
				for n := range variants {
					in["Variant"] = n
					r, err := sign(ctx, target+name, in)
					if err != nil {
						return err
					}
					var text bytes.Buffer
					if err := r.Write(&text); err != nil {
						return err
					}
					requests[side] = append(requests[side], text.Bytes())
				}
				r, err := sign(ctx, target+name, in)
				if err != nil {
					return err
				}
				answer, _, err := ask(r)
				if err != nil {
					return err
				}
				sizes[side] = len(answer)
			}
			stop := keepChanging(ctx, s)
			rate, err := load(ctx, s.URL, requests[side], sizes[side], round)
			if err = errors.Join(err, stop()); err != nil {
				return err
			}
			rates[side] = append(rates[side], rate)
		}
	}
	b.add(row{what: fmt.Sprintf("%s, %s, %d resources, %d connections", name, protocol, many, connections), oriel: fmt.Sprintf("%.0f/s", median(rates[1])),
		beside: fmt.Sprintf("%.0f/s", median(rates[0])), comparee: fmt.Sprintf("with %d resources", few), ratio: median(rates[1]) / median(rates[0]), goal: "≥ 0.83"})
	return nil
}

// pages goes through the pages of DescribeImageBuilders on two such servers, a page of the one and a page of the other by turns.
func (b *bench) pages(ctx context.Context) error {
	servers, end, err := b.fewAndMany(ctx, "pages")
	if err != nil {
		return err
	}
	defer end()
	const size = 50
	steps := 20_000 // so that the slowest hundredth is of many
	if b.quick {
		steps /= 10
	}
	sides := []struct {
		s     *stage.Server
		token string
		took  []time.Duration
	}{{s: servers[0]}, {s: servers[1]}}
	for range steps {
		for n := range sides {
			side := &sides[n]
			in := map[string]any{"MaxResults": size}
			if side.token != "" {
				in["NextToken"] = side.token
			} else if err := touch(ctx, side.s); err != nil { // so that no page is answered as the last time
				return err
			}
			r, err := side.s.Request(ctx, "PhotonAdminProxyService.DescribeImageBuilders", in)
			if err != nil {
				return err
			}
			answer, took, err := ask(r)
			if err != nil {
				return err
			}
			var page struct {
				ImageBuilders []struct{ Name string }
				NextToken     string
			}
			if err := json.Unmarshal(answer, &page); err != nil || len(page.ImageBuilders) != size {
				return fmt.Errorf("a page of %d: %v", len(page.ImageBuilders), err)
			}
			side.token, side.took = page.NextToken, append(side.took, took)
		}
	}
	for _, q := range []struct {
		name string
		part float64
		goal string
	}{{"median", 0.5, ""}, {"p99", 0.99, "≤ 1.20"}} {
		at := func(took []time.Duration) time.Duration {
			return slices.Sorted(slices.Values(took))[int(q.part*float64(len(took)-1))]
		}
		beside, oriel := at(sides[0].took), at(sides[1].took)
		b.add(row{what: fmt.Sprintf("pages of %d of DescribeImageBuilders, %s of %d, %d builders", size, q.name, steps, many), oriel: micros(oriel), beside: micros(beside),
			comparee: fmt.Sprintf("with %d builders", few), ratio: float64(oriel) / float64(beside), goal: q.goal})
	}
	return nil
}

func micros(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d)/1e6) }

// touch changes something.
func touch(ctx context.Context, s *stage.Server) error {
	r, err := s.Request(ctx, "PhotonAdminProxyService.TagResource", map[string]any{"ResourceArn": accountARN + "stack/desk", "Tags": map[string]string{"team": "blue"}})
	if err != nil {
		return err
	}
	_, _, err = ask(r)
	return err
}

// keepChanging changes something again and again until it is stopped.
func keepChanging(ctx context.Context, s *stage.Server) (stop func() error) {
	end, done := make(chan struct{}), make(chan error, 1)
	go func() {
		ticker := time.NewTicker(changeEach)
		defer ticker.Stop()
		for {
			select {
			case <-end:
				done <- nil
				return
			case <-ticker.C:
				if err := touch(ctx, s); err != nil {
					done <- err
					return
				}
			}
		}
	}()
	return func() error {
		close(end)
		return <-done
	}
}

// ask sends a request and gives the answer, and how long it took.
func ask(r *http.Request) ([]byte, time.Duration, error) {
	began := time.Now()
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, 0, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	took := time.Since(began)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.300s", answer.Status, body)
	}
	return body, took, err
}
