package keyring_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/oriel-project/oriel/internal/api/iam"
	"github.com/oriel-project/oriel/internal/appstream"
	"github.com/oriel-project/oriel/internal/keyring"
	"github.com/oriel-project/oriel/internal/store"
	"github.com/oriel-project/oriel/internal/store/sqlite"
)

const (
	me, other = "123456789012", "210987654321"
	own, file = "ORIELOWN000000000000", "ORIELFILE00000000000"
	look      = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"appstream:Describe*","Resource":"*"}}`
)

type fixture struct {
	*keyring.Ring
	t     testing.TB
	store store.Store
	cfg   keyring.Config
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	s, err := sqlite.Open(context.Background(), filepath.Join(t.TempDir(), "oriel.db"), sqlite.WithoutSync())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	policy, err := iam.Parse([]byte(look))
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, store: s, cfg: keyring.Config{Store: s, Log: slog.New(slog.DiscardHandler), Fixed: []keyring.Key{
		{ID: own, Secret: "own-secret-01234567", Account: me, Principal: "arn:aws:iam::" + me + ":root", Origin: keyring.OwnKey},
		{ID: file, Secret: "file-secret-0123456", Account: me, Principal: "arn:aws:iam::" + me + ":user/file", Policy: policy, Document: look, Origin: keyring.Configuration},
	}}}
	f.open()
	return f
}

// open opens the ring, as a server that starts does.
func (f *fixture) open() {
	f.t.Helper()
	r, err := keyring.Open(context.Background(), f.cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	r.Know([]string{"appstream:DescribeImages", "oriel:CreateAccessKey"})
	f.Ring = r
}

// as is the context of a request that was signed with a key.
func as(account, key string) context.Context {
	return appstream.WithCaller(context.Background(), appstream.Caller{Account: account, AccessKeyID: key, Principal: "arn:aws:iam::" + account + ":user/who", RequestID: "r-1"})
}

// create makes a key of a user.
func (f *fixture) create(ctx context.Context, user string) (id, secret string) {
	f.t.Helper()
	out, err := f.CreateAccessKey(ctx, &keyring.CreateAccessKeyInput{UserName: &user, PolicyDocument: new(look)})
	if err != nil {
		f.t.Fatal(err)
	}
	return *out.AccessKey.AccessKeyId, *out.SecretAccessKey
}

// usable tells which of some keys requests may be signed with.
func (f *fixture) usable(ids ...string) (list []bool) {
	for _, id := range ids {
		_, ok := f.Find(id)
		list = append(list, ok)
	}
	return list
}

func wantKind(t testing.TB, err error, kind appstream.Kind, says string) {
	t.Helper()
	if appstream.KindOf(err) != kind || err != nil && !strings.Contains(err.Error(), says) {
		t.Errorf("the error is %v, want %s and %q", err, kind, says)
	}
}

// TestLife: what is done with a key counts from the next request on, and after a restart.
func TestLife(t *testing.T) {
	f := newFixture(t)
	synctest.Test(t, func(t *testing.T) {
		ctx := as(me, own)
		id, secret := f.create(ctx, "ci")
		k, ok := f.Find(id)
		if !ok || k.Secret != secret || len(secret) != 40 || k.Account != me || k.Principal != "arn:aws:iam::"+me+":user/ci" || k.Origin != keyring.Made {
			t.Fatalf("found %v: %+v", ok, k)
		}
		if d := k.Policy.Decide(&iam.Request{Action: "appstream:DescribeImages", Resource: "*"}); d != iam.Allow {
			t.Errorf("it may look: %v", d)
		}
		if d := k.Policy.Decide(&iam.Request{Action: "oriel:CreateAccessKey", Resource: "*"}); d != iam.ImplicitDeny {
			t.Errorf("it may make keys: %v", d)
		}
		check := func(what string, want bool) {
			t.Helper()
			if got := f.usable(id)[0]; got != want {
				t.Errorf("%s: usable %v", what, got)
			}
			f.open()
			if got := f.usable(id)[0]; got != want {
				t.Errorf("%s, after a restart: usable %v", what, got)
			}
		}
		update := func(status string) {
			t.Helper()
			out, err := f.UpdateAccessKey(ctx, &keyring.UpdateAccessKeyInput{AccessKeyId: &id, Status: &status})
			if err != nil || *out.AccessKey.Status != status {
				t.Fatalf("%s: %+v, %v", status, out, err)
			}
		}
		update("Inactive")
		check("disabled", false)
		update("Inactive")
		_, err := f.RotateAccessKey(ctx, &keyring.RotateAccessKeyInput{AccessKeyId: &id})
		wantKind(t, err, appstream.OperationNotPermitted, "Inactive")
		update("Active")
		check("enabled", true)

		// With a grace, both work for a while.
		out, err := f.RotateAccessKey(ctx, &keyring.RotateAccessKeyInput{AccessKeyId: &id, GraceSeconds: new(int32(3600))})
		if err != nil {
			t.Fatal(err)
		}
		fresh := *out.AccessKey.AccessKeyId
		if k, ok := f.Find(fresh); !ok || fresh == id || k.Principal != "arn:aws:iam::"+me+":user/ci" || k.Document != look || k.Secret != *out.SecretAccessKey || k.Secret == secret {
			t.Errorf("the new key: %v", ok)
		}
		if *out.Replaced.Status != "Active" || time.Until(*out.Replaced.ExpirationDate) != time.Hour {
			t.Errorf("the old key is %s until %v", *out.Replaced.Status, out.Replaced.ExpirationDate)
		}
		time.Sleep(time.Hour - 1)
		check("within the grace", true)
		time.Sleep(time.Nanosecond)
		check("after the grace", false)
		_, err = f.RotateAccessKey(ctx, &keyring.RotateAccessKeyInput{AccessKeyId: &id})
		wantKind(t, err, appstream.OperationNotPermitted, "Inactive")
		list, err := f.ListAccessKeys(ctx, &keyring.ListAccessKeysInput{})
		if n := slices.IndexFunc(list.AccessKeys, func(k keyring.AccessKey) bool { return *k.AccessKeyId == id }); err != nil || n < 0 || *list.AccessKeys[n].Status != "Inactive" {
			t.Errorf("an expired key is listed as %+v", list)
		}
		update("Active")
		check("enabled again, for ever", true)

		// A second rotation does not make the time of the first longer.
		for _, grace := range []int32{3600, 7200} {
			if out, err = f.RotateAccessKey(ctx, &keyring.RotateAccessKeyInput{AccessKeyId: &id, GraceSeconds: &grace}); err != nil || time.Until(*out.Replaced.ExpirationDate) != time.Hour {
				t.Errorf("grace %d: %v, %v", grace, out.Replaced.ExpirationDate, err)
			}
		}
		if out, err = f.RotateAccessKey(ctx, &keyring.RotateAccessKeyInput{AccessKeyId: &id}); err != nil || *out.Replaced.Status != "Inactive" {
			t.Errorf("without a grace: %+v, %v", out, err)
		}
		check("rotated at once", false)
		if _, err := f.DeleteAccessKey(ctx, &keyring.DeleteAccessKeyInput{AccessKeyId: &id}); err != nil {
			t.Fatal(err)
		}
		check("removed", false)
		_, err = f.UpdateAccessKey(ctx, &keyring.UpdateAccessKeyInput{AccessKeyId: &id, Status: new("Active")})
		wantKind(t, err, appstream.ResourceNotFound, "The Access Key with id "+id+" cannot be found.")
	})
}

// TestAccounts: keys of other accounts are not there, but for the server's own key.
func TestAccounts(t *testing.T) {
	f := newFixture(t)
	mine, _ := f.create(as(me, own), "ci")
	theirs, _ := f.create(as(other, "ORIELTHEIRS"), "ci")
	listed := func(ctx context.Context, in keyring.ListAccessKeysInput) string {
		out, err := f.ListAccessKeys(ctx, &in)
		if err != nil {
			return string(appstream.KindOf(err))
		}
		var ids []string
		for _, k := range out.AccessKeys {
			ids = append(ids, *k.AccessKeyId+"/"+*k.Origin)
		}
		slices.Sort(ids)
		return strings.Join(ids, " ")
	}
	sorted := func(ids ...string) string {
		slices.Sort(ids)
		return strings.Join(ids, " ")
	}
	mineAll := []string{own + "/SERVER", file + "/CONFIGURATION", mine + "/API"}
	for _, tt := range []struct {
		what string
		ctx  context.Context
		in   keyring.ListAccessKeysInput
		want string
	}{
		{"mine", as(me, mine), keyring.ListAccessKeysInput{}, sorted(mineAll...)},
		{"theirs", as(other, theirs), keyring.ListAccessKeysInput{}, theirs + "/API"},
		{"theirs, asked by me", as(me, mine), keyring.ListAccessKeysInput{Account: new(other)}, string(appstream.OperationNotPermitted)},
		{"all, asked by me", as(me, mine), keyring.ListAccessKeysInput{AllAccounts: new(true)}, string(appstream.OperationNotPermitted)},
		{"all, asked by a key that is not there", as(me, "ORIELNOBODY"), keyring.ListAccessKeysInput{AllAccounts: new(true)}, string(appstream.OperationNotPermitted)},
		{"theirs, asked by the server's own", as(me, own), keyring.ListAccessKeysInput{Account: new(other)}, theirs + "/API"},
		{"all, asked by the server's own", as(me, own), keyring.ListAccessKeysInput{AllAccounts: new(true)}, sorted(append(mineAll, theirs+"/API")...)},
		{"both", as(me, own), keyring.ListAccessKeysInput{AllAccounts: new(true), Account: new(other)}, string(appstream.InvalidParameterCombination)},
		{"a forged token", as(me, own), keyring.ListAccessKeysInput{NextToken: new("%")}, string(appstream.Validation)},
	} {
		if got := listed(tt.ctx, tt.in); got != tt.want {
			t.Errorf("%s: %s\nwant %s", tt.what, got, tt.want)
		}
	}
	_, err := f.DeleteAccessKey(as(other, theirs), &keyring.DeleteAccessKeyInput{AccessKeyId: &mine})
	wantKind(t, err, appstream.ResourceNotFound, mine)
	_, err = f.RotateAccessKey(as(me, mine), &keyring.RotateAccessKeyInput{AccessKeyId: &theirs})
	wantKind(t, err, appstream.ResourceNotFound, theirs)
	if _, err = f.DeleteAccessKey(as(me, own), &keyring.DeleteAccessKeyInput{AccessKeyId: &theirs}); err != nil {
		t.Errorf("the server's own key removes theirs: %v", err)
	}

	for _, tt := range []struct {
		what string
		ctx  context.Context
		in   keyring.CreateAccessKeyInput
		kind appstream.Kind
		says string
	}{
		{"of another account", as(me, mine), keyring.CreateAccessKeyInput{UserName: new("x"), Account: new(other)}, appstream.OperationNotPermitted, "other accounts"},
		{"of a principal of another account", as(me, mine), keyring.CreateAccessKeyInput{Principal: new("arn:aws:iam::" + other + ":role/x")}, appstream.OperationNotPermitted, "other accounts"},
		{"of a principal that is not of the account", as(me, own), keyring.CreateAccessKeyInput{Principal: new("arn:aws:iam::" + other + ":role/x"), Account: new(me)}, appstream.InvalidParameterCombination, "not of the account"},
		{"of nobody", as(me, own), keyring.CreateAccessKeyInput{}, appstream.InvalidParameterCombination, "exactly one of UserName and Principal"},
		{"of two", as(me, own), keyring.CreateAccessKeyInput{UserName: new("x"), Principal: new("arn:aws:iam::" + me + ":role/x")}, appstream.InvalidParameterCombination, "exactly one"},
		{"with a wrong policy", as(me, own), keyring.CreateAccessKeyInput{UserName: new("x"), PolicyDocument: new(`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Is":{"a:b":"c"}}}}`)},
			appstream.InvalidParameterValue, "PolicyDocument: iam policy: statement 1: Condition: Is: a:b: Is is no operator"},
		{"by the server's own key", as(me, own), keyring.CreateAccessKeyInput{UserName: new("x"), Account: new(other)}, "", ""},
		{"of a role session", as(me, mine), keyring.CreateAccessKeyInput{Principal: new("arn:aws:sts::" + me + ":assumed-role/r/s")}, "", ""},
	} {
		if tt.in.PolicyDocument == nil {
			tt.in.PolicyDocument = new(look)
		}
		out, err := f.CreateAccessKey(tt.ctx, &tt.in)
		if tt.kind != "" || err != nil {
			wantKind(t, err, tt.kind, tt.says)
			continue
		}
		if k, ok := f.Find(*out.AccessKey.AccessKeyId); !ok || !strings.Contains(k.Principal, ":"+k.Account+":") {
			t.Errorf("%s: %v %s %s", tt.what, ok, k.Account, k.Principal)
		}
	}
}

// TestFixed: keys that are not ours to change are said to be so, and by whom they are changed.
func TestFixed(t *testing.T) {
	f := newFixture(t)
	for id, says := range map[string]string{own: "remove its credentials file", file: "settings file"} {
		_, err := f.UpdateAccessKey(as(me, own), &keyring.UpdateAccessKeyInput{AccessKeyId: &id, Status: new("Inactive")})
		wantKind(t, err, appstream.OperationNotPermitted, says)
		_, err = f.RotateAccessKey(as(me, own), &keyring.RotateAccessKeyInput{AccessKeyId: &id})
		wantKind(t, err, appstream.OperationNotPermitted, says)
		_, err = f.DeleteAccessKey(as(me, own), &keyring.DeleteAccessKeyInput{AccessKeyId: &id})
		wantKind(t, err, appstream.OperationNotPermitted, says)
		if _, ok := f.Find(id); !ok {
			t.Errorf("%s is gone", id)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	f := newFixture(t)
	id, _ := f.create(as(me, own), "ci")
	twice := f.cfg
	twice.Fixed = append(slices.Clone(f.cfg.Fixed), keyring.Key{ID: own})
	if _, err := keyring.Open(t.Context(), twice); err == nil || !strings.Contains(err.Error(), own) {
		t.Errorf("a key of the settings with the ID of the server's own: %v", err)
	}
	taken := f.cfg
	taken.Fixed = append(slices.Clone(f.cfg.Fixed), keyring.Key{ID: id})
	if _, err := keyring.Open(t.Context(), taken); err == nil || !strings.Contains(err.Error(), id) {
		t.Errorf("a key of the settings with the ID of one that was made: %v", err)
	}
}

// TestBounds: an account has a hundred keys at most, and sees them page by page.
func TestBounds(t *testing.T) {
	f := newFixture(t)
	ctx := as(other, "ORIELTHEIRS")
	var want []string
	for n := range 100 {
		id, _ := f.create(ctx, fmt.Sprint("u", n))
		want = append(want, id)
	}
	_, err := f.CreateAccessKey(ctx, &keyring.CreateAccessKeyInput{UserName: new("x"), PolicyDocument: new(look)})
	wantKind(t, err, appstream.LimitExceeded, "100")
	_, err = f.RotateAccessKey(ctx, &keyring.RotateAccessKeyInput{AccessKeyId: &want[0]})
	wantKind(t, err, appstream.LimitExceeded, "100")
	if got := f.usable(want[0]); !got[0] {
		t.Error("a rotation that was refused ended the old key")
	}
	f.create(as(me, own), "another account has its own hundred")

	slices.Sort(want)
	for _, size := range []*int32{nil, new(int32(7)), new(int32(100))} {
		var got []string
		in := &keyring.ListAccessKeysInput{MaxResults: size}
		for {
			out, err := f.ListAccessKeys(ctx, in)
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range out.AccessKeys {
				got = append(got, *k.AccessKeyId)
			}
			if in.NextToken = out.NextToken; in.NextToken == nil {
				break
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("pages of %v (-want +got):\n%s", size, diff)
		}
	}
}

// TestRace: of many who rotate a key at once, one gets the new one.
func TestRace(t *testing.T) {
	f := newFixture(t)
	ctx := as(me, own)
	id, _ := f.create(ctx, "ci")
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for range 8 {
		wg.Go(func() {
			_, err := f.RotateAccessKey(ctx, &keyring.RotateAccessKeyInput{AccessKeyId: &id})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				made++
			} else {
				wantKind(t, err, appstream.OperationNotPermitted, "Inactive")
			}
		})
	}
	wg.Wait()
	list, err := f.ListAccessKeys(ctx, &keyring.ListAccessKeysInput{})
	if err != nil || made != 1 || len(list.AccessKeys) != 4 {
		t.Errorf("%d new keys, %d in all, %v", made, len(list.AccessKeys), err)
	}
}

// TestTraces: every change leaves a line in the audit log and an event, and no secret anywhere but in the record.
func TestTraces(t *testing.T) {
	var log bytes.Buffer
	f := newFixture(t)
	f.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	f.open()
	ctx := as(me, own)
	out, err := f.CreateAccessKey(ctx, &keyring.CreateAccessKeyInput{UserName: new("ci"),
		PolicyDocument: new(`{"Statement":{"Effect":"Allow","Action":["*","oriel:Nothing"],"Resource":"*","Condition":{"StringEquals":{"aws:nothing":"x"}}}}`)})
	if err != nil || len(out.Warnings) != 2 || !strings.Contains(out.Warnings[0], "aws:nothing") || !strings.Contains(out.Warnings[1], "oriel:Nothing") {
		t.Fatalf("warnings %q, %v", out.Warnings, err)
	}
	id := *out.AccessKey.AccessKeyId
	rotated, err := f.RotateAccessKey(ctx, &keyring.RotateAccessKeyInput{AccessKeyId: &id})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.DeleteAccessKey(ctx, &keyring.DeleteAccessKeyInput{AccessKeyId: &id}); err != nil {
		t.Fatal(err)
	}
	fresh := *rotated.AccessKey.AccessKeyId
	f.open()
	if !strings.Contains(log.String(), "aws:nothing") || !strings.Contains(log.String(), "oriel:Nothing") || !strings.Contains(log.String(), fresh) {
		t.Errorf("the log of a start: %s", &log)
	}
	var got []string
	err = f.store.View(t.Context(), func(tx store.Tx) error {
		lines, err := tx.Audits(store.LogQuery{})
		for _, l := range slices.Backward(lines) {
			got = append(got, l.Operation+" "+l.Resource+" "+l.Result)
		}
		for _, id := range []string{id, fresh} {
			events, err := tx.Events(store.LogQuery{ID: id})
			if err != nil {
				return err
			}
			for _, e := range slices.Backward(events) {
				got = append(got, e.From+">"+e.To+" "+e.Why)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	arn := "arn:aws:iam::" + me + ":user/ci arn:aws:appstream::" + me + ":access-key/"
	want := []string{"oriel:CreateAccessKey " + arn + id + " ", "oriel:RotateAccessKey " + arn + fresh + " ", "oriel:DeleteAccessKey " + arn + id + " ",
		">ACTIVE CreateAccessKey", "ACTIVE>INACTIVE RotateAccessKey " + fresh, "INACTIVE> DeleteAccessKey", ">ACTIVE RotateAccessKey " + id}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, secret := range []string{*out.SecretAccessKey, *rotated.SecretAccessKey} {
		if strings.Contains(log.String()+strings.Join(got, ""), secret) {
			t.Error("a secret is told")
		}
	}
}

// TestResources: a policy is asked about the user whose key it is.
func TestResources(t *testing.T) {
	f := newFixture(t)
	mine, _ := f.create(as(me, own), "ci")
	for _, tt := range []struct {
		account string
		in      any
		want    string
	}{
		{me, &keyring.CreateAccessKeyInput{UserName: new("ann")}, me + ":user/ann"},
		{me, &keyring.CreateAccessKeyInput{UserName: new("ann"), Account: new(other)}, other + ":user/ann"},
		{me, &keyring.CreateAccessKeyInput{Principal: new("arn:aws:iam::" + me + ":role/r")}, me + ":role/r"},
		{me, &keyring.CreateAccessKeyInput{}, me + ":user/*"},
		{me, &keyring.ListAccessKeysInput{}, me + ":user/*"},
		{me, &keyring.ListAccessKeysInput{Account: new(other)}, other + ":user/*"},
		{me, &keyring.RotateAccessKeyInput{AccessKeyId: &mine}, me + ":user/ci"},
		{me, &keyring.UpdateAccessKeyInput{AccessKeyId: &mine}, me + ":user/ci"},
		{me, &keyring.DeleteAccessKeyInput{AccessKeyId: &mine}, me + ":user/ci"},
		{me, &keyring.DeleteAccessKeyInput{AccessKeyId: new("ORIELNOBODY")}, me + ":user/*"},
		{other, &keyring.DeleteAccessKeyInput{AccessKeyId: &mine}, other + ":user/*"},
	} {
		if got := f.Resources("", appstream.Caller{Account: tt.account}, tt.in); len(got) != 1 || got[0] != "arn:aws:iam::"+tt.want {
			t.Errorf("%T %+v: %q", tt.in, tt.in, got)
		}
	}
}
