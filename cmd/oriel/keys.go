package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/oriel-project/oriel/internal/keys"
)

type keysCommand struct {
	List    listKeysCommand   `cmd:"" help:"List access keys."`
	Add     addKeyCommand     `cmd:"" help:"Make an access key. What is printed is a credentials file; the secret is never shown again."`
	Rotate  rotateKeyCommand  `cmd:"" help:"Make an access key in place of another."`
	Disable disableKeyCommand `cmd:"" help:"Refuse requests that are signed with an access key."`
	Enable  enableKeyCommand  `cmd:"" help:"Accept them again."`
	Remove  removeKeyCommand  `cmd:"" help:"Remove an access key for ever."`
}

// accessKey is what the server tells of a key.
type accessKey struct {
	AccessKeyID    string `json:"AccessKeyId"`
	Account        string
	Principal      string
	Status         string
	Origin         string
	CreateDate     logTime `json:",omitzero"`
	ExpirationDate logTime `json:",omitzero"`
	PolicyDocument string  `json:",omitzero"` // "": everything is allowed
}

// until says how long the key is good.
func (k *accessKey) until() string {
	if k.ExpirationDate.IsZero() {
		return ""
	}
	return k.ExpirationDate.Format(time.RFC3339)
}

// newKey is what the server tells of a key that it made.
type newKey struct {
	AccessKey       accessKey
	SecretAccessKey string
	Replaced        accessKey
	Warnings        []string
}

// shown says where the secret of a new key goes.
type shown struct {
	File string `help:"Write the credentials file there, readable by you alone, in place of printing it." type:"path" placeholder:"FILE"`
}

// show writes the key as a credentials file, and what is to be known of it beside it. The server tells the secret once, so that what cannot be
// written is printed.
func (s *shown) show(k *newKey) error {
	for _, w := range k.Warnings {
		fmt.Fprintln(os.Stderr, "oriel: warning: the policy:", w)
	}
	key := keys.Key{ID: k.AccessKey.AccessKeyID, Secret: k.SecretAccessKey}
	var err error
	if s.File != "" {
		if err = keys.Write(s.File, key, k.AccessKey.Principal); err == nil {
			fmt.Println(key.ID)
			return nil
		}
	}
	fmt.Print(key.Credentials(k.AccessKey.Principal))
	return err
}

// keyCall is what every command about keys needs.
type keyCall struct {
	place
	remote
}

func (c *keyCall) call(ctx context.Context, operation string, in, out any) error {
	client, err := c.connect(c.place)
	if err != nil {
		return err
	}
	return client.call(ctx, "Oriel."+operation, in, out)
}

type listKeysCommand struct {
	keyCall
	Account     string `help:"Of this account (default: the one of the key that asks)." placeholder:"DIGITS" xor:"account"`
	AllAccounts bool   `help:"Of all accounts." xor:"account"`
	Policies    bool   `help:"With their policies."`
	JSON        bool   `help:"One JSON object a line, with everything that is known of a key."`
}

// Run prints a table, or objects for programs.
func (c *listKeysCommand) Run(ctx context.Context) error {
	var list []accessKey
	for token := any(nil); ; {
		var page struct {
			AccessKeys []accessKey
			NextToken  string
		}
		err := c.call(ctx, "ListAccessKeys", map[string]any{"Account": optional(c.Account), "AllAccounts": c.AllAccounts, "NextToken": token}, &page)
		if err != nil {
			return err
		}
		if list = append(list, page.AccessKeys...); page.NextToken == "" {
			break
		}
		token = page.NextToken
	}
	var err error
	if c.JSON {
		err = printJSON(os.Stdout, list)
	} else {
		err = printKeys(os.Stdout, list, c.Policies)
	}
	if err != nil || c.AllAccounts || c.Account != "" {
		return err
	}
	return c.hint(ctx, list)
}

// hint says that there are keys of other accounts, to who may see them: whoever signs with the server's own.
func (c *listKeysCommand) hint(ctx context.Context, list []accessKey) error {
	client, err := c.connect(c.place)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(list, func(k accessKey) bool { return k.AccessKeyID == client.key.ID && k.Origin == "SERVER" }) {
		return nil
	}
	var page struct {
		AccessKeys []accessKey
		NextToken  string
	}
	err = client.call(ctx, "Oriel.ListAccessKeys", map[string]any{"AllAccounts": true, "MaxResults": 100}, &page)
	if err == nil && (len(page.AccessKeys) > len(list) || page.NextToken != "" && len(list) < 100) {
		fmt.Fprintln(os.Stderr, "there are keys of other accounts, too; --all-accounts shows them")
	}
	return err
}

func printKeys(w io.Writer, list []accessKey, policies bool) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tSTATUS\tPRINCIPAL\tORIGIN\tMADE\tUNTIL")
	for _, k := range list {
		made, until := "-", cmp.Or(k.until(), "-") // programs read the table by its columns
		if !k.CreateDate.IsZero() {
			made = k.CreateDate.Format(time.DateOnly)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", k.AccessKeyID, k.Status, k.Principal, k.Origin, made, until)
	}
	if err := table.Flush(); err != nil || !policies {
		return err
	}
	for _, k := range list {
		policy := k.PolicyDocument
		if policy == "" {
			policy = "everything is allowed"
		}
		fmt.Fprintf(w, "\n%s:\n%s\n", k.AccessKeyID, policy)
	}
	return nil
}

type addKeyCommand struct {
	keyCall
	shown
	Name      string `help:"Name of the user whose key it is. This or --principal." placeholder:"NAME" xor:"who" required:""`
	Principal string `help:"ARN of a user or role, in place of --name." placeholder:"ARN" xor:"who" required:""`
	Account   string `help:"Of this account (default: the one of the key that asks). Another one only with the server's own key." placeholder:"DIGITS"`

	PolicyFile string `help:"File with the IAM policy that says what the key may do. This or --allow-all." type:"existingfile" placeholder:"FILE" xor:"what" required:""`
	AllowAll   bool   `help:"The key may do everything in its account, in place of --policy-file." xor:"what" required:""`
}

// maxPolicyFile is more than the server takes, in bytes.
const maxPolicyFile = 64 << 10

// Run makes the key and prints it. A file that is there may have the only copy of another secret.
func (c *addKeyCommand) Run(ctx context.Context) error {
	if c.File != "" {
		if _, err := os.Lstat(c.File); err == nil {
			return fmt.Errorf("%s is there already: name a new file with --file, or remove it first", c.File)
		}
	}
	policy := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`
	if !c.AllowAll {
		f, err := os.Open(c.PolicyFile)
		if err != nil {
			return err
		}
		defer f.Close()
		text, err := io.ReadAll(io.LimitReader(f, maxPolicyFile+1))
		if err != nil {
			return err
		}
		if len(text) > maxPolicyFile {
			return fmt.Errorf("%s has more than %d bytes", c.PolicyFile, maxPolicyFile)
		}
		policy = string(text)
	}
	var out newKey
	err := c.call(ctx, "CreateAccessKey", map[string]any{"UserName": optional(c.Name), "Principal": optional(c.Principal), "Account": optional(c.Account),
		"PolicyDocument": policy}, &out)
	if err != nil {
		return err
	}
	return c.show(&out)
}

type rotateKeyCommand struct {
	keyCall
	shown
	ID    string        `arg:"" help:"The access key to replace."`
	Grace time.Duration `help:"How long the old one still works, for example 24h; at most 30 days." default:"0s" placeholder:"TIME"`
}

// Run makes the key and prints it.
func (c *rotateKeyCommand) Run(ctx context.Context) error {
	if c.Grace%time.Second != 0 {
		return errors.New("--grace must be of whole seconds")
	}
	var out newKey
	err := c.call(ctx, "RotateAccessKey", map[string]any{"AccessKeyId": c.ID, "GraceSeconds": int64(c.Grace / time.Second)}, &out)
	if err != nil {
		return err
	}
	if end := out.Replaced.until(); end != "" {
		fmt.Fprintf(os.Stderr, "%s works until %s\n", c.ID, end)
	} else {
		fmt.Fprintf(os.Stderr, "%s does not work any more\n", c.ID)
	}
	return c.show(&out)
}

type disableKeyCommand struct {
	keyCall
	ID string `arg:"" help:"The access key."`
}

// Run disables the key.
func (c *disableKeyCommand) Run(ctx context.Context) error {
	return c.call(ctx, "UpdateAccessKey", map[string]any{"AccessKeyId": c.ID, "Status": "Inactive"}, new(struct{}))
}

type enableKeyCommand struct {
	keyCall
	ID string `arg:"" help:"The access key."`
}

// Run enables the key.
func (c *enableKeyCommand) Run(ctx context.Context) error {
	return c.call(ctx, "UpdateAccessKey", map[string]any{"AccessKeyId": c.ID, "Status": "Active"}, new(struct{}))
}

type removeKeyCommand struct {
	keyCall
	ID string `arg:"" help:"The access key."`
}

// Run removes the key.
func (c *removeKeyCommand) Run(ctx context.Context) error {
	return c.call(ctx, "DeleteAccessKey", map[string]any{"AccessKeyId": c.ID}, new(struct{}))
}
