// Command oriel is the server and what its administrator needs: serve, image, keys, events, audit, users, objects, doctor, version. Every flag is also an
// environment variable: --listen is ORIEL_LISTEN.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"reflect"
	"syscall"

	"github.com/alecthomas/kong"
)

// commands is the command line. Each command is in the file of its name.
type commands struct {
	Serve    serveCommand    `cmd:"" help:"Run the server."`
	Image    imageCommand    `cmd:"" help:"Make images."`
	Keys     keysCommand     `cmd:"" help:"List, make, rotate, disable and remove the access keys of a running server."`
	Events   eventsCommand   `cmd:"" help:"Show what has happened to resources, and how far long work is."`
	Audit    auditCommand    `cmd:"" help:"Show who has asked for what."`
	Users    usersCommand    `cmd:"" help:"Invite users of the pool without a mail server."`
	Objects  objectsCommand  `cmd:"" help:"List, put, get and remove what S3 locations name: logos, reports and so on."`
	AppBlock appBlockCommand `cmd:"" name:"app-block" help:"Make packages of app blocks."`
	Doctor   doctorCommand   `cmd:"" help:"Say what is missing on this machine, and how to get it."`
	Version  versionCommand  `cmd:"" help:"Print the version."`

	Quickstart quickstartCommand `cmd:"" hidden:"" help:"Make an image builder, wait for it, and print what to do next. make quickstart calls it."`
	Remove     removeCommand     `cmd:"" hidden:"" help:"Remove all machines, images and networks of this server. make clean calls it."`
}

func main() {
	// The first Ctrl-C asks for an orderly end, the second one ends.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)

	var c commands
	parser := kong.Must(&c,
		kong.Name("oriel"),
		kong.Description("Application streaming on your own machines, with the API of Amazon AppStream 2.0."),
		kong.ShortUsageOnError(),
		kong.DefaultEnvars("ORIEL"),
		kong.TypeMapper(reflect.TypeFor[netip.Prefix](), kong.MapperFunc(readNetwork)),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
	)
	chosen, err := parser.Parse(os.Args[1:])
	parser.FatalIfErrorf(err)
	chosen.BindTo(ctx, (*context.Context)(nil))
	if err := chosen.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "oriel:", err)
		code := 1
		if e, ok := errors.AsType[exitError](err); ok {
			code = e.code
		}
		os.Exit(code)
	}
}
