package server

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
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
