package main

import (
	"context"
	"fmt"
	"time"
)

type usersCommand struct {
	ShowInvitation showInvitationCommand `cmd:"" help:"Give a user a temporary password and print it, once, to be handed over by you. A password that the user has is void then."`
}

type showInvitationCommand struct {
	place
	remote
	Email string `arg:"" help:"The user's e-mail address, as it was written in create-user."`
}

// Run makes the password and prints it with what its user does with it.
func (c *showInvitationCommand) Run(ctx context.Context) error {
	client, err := c.connect(c.place)
	if err != nil {
		return err
	}
	var out struct {
		TemporaryPassword, PortalURL string
		Expires                      logTime
	}
	if err := client.call(ctx, "Oriel.CreateInvitation", map[string]any{"UserName": c.Email}, &out); err != nil {
		return err
	}
	fmt.Printf("Sign in at:          %s\nE-mail address:      %s\nTemporary password:  %s\nGood until:          %s\n",
		out.PortalURL, c.Email, out.TemporaryPassword, out.Expires.Format(time.RFC3339))
	return nil
}
