package agent

import (
	"path/filepath"

	"github.com/oriel-project/oriel/internal/agent/catalogue"
	"github.com/oriel-project/oriel/internal/agent/control"
	"github.com/oriel-project/oriel/internal/agent/sudo"
	"github.com/oriel-project/oriel/internal/agentapi"
)

// paths says where everything is; tests move it all under another root.
type paths struct {
	shared      string // agentapi.Dir
	private     string // the agent's own directory, for this start only
	tmp         string // where X keeps its locks and sockets
	userRuntime string // XDG_RUNTIME_DIR
	catalogue   string
	profile     string // the shell's AppStream variables
	locale      string
	sudo        string // the socket that sudo connects to
	control     string // the socket of the Image Assistant and reboot
	xvnc        string
	session     string
}

func pathsUnder(root string) paths {
	p := paths{
		shared:      agentapi.Dir,
		private:     "/run/oriel-agent",
		tmp:         "/tmp",
		userRuntime: "/run/user/1000",
		catalogue:   catalogue.Dir,
		profile:     "/etc/profile.d/appstream_system_vars.sh",
		locale:      "/etc/default/locale",
		sudo:        sudo.Socket,
		control:     control.Socket,
		xvnc:        "/usr/bin/Xvnc",
		session:     "/etc/oriel/session",
	}
	for _, s := range []*string{&p.shared, &p.private, &p.tmp, &p.userRuntime, &p.catalogue, &p.profile, &p.locale, &p.sudo, &p.control, &p.xvnc, &p.session} {
		*s = filepath.Join(root, *s)
	}
	return p
}

func (p paths) config() string       { return filepath.Join(p.shared, agentapi.ConfigName) }
func (p paths) socket() string       { return filepath.Join(p.shared, agentapi.SocketName) }
func (p paths) displayDir() string   { return filepath.Join(p.private, "display") }
func (p paths) rfb() string          { return filepath.Join(p.displayDir(), "rfb.sock") }
func (p paths) xauthority() string   { return filepath.Join(p.displayDir(), "xauthority") }
func (p paths) xSocketDir() string   { return filepath.Join(p.tmp, ".X11-unix") }
func (p paths) iceSocketDir() string { return filepath.Join(p.tmp, ".ICE-unix") }
