package server

import (
	"bytes"
	"context"
	"errors"
	img "image" // the package has a constant of the name
	"image/color"
	"image/draw"
	"image/png"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/oriel-project/oriel/internal/config"
	"github.com/oriel-project/oriel/internal/mail/mailtest"
	"github.com/oriel-project/oriel/internal/objects"
	"github.com/oriel-project/oriel/internal/porttest"
)

// TestUserPool goes through the user pool, entitlements and directory configs as AWS's SDK does it, and looks at the same in CBOR.
func TestUserPool(t *testing.T) {
	t.Parallel()
	cfg := simConfig(t, t.TempDir())
	var log bytes.Buffer
	cfg.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s, stop := start(t, cfg)
	c, ctx := connect(t, s.cfg.Data, s.URL()), t.Context()
	const jane, password = "jane@example.com", "S3rvice-account"
	must(c.CreateStack(ctx, &sdk.CreateStackInput{Name: new("office")}))(t)
	must(c.CreateUser(ctx, &sdk.CreateUserInput{UserName: new(jane), AuthenticationType: types.AuthenticationTypeUserpool, FirstName: new("Jane")}))(t)
	_, err := c.CreateUser(ctx, &sdk.CreateUserInput{UserName: new(jane), AuthenticationType: types.AuthenticationTypeUserpool})
	expect[*types.ResourceAlreadyExistsException](t, err, "already exists")
	out := must(c.BatchAssociateUserStack(ctx, &sdk.BatchAssociateUserStackInput{UserStackAssociations: []types.UserStackAssociation{
		{UserName: new(jane), StackName: new("office"), AuthenticationType: types.AuthenticationTypeUserpool},
		{UserName: new(jane), StackName: new("none"), AuthenticationType: types.AuthenticationTypeUserpool}}}))(t)
	if len(out.Errors) != 1 || out.Errors[0].ErrorCode != types.UserStackAssociationErrorCodeStackNotFound {
		t.Errorf("errors of the batch: %+v", out.Errors)
	}
	must(c.CreateEntitlement(ctx, &sdk.CreateEntitlementInput{StackName: new("office"), Name: new("lab"), AppVisibility: types.AppVisibilityAssociated,
		Attributes: []types.EntitlementAttribute{{Name: new("department"), Value: new("lab")}}}))(t)
	must(c.AssociateApplicationToEntitlement(ctx, &sdk.AssociateApplicationToEntitlementInput{StackName: new("office"), EntitlementName: new("lab"), ApplicationIdentifier: new("Calc")}))(t)
	_, err = c.DescribeEntitlements(ctx, &sdk.DescribeEntitlementsInput{StackName: new("office"), Name: new("none")})
	expect[*types.EntitlementNotFoundException](t, err, "none")
	must(c.CreateDirectoryConfig(ctx, &sdk.CreateDirectoryConfigInput{DirectoryName: new("corp.example.com"), OrganizationalUnitDistinguishedNames: []string{"OU=x"},
		ServiceAccountCredentials: &types.ServiceAccountCredentials{AccountName: new("joiner"), AccountPassword: new(password)}}))(t)

	for _, cbor := range []bool{false, true} {
		for _, test := range []struct {
			operation string
			body      map[string]any
			says      []string
		}{
			{"DescribeUsers", map[string]any{"AuthenticationType": "USERPOOL"}, []string{jane, "UNCONFIRMED", "user/" + jane}},
			{"DescribeUserStackAssociations", map[string]any{"StackName": "office"}, []string{jane}},
			{"DescribeEntitlements", map[string]any{"StackName": "office"}, []string{"department", "ASSOCIATED"}},
			{"ListEntitledApplications", map[string]any{"StackName": "office", "EntitlementName": "lab"}, []string{"Calc"}},
			{"DescribeDirectoryConfigs", map[string]any{}, []string{"joiner", "OU=x"}},
		} {
			status, answer := call(t, s, "us-east-1", "PhotonAdminProxyService."+test.operation, cbor, test.body)
			for _, says := range test.says {
				if status != 200 || !strings.Contains(string(answer), says) {
					t.Errorf("%s, CBOR %t: %d %s\nwant %s", test.operation, cbor, status, answer, says)
				}
			}
			if strings.Contains(string(answer), password) {
				t.Errorf("%s answers the password", test.operation)
			}
		}
	}
	stop()
	for _, name := range []string{"oriel.db", "oriel.db-wal"} {
		if text, err := os.ReadFile(filepath.Join(s.cfg.Data, name)); err == nil && bytes.Contains(text, []byte(password)) {
			t.Errorf("%s has the password of the directory's account", name)
		}
	}
	if strings.Contains(log.String(), password) || log.Len() == 0 {
		t.Error("the log has the password, or nothing")
	}
	if info, err := os.Stat(filepath.Join(s.cfg.Data, "secrets.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("secrets.key: %v, %v", info, err)
	}
}

// office is a server with mail, a stack "Office & more" with one machine that runs an application, and the users jane and john of it.
func office(t *testing.T) (s *Server, folder string) {
	port, folder := mailtest.Start(t, "none", "", "")
	cfg := simConfig(t, t.TempDir())
	cfg.Listen = must(porttest.Address())(t) // mails need to know it before
	cfg.PublicURL = "http://" + cfg.Listen
	cfg.SMTP = config.SMTP{Host: "127.0.0.1", Port: port, Security: "none", From: "Applications <oriel@example.com>"}
	s, _ = start(t, cfg)
	c, ctx := connect(t, s.cfg.Data, s.URL()), t.Context()
	must(c.CreateImageBuilder(ctx, newBuilder("hello")))(t)
	await(t, c, "hello", types.ImageBuilderStateRunning)
	if status, answer := call(t, s, "us-east-1", "Oriel.CreateImage", false, map[string]any{"ImageBuilderName": "hello", "Name": "office",
		"Applications": []map[string]any{{"Name": "calc", "DisplayName": "Calculator", "LaunchPath": "/usr/bin/xcalc"}, {"Name": "paint", "DisplayName": "Zeichenprogramm für Schaltpläne", "LaunchPath": "/usr/bin/xpaint"}}}); status != 200 {
		t.Fatalf("CreateImage: %d %s", status, answer)
	}
	awaitImage(t, c, "office", types.ImageStateAvailable)
	must(c.CreateStack(ctx, &sdk.CreateStackInput{Name: new("office"), DisplayName: new("Office & more"), Description: new("Writing, tables and drawings")}))(t)
	must(c.CreateFleet(ctx, &sdk.CreateFleetInput{Name: new("office"), ImageName: new("office"), InstanceType: new("stream.standard.medium"), FleetType: types.FleetTypeAlwaysOn,
		ComputeCapacity: &types.ComputeCapacity{DesiredInstances: new(int32(1))}}))(t)
	must(c.AssociateFleet(ctx, &sdk.AssociateFleetInput{FleetName: new("office"), StackName: new("office")}))(t)
	must(c.StartFleet(ctx, &sdk.StartFleetInput{Name: new("office")}))(t)
	eventually(t, "the fleet has a place", func() bool {
		f := must(c.DescribeFleets(ctx, &sdk.DescribeFleetsInput{Names: []string{"office"}}))(t).Fleets[0]
		return f.State == types.FleetStateRunning && *f.ComputeCapacityStatus.Available == 1
	})
	invite := func(name, first string, notify bool) {
		must(c.CreateUser(ctx, &sdk.CreateUserInput{UserName: &name, AuthenticationType: types.AuthenticationTypeUserpool, FirstName: &first, LastName: new("Roe")}))(t)
		must(c.BatchAssociateUserStack(ctx, &sdk.BatchAssociateUserStackInput{UserStackAssociations: []types.UserStackAssociation{
			{UserName: &name, StackName: new("office"), AuthenticationType: types.AuthenticationTypeUserpool, SendEmailNotification: &notify}}}))(t)
	}
	invite("jane@example.com", "Jane", true)
	eventually(t, "jane's mails", func() bool {
		files, _ := os.ReadDir(filepath.Join(folder, "new"))
		return len(files) == 2
	})
	return s, folder
}

// administrator does what the script has done behind jane's back: give her stack a theme, give her a stack that nobody can use, and take both away.
func administrator(t *testing.T, s *Server) http.Handler {
	c, jane := connect(t, s.cfg.Data, s.URL()), new("jane@example.com")
	var picture bytes.Buffer
	logo := img.NewNRGBA(img.Rect(0, 0, 128, 128))
	draw.Draw(logo, img.Rect(10, 45, 118, 83), img.NewUniform(color.NRGBA{R: 20, G: 40, B: 70, A: 255}), img.Point{}, draw.Src)
	if err := png.Encode(&picture, logo); err != nil {
		t.Fatal(err)
	}
	at := &types.S3Location{S3Bucket: new("brand"), S3Key: new("logo.png")}
	association := func(stack string) []types.UserStackAssociation {
		return []types.UserStackAssociation{{UserName: jane, StackName: &stack, AuthenticationType: types.AuthenticationTypeUserpool}}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var err error
		ctx := r.Context()
		switch r.URL.Path {
		case "/theme":
			files, fault := OpenObjects(ctx, s.cfg)
			if fault != nil {
				t.Error(fault)
				return
			}
			defer files.Close()
			err = files.Put(ctx, objects.Location{Account: "123456789012", Bucket: *at.S3Bucket, Key: *at.S3Key}, &picture)
			_, fault = c.CreateThemeForStack(ctx, &sdk.CreateThemeForStackInput{StackName: new("office"), TitleText: new("Example University"), ThemeStyling: types.ThemeStylingPink,
				OrganizationLogoS3Location: at, FaviconS3Location: at, FooterLinks: []types.ThemeFooterLink{
					{DisplayName: new("Help desk"), FooterLinkURL: new("https://example.com/help")}, {DisplayName: new("Opening hours"), FooterLinkURL: new("https://example.com/hours")}}})
			err = errors.Join(err, fault)
		case "/closed":
			_, err = c.CreateStack(ctx, &sdk.CreateStackInput{Name: new("lab"), DisplayName: new("Laboratory"), Description: new("Open in the summer term")})
			_, fault := c.CreateFleet(ctx, &sdk.CreateFleetInput{Name: new("lab"), ImageName: new("office"), InstanceType: new("stream.standard.medium"), StreamView: types.StreamViewDesktop,
				ComputeCapacity: &types.ComputeCapacity{DesiredInstances: new(int32(1))}})
			err = errors.Join(err, fault)
			_, fault = c.AssociateFleet(ctx, &sdk.AssociateFleetInput{FleetName: new("lab"), StackName: new("lab")})
			err = errors.Join(err, fault)
			_, fault = c.BatchAssociateUserStack(ctx, &sdk.BatchAssociateUserStackInput{UserStackAssociations: association("lab")})
			err = errors.Join(err, fault)
		case "/nothing":
			_, err = c.BatchDisassociateUserStack(ctx, &sdk.BatchDisassociateUserStackInput{UserStackAssociations: append(association("lab"), association("office")...)})
		default:
			http.NotFound(w, r)
		}
		if err != nil {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
	})
}

// TestPortalInBrowser drives web/test/portal.mjs: a real Chromium at the portal, with a real mail server. It needs node with the packages of web/ (npm ci), Chromium and
// python3-aiosmtpd; ORIEL_TEST_BROWSER=1 says that they are there. With ORIEL_SCREENSHOTS=dir the pictures that it takes are kept.
func TestPortalInBrowser(t *testing.T) {
	if os.Getenv("ORIEL_TEST_BROWSER") == "" {
		t.Skip("ORIEL_TEST_BROWSER is not set")
	}
	s, folder := office(t)
	go func() { // john is invited when jane has read her mails
		c := connect(t, s.cfg.Data, s.URL())
		for t.Context().Err() == nil {
			if files, _ := os.ReadDir(filepath.Join(folder, "new")); len(files) == 0 {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		john := new("jörg@bücher.example")
		c.CreateUser(t.Context(), &sdk.CreateUserInput{UserName: john, AuthenticationType: types.AuthenticationTypeUserpool})
		c.BatchAssociateUserStack(t.Context(), &sdk.BatchAssociateUserStackInput{UserStackAssociations: []types.UserStackAssociation{
			{UserName: john, StackName: new("office"), AuthenticationType: types.AuthenticationTypeUserpool}}})
	}()
	control := httptest.NewServer(administrator(t, s))
	defer control.Close()
	ctx := t.Context()
	if end, ok := t.Deadline(); ok { // before go test ends everything, and tells nothing
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-20*time.Second))
		defer cancel()
	}
	node := exec.CommandContext(ctx, "node", "test/portal.mjs")
	node.Cancel = func() error { return node.Process.Signal(syscall.SIGTERM) }
	node.WaitDelay = 10 * time.Second
	node.Dir = "../../web"
	node.Env = append(os.Environ(), "ORIEL_SERVER="+s.URL(), "ORIEL_MAILBOX="+folder, "ORIEL_CONTROL="+control.URL)
	if out, err := node.CombinedOutput(); err != nil {
		t.Errorf("the browser's test: %v\n%s", err, out)
	}
}
