package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/oriel-project/oriel/internal/agentapi"
)

// release is set by the linker for releases: -ldflags "-X main.release=v1.2.3".
var release string

// version is that of the release, else what Go noted about the source.
func version() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

type versionCommand struct{}

// Run prints the versions.
func (versionCommand) Run() error {
	fmt.Printf("oriel  %s\nagent  %s\ngo     %s %s/%s\n", version(), agentapi.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}
