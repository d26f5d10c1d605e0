package keys

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/aws/aws-sdk-go-v2/config"
)

func TestEnsure(t *testing.T) {
	file := filepath.Join(t.TempDir(), "credentials")
	first, made, err := Ensure(file)
	if err != nil || !made {
		t.Fatal(made, err)
	}
	if !regexp.MustCompile(`^[A-Z0-9]{20}$`).MatchString(first.ID) || len(first.Secret) != 40 {
		t.Errorf("the key has not the form of AWS's: ID %q, %d characters of secret", first.ID, len(first.Secret))
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}
	again, made, err := Ensure(file)
	if err != nil || made || again != first {
		t.Errorf("the second time: %v, %v; same key %v", made, err, again == first)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}

	// AWS's own reader must agree.
	profile, err := config.LoadSharedConfigProfile(context.Background(), "default", func(o *config.LoadSharedConfigOptions) {
		o.CredentialsFiles, o.ConfigFiles = []string{file}, []string{}
	})
	if err != nil {
		t.Fatal(err)
	}
	if c := profile.Credentials; c.AccessKeyID != first.ID || c.SecretAccessKey != first.Secret {
		t.Error("AWS's SDK reads another key")
	}
}

func TestRead(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       Key
		fails      bool
	}{
		{"other profiles", "[a]\naws_access_key_id=x\naws_secret_access_key=y\n[default]\naws_access_key_id=I\naws_secret_access_key=S=\n[b]\naws_access_key_id=z", Key{"I", "S="}, false},
		{"spaces and comments", "# x\n[ default ]\r\n aws_access_key_id = I \r\n#aws_secret_access_key = no\naws_secret_access_key =S\nregion = us-east-1\n", Key{"I", "S"}, false},
		{"no secret", "[default]\naws_access_key_id=I", Key{}, true},
		{"no section", "aws_access_key_id=I\naws_secret_access_key=S", Key{}, true},
		{"empty", "", Key{}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "credentials")
			if err := os.WriteFile(file, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, _, err := Ensure(file)
			if got != test.want || (err != nil) != test.fails {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("[default]\naws_access_key_id = I\naws_secret_access_key = S\n"))
	f.Add([]byte("[default\n=\n]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if k := parse(text); regexp.MustCompile(`^\s|\s$|\n`).MatchString(k.ID + "." + k.Secret) {
			t.Errorf("%q has spaces around it", k)
		}
	})
}
