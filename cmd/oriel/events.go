package main

import (
	"cmp"
	"context"
	"encoding/json/v2"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// logCall is what the commands need that show lines of a log.
type logCall struct {
	place
	remote
	Number      int    `short:"n" help:"How many at most, the newest." default:"50" placeholder:"N"`
	Follow      bool   `short:"f" help:"Go on with what happens from now on, until Ctrl-C."`
	JSON        bool   `help:"One JSON object a line."`
	Account     string `help:"Of this account (default: the one of the key that asks). Another one only with the server's own key." placeholder:"DIGITS" xor:"account"`
	AllAccounts bool   `help:"Of all accounts; only with the server's own key." xor:"account"`
}

// logPage is how many lines are asked for at a time, and logWait how many seconds the server waits for the next one.
const (
	logPage = 200
	logWait = 20
)

// logLine is a line of a log as it is printed for people.
type logLine interface{ text() string }

// show prints the newest lines that an operation gives, the oldest first, and then those that follow. members is where its answer has them, resource what they
// are about, "" for all.
func show[T logLine](ctx context.Context, c *logCall, operation, members, resource string, in map[string]any, w io.Writer) error {
	client, err := c.connect(c.forClient(c.Endpoint))
	if err != nil {
		return err
	}
	if c.Number < 1 {
		return fmt.Errorf("--number is %d; it must be at least 1", c.Number)
	}
	in["Account"], in["AllAccounts"] = optional(c.Account), c.AllAccounts
	ask := func() (list []T, next, latest string, err error) {
		var out map[string]any
		if err := client.call(ctx, "Oriel."+operation, in, &out); err != nil {
			return nil, "", "", err
		}
		text, err := json.Marshal(out[members])
		if err == nil {
			err = json.Unmarshal(text, &list)
		}
		next, _ = out["NextToken"].(string)
		latest, _ = out["Latest"].(string)
		return list, next, latest, err
	}
	var lines []T // the newest first
	latest := ""
	for len(lines) < c.Number {
		in["MaxResults"] = min(c.Number-len(lines), logPage)
		list, next, newest, err := ask()
		if c.Follow && ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if latest == "" {
			latest = newest
		}
		if lines = append(lines, list...); next == "" {
			break
		}
		in["NextToken"] = next
	}
	if len(lines) == 0 && !c.Follow {
		fmt.Fprintln(os.Stderr, "nothing is noted of", cmp.Or(resource, "any resource"))
	}
	for n := len(lines) - 1; n >= 0; n-- {
		if err := c.print(w, lines[n]); err != nil {
			return err
		}
	}
	delete(in, "NextToken")
	in["MaxResults"], in["WaitInSeconds"] = logPage, logWait
	for c.Follow {
		in["After"] = latest
		list, _, newest, err := ask()
		if ctx.Err() != nil {
			return nil // Ctrl-C is how it ends
		}
		if err != nil {
			return err
		}
		for _, line := range list {
			if err := c.print(w, line); err != nil {
				return err
			}
		}
		latest = newest
	}
	return nil
}

func (c *logCall) print(w io.Writer, line logLine) error {
	if c.JSON {
		return printJSON(w, []logLine{line})
	}
	_, err := fmt.Fprintln(w, line.text())
	return err
}

// printJSON prints a list for programs, one object a line.
func printJSON[T any](w io.Writer, list []T) error {
	for _, v := range list {
		object, err := json.Marshal(v, json.Deterministic(true))
		if err == nil {
			_, err = fmt.Fprintf(w, "%s\n", object)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// logTime is a time of the API, which JSON for people has as RFC 3339.
type logTime struct{ time.Time }

// UnmarshalJSON reads seconds since 1970.
func (t *logTime) UnmarshalJSON(text []byte) error {
	var s float64
	err := json.Unmarshal(text, &s)
	t.Time = time.UnixMilli(int64(s * 1000)).UTC()
	return err
}

type eventsCommand struct {
	logCall
	Resource   string `arg:"" optional:"" help:"Name or ARN of a resource, which may be gone. Default: all."`
	AllRegions bool   `help:"Of all regions."`
}

// event is what the server tells of an event.
type event struct {
	EventID     string `json:"EventId"`
	Time        logTime
	ResourceArn string
	From        string `json:",omitzero"`
	To          string `json:",omitzero"`
	Step        bool   `json:",omitzero"`
	Message     string `json:",omitzero"`
}

func (e event) text() string {
	what := e.From + " → " + e.To
	switch {
	case e.Step:
		what = e.Message
	case e.From == "":
		what = "→ " + e.To
	case e.To == "":
		what = e.From + " → gone"
	}
	if !e.Step && e.Message != "" {
		what += ": " + firstLine(e.Message)
	}
	resource := e.ResourceArn
	if part := strings.SplitN(resource, ":", 6); len(part) == 6 {
		resource = part[5]
	}
	return e.Time.Format(time.RFC3339) + "  " + resource + "  " + what
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// Run prints the events.
func (c *eventsCommand) Run(ctx context.Context) error {
	in := map[string]any{"AllRegions": c.AllRegions}
	member := "ResourceName"
	if strings.HasPrefix(c.Resource, "arn:") {
		member = "ResourceArn"
	}
	in[member] = optional(c.Resource)
	return show[event](ctx, &c.logCall, "DescribeEvents", "Events", c.Resource, in, os.Stdout)
}

type auditCommand struct {
	logCall
	Resource string `arg:"" optional:"" help:"ARN of a resource. Default: all."`
}

// auditLine is what the server tells of a line of its audit log.
type auditLine struct {
	LineID    string `json:"LineId"`
	Time      logTime
	Principal string
	SourceIP  string `json:"SourceIp,omitzero"`
	Action    string
	Resource  string `json:",omitzero"`
	Error     string `json:",omitzero"`
	RequestID string `json:"RequestId,omitzero"`
}

func (l auditLine) text() string {
	outcome := l.Error
	if outcome == "" {
		outcome = "done"
	}
	return strings.TrimRight(strings.Join([]string{l.Time.Format(time.RFC3339), l.Action, outcome, l.Principal, l.SourceIP, l.Resource}, "  "), " ")
}

// Run prints the lines.
func (c *auditCommand) Run(ctx context.Context) error {
	if c.Resource != "" && !strings.HasPrefix(c.Resource, "arn:") {
		return fmt.Errorf("%s is not an ARN; for example arn:aws:appstream:us-east-1:123456789012:image/NAME", c.Resource)
	}
	return show[auditLine](ctx, &c.logCall, "DescribeAuditLog", "Lines", c.Resource, map[string]any{"ResourceArn": optional(c.Resource)}, os.Stdout)
}
