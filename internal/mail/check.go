package mail

import (
	"context"
	"fmt"
)

// Check connects to the mail server and signs in, as for a letter, and sends nothing.
func (p *Post) Check(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // closes the connection
	client, err := p.client(ctx)
	if err != nil {
		return err
	}
	line, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return fmt.Errorf("the mail server cannot be reached: %w", err)
	}
	return client.CloseWithSMTPClient(line)
}
