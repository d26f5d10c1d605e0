package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/e2e/stage"
)

// connections is how many clients call at the same time.
const connections = 8

// describe compares signed calls of DescribeImageBuilders with a bare net/http handler that reads the request and writes the
// same bytes. Both are processes of their own; this one is the clients.
func (b *bench) describe(ctx context.Context) error {
	for _, n := range []int{1, 50} {
		if err := b.describeSome(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) describeSome(ctx context.Context, n int) error {
	s, end, err := b.server(ctx, fmt.Sprintf("describe-%d", n), stage.Config{Flags: []string{"--sim-delay=0s"}, TOML: "[quotas]\nimage_builders = 100\n[rates]\nread = 0\n"})
	if err != nil {
		return err
	}
	defer end()
	if err := fillWith(ctx, s, n, 1); err != nil {
		return err
	}
	r, err := s.Request(ctx, "PhotonAdminProxyService.DescribeImageBuilders", map[string]any{})
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(answer.Body)
	answer.Body.Close()
	if err != nil || answer.StatusCode != http.StatusOK {
		return fmt.Errorf("DescribeImageBuilders answers %s: %s, %v", answer.Status, body, err)
	}
	bareURL, stop, err := startBare(ctx, body)
	if err != nil {
		return err
	}
	defer stop()

	// The request as bytes, so that the clients cost as little as can be: on few processors their work is the servers' loss.
	if r, err = s.Request(ctx, "PhotonAdminProxyService.DescribeImageBuilders", map[string]any{}); err != nil {
		return err
	}
	var request bytes.Buffer
	if err := r.Write(&request); err != nil {
		return err
	}
	round := 2 * time.Second
	if b.quick {
		round /= 4
	}
	var oriel, bare []float64
	for range b.turns(7) {
		for _, side := range []struct {
			url  string
			rate *[]float64
		}{{s.URL, &oriel}, {bareURL, &bare}} {
			rate, err := load(ctx, side.url, [][]byte{request.Bytes()}, len(body), round)
			if err != nil {
				return err
			}
			*side.rate = append(*side.rate, rate)
		}
	}
	// Sizes differ a little when the second half of a timestamp has other digits; the handler writes what was read once.
	b.add(row{what: fmt.Sprintf("signed DescribeImageBuilders, %d builder%s (%d bytes), %d connections", n, plural(n), len(body), connections),
		oriel: fmt.Sprintf("%.0f/s", median(oriel)), beside: fmt.Sprintf("%.0f/s", median(bare)), comparee: "bare net/http handler",
		ratio: median(oriel) / median(bare), goal: "≥ 0.35"})
	return nil
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

// fillWith makes n image builders, so many at a time, and waits until all run.
func fillWith(ctx context.Context, s *stage.Server, n, workers int) error {
	c, err := s.Client()
	if err != nil {
		return err
	}
	work := make(chan int)
	errs := make(chan error, workers)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range work {
				_, err := c.CreateImageBuilder(ctx, &appstream.CreateImageBuilderInput{Name: new(fmt.Sprintf("builder-%04d", i)),
					ImageName: new(stage.BaseImage), InstanceType: new("stream.standard.small"), EnableDefaultInternetAccess: new(true)})
				if err != nil {
					errs <- err
					return
				}
			}
		})
	}
	var failed error
	for i := range n {
		select {
		case work <- i:
			continue
		case failed = <-errs:
		}
		break
	}
	close(work)
	wg.Wait()
	if failed != nil {
		return failed
	}
	return stage.Until(ctx, func() error {
		running := 0
		in := &appstream.DescribeImageBuildersInput{}
		for {
			out, err := c.DescribeImageBuilders(ctx, in)
			if err != nil {
				return err
			}
			for _, b := range out.ImageBuilders {
				if b.State == types.ImageBuilderStateFailed {
					return stage.Final(fmt.Errorf("%s is FAILED", *b.Name))
				}
				if b.State != types.ImageBuilderStateRunning {
					return fmt.Errorf("%s is %s", *b.Name, b.State)
				}
				running++
			}
			if in.NextToken = out.NextToken; in.NextToken == nil {
				break
			}
		}
		if running != n {
			return fmt.Errorf("%d of %d run", running, n)
		}
		return nil
	})
}

// load sends requests by turns over all connections for a while and gives the answers per second.
func load(ctx context.Context, address string, requests [][]byte, size int, length time.Duration) (float64, error) {
	u, err := url.Parse(address)
	if err != nil {
		return 0, err
	}
	var clients sync.WaitGroup
	counts, errs := make([]int, connections), make([]error, connections)
	begin := time.Now()
	end := begin.Add(length)
	for n := range connections {
		clients.Go(func() { counts[n], errs[n] = loadOne(ctx, u.Host, requests[n*len(requests)/connections:], size, end) })
	}
	clients.Wait()
	took := time.Since(begin)
	total := 0
	for _, c := range counts {
		total += c
	}
	return float64(total) / took.Seconds(), errors.Join(errs...)
}

func loadOne(ctx context.Context, host string, requests [][]byte, size int, end time.Time) (count int, err error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", host)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(end.Add(10 * time.Second)); err != nil {
		return 0, err
	}
	answers := bufio.NewReaderSize(conn, 64<<10)
	for time.Now().Before(end) {
		if _, err := conn.Write(requests[count%len(requests)]); err != nil {
			return count, err
		}
		if err := skip(answers, size); err != nil {
			return count, err
		}
		count++
	}
	return count, nil
}

// skip reads an HTTP answer of status 200 with a length, which is about size, and throws it away.
func skip(r *bufio.Reader, size int) error {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
		return fmt.Errorf("the server answers %q", line)
	}
	length := -1
	for {
		if line, err = r.ReadSlice('\n'); err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(strings.TrimSpace(string(value))); err != nil {
				return err
			}
		}
	}
	if length < size*9/10 {
		return fmt.Errorf("an answer has %d bytes, not about %d", length, size)
	}
	_, err = r.Discard(length)
	return err
}

// bareCommand makes this program the bare handler.
const bareCommand = "bare"

// startBare runs the bare handler in a process of its own. It writes body.
func startBare(ctx context.Context, body []byte) (address string, stop func(), err error) {
	c := exec.CommandContext(ctx, os.Args[0], bareCommand)
	c.Stdin = bytes.NewReader(body)
	out, err := c.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := c.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		c.Process.Kill()
		c.Wait()
	}
	if address, err = bufio.NewReader(out).ReadString('\n'); err != nil {
		stop()
		return "", nil, err
	}
	return strings.TrimSpace(address), stop, nil
}

func serveBare() error {
	body, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("http://%s\n", l.Addr())
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.Write(body)
	}))
}
