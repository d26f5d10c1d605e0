package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/client"

	"github.com/oriel-project/oriel/e2e/stage"
)

// machine says in a line what the figures were measured on.
func machine(ctx context.Context, engine string) (string, error) {
	model := field("/proc/cpuinfo", "model name")
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	load, _ := os.ReadFile("/proc/loadavg")
	memory, _ := strconv.Atoi(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"))
	about := fmt.Sprintf("%s; %d processors (%s), %d GB, Linux %s, %s", time.Now().Format(time.DateOnly), runtime.NumCPU(), model,
		(memory+1<<19)>>20, strings.TrimSpace(string(kernel)), runtime.Version())
	if engine != "" {
		e, err := stage.OpenEngine(engine)
		if err != nil {
			return "", err
		}
		defer e.Close()
		v, err := e.ServerVersion(ctx, client.ServerVersionOptions{})
		if err != nil {
			return "", err
		}
		i, err := e.Info(ctx, client.InfoOptions{})
		if err != nil {
			return "", err
		}
		about += fmt.Sprintf(", container engine %s with %s", v.Version, i.Info.Driver)
	}
	return about + "; load at the beginning " + strings.Join(strings.Fields(string(load))[:1], ""), nil
}

// field gives the first value of a key in a file of lines KEY: VALUE.
func field(file, key string) string {
	text, _ := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// resident gives the memory of a process, in bytes.
func resident(pid int) int64 {
	kb, _ := strconv.ParseInt(strings.TrimSuffix(field(fmt.Sprintf("/proc/%d/status", pid), "VmRSS"), " kB"), 10, 64)
	return kb << 10
}
