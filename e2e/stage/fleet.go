package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
	"github.com/coder/websocket"
)

// Fleet describes one fleet; nil when there is none of the name.
func Fleet(ctx context.Context, c *appstream.Client, name string) (*types.Fleet, error) {
	out, err := c.DescribeFleets(ctx, &appstream.DescribeFleetsInput{Names: []string{name}})
	if _, missing := errors.AsType[*types.ResourceNotFoundException](err); missing || err == nil && len(out.Fleets) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &out.Fleets[0], nil
}

// AwaitFleet waits until a fleet has a state, and so many of its instances, or places if people share them, are free.
func AwaitFleet(ctx context.Context, c *appstream.Client, name string, want types.FleetState, free int) (*types.Fleet, error) {
	var f *types.Fleet
	err := Until(ctx, func() (err error) {
		if f, err = Fleet(ctx, c, name); err != nil {
			return err
		}
		if f == nil {
			return Final(fmt.Errorf("there is no fleet %s", name))
		}
		n := f.ComputeCapacityStatus
		available := n.Available
		if n.AvailableUserSessions != nil {
			available = n.AvailableUserSessions
		}
		if f.State != want || available == nil || int(*available) != free {
			return fmt.Errorf("the fleet %s is %s and has %s free, not %s and %d; its errors: %v", name, f.State, number(available), want, free, problems(f))
		}
		return nil
	})
	return f, err
}

func number(n *int32) string {
	if n == nil {
		return "nothing"
	}
	return fmt.Sprint(*n)
}

func problems(f *types.Fleet) (list []string) {
	for _, e := range f.FleetErrors {
		list = append(list, string(e.ErrorCode)+": "+*e.ErrorMessage)
	}
	return list
}

// Sessions describes all sessions on a fleet by a stack.
func Sessions(ctx context.Context, c *appstream.Client, fleet, stack string) (list []types.Session, err error) {
	in := &appstream.DescribeSessionsInput{FleetName: &fleet, StackName: &stack, Limit: new(int32(50))}
	for {
		out, err := c.DescribeSessions(ctx, in)
		if err != nil {
			return nil, err
		}
		list = append(list, out.Sessions...)
		if in.NextToken = out.NextToken; in.NextToken == nil {
			return list, nil
		}
	}
}

// Visitor is a person at a streaming URL, without a browser: it has cookies, and asks what the viewer would ask.
type Visitor struct {
	Session string // its ID; "" if the address did not lead to one
	Status  int    // of the page that the address led to
	Page    string

	http *http.Client
	url  string // of the server
}

// Visit opens a streaming URL. What the address leads to is no error.
func (s *Server) Visit(ctx context.Context, address string) (*Visitor, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	v := &Visitor{http: &http.Client{Jar: jar, Timeout: time.Minute}, url: s.URL}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	answer, err := v.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	page, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	v.Status, v.Page = answer.StatusCode, string(page)
	_, v.Session, _ = strings.Cut(answer.Request.URL.Path, "/stream/")
	return v, nil
}

// Ask makes a request below the stream's address, as a page of the viewer, and gives the answer's status and body. Every body is
// said to be JSON unless it is a file's.
func (v *Visitor) Ask(ctx context.Context, method, path, body string) (status int, text string, err error) {
	r, err := http.NewRequestWithContext(ctx, method, v.url+"/stream/"+v.Session+"/"+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Origin", v.url)
	if body != "" && !strings.HasPrefix(path, "files/") {
		r.Header.Set("Content-Type", "application/json")
	}
	answer, err := v.http.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(io.LimitReader(answer.Body, 16<<20))
	return answer.StatusCode, string(content), err
}

// Stream opens the stream, which ends with ctx.
func (v *Visitor) Stream(ctx context.Context) (*websocket.Conn, error) {
	ws, answer, err := websocket.Dial(ctx, strings.Replace(v.url, "http", "ws", 1)+"/stream/"+v.Session+"/ws", &websocket.DialOptions{
		HTTPClient: v.http, Subprotocols: []string{"binary"}, HTTPHeader: http.Header{"Origin": {v.url}}})
	if err != nil {
		if answer != nil {
			err = fmt.Errorf("%w (%s)", err, answer.Status)
		}
		return nil, err
	}
	ws.SetReadLimit(16 << 20)
	return ws, nil
}
