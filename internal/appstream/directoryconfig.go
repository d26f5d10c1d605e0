package appstream

import (
	"regexp"

	"github.com/aws/aws-sdk-go-v2/service/appstream/types"
)

// A DirectoryConfig says how machines would join a directory. Its name is the directory's. It has no states of its own.
//
//	CreateDirectoryConfig ──▶ AVAILABLE ──DeleteDirectoryConfig──▶ (gone)
type DirectoryConfig struct {
	Meta
	Units       []string // OrganizationalUnitDistinguishedNames
	AccountName string   `json:",omitempty"` // of the service account; "" when there is none
	Password    string   `json:",omitempty"` // of the service account, sealed for SealedFor (internal/seal)
	Certificate *types.CertificateBasedAuthProperties
}

// DirectoryAvailable is the one state of a directory config. The API does not show it.
const DirectoryAvailable = "AVAILABLE"

var directoryTransitions = []Transition{
	{"", DirectoryAvailable, "CreateDirectoryConfig"},
	{DirectoryAvailable, "", "DeleteDirectoryConfig"},
}

// Describe gives what the API shows of the directory config: everything but the password.
func (d *DirectoryConfig) Describe() types.DirectoryConfig {
	v := types.DirectoryConfig{DirectoryName: new(d.Name), OrganizationalUnitDistinguishedNames: d.Units, CreatedTime: new(d.Created),
		CertificateBasedAuthProperties: d.Certificate}
	if d.AccountName != "" {
		v.ServiceAccountCredentials = &types.ServiceAccountCredentials{AccountName: new(d.AccountName)}
	}
	return v
}

// SealedFor is what the password is sealed for, so that it is of no use in another record.
func (d *DirectoryConfig) SealedFor() string { return "directory-config password of " + d.ID }

var directoryForm = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$`)

// CheckDirectory checks the members of a directory config. The errors have kinds that both Create and Update may answer.
func CheckDirectory(d *DirectoryConfig) error {
	const mostUnits, longestAccount = 100, 512
	switch c := d.Certificate; {
	case len(d.Name) > 255 || !directoryForm.MatchString(d.Name):
		return Errorf(Validation, "DirectoryName is %.300q. It must be the fully qualified name of a directory, corp.example.com for example.", d.Name)
	case len(d.Units) > mostUnits:
		return Errorf(Validation, "OrganizationalUnitDistinguishedNames has %d entries. Send at most %d.", len(d.Units), mostUnits)
	case len(d.AccountName) > longestAccount:
		return Errorf(Validation, "ServiceAccountCredentials.AccountName has %d bytes. It may have %d.", len(d.AccountName), longestAccount)
	case c != nil && c.Status != "" && c.Status != types.CertificateBasedAuthStatusDisabled && deref(c.CertificateAuthorityArn) == "":
		return Errorf(OperationNotPermitted, "CertificateBasedAuthProperties.Status is %s. Specify CertificateAuthorityArn too.", c.Status)
	}
	return nil
}
