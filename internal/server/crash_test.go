package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/aws/smithy-go"

	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/config"
	"github.com/oriel-project/oriel/internal/keys"
)

// TestMain is the tests, or, in a process that TestKill starts, a server.
func TestMain(m *testing.M) {
	if data := os.Getenv("ORIEL_TEST_SERVE"); data != "" {
		if err := serve(data); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func serve(data string) error {
	c := config.Default()
	c.Listen, c.Data, c.Provider, c.SimDelay = "127.0.0.1:0", data, config.Sim, config.Duration{Duration: 10 * time.Millisecond}
	c.Quotas = config.Quotas{ImageBuilders: 1000, Images: 1000}
	if err := c.Check(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	s, err := Open(ctx, Config{Config: c, Version: "test", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	s.drain = 10 * patience
	fmt.Println(s.URL())
	return errors.Join(s.Run(ctx), s.Close())
}

// child is a server in a process of its own.
type child struct {
	*exec.Cmd
	url string
}

func spawn(t *testing.T, data string) *child {
	t.Helper()
	c := &child{Cmd: exec.Command(os.Args[0])}
	c.Env = append(os.Environ(), "ORIEL_TEST_SERVE="+data)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill() })
	lines := bufio.NewScanner(out)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "http://") {
		t.Fatalf("the server says %q", lines.Text())
	}
	c.url = lines.Text()
	return c
}

// end sends a signal and waits.
func (c *child) end(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := c.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil && s != syscall.SIGKILL {
		t.Errorf("the server ended with %v", err)
	}
}

// TestKill kills servers with SIGKILL while clients create, stop, start and delete image builders and make images of them. What a
// server has answered is so: nothing is lost, nothing is stuck, and no machine is left over.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("starts and kills processes")
	}
	const rounds, workers = 10, 4
	data := t.TempDir()
	random := rand.New(rand.NewPCG(1, 2))
	// What the servers have answered: a builder exists for sure, or not any more. One whose last answer is missing may be either.
	var mu sync.Mutex
	exists := map[string]bool{}
	operations := 0
	dealt := make(chan struct{}, 1000)

	for round := range rounds {
		server := spawn(t, data)
		c := connect(t, data, server.url)
		key := must(keys.Read(CredentialsFile(data)))(t)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for worker := range workers {
			choose := rand.New(rand.NewPCG(uint64(round), uint64(worker)))
			wg.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					name := fmt.Sprintf("b-%d-%d-%d", round, worker, n)
					if !do(ctx, c, server.url, key, name, choose, &mu, exists) {
						return
					}
					dealt <- struct{}{}
				}
			})
		}
		// After some work; and when exactly, is chance: the point is to hit any moment.
		for range 10 + random.IntN(30) {
			select {
			case <-dealt:
				operations++
			case <-time.After(patience):
				t.Fatal("the clients do not get on")
			}
		}
		time.Sleep(time.Duration(random.IntN(5000)) * time.Microsecond)
		server.end(t, syscall.SIGKILL)
		cancel()
		wg.Wait()
	}
	server := spawn(t, data)
	c := connect(t, data, server.url)
	var builders map[string]string
	eventually(t, "everything comes to rest", func() bool {
		builders = map[string]string{}
		list := &sdk.DescribeImageBuildersInput{MaxResults: new(int32(20))} // pages are a part of what must be right
		rest := true
		for {
			out := must(c.DescribeImageBuilders(t.Context(), list))(t)
			for _, b := range out.ImageBuilders {
				builders[*b.Name] = string(b.State)
				rest = rest && settled(string(b.State))
			}
			if out.NextToken == nil {
				return rest
			}
			list.NextToken = out.NextToken
		}
	})
	for name, should := range exists {
		if _, is := builders[name]; is != should {
			t.Errorf("%s exists: %v, as the server had answered: %v", name, is, should)
		}
	}
	for name, state := range builders {
		if state == appstream.BuilderFailed {
			t.Errorf("%s is FAILED", name)
		}
	}
	captured := 0
	images := &sdk.DescribeImagesInput{Type: types.VisibilityTypePrivate}
	for {
		out := must(c.DescribeImages(t.Context(), images))(t)
		for _, i := range out.Images {
			if i.State != types.ImageStateAvailable {
				t.Errorf("the image %s is %s: %v", *i.Name, i.State, i.StateChangeReason)
			}
			captured++
		}
		if out.NextToken == nil {
			break
		}
		images.NextToken = out.NextToken
	}
	begin := time.Now()
	server.end(t, syscall.SIGTERM)
	if d := time.Since(begin); d > patience {
		t.Errorf("SIGTERM took %s", d)
	}

	// The machines are those of the builders, no more and no fewer.
	cfg := simConfig(t, data)
	s, _ := start(t, cfg)
	machines := must(s.provider.List(t.Context()))(t)
	if len(machines) != len(builders) {
		t.Errorf("%d machines for %d builders", len(machines), len(builders))
	}
	if captured < rounds {
		t.Errorf("only %d images were made", captured)
	}
	t.Logf("%d builders were dealt with in %d servers; %d are left, and %d images", operations, rounds, len(builders), captured)
}

// do makes a builder and does something with it; false when the server is gone.
func do(ctx context.Context, c *sdk.Client, url string, key keys.Key, name string, choose *rand.Rand, mu *sync.Mutex, exists map[string]bool) bool {
	known := func(is bool) {
		mu.Lock()
		defer mu.Unlock()
		exists[name] = is
	}
	if _, err := c.CreateImageBuilder(ctx, newBuilder(name)); err != nil {
		return answered(err)
	}
	known(true)
	var err error
	switch choose.IntN(3) {
	case 0: // whatever state it is in
		mu.Lock()
		delete(exists, name)
		mu.Unlock()
		if _, err = c.DeleteImageBuilder(ctx, &sdk.DeleteImageBuilderInput{Name: &name}); err == nil {
			known(false)
		}
	case 1:
		for ctx.Err() == nil {
			if _, err = c.StopImageBuilder(ctx, &sdk.StopImageBuilderInput{Name: &name}); err == nil || !answered(err) {
				break
			}
			time.Sleep(2 * time.Millisecond)
		}
	case 2: // as soon as it is RUNNING
		for status := 0; status != http.StatusOK; time.Sleep(2 * time.Millisecond) {
			var resp *http.Response
			resp, _, err = send(ctx, url, key, "us-east-1", "Oriel.CreateImage", false, fmt.Appendf(nil, `{"ImageBuilderName":%q,"Name":%q}`, name, "of-"+name))
			if err != nil {
				return false
			}
			status = resp.StatusCode
		}
	}
	return answered(err)
}

// answered tells whether an error, or none, is the server's answer rather than its silence.
func answered(err error) bool {
	_, ok := errors.AsType[smithy.APIError](err)
	return err == nil || ok
}
