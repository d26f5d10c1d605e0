package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oriel-project/oriel/internal/agentapi"
	"github.com/oriel-project/oriel/internal/compute"
	"github.com/oriel-project/oriel/internal/config"
)

// Doctor looks whether a server with this configuration would work here. It makes nothing, and works while the server runs.
func Doctor(ctx context.Context, cfg Config) []compute.Finding {
	findings := slices.Concat([]compute.Finding{checkDataDir(cfg.Data), checkPort(ctx, cfg)}, checkArchives(ctx, cfg.Config), checkObjects(ctx, cfg.Config), checkMail(ctx, cfg.Config))
	if cfg.Provider == config.Sim {
		return findings
	}
	findings = append(findings, checkAgent(cfg.Config))
	p, err := newDocker(cfg, "doctor")
	if err != nil {
		return append(findings, compute.Finding{What: "container engine", Info: err.Error(), Hint: "correct the configuration"})
	}
	defer p.Close()
	return append(findings, p.Check(ctx)...)
}

// checkDataDir tells whether the data directory can be written to, or made. It makes nothing.
func checkDataDir(dir string) compute.Finding {
	f := compute.Finding{OK: true, What: "data directory", Info: dir}
	there, err := filepath.Abs(dir)
	if err == nil {
		_, err = os.Stat(there)
	}
	if errors.Is(err, fs.ErrNotExist) {
		f.Info += " will be made"
		for err != nil && errors.Is(err, fs.ErrNotExist) && there != filepath.Dir(there) {
			there = filepath.Dir(there)
			_, err = os.Stat(there)
		}
	}
	if err == nil {
		err = writable(there)
	}
	if err != nil {
		f.OK, f.Info, f.Hint = false, err.Error(), "run oriel as a user who may write there, or choose another with --data"
	}
	return f
}

func writable(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory", dir)
	}
	if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return fmt.Errorf("%s cannot be written to: %w", dir, err)
	}
	return nil
}

// checkPort tells who has the port: nobody, this server, or another program.
func checkPort(ctx context.Context, cfg Config) compute.Finding {
	f := compute.Finding{OK: true, What: "address", Info: cfg.Listen + " is free"}
	l, err := net.Listen("tcp", cfg.Listen)
	if err == nil {
		l.Close()
		return f
	}
	f.Info = err.Error()
	if errors.Is(err, syscall.EADDRINUSE) {
		if isOriel(ctx, config.LocalURL(cfg.Listen, cfg.TLSCert != "")) {
			f.Info = "Oriel is running at " + config.LocalURL(cfg.Listen, cfg.TLSCert != "")
			return f
		}
		f.Info = "another program uses " + cfg.Listen
	}
	f.OK, f.Hint = false, "choose another with --listen"
	return f
}

// answerTime is how long a server may take to tell that it is one: its own checks take readyWait when the engine hangs, which is when one asks.
const answerTime = readyWait + 10*time.Second

func isOriel(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		// With a certificate for another name, all that can be said is that someone speaks TLS there.
		return strings.HasPrefix(url, "https:") && strings.Contains(err.Error(), "certificate")
	}
	defer resp.Body.Close()
	text := make([]byte, 64)
	n, _ := resp.Body.Read(text)
	return strings.HasPrefix(string(text[:n]), "store: ")
}

// mailTime is how long the mail server may take to let us in.
const mailTime = 30 * time.Second

// checkMail tells whether the mail server of the configuration, if there is one, lets us in.
func checkMail(ctx context.Context, c config.Config) []compute.Finding {
	if c.SMTP.Host == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, mailTime)
	defer cancel()
	f := compute.Finding{OK: true, What: "mail server", Info: c.SMTP.Host}
	post, err := newPost(c, slog.New(slog.DiscardHandler))
	if err == nil {
		err = post.Check(ctx)
	}
	if err != nil {
		f.OK, f.Info, f.Hint = false, f.Info+": "+err.Error(), "correct [smtp] in the configuration; without it no mails are sent"
	}
	return []compute.Finding{f}
}

func checkAgent(c config.Config) compute.Finding {
	f := compute.Finding{OK: true, What: "agent", Info: agentapi.Version}
	file, err := agentFile(c)
	if err == nil {
		f.Info += " at " + file
		return f
	}
	if installed, _ := filepath.Glob(filepath.Join(c.Data, "agents", "*", "oriel-agent")); len(installed) > 0 && c.Agent == "" {
		f.Info = "installed earlier: " + filepath.Base(filepath.Dir(installed[len(installed)-1]))
		return f
	}
	return compute.Finding{What: "agent", Info: fmt.Sprintf("there is no %s", file), Hint: "build it (make build), or name its file with --agent"}
}
