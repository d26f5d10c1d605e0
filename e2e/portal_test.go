package e2e

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
)

// testPortal is a user of the pool, from the invitation to a session on a real machine and back, with the tools of the administrator and a browser.
func (w *world) testPortal(t *testing.T) {
	needAWS(t)
	const jane, password = "jane@example.com", "a horse of one's own"
	w.publish(t, "portal", "office", 1, func(_ *appstream.CreateFleetInput, in *appstream.CreateStackInput) {
		in.DisplayName, in.Description, in.FeedbackURL = new("The office"), new("For letters and sums"), new("https://example.com/feedback")
	})
	w.command(t, nil, "create-user", "--authentication-type", "USERPOOL", "--user-name", jane, "--first-name", "Jane", "--last-name", "Roe")
	w.command(t, nil, "batch-associate-user-stack", "--user-stack-associations", "StackName=portal,UserName="+jane+",AuthenticationType=USERPOOL")
	out, err := w.Oriel(limit(t), false, "users", "show-invitation", jane).CombinedOutput()
	found := regexp.MustCompile(`Sign in at: +(\S+)\n(?s:.*)Temporary password: +(\S+)\n`).FindSubmatch(out)
	if err != nil || found == nil {
		t.Fatalf("show-invitation: %v\n%s", err, out)
	}
	address, temporary := string(found[1]), string(found[2])
	if !strings.HasPrefix(address, w.URL) {
		t.Errorf("the portal is at %s", address)
	}

	s := &seat{Page: needBrowser(t).Page(t.Name()), w: w, fleet: "portal"}
	t.Cleanup(func() { s.leave(t) })
	check(t, s.Context(limit(t), map[string]any{"permissions": []string{}}))
	if status := must(s.Open(limit(t), address))(t); status != 200 {
		t.Fatalf("the portal answers %d", status)
	}
	check(t, s.Fill(limit(t), "[name=email]", jane))
	check(t, s.Fill(limit(t), "[name=password]", temporary))
	check(t, s.Click(limit(t), "main button"))
	check(t, s.Fill(limit(t), "[name=new]", password))
	check(t, s.Fill(limit(t), "[name=again]", password))
	check(t, s.Click(limit(t), "main .sheet-form button"))
	check(t, s.Shown(limit(t), ".offer", true))
	check(t, s.Shown(limit(t), "[value=Hello] img", true))
	s.screenshot(limit(t), t, "portal")

	check(t, s.Click(limit(t), "[value=Findings]"))
	check(t, s.State(limit(t), "connected"))
	_, s.session, _ = strings.Cut(must(s.Address(limit(t)))(t), "/stream/")
	session := w.awaitSession(t, "portal", s.session, types.SessionStateActive)
	if session.AuthenticationType != types.AuthenticationTypeUserpool || *session.UserId != jane {
		t.Errorf("the session is of %s by %s", *session.UserId, session.AuthenticationType)
	}
	s.machine = must(w.engine.Instance(limit(t), w.Server, *session.InstanceId))(t).ID
	seen := findings(t, func() (string, error) {
		text, code, err := w.engine.Exec(limit(t), s.machine, "root", "cat /home/*/MyFiles/findings.txt")
		if err == nil && code != 0 {
			err = errors.New(text)
		}
		return text, err
	})
	for name, want := range map[string]string{"AppStream_UserName": jane, "AppStream_User_Access_Mode": "userpool", "AppStream_Stack_Name": "portal"} {
		if got := strings.Join(seen[name], " "); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	s.screenshot(limit(t), t, "session")
	s.end(t)
	s.screenshot(limit(t), t, "ended")
	check(t, s.Click(limit(t), `#veil-actions [href^="/portal/"]`))
	check(t, s.Shown(limit(t), ".offer", true))
	check(t, s.Click(limit(t), `form[action$="/sign-out"] button`))
	check(t, s.Shown(limit(t), "[name=password]", true))

	w.command(t, nil, "delete-user", "--authentication-type", "USERPOOL", "--user-name", jane)
	w.withdraw(t, "portal")
}
