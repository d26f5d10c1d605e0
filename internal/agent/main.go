package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/oriel-project/oriel/internal/agent/assistant"
	"github.com/oriel-project/oriel/internal/agent/control"
	"github.com/oriel-project/oriel/internal/agent/menu"
	"github.com/oriel-project/oriel/internal/agent/sudo"
	"github.com/oriel-project/oriel/internal/agent/tree"
	"github.com/oriel-project/oriel/internal/agentapi"
)

// Main is the program under each of its names; args[0] says which. It returns
// the exit code.
//
//	oriel-agent                            process 1 of an instance
//	oriel-agent version                    prints the version
//	oriel-agent menu, launch NAME          package menu
//	oriel-agent unzip FILE DIRECTORY       unpacks session scripts, see unzip
//	oriel-agent merge first|before|after   puts lists of packages together, see mergeLists
//	sudo                                   package sudo
//	reboot, poweroff, halt, shutdown       stop the instance
//	AppStreamImageAssistant                package assistant
func Main(args []string) int {
	name := "oriel-agent"
	if len(args) > 0 {
		name = filepath.Base(args[0])
		args = args[1:]
	}
	switch name {
	case "sudo":
		return sudo.Main(args, sudo.Socket)
	case sudo.RunnerName:
		slog.SetDefault(logger())
		return sudo.RunnerMain()
	case tree.RunnerName:
		return tree.RunnerMain(args)
	case "reboot", "poweroff", "halt", "shutdown":
		return power(name, args, os.Stdout, os.Stderr, func(kind agentapi.Kind) error {
			return control.SetPower(context.Background(), control.Socket, kind)
		})
	case "AppStreamImageAssistant":
		return assistant.Main(args)
	}
	if len(args) > 0 {
		switch {
		case args[0] == "version":
			fmt.Println(agentapi.Version)
			return 0
		case args[0] == "unzip" && len(args) == 3:
			if err := unzip(args[1], args[2]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			return 0
		case args[0] == "merge" && len(args) == 2 && slices.Contains([]string{mergeFirst, mergeBefore, mergeAfter}, args[1]):
			if err := mergeLists("/", mergeDir, args[1]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			return 0
		case args[0] == "menu" && len(args) == 1, args[0] == "launch" && len(args) == 2:
			return menu.Main(args)
		}
		fmt.Fprintln(os.Stderr, "usage: oriel-agent [version | menu | launch NAME | unzip FILE DIRECTORY | merge first|before|after]   (without arguments: the first process of an instance)")
		return 2
	}
	// The agent is idle nearly always and shares its host with many others: a
	// small heap is worth a little more collecting.
	debug.SetGCPercent(25)
	return run(pathsUnder("/"), desktopUID, logger())
}

// logger writes to standard error, which the engine keeps as the instance's log.
func logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(os.Stderr, nil))
}

// power is reboot, poweroff, halt and shutdown. Flags that say how to do it
// are accepted and change nothing; a later time is refused.
func power(name string, args []string, out, errs io.Writer, set func(agentapi.Kind) error) int {
	kind, err := parsePower(name, args)
	if errors.Is(err, errPowerHelp) {
		fmt.Fprintln(out, err)
		return 0
	}
	if err == nil {
		err = set(kind)
	}
	if err != nil {
		fmt.Fprintf(errs, "%s: %v\n", name, err)
		return 1
	}
	return 0
}

var errPowerHelp = errors.New("usage: reboot | poweroff | halt | shutdown [-r | -h | -P] [now]")

func parsePower(name string, args []string) (agentapi.Kind, error) {
	kind := agentapi.KindPowerOff
	if name == "reboot" {
		kind = agentapi.KindReboot
	}
	for _, arg := range args {
		switch {
		case arg == "--help":
			return "", errPowerHelp
		case arg == "--reboot":
			kind = agentapi.KindReboot
		case arg == "--poweroff" || arg == "-p" || arg == "--halt" || arg == "--force" || arg == "--no-wall":
		case strings.HasPrefix(arg, "--"):
			return "", fmt.Errorf("unknown option %s", arg)
		case strings.HasPrefix(arg, "-"):
			for _, flag := range arg[1:] {
				switch flag {
				case 'r':
					kind = agentapi.KindReboot
				case 'h', 'H', 'P', 'p', 'f', 't', 'w', 'd', 'n', 'i':
				case 'c':
					return "", errors.New("nothing is scheduled")
				default:
					return "", fmt.Errorf("unknown option -%c", flag)
				}
			}
		case name == "shutdown" && (arg == "now" || arg == "+0"):
		case name == "shutdown" && (strings.HasPrefix(arg, "+") || strings.Contains(arg, ":")):
			return "", errors.New("only now is possible, not a later time")
		case name == "shutdown": // a message to the users: there is only one
		default:
			return "", fmt.Errorf("unexpected argument %s", arg)
		}
	}
	return kind, nil
}
